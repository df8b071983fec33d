//! Printing encoders as PyTorch does.

use burn_peft::Tree;

/// The same with every name and line mapped.
pub(crate) fn renamed(tree: Tree, rename: &dyn Fn(&str) -> String) -> Tree {
    match tree {
        Tree::Empty => Tree::Empty,
        Tree::Leaf(line) => Tree::Leaf(rename(&line)),
        Tree::Node { name, children } => Tree::Node {
            name: rename(&name),
            children: children
                .into_iter()
                .map(|(name, tree)| (name, renamed(tree, rename)))
                .collect(),
        },
    }
}

/// Adds `padding_idx` to the embeddings with these names, anywhere in a tree.
pub(crate) fn with_padding_row(tree: Tree, names: &[&str], row: Option<i64>) -> Tree {
    let (Tree::Node { name, children }, Some(row)) = (tree.clone(), row) else {
        return tree;
    };
    let shown = |line: &str| match line.strip_prefix("Embedding(") {
        Some(rest) => format!(
            "Embedding({}, padding_idx={row})",
            rest.trim_end_matches(')')
        ),
        None => line.to_string(),
    };
    let children = children.into_iter().map(|(child, tree)| {
        let tree = if names.contains(&child.as_str()) {
            renamed(tree, &shown)
        } else {
            with_padding_row(tree, names, Some(row))
        };
        (child, tree)
    });
    Tree::Node {
        name,
        children: children.collect(),
    }
}

/// Moves the child with this name to the end, in every module that has one.
pub(crate) fn with_last(tree: Tree, last: &str) -> Tree {
    let Tree::Node { name, children } = tree else {
        return tree;
    };
    let (moved, mut others): (Vec<_>, Vec<_>) = children
        .into_iter()
        .map(|(child, tree)| (child, with_last(tree, last)))
        .partition(|(child, _)| child == last);
    others.extend(moved);
    Tree::Node {
        name,
        children: others,
    }
}

/// A module that PEFT copies as a whole (`modules_to_save`), although each of its layers has a
/// slot.
pub(crate) struct SavedTogether {
    class: String,
    children: Vec<(String, Tree)>,
}

/// Selects one part of a layer with copies.
type PartOf<'a> = dyn Fn(&[(String, Tree)]) -> Option<Tree> + 'a;

/// PEFT's name for what holds a layer and its trained copies.
const WRAPPER: &str = "ModulesToSaveWrapper";

impl SavedTogether {
    /// A module of this class with these children.
    pub fn new<const N: usize>(class: &str, children: [(&str, Tree); N]) -> Self {
        Self {
            class: class.into(),
            children: children.map(|(name, tree)| (name.into(), tree)).into(),
        }
    }

    /// The module, or its original and its copies.
    pub fn tree(self) -> Tree {
        let wrapper = self.children.iter().find_map(|(_, tree)| match tree {
            Tree::Node { name, children } if name == WRAPPER => Some(children),
            _ => None,
        });
        let copies = wrapper.and_then(|children| match &children.last()?.1 {
            Tree::Node { children, .. } => Some(children),
            _ => None,
        });
        let Some(copies) = copies else {
            return Tree::node(self.class, self.children);
        };
        let names: Vec<String> = copies.iter().map(|(name, _)| name.clone()).collect();
        let whole = |of: &PartOf| {
            let children = self.children.iter().map(|(name, tree)| {
                let part = match tree {
                    Tree::Node { name, children } if name == WRAPPER => of(children),
                    _ => None,
                };
                (name.clone(), part.unwrap_or_else(|| tree.clone()))
            });
            Tree::node(self.class.clone(), children)
        };
        let original = whole(&|parts| parts.first().map(|(_, tree)| tree.clone()));
        let copies = names.into_iter().map(|adapter| {
            let copy = whole(&|parts| match &parts.last()?.1 {
                Tree::Node { children, .. } => {
                    let mut copies = children.iter();
                    let copy = copies.find(|(name, _)| *name == adapter);
                    copy.map(|(_, tree)| tree.clone())
                }
                _ => None,
            });
            (adapter, copy)
        });
        let copies = Tree::node("ModuleDict", copies);
        let children = [("original_module", original), ("modules_to_save", copies)];
        Tree::node(WRAPPER, children)
    }
}
