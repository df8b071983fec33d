//! Writing arbitrary text to Markdown and YAML so that it does not become markup.

/// A YAML string in double quotes, which have JSON's escapes and more.
pub(crate) fn yaml(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            // Characters that YAML accepts; the rest of Unicode is escaped.
            ' '..='~'
            | '\u{a0}'..='\u{2027}'
            | '\u{202a}'..='\u{d7ff}'
            | '\u{e000}'..='\u{fefe}' => {
                out.push(c);
            }
            c if (c as u32) < 0x1_0000 => out += &format!("\\u{:04x}", c as u32),
            c => out += &format!("\\U{:08x}", c as u32),
        }
    }
    out + "\""
}

/// A text as code within a line or a table cell.
pub(crate) fn code(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let fence = "`".repeat(longest_run(&line) + 1);
    // A table ends its cells even within code.
    let line = line.replace('|', "\\|");
    match line.trim() {
        "" => String::new(),
        _ if line.starts_with(['`', ' ']) || line.ends_with(['`', ' ']) => {
            format!("{fence} {line} {fence}")
        }
        _ => format!("{fence}{line}{fence}"),
    }
}

/// A text in a heading or a cell, with a backslash before everything that could be markup.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => out.push(' '),
            '.' | ',' | '/' | '-' | '%' | '(' | ')' | ':' => out.push(c),
            c if c.is_ascii_punctuation() => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}

/// A code block in a language.
pub(crate) fn block(language: &str, lines: &str) -> String {
    let fence = "`".repeat(longest_run(lines).max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}\n", lines.trim_end())
}

/// The most backticks in a row.
fn longest_run(text: &str) -> usize {
    let runs = text.split(|c| c != '`').map(str::len);
    runs.max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_becomes_markup() {
        assert_eq!(
            yaml("a: \"b\\\n\u{85}\u{feff}😀ä"),
            r#""a: \"b\\\u000a\u0085\ufeff\U0001f600ä""#
        );
        assert_eq!(code("a`b"), "``a`b``");
        assert_eq!(code("`a|\nb"), "`` `a\\| b ``");
        assert_eq!(code(""), "");
        assert_eq!(plain("a_b <c> *d* 1.5"), "a\\_b \\<c\\> \\*d\\* 1.5");
        assert_eq!(block("sh", "a\n```\n"), "````sh\na\n```\n````\n");
    }
}
