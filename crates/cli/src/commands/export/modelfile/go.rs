//! Writing a format as a Go template, which Ollama uses.

use super::formats::System;
use super::known::Known;

/// A template action that writes exactly this text: in quotes nothing is trimmed.
fn literal(text: &str) -> String {
    match text {
        "" => String::new(),
        text => format!("{{{{ {} }}}}", serde_json::Value::from(text)),
    }
}

impl Known {
    /// The template.
    pub fn go(&self) -> String {
        let (user, behind_user) = self.spelled(self.format.user);
        let (assistant, behind_assistant) = self.spelled(self.format.assistant);
        let mut lines = vec![literal(&self.begin)];
        let mut inside = String::new();
        match self.system {
            System::Turn(around) => {
                let (before, behind) = self.spelled(around);
                let before = before + &self.before_system;
                if !self.before_system.is_empty() {
                    let empty = literal(&[before.as_str(), &behind].concat());
                    lines.push(format!("{{{{- if not .System }}}}{empty}{{{{ end }}}}"));
                }
                lines.push("{{- range $i, $_ := .Messages }}".into());
                lines.push("{{- $last := eq (len (slice $.Messages $i)) 1 }}".into());
                lines.push(format!(
                    "{{{{- if eq .Role \"system\" }}}}{}{{{{ .Content }}}}{}",
                    literal(&before),
                    literal(&behind)
                ));
                lines.push("{{- else if eq .Role \"user\" }}".into());
            }
            System::FirstUser(around) | System::LastUser(around) => {
                let (before, behind) = self.spelled(around);
                let is_first = matches!(self.system, System::FirstUser(_));
                let place = if is_first { "$first" } else { "$last" };
                inside = format!(
                    "{{{{ if and $.System {place} }}}}{}{{{{ $.System }}}}{}{{{{ end }}}}",
                    literal(&before),
                    literal(&behind)
                );
                if is_first {
                    lines.push("{{- $first := true }}".into());
                    inside += "{{ $first = false }}";
                }
                lines.push("{{- range $i, $_ := .Messages }}".into());
                lines.push("{{- $last := eq (len (slice $.Messages $i)) 1 }}".into());
                lines.push("{{- if eq .Role \"user\" }}".into());
            }
        }
        let said = lines.pop().unwrap_or_default();
        lines.push(format!(
            "{said}{}{inside}{{{{ .Content }}}}{}",
            literal(&user),
            literal(&behind_user)
        ));
        // Ollama lets an answer that has begun be continued.
        lines.push(format!(
            "{{{{- else if eq .Role \"assistant\" }}}}{}{{{{ .Content }}}}{{{{ if not $last }}}}{}{{{{ end }}}}",
            literal(&assistant),
            literal(&behind_assistant)
        ));
        lines.push("{{- end }}".into());
        lines.push(format!(
            "{{{{- if and $last (ne .Role \"assistant\") }}}}{}{{{{ end }}}}",
            literal(&self.prompt)
        ));
        lines.push("{{- end }}".into());
        lines.retain(|line| !line.is_empty());
        lines.join("\n")
    }
}
