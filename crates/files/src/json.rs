//! Says what is wrong with text that should be JSON.

use serde_json::Error;

/// Returns serde_json's message about a text. For numbers that only Python writes and reads, the
/// message says what to write in their place.
pub fn json_problem(text: &str, error: &Error) -> String {
    let line = text.lines().nth(error.line().saturating_sub(1));
    let line = line.unwrap_or_default().as_bytes();
    let at = error.column().saturating_sub(2).min(line.len());
    let rest = String::from_utf8_lossy(&line[at..]);
    let is_value = error.is_syntax();
    let word = ["NaN", "Infinity"].into_iter().find(|word| {
        // The column is that of the word's first letter, or of the sign before it.
        is_value && rest.find(word).is_some_and(|position| position < 3)
    });
    match word {
        Some(word) => format!(
            "{word} in line {} is not a JSON number, though Python writes it: put a number there, \
             or null",
            error.line()
        ),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_only_python_writes_are_named() {
        for (text, word) in [
            ("{\"a\": NaN}", "NaN in line 1"),
            ("{\n\"a\":Infinity}", "Infinity in line 2"),
            ("{\"a\": [1, -Infinity]}", "Infinity in line 1"),
        ] {
            let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
            let said = json_problem(text, &error);
            assert!(said.starts_with(word), "{text}: {said}");
        }
        let text = "{\"NaN\": x}";
        let error = serde_json::from_str::<serde_json::Value>(text).unwrap_err();
        assert_eq!(json_problem(text, &error), error.to_string());
    }
}
