//! What the value of a `--set KEY=VALUE` can mean, as people write it.

use toml::{Table, Value};

/// The possible readings of a text, the most likely first; always at least one.
pub(crate) fn readings(text: &str) -> Vec<Value> {
    let mut readings = Vec::new();
    match parsed(text) {
        // JSON, to which `[peft]` is converted, has no dates.
        Some(Value::Datetime(_)) | None => {}
        Some(value) => readings.push(value),
    }
    if let Some(number) = number(text) {
        // `1e3` steps means 1000.
        let whole = number.fract() == 0.0 && number.abs() < 2_f64.powi(53);
        readings.push(Value::Float(number));
        readings.extend(whole.then_some(Value::Integer(number as i64)));
    }
    match text {
        "True" => readings.push(Value::Boolean(true)),
        "False" => readings.push(Value::Boolean(false)),
        _ => {}
    }
    readings.push(Value::String(text.to_string()));
    readings
}

/// Whether a text is meant as TOML but is not valid.
pub(crate) fn is_broken(text: &str) -> bool {
    text.starts_with(['[', '{', '"', '\'']) && parsed(text).is_none()
}

fn parsed(text: &str) -> Option<Value> {
    one_entry(&format!("value = {text}"))?.remove("value")
}

/// A number in a form that TOML does not accept: `.5`, `5.`, `007`.
fn number(text: &str) -> Option<f64> {
    let digits = text.bytes().any(|byte| byte.is_ascii_digit());
    let plain = |byte: u8| byte.is_ascii_digit() || b"+-.eE_".contains(&byte);
    if !digits || !text.bytes().all(plain) || text.starts_with('_') || text.ends_with('_') {
        return None;
    }
    let number: f64 = text.replace('_', "").parse().ok()?;
    number.is_finite().then_some(number)
}

/// The parts of a TOML key: `a."b.c"` has `a` and `b.c`.
pub(crate) fn parse_key(key: &str) -> Option<Vec<String>> {
    let mut value = Value::Table(one_entry(&format!("{key} = 0"))?);
    let mut path = Vec::new();
    while let Value::Table(table) = value {
        let (name, inner) = table.into_iter().next()?;
        path.push(name);
        value = inner;
    }
    Some(path)
}

/// The table for a line of TOML, if it is valid and has one key.
fn one_entry(line: &str) -> Option<Table> {
    line.parse::<Table>().ok().filter(|table| table.len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_people_mean_it() {
        let first = |text: &str| readings(text).remove(0);
        let float = Value::Float;
        for (text, expected) in [
            (".5", float(0.5)),
            ("-.5e-3", float(-0.0005)),
            ("5.", float(5.0)),
            ("1e-4", float(1e-4)),
            ("1_000", Value::Integer(1000)),
            ("007", float(7.0)),
            ("True", Value::Boolean(true)),
            ("true", Value::Boolean(true)),
            ("2024-01-02", Value::String("2024-01-02".into())),
            ("{instruction}", Value::String("{instruction}".into())),
            ("1.2.3", Value::String("1.2.3".into())),
            ("e", Value::String("e".into())),
            ("", Value::String(String::new())),
        ] {
            assert_eq!(first(text), expected, "{text}");
        }
        assert!(readings("1e3").contains(&Value::Integer(1000)));
        assert_eq!(readings("2024").last(), Some(&Value::String("2024".into())));
        assert!(is_broken("[c_attn]") && !is_broken("[\"c_attn\"]") && !is_broken("c"));
    }
}
