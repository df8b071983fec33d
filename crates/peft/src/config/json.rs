//! JSON text as Python's `json.dumps(…, indent=2, sort_keys=True)` writes it.

use serde_json::{Map, Value};
use std::fmt::Write;

/// The text of an `adapter_config.json`: two spaces of indent, keys sorted at every depth, every
/// character outside printable ASCII as `\uXXXX`, no newline at the end.
///
/// Small floats are written as `1e-5` where Python writes `1e-05`: the same number.
pub fn render_json(map: &Map<String, Value>) -> String {
    let mut value = Value::Object(map.clone());
    value.sort_all_objects();
    let text = format!("{value:#}");
    if text.bytes().all(|b| b < 0x7f) {
        return text;
    }
    // JSON's own punctuation is ASCII: what is not ASCII stands inside a string.
    let mut ascii = String::with_capacity(text.len());
    for c in text.chars() {
        if c < '\x7f' {
            ascii.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(ascii, "\\u{unit:04x}"); // writing to a String cannot fail
            }
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn renders_as_python_does() {
        let Value::Object(map) = json!({
            "b": {"z": [], "a": {}},
            "a": "naïve 🙂\n\"",
            "f": 0.0,
            "n": null,
            "l": [1, true],
        }) else {
            unreachable!("a literal object")
        };
        // Python 3: json.dumps({...}, indent=2, sort_keys=True)
        let expected = concat!(
            "{\n  \"a\": \"na\\u00efve \\ud83d\\ude42\\n\\\"\",\n",
            "  \"b\": {\n    \"a\": {},\n    \"z\": []\n  },\n",
            "  \"f\": 0.0,\n  \"l\": [\n    1,\n    true\n  ],\n  \"n\": null\n}"
        );
        assert_eq!(render_json(&map), expected);
    }
}
