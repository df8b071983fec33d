//! The modules of a model, derived from the paths of its layers.

use indexmap::{IndexMap, IndexSet};

/// The modules that hold layers, and the layers: every path that PEFT would see as a module's name,
/// as far as the layers' paths tell.
pub(crate) struct Tree<'a> {
    /// The path of a module that holds others, and the names directly under it.
    containers: IndexMap<&'a str, Vec<&'a str>>,
    leaves: Vec<&'a str>,
}

impl<'a> Tree<'a> {
    /// The tree of these layers, in their order.
    pub fn new(leaves: impl Iterator<Item = &'a str>) -> Self {
        let leaves: Vec<_> = leaves.collect();
        let mut containers: IndexMap<&str, Vec<&str>> = IndexMap::new();
        for path in &leaves {
            for (dot, _) in path.match_indices('.') {
                let child = path[dot + 1..].split('.').next().unwrap_or_default();
                let children = containers.entry(&path[..dot]).or_default();
                if !children.contains(&child) {
                    children.push(child);
                }
            }
        }
        Self { containers, leaves }
    }

    /// The paths of the modules that hold layers, outer ones first.
    pub fn containers(&self) -> impl Iterator<Item = &'a str> {
        self.containers.keys().copied()
    }

    /// The paths of all modules.
    pub fn all(&self) -> impl Iterator<Item = &'a str> {
        self.containers().chain(self.leaves.iter().copied())
    }

    /// Whether the module at `path` is a list of modules: all names under it are numbers.
    pub fn is_list(&self, path: &str) -> bool {
        (self.containers.get(path)).is_some_and(|names| names.iter().all(|name| is_number(name)))
    }

    /// The layers at or under `path`.
    pub fn leaves_of(&self, path: &str) -> impl Iterator<Item = &'a str> + Clone {
        self.leaves.iter().copied().filter(move |leaf| {
            (leaf.strip_prefix(path)).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

/// Whether `path` is `name`, or ends with it after a dot, which is how PEFT matches names in lists.
pub(crate) fn ends_with_name(path: &str, name: &str) -> bool {
    (path.strip_suffix(name)).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The path of a layer within its block (`attn.c_attn`); `None` for a layer outside of all blocks.
fn name_in_block(path: &str) -> Option<&str> {
    let mut start = 0;
    let mut found = None;
    for (dot, _) in path.match_indices('.') {
        if is_number(&path[start..dot]) {
            found = Some(&path[dot + 1..]);
        }
        start = dot + 1;
    }
    found
}

/// The name of a layer for a reader: its path within its block, or its last name (`wte`).
fn short_name(path: &str) -> &str {
    let last = path.rfind('.').map_or(0, |dot| dot + 1);
    name_in_block(path).unwrap_or(&path[last..])
}

/// The short names of layers, each once, those within blocks first.
pub(crate) fn short_names<'a>(paths: impl Iterator<Item = &'a str> + Clone) -> String {
    let inside = paths.clone().filter(|path| name_in_block(path).is_some());
    let outside = paths.filter(|path| name_in_block(path).is_none());
    let names: IndexSet<_> = inside.chain(outside).map(short_name).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names() {
        for (path, short) in [
            ("transformer.h.0.attn.c_attn", "attn.c_attn"),
            ("h.11.mlp.c_fc", "mlp.c_fc"),
            ("0.attn.q", "attn.q"),
            ("transformer.wte", "wte"),
            ("score", "score"),
            ("net.0", "0"),
            ("a.1.b.2.c.d", "c.d"),
        ] {
            assert_eq!(short_name(path), short);
        }
    }
}
