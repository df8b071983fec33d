//! Recognising the format that a chat template writes, from what it renders.

use burn_peft_data::message;
use serde_json::Value;

use super::formats::{Around, FORMATS, Format, System, names};

/// The tokenizer's own tokens.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokens<'a> {
    /// The token that it puts before every text, if it does.
    pub added: &'a str,
    pub bos: &'a str,
    pub eos: &'a str,
}

/// A format, as a template writes it.
#[derive(Debug)]
pub struct Known {
    pub format: &'static Format,
    pub system: System,
    /// The beginning of all chats.
    pub begin: String,
    /// What the template puts before every system message, even if there is none.
    pub before_system: String,
    /// The default system message.
    pub default_system: Option<String>,
    /// The text before the answer.
    pub prompt: String,
    bos: String,
    eos: String,
}

// Words that no template writes by itself.
const SYSTEM: &str = "Quillwort";
const USER: [&str; 3] = ["Bogbean", "Sundew", "Cudweed"];
const ASSISTANT: [&str; 2] = ["Spurge", "Teasel"];

/// What a template renders for messages, up to where the answer begins; `None` if it rejects them.
type Render<'a> = &'a dyn Fn(&[Value]) -> Option<String>;

/// The functions with which templates write the current date.
const DATES: [&str; 2] = ["strftime_now", "date_string"];

/// The format of a template with this `source`.
///
/// # Errors
/// Why it is not a known one.
pub fn recognise(source: &str, render: Render, tokens: Tokens) -> Result<Known, String> {
    let unknown = || format!("is not one of the known formats ({})", names());
    let render = |with_system: bool, turns: usize| {
        let text = render(&chat(with_system, turns))?;
        Some(
            text.strip_prefix(tokens.added)
                .map_or(text.clone(), Into::into),
        )
    };
    let plain = render(false, 1).ok_or("refuses a plain question")?;
    let with_system = render(true, 1);
    for format in FORMATS {
        for &system in format.systems {
            let found = Known::of(format, system, &plain, with_system.as_deref(), tokens);
            let Some(known) = found else { continue };
            let cases = [
                (false, 1),
                (true, 1),
                (false, 2),
                (true, 2),
                (false, 3),
                (true, 3),
            ];
            let fits = cases.iter().all(|&(with_system, turns)| {
                let text = render(with_system, turns);
                match text {
                    Some(text) => text == known.render(&chat(with_system, turns)),
                    // Gemma 2 rejects a system message; if one is given all the same, it is written
                    // as Gemma 3 does.
                    None => with_system,
                }
            });
            if fits {
                // Tomorrow it would differ.
                if DATES.iter().any(|name| source.contains(name)) {
                    return Err("says today's date, which a Modelfile cannot".into());
                }
                return Ok(known);
            }
        }
    }
    Err(unknown())
}

fn chat(with_system: bool, turns: usize) -> Vec<Value> {
    let mut messages = Vec::new();
    if with_system {
        messages.push(message("system", SYSTEM));
    }
    for turn in 0..turns {
        if turn > 0 {
            messages.push(message("assistant", ASSISTANT[turn - 1]));
        }
        messages.push(message("user", USER[turn]));
    }
    messages
}

impl Known {
    /// What a format would have to be for a template to write these texts with it.
    fn of(
        format: &'static Format,
        system: System,
        plain: &str,
        with_system: Option<&str>,
        tokens: Tokens,
    ) -> Option<Self> {
        let mut known = Self {
            format,
            system,
            begin: String::new(),
            before_system: String::new(),
            default_system: None,
            prompt: String::new(),
            bos: tokens.bos.into(),
            eos: tokens.eos.into(),
        };
        let (user, behind) = known.spelled(format.user);
        let (start, prompt) = plain.split_once(&format!("{user}{}{behind}", USER[0]))?;
        let header = known.spelled(format.assistant).0;
        if !prompt.starts_with(header.trim_end()) {
            return None;
        }
        known.prompt = prompt.to_string();
        let System::Turn(around) = system else {
            known.begin = start.to_string();
            return Some(known);
        };
        let (before, behind) = known.spelled(around);
        let Some(with_system) = with_system else {
            known.begin = start.to_string();
            return Some(known);
        };
        let (said, _) = with_system.split_once(&format!("{SYSTEM}{behind}"))?;
        let (begin, before_system) = said.split_once(&before)?;
        known.begin = begin.to_string();
        known.before_system = before_system.to_string();
        let default = start.strip_prefix(begin)?;
        if !default.is_empty() {
            let default = default.strip_prefix(&before)?.strip_suffix(&behind)?;
            if before_system.is_empty() {
                known.default_system = Some(default.to_string());
            } else if default != before_system {
                return None;
            }
        } else if !before_system.is_empty() {
            return None;
        }
        Some(known)
    }

    /// The surrounding text, with the tokenizer's own tokens.
    pub fn spelled(&self, (before, behind): Around) -> (String, String) {
        let spell = |text: &str| text.replace("{eos}", &self.eos).replace("{bos}", &self.bos);
        (spell(before), spell(behind))
    }

    /// Messages written in the format.
    fn render(&self, messages: &[Value]) -> String {
        let content = |message: &Value| message["content"].as_str().unwrap_or_default().to_string();
        let given = messages.iter().find(|message| message["role"] == "system");
        let given = given.map(content);
        let mut text = self.begin.clone();
        if let System::Turn(around) = self.system {
            let (before, behind) = self.spelled(around);
            let said = given.clone().or_else(|| self.default_system.clone());
            let said = said.or_else(|| (!self.before_system.is_empty()).then(String::new));
            if let Some(said) = said {
                text += &[&before, &self.before_system, &said, &behind]
                    .map(String::as_str)
                    .concat();
            }
        }
        let of_user = |message: &&Value| message["role"] == "user";
        let users = messages.iter().filter(of_user).count();
        let mut seen = 0;
        for message in messages
            .iter()
            .filter(|message| message["role"] != "system")
        {
            let is_user = of_user(&message);
            let around = if is_user {
                self.format.user
            } else {
                self.format.assistant
            };
            let (before, behind) = self.spelled(around);
            text += &before;
            seen += usize::from(is_user);
            let inside = match self.system {
                System::FirstUser(around) if is_user && seen == 1 => Some(around),
                System::LastUser(around) if is_user && seen == users => Some(around),
                _ => None,
            };
            if let (Some(around), Some(system)) = (inside, &given) {
                let (before, behind) = self.spelled(around);
                text += &[before.as_str(), system, &behind].concat();
            }
            text += &content(message);
            text += &behind;
        }
        text + &self.prompt
    }
}
