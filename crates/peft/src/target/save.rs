//! `modules_to_save`: the modules that are trained and saved as a whole.

use super::paths::{Tree, short_names};
use crate::config::{CommonConfig, TaskType};
use crate::{PeftError, Result};

/// The paths of the layers that `modules_to_save` copies, in the order of the model: those within
/// every module whose path ends with one of the names. As in PEFT, the end need not start after a
/// dot: `classifier` also selects `my_classifier`.
///
/// `layers` are the paths of all layers of the model, `targeted` those that get an adapter.
///
/// # Errors
/// If a name that is not a head of the task matches nothing (which PEFT ignores), names a list of
/// modules, or would copy a layer that gets an adapter.
pub fn modules_to_save(
    common: &CommonConfig,
    layers: &[String],
    targeted: &[String],
) -> Result<Vec<String>> {
    let fail = |name: &str, reason: String| {
        Err(PeftError::target(
            "modules_to_save",
            format!("{name:?} {reason}"),
        ))
    };
    let tree = Tree::new(layers.iter().map(String::as_str));
    let mut saved = Vec::new();
    let heads = common.task_type.map_or(&[][..], TaskType::heads);
    for name in common.modules_to_save.iter().flatten() {
        let modules: Vec<_> = match name.as_str() {
            "" => Vec::new(),
            name => tree.all().filter(|path| path.ends_with(name)).collect(),
        };
        if modules.is_empty() {
            if heads.contains(&name.as_str()) {
                continue;
            }
            let names = short_names(layers.iter().map(String::as_str));
            return fail(name, format!("matches no module; the layers are: {names}"));
        }
        if let Some(list) = modules.iter().find(|path| tree.is_list(path)) {
            return fail(
                name,
                format!("matches {list}, a list of modules; name the modules in it"),
            );
        }
        for path in modules
            .into_iter()
            .flat_map(|module| tree.leaves_of(module))
        {
            if targeted.iter().any(|target| target == path) {
                return fail(
                    name,
                    format!("matches {path}, which target_modules adapts: choose one"),
                );
            }
            saved.push(path);
        }
    }
    let in_model_order = layers.iter().filter(|path| saved.contains(&path.as_str()));
    Ok(in_model_order.cloned().collect())
}
