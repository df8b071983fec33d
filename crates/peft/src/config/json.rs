//! JSON text as Python's `json.dumps(…, indent=2, sort_keys=True)` writes it.

use std::io::{Result, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter};
use serde_json::{Map, Serializer, Value};

/// The text of an `adapter_config.json`: indented by two spaces, keys sorted at every level, every
/// character outside of printable ASCII as `\uXXXX`, no newline at the end.
pub fn render_json(map: &Map<String, Value>) -> String {
    let mut value = Value::Object(map.clone());
    value.sort_all_objects();
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, Python::default());
    // Writing a JSON value to a vector cannot fail, and the text is ASCII.
    value.serialize(&mut serializer).expect("a JSON value");
    String::from_utf8(text).expect("ASCII")
}

/// serde_json's own layout, with floats and strings as Python writes them.
#[derive(Default)]
struct Python(PrettyFormatter<'static>);

/// Forwards these functions to the layout.
macro_rules! as_pretty {
    ($($function:ident($($argument:ident: $kind:ty)?)),*) => {$(
        fn $function<W: ?Sized + Write>(&mut self, to: &mut W $(, $argument: $kind)?) -> Result<()> {
            self.0.$function(to $(, $argument)?)
        }
    )*};
}

impl Formatter for Python {
    as_pretty! {
        begin_array(), end_array(), begin_array_value(first: bool), end_array_value(),
        begin_object(), end_object(), begin_object_key(first: bool), begin_object_value(),
        end_object_value()
    }

    fn write_f64<W: ?Sized + Write>(&mut self, to: &mut W, value: f64) -> Result<()> {
        let scientific = format!("{value:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        // From here on `repr` uses exponents.
        match exponent {
            -4..=15 if value.fract() == 0.0 => write!(to, "{value}.0"),
            -4..=15 => write!(to, "{value}"),
            _ => {
                let sign = if exponent < 0 { '-' } else { '+' };
                write!(to, "{digits}e{sign}{:02}", exponent.abs())
            }
        }
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, to: &mut W, text: &str) -> Result<()> {
        for c in text.chars() {
            match c {
                ' '..='~' => write!(to, "{c}")?,
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(to, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
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
            "f": [0.0, 6e-5, 0.0001, 1e16, -150.0, 2.5e-7],
            "n": null,
            "l": [1, true],
        }) else {
            unreachable!("a literal object")
        };
        // Python 3: json.dumps({...}, indent=2, sort_keys=True)
        let expected = concat!(
            "{\n  \"a\": \"na\\u00efve \\ud83d\\ude42\\n\\\"\",\n",
            "  \"b\": {\n    \"a\": {},\n    \"z\": []\n  },\n",
            "  \"f\": [\n    0.0,\n    6e-05,\n    0.0001,\n    1e+16,\n    -150.0,\n    2.5e-07\n  ],\n",
            "  \"l\": [\n    1,\n    true\n  ],\n  \"n\": null\n}"
        );
        assert_eq!(render_json(&map), expected);
    }
}
