//! Which layers are not quantised, exactly as in transformers.

use super::pattern::Pattern;
use crate::{PeftError, Result};

const KEY: &str = "llm_int8_skip_modules";

/// The names of `llm_int8_skip_modules`, and whether each of them matched a layer.
pub(crate) struct SkippedModules<'a>(Vec<(&'a str, Pattern, bool)>);

impl<'a> SkippedModules<'a> {
    /// Reads the names, each of which is also a regular expression. None may be empty: it would match
    /// every layer, as in transformers, and a comma too many on the command line makes one.
    pub fn new(names: &'a [String]) -> Result<Self> {
        let names = names.iter().map(|name| {
            if name.is_empty() {
                return Err(PeftError::Value {
                    key: KEY.to_string(),
                    value: format!("{names:?}"),
                    problem:
                        "the empty name would skip every layer: remove it, and the comma beside it"
                            .to_string(),
                });
            }
            // As in transformers' `should_convert_module`.
            let boundary = r"(?:(?<=\.)|(?=\.|\z))(?s:.*)";
            let pattern = Pattern::new(KEY, name, "(?:", &format!("){boundary}"))?;
            Ok((name.as_str(), pattern, false))
        });
        Ok(Self(names.collect::<Result<_>>()?))
    }

    /// Whether the layer at `path` is one of them.
    pub fn contain(&mut self, path: &str) -> Result<bool> {
        let mut found = false;
        for (name, pattern, is_used) in &mut self.0 {
            if path.ends_with(*name) || pattern.matches(path)? {
                (found, *is_used) = (true, true);
            }
        }
        Ok(found)
    }

    /// The names that matched no layer.
    pub fn unused(&self) -> impl Iterator<Item = &'a str> {
        let unused = self.0.iter().filter(|(.., is_used)| !is_used);
        unused.map(|(name, ..)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The results of transformers 5.23:
    /// `[not should_convert_module(path, [name]) for path in PATHS]`.
    #[test]
    fn names_match_as_in_transformers() {
        const PATHS: [&str; 5] = [
            "model.layers.1.mlp.gate_proj",
            "model.layers.11.mlp.gate_proj",
            "model.layers.1.self_attn.v_proj",
            "model.layers.11.self_attn.v_proj",
            "lm_head",
        ];
        const SKIPPED: [(&str, [u8; 5]); 12] = [
            (r"v_proj", [0, 0, 1, 1, 0]),
            (r"proj", [1, 1, 1, 1, 0]),
            (r"model.layers.1", [1, 0, 1, 0, 0]),
            (r"model.layers.1.", [1, 1, 1, 1, 0]),
            (r"model.layers.1.mlp.gate", [0, 0, 0, 0, 0]),
            (r"layers.1", [0, 0, 0, 0, 0]),
            (r".*\.1\.", [1, 0, 1, 0, 0]),
            (r"lm_head|model.layers.1$", [0, 0, 0, 0, 1]),
            (r"model\.layers\.(?!11).*v_proj", [0, 0, 1, 0, 0]),
            (r"head", [0, 0, 0, 0, 1]),
            (r"v_pro", [0, 0, 0, 0, 0]),
            (r"mlp", [0, 0, 0, 0, 0]),
        ];
        for (name, wanted) in SKIPPED {
            let names = [name.to_string()];
            let mut skipped = SkippedModules::new(&names).unwrap();
            let found = PATHS.map(|path| u8::from(skipped.contain(path).unwrap()));
            assert_eq!(found, wanted, "{name}");
            let is_unused = skipped.unused().next().is_some();
            assert_eq!(is_unused, wanted == [0; 5], "{name}");
        }
        let error = SkippedModules::new(&["v_proj".into(), "(".into()])
            .err()
            .unwrap();
        let error = error.to_string();
        assert!(
            error.contains("llm_int8_skip_modules") && error.contains('('),
            "{error}"
        );
        let with_empty = ["v_proj".into(), String::new()];
        let error = SkippedModules::new(&with_empty).err().unwrap().to_string();
        assert!(
            error.contains(r#"["v_proj", ""]: the empty name"#),
            "{error}"
        );
    }
}
