//! Keys of `config.json` for which transformers accepts a second name (`attribute_map`).

use serde_json::{Map, Value};

/// Renames every key to the family's own name. `names` are pairs of a name that transformers also
/// accepts and the family's own, such as `("hidden_size", "n_embd")`.
///
/// # Errors
/// If a file has both names with different values.
pub(crate) fn with_own_names(
    map: &mut Map<String, Value>,
    names: &[(&str, &str)],
) -> std::result::Result<(), String> {
    for &(other, own) in names {
        let Some(value) = map.shift_remove(other).filter(|value| !value.is_null()) else {
            continue;
        };
        match map.get(own).filter(|value| !value.is_null()) {
            Some(given) if *given != value => {
                return Err(format!(
                    "{own} = {given} and {other} = {value} have the same meaning and \
                     disagree: keep one of them"
                ));
            }
            Some(_) => {}
            None => drop(map.insert(own.to_string(), value)),
        }
    }
    Ok(())
}
