//! Rewrites messages of libraries and systems for people who write files.

use std::borrow::Cow;

/// Rewrites serde's message about a value without the names of Rust types: users of TOML or JSON
/// know numbers, lists and tables.
pub fn plain_words(message: &str) -> String {
    let words = [
        ("expected i64", "expected a whole number"),
        ("expected i32", "expected a whole number"),
        (
            "expected u64",
            "expected a whole number that is not negative",
        ),
        (
            "expected u32",
            "expected a whole number that is not negative",
        ),
        (
            "expected usize",
            "expected a whole number that is not negative",
        ),
        ("expected f64", "expected a number"),
        ("expected f32", "expected a number"),
        ("expected a boolean", "expected true or false"),
        (
            "expected a sequence",
            "expected a list, such as [1, 2] or [\"a\", \"b\"]",
        ),
        ("expected a map", "expected a table"),
        ("invalid type: sequence", "invalid type: a list"),
        ("invalid type: map", "invalid type: a table"),
        ("invalid type: null", "invalid type: nothing"),
        ("invalid type: unit value", "invalid type: nothing"),
        ("unknown variant", "unknown value"),
        ("missing field", "missing key"),
    ];
    let mut text = message.to_string();
    for (rust, plain) in words {
        text = replace_words(&text, rust, plain);
    }
    // For the author of a file, `struct TrainingArguments` is a table.
    while let Some(start) = text.find("expected struct ") {
        let name = start + "expected struct ".len();
        let rest = &text[name..];
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
        let end = name + end.unwrap_or(rest.len());
        text.replace_range(start..end, "expected a table");
    }
    text
}

/// Replaces `words` where no further letter or digit follows them.
fn replace_words(text: &str, words: &str, by: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(words) {
        let end = at + words.len();
        let ends = !rest[end..].starts_with(|c: char| c.is_alphanumeric());
        out += &rest[..at];
        out += if ends { by } else { words };
        rest = &rest[end..];
    }
    out + rest
}

/// Returns the system's message without its number, such as `(os error 21)`.
pub fn without_os_errors(message: &str) -> Cow<'_, str> {
    const BEGINNING: &str = " (os error ";
    if !message.contains(BEGINNING) {
        return Cow::Borrowed(message);
    }
    // The path that was to be read or written is already named.
    let mut text = message.replace(
        "Is a directory (os error 21)",
        "this is a folder, and a file is needed",
    );
    while let Some(start) = text.find(BEGINNING) {
        let digits = start + BEGINNING.len();
        let rest = &text[digits..];
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let end = digits + end + usize::from(rest[end..].starts_with(')'));
        text.replace_range(start..end, "");
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_type_of_rust_is_named() {
        let cases = [
            (
                "invalid type: string \"many\", expected f64\nin `training.learning_rate`",
                "invalid type: string \"many\", expected a number\nin `training.learning_rate`",
            ),
            (
                "invalid value: integer `-4`, expected usize",
                "invalid value: integer `-4`, expected a whole number that is not negative",
            ),
            (
                "invalid type: null, expected struct TrainingArguments in `training`",
                "invalid type: nothing, expected a table in `training`",
            ),
            (
                "invalid type: string \"c_fc\", expected a sequence",
                "invalid type: string \"c_fc\", expected a list, such as [1, 2] or [\"a\", \"b\"]",
            ),
            (
                "unknown variant `staircase`, expected `linear` or `cosine`",
                "unknown value `staircase`, expected `linear` or `cosine`",
            ),
        ];
        for (message, plain) in cases {
            assert_eq!(plain_words(message), plain);
        }
    }

    #[test]
    fn no_number_of_the_system_is_told() {
        assert_eq!(
            without_os_errors("cannot read a: Is a directory (os error 21); b (os error 2)"),
            "cannot read a: this is a folder, and a file is needed; b"
        );
        assert_eq!(without_os_errors("a (os x)"), "a (os x)");
    }
}
