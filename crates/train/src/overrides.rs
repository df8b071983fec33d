//! `--set a.b=value`: changes to a training file before it is read.

use burn_peft::methods::known_keys;
use toml::{Table, Value};

/// Puts `a.b=value` into a table. The value is read as TOML; what is none is a string, so that
/// `model=gpt2` needs no quotes.
///
/// # Errors
/// What is wrong, without the text of the override.
pub(crate) fn apply(table: &mut Table, text: &str) -> Result<(), String> {
    let (key, value) = text.split_once('=').ok_or("is no key=value")?;
    let value = parse_value(value.trim())?;
    let mut path =
        parse_key(key.trim()).ok_or_else(|| format!("has no key before the `=`: {key:?}"))?;
    let last = path.pop().ok_or("has no key before the `=`")?;

    let mut table = table;
    for name in path {
        let entry = table
            .entry(&name)
            .or_insert_with(|| Value::Table(Table::new()));
        table = match entry {
            Value::Table(inner) => inner,
            other => {
                let kind = other.type_str();
                return Err(format!(
                    "goes into `{name}`, which is a {kind} and has no keys"
                ));
            }
        };
    }
    table.insert(last, value);
    Ok(())
}

/// Where overrides change the method of a file, takes out what the file's `[peft]`, here `before`,
/// says for its own method only: `--set peft.peft_type=IA3` is all it takes to try another one.
/// Keys that overrides set stay, so that a misspelt one is an error.
pub(crate) fn drop_keys_of_another_method(
    table: &mut Table,
    before: &Table,
    overrides: &[impl AsRef<str>],
) {
    let Some(Value::Table(peft)) = table.get_mut("peft") else {
        return;
    };
    let of = |table: &Table| {
        table
            .get("peft_type")
            .and_then(Value::as_str)
            .map(str::to_string)
    };
    let (Some(now), then) = (of(peft), of(before)) else {
        return;
    };
    let Some(known) = known_keys(&now).filter(|_| Some(&now) != then.as_ref()) else {
        return;
    };
    let keys = overrides
        .iter()
        .filter_map(|text| text.as_ref().split_once('='));
    let set: Vec<_> = keys.filter_map(|(key, _)| parse_key(key.trim())).collect();
    let is_set = |key: &str| {
        set.iter()
            .any(|path| path.len() > 1 && path[0] == "peft" && path[1] == key)
    };
    let dropped: Vec<String> = (peft.keys())
        .filter(|key| !known.contains(*key) && !is_set(key))
        .cloned()
        .collect();
    for key in &dropped {
        peft.remove(key);
    }
    if !dropped.is_empty() {
        let dropped = dropped.join(", ");
        tracing::warn!("[peft] has keys that mean nothing to {now} and are left out: {dropped}");
    }
}

/// Whether an override sets the key of this path, or something in it.
pub(crate) fn sets(text: &str, path: &[String]) -> bool {
    let key = text
        .split_once('=')
        .and_then(|(key, _)| parse_key(key.trim()));
    key.is_some_and(|key| key.starts_with(path))
}

/// The names of a TOML key: `a."b.c"` is `a` and `b.c`.
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

fn parse_value(text: &str) -> Result<Value, String> {
    let parsed = one_entry(&format!("value = {text}"));
    match parsed.and_then(|mut table| table.remove("value")) {
        Some(value) => Ok(value),
        None if text.starts_with(['[', '{', '"', '\'']) => Err(format!(
            "has the value {text}, which is no TOML; quote strings inside of it"
        )),
        None => Ok(Value::String(text.to_string())),
    }
}

/// The table of a line of TOML, if it is one and has one key.
fn one_entry(line: &str) -> Option<Table> {
    line.parse::<Table>().ok().filter(|table| table.len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str) -> Result<String, String> {
        let mut table = "model = 'a'\n[training]\nmax_steps = 5\n"
            .parse::<Table>()
            .unwrap();
        apply(&mut table, text)?;
        Ok(table.to_string())
    }

    #[test]
    fn values_are_toml_or_else_strings() {
        let training = |line: &str| format!("model = \"a\"\n\n[training]\n{line}\n");
        assert_eq!(
            after("training.max_steps=20").unwrap(),
            training("max_steps = 20")
        );
        let table = after("training.learning_rate = 1e-4").unwrap();
        assert!(table.contains("learning_rate = 0.0001\n"), "{table}");
        assert!(
            after("model=openai-community/gpt2")
                .unwrap()
                .contains("openai-community/gpt2")
        );
        assert!(
            after("peft.target_modules=[\"c_attn\"]")
                .unwrap()
                .contains("[peft]\ntarget")
        );
        assert!(after("peft.r=8").unwrap().contains("[peft]\nr = 8"));
        let table = after("peft.rank_pattern.\"h.0.attn\"=4").unwrap();
        assert!(table.contains("\"h.0.attn\" = 4"), "{table}");
        // A value cannot smuggle in a second key.
        let table: Table = after("prompt=1\nx = 2").unwrap().parse().unwrap();
        assert_eq!(table["prompt"].as_str(), Some("1\nx = 2"), "no second key");
    }

    #[test]
    fn what_cannot_be_is_said() {
        assert_eq!(after("training.max_steps").unwrap_err(), "is no key=value");
        assert!(after("=5").unwrap_err().contains("no key"));
        assert!(after("a..b=5").unwrap_err().contains("no key"));
        assert_eq!(
            after("model.name=5").unwrap_err(),
            "goes into `model`, which is a string and has no keys"
        );
        assert!(
            after("peft.target_modules=[c_attn]")
                .unwrap_err()
                .contains("no TOML")
        );
    }
}
