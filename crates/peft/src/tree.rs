//! The printed tree of a model, in the words of PyTorch's `print(model)`.

use std::fmt;

/// One module of the printed tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tree {
    /// Nothing to print: a number, a flag.
    Empty,
    /// A module without children, as one line: `Conv1D(nf=2304, nx=768)`.
    Leaf(String),
    /// A module with children.
    Node {
        /// The name of the type.
        name: String,
        /// The children, by field name.
        children: Vec<(String, Tree)>,
    },
}

/// A truth value as Python prints it.
pub(crate) fn python_bool(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// A small number as Python prints it: 0.00001 is `1e-05`.
pub(crate) fn python_number(epsilon: f64) -> String {
    match format!("{epsilon:e}").split_once("e-") {
        Some((digits, exponent)) if epsilon < 1e-4 => format!("{digits}e-{exponent:0>2}"),
        _ => format!("{epsilon:?}"),
    }
}

/// A linear layer as PyTorch prints it.
pub(crate) fn linear_module(d_in: usize, d_out: usize, has_bias: bool) -> String {
    let bias = python_bool(has_bias);
    format!("Linear(in_features={d_in}, out_features={d_out}, bias={bias})")
}

impl Tree {
    /// A module with children; the empty ones are left out.
    pub fn node<S: Into<String>>(
        name: impl Into<String>,
        children: impl IntoIterator<Item = (S, Tree)>,
    ) -> Self {
        let children = children.into_iter();
        let children = children.filter(|(_, tree)| *tree != Tree::Empty);
        Tree::Node {
            name: name.into(),
            children: children.map(|(name, tree)| (name.into(), tree)).collect(),
        }
    }

    /// A linear layer.
    pub fn linear(d_in: usize, d_out: usize, has_bias: bool) -> Self {
        Tree::Leaf(linear_module(d_in, d_out, has_bias))
    }

    /// Writes the children of a node, equal neighbours as `(0-11): 12 x GPT2Block(`.
    fn write_children(
        children: &[(String, Tree)],
        f: &mut fmt::Formatter<'_>,
        depth: usize,
    ) -> fmt::Result {
        let mut start = 0;
        while start < children.len() {
            let (name, tree) = &children[start];
            let mut end = start + 1;
            // PyTorch folds equal neighbours of a ModuleList only: those have numbers as names.
            while name.parse::<usize>().is_ok() && end < children.len() && children[end].1 == *tree
            {
                end += 1;
            }
            write!(f, "{:depth$}({name}", "")?;
            if end - start > 1 {
                write!(f, "-{}): {} x ", children[end - 1].0, end - start)?;
            } else {
                write!(f, "): ")?;
            }
            tree.write(f, depth)?;
            writeln!(f)?;
            start = end;
        }
        Ok(())
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        match self {
            Tree::Empty => Ok(()),
            Tree::Leaf(line) => write!(f, "{line}"),
            Tree::Node { name, children } if children.is_empty() => write!(f, "{name}()"),
            // PyTorch's dictionaries of parameters and buffers say them in their own line.
            Tree::Node { name, children }
                if ["ParameterDict", "BufferDict"].contains(&name.as_str())
                    && children.len() == 1 =>
            {
                write!(f, "{name}(  ({}): {})", children[0].0, children[0].1)
            }
            Tree::Node { name, children } => {
                writeln!(f, "{name}(")?;
                Self::write_children(children, f, depth + 2)?;
                write!(f, "{:depth$})", "")
            }
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}
