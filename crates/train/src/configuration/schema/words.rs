//! Adapts a schema to editors of TOML: no rustdoc links in descriptions, and no null, which TOML
//! does not have.

use serde_json::Value;

/// Removes the links from every description, and the nulls.
pub fn plain(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("default").is_some_and(Value::is_null) {
                map.remove("default");
            }
            let is_null = |kind: &Value| {
                kind == "null" || kind.get("type").is_some_and(|kind| kind == "null")
            };
            for word in ["type", "anyOf"] {
                if let Some(Value::Array(kinds)) = map.get_mut(word) {
                    kinds.retain(|kind| !is_null(kind));
                }
            }
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "description" => *text = without_links(text),
                    value => plain(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(plain),
        _ => (),
    }
}

/// A text without the targets of its links: `` [`a`](b) `` and `` [`a`] `` become `` `a` ``, and lines
/// that define a target are removed.
fn without_links(text: &str) -> String {
    let defines = |line: &str| line.starts_with("[`") && line.contains("`]: ");
    let lines = text.lines().filter(|line| !defines(line));
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut plain = String::new();
    let mut rest = text.trim_end();
    while let Some((before, link)) = rest.split_once("[`") {
        plain += before;
        let Some((name, after)) = link.split_once("`]") else {
            plain += "[`";
            rest = link;
            continue;
        };
        plain += &format!("`{name}`");
        let target = after
            .strip_prefix('(')
            .and_then(|after| after.split_once(')'));
        rest = target.map_or(after, |(_, after)| after);
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_words() {
        for (text, plain) in [
            ("[`a`](crate::a) unless set", "`a` unless set"),
            ("a table ([`B`]).\n\n[`B`]: crate::B", "a table (`B`)."),
            ("`[data]`, and a [`", "`[data]`, and a [`"),
        ] {
            assert_eq!(without_links(text), plain);
        }
    }
}
