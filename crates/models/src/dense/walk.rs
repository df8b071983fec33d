//! The walk over parts whose names are data.

use burn::nn::{Dropout, Embedding, Linear};
use burn::tensor::Device;
use burn_peft::{Adaptable, BaseLayer, LoraAdapter, Tree};

use super::{Attention, Block, Mlp, Rotary, Switches};
use crate::parts::{Norm, Xielu, random_linear};

/// Implements [`Adaptable`] for a struct whose field names come from the layout. Arguments: the
/// struct, the suffix of its class, the enum of its parts, the layout's list of names, what acts
/// around it, and the field of each part.
macro_rules! named_parts {
    (
        $type:ident, $class:expr, $parts:ident, $names:ident, [$($around:ident)?],
        $($part:ident => $field:ident),* $(,)?
    ) => {
        impl burn_peft::Adaptable for $type {
            fn visit_slots(
                &self,
                path: &mut burn_peft::Path,
                visit: &mut dyn FnMut(&str, &dyn burn_peft::Slot),
            ) {
                $( self.$around.visit_slots(path, &mut *visit); )?
                for (name, part) in self.switches.layout.$names {
                    path.within(name, |path| match part {
                        $( $parts::$part => self.$field.visit_slots(path, &mut *visit), )*
                    });
                }
            }

            fn visit_slots_mut(
                &mut self,
                path: &mut burn_peft::Path,
                visit: &mut dyn FnMut(&str, &mut dyn burn_peft::Slot),
            ) {
                $( self.$around.visit_slots_mut(path, &mut *visit); )?
                for (name, part) in self.switches.layout.$names {
                    path.within(name, |path| match part {
                        $( $parts::$part => self.$field.visit_slots_mut(path, &mut *visit), )*
                    });
                }
            }

            fn tree(&self) -> burn_peft::Tree {
                let layout = &self.switches.layout;
                let children = layout.$names.iter().map(|(name, part)| {
                    let tree = match part {
                        $( $parts::$part => self.$field.shown(&self.switches), )*
                    };
                    (*name, tree)
                });
                let class: fn(&super::Layout) -> &'static str = $class;
                let class = format!("{}{}", layout.class, class(layout));
                let tree = burn_peft::Tree::node(class, children);
                $( let tree = self.$around.describe_around(tree); )?
                tree
            }
        }
    };
}
pub(super) use named_parts;

/// How a part is printed, if the family decides that.
pub(super) trait Shown {
    fn shown(&self, switches: &Switches) -> Tree;

    /// What is printed instead if the part is missing.
    fn absent(_switches: &Switches) -> Tree {
        Tree::Empty
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self, switches: &Switches) -> Tree {
        match self {
            Some(part) => part.shown(switches),
            None => T::absent(switches),
        }
    }
}

/// Parts that print themselves.
macro_rules! shown_as_they_are {
    ($($type:ty),*) => {$(
        impl Shown for $type {
            fn shown(&self, _: &Switches) -> Tree {
                self.tree()
            }
        }
    )*};
}

shown_as_they_are!(
    Attention,
    Mlp,
    Norm,
    Vec<Block>,
    Dropout,
    LoraAdapter<Linear>
);

impl Shown for LoraAdapter<Xielu> {
    fn shown(&self, _: &Switches) -> Tree {
        self.tree()
    }

    fn absent(switches: &Switches) -> Tree {
        switches.activation.tree()
    }
}

impl Shown for Rotary {
    fn shown(&self, switches: &Switches) -> Tree {
        Tree::Leaf(format!("{}RotaryEmbedding()", switches.layout.class))
    }
}

impl Shown for LoraAdapter<Embedding> {
    fn shown(&self, switches: &Switches) -> Tree {
        let [rows, d] = self.base_layer.dims();
        let class = switches.layout.embedding_class;
        let padding = switches
            .empty_row()
            .map(|row| format!(", padding_idx={row}"));
        let padding = padding.unwrap_or_default();
        self.describe_around(Tree::Leaf(format!("{class}({rows}, {d}{padding})")))
    }
}

/// A linear layer with random weights, which are made when they are first used.
pub(super) fn linear(
    dims: [usize; 2],
    bias: bool,
    switches: &Switches,
    device: &Device,
) -> LoraAdapter<Linear> {
    random_linear(dims, bias, switches.initializer_range, device)
}
