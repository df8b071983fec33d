//! The one walk over a model: every slot with its path.

use burn::module::{Module, ModuleDisplay, Param};
use burn::nn::{self, conv, pool};
use burn::tensor::{Bool, Int, Tensor};

use crate::tree::{python_bool, python_number};
use crate::{ModelInfo, Slot, Tree};

/// Two numbers as Python prints them.
fn pair([first, second]: [usize; 2]) -> String {
    format!("({first}, {second})")
}

/// A model, or a part of one, whose slots can be visited.
///
/// Derive it: `#[derive(Module, Adaptable, Debug)]`. The path of a slot is made of the names of
/// the fields that lead to it, so a model whose fields are called as in the checkpoint
/// (`transformer.h.0.attn.c_attn`) needs no tables.
///
/// Parameters and some of Burn's layers may stand in a model as they are; they have no slots. A
/// field of any other type that has none is marked `#[adaptable(skip)]`:
///
/// ```
/// # use burn::{module::Module, nn::{Linear, Lstm}};
/// # use burn_peft::{Adaptable, LoraAdapter};
/// #[derive(Module, Adaptable, Debug)]
/// struct Net {
///     #[adaptable(skip)]
///     lstm: Lstm,
///     fc: LoraAdapter<Linear>,
/// }
/// ```
///
/// Without the mark the compiler names the field and says what to write.
///
/// ```compile_fail,E0277
/// # use burn::{module::Module, nn::Lstm};
/// # use burn_peft::Adaptable;
/// #[derive(Module, Adaptable, Debug)]
/// struct Net {
///     lstm: Lstm,
/// }
/// ```
///
/// A layer that no method adapts cannot stand in a slot:
///
/// ```compile_fail,E0277
/// # use burn_peft::LoraAdapter;
/// struct Net {
///     up: LoraAdapter<burn::nn::conv::ConvTranspose2d>,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "burn-peft does not know the slots of `{Self}`",
    label = "does not implement `Adaptable`",
    note = "if `{Self}` has nothing to adapt, mark the field `#[adaptable(skip)]`",
    note = "if it is a layer to adapt (`Linear`, `Conv1d`, `Conv2d`, `Embedding`, `LayerNorm`, `Conv1D`), make the field a `LoraAdapter<{Self}>`",
    note = "if it is a type of yours that holds such layers, derive `Adaptable` for it"
)]
pub trait Adaptable {
    /// Calls `visit` with the path and the slot of every adaptable layer, in the order of fields.
    fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot));

    /// Like [`visit_slots`](Self::visit_slots), but the slots can be changed.
    fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot));

    /// The module as PyTorch would print it.
    fn tree(&self) -> Tree;

    /// The architecture's name in `config.json`, such as `gpt2`; empty if the model has none.
    fn model_type(&self) -> &str {
        ""
    }

    /// The path of the input embedding; empty if the model has none.
    fn input_embedding(&self) -> &str {
        ""
    }

    /// The path of the output embedding, which `all-linear` leaves out; empty if the model has
    /// none.
    fn output_embedding(&self) -> &str {
        ""
    }

    /// Unties the output embedding from the input embedding: it gets its own weight, with the same
    /// values, and becomes a slot. Returns false if the model does not support this.
    fn untie_output(&mut self) -> bool {
        false
    }

    /// Resizes the vocabulary, and with it the input and output embeddings, to this many rows;
    /// existing rows are kept as far as they fit. Returns false if the model does not support this.
    fn resize_vocabulary(&mut self, _rows: usize) -> bool {
        false
    }

    /// What methods that act at the model need to know; `None` if the model does not support them.
    fn model_info(&self) -> Option<ModelInfo> {
        None
    }

    /// Whether the parameter belongs to a part that no output of the model depends on in its
    /// present use, so that it is not trained.
    fn is_idle(&self, _name: &str) -> bool {
        false
    }
}

/// A whole model that can be wrapped: any Burn module that derives [`Adaptable`].
pub trait BaseModel: Module + ModuleDisplay + Adaptable {}

impl<M: Module + ModuleDisplay + Adaptable> BaseModel for M {}

/// The path from the model to the module being visited.
#[derive(Clone, Debug, Default)]
pub struct Path(String);

impl Path {
    /// Runs `inside` one name deeper.
    pub fn within(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        let length = self.0.len();
        if length > 0 {
            self.0.push('.');
        }
        self.0.push_str(name);
        inside(self);
        self.0.truncate(length);
    }

    /// The path with dots between its names.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Adaptable> Adaptable for Vec<T> {
    fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
        visit_items(self, path, visit);
    }

    fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot)) {
        visit_items_mut(self, path, visit);
    }

    fn tree(&self) -> Tree {
        list(self.iter().map(Adaptable::tree))
    }
}

impl<T: Adaptable, const N: usize> Adaptable for [T; N] {
    fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
        visit_items(self, path, visit);
    }

    fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot)) {
        visit_items_mut(self, path, visit);
    }

    fn tree(&self) -> Tree {
        list(self.iter().map(Adaptable::tree))
    }
}

fn visit_items<T: Adaptable>(items: &[T], path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
    for (index, item) in items.iter().enumerate() {
        path.within(&index.to_string(), |path| item.visit_slots(path, visit));
    }
}

fn visit_items_mut<T: Adaptable>(
    items: &mut [T],
    path: &mut Path,
    visit: &mut dyn FnMut(&str, &mut dyn Slot),
) {
    for (index, item) in items.iter_mut().enumerate() {
        path.within(&index.to_string(), |path| item.visit_slots_mut(path, visit));
    }
}

/// Items with numbers as names. A list of numbers or names has nothing to print.
fn list(items: impl ExactSizeIterator<Item = Tree>) -> Tree {
    let count = items.len();
    let items = items.enumerate();
    let tree = Tree::node(
        "ModuleList",
        items.map(|(index, tree)| (index.to_string(), tree)),
    );
    match &tree {
        Tree::Node { children, .. } if children.is_empty() && count > 0 => Tree::Empty,
        _ => tree,
    }
}

macro_rules! tuples {
    ($(($($item:ident $index:tt),*)),*) => {$(
        /// The numbers of the items are parts of the paths.
        impl<$($item: Adaptable),*> Adaptable for ($($item,)*) {
            fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
                $(path.within(stringify!($index), |path| self.$index.visit_slots(path, visit));)*
            }

            fn visit_slots_mut(
                &mut self,
                path: &mut Path,
                visit: &mut dyn FnMut(&str, &mut dyn Slot),
            ) {
                $(path.within(stringify!($index), |path| self.$index.visit_slots_mut(path, visit));)*
            }

            fn tree(&self) -> Tree {
                list([$(self.$index.tree()),*].into_iter())
            }
        }
    )*};
}

// As many items as Burn's modules may have.
tuples!(
    (A 0, B 1),
    (A 0, B 1, C 2),
    (A 0, B 1, C 2, D 3),
    (A 0, B 1, C 2, D 3, E 4),
    (A 0, B 1, C 2, D 3, E 4, F 5),
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6),
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7),
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8),
    (A 0, B 1, C 2, D 3, E 4, F 5, G 6, H 7, I 8, J 9)
);

impl<T: Adaptable> Adaptable for Option<T> {
    fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
        if let Some(item) = self {
            item.visit_slots(path, visit);
        }
    }

    fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot)) {
        if let Some(item) = self {
            item.visit_slots_mut(path, visit);
        }
    }

    fn tree(&self) -> Tree {
        self.as_ref().map_or(Tree::Empty, Adaptable::tree)
    }
}

/// Implements [`Adaptable`] for types without slots: the type, and how a printed tree shows a value.
///
/// ```
/// # use burn::module::Module;
/// # use burn_peft::{Adaptable, Tree, no_slots};
/// #[derive(Module, Debug)]
/// struct Squared {
///     scale: f64,
/// }
///
/// no_slots! {
///     Squared => |this| Tree::Leaf(format!("Squared(scale={})", this.scale)),
/// }
/// assert_eq!(Squared { scale: 2.0 }.tree().to_string(), "Squared(scale=2)");
/// ```
#[macro_export]
macro_rules! no_slots {
    ($($type:ty => |$self:ident| $tree:expr),* $(,)?) => {$(
        impl $crate::Adaptable for $type {
            fn visit_slots(
                &self,
                _: &mut $crate::Path,
                _: &mut dyn FnMut(&str, &dyn $crate::Slot),
            ) {
            }
            fn visit_slots_mut(
                &mut self,
                _: &mut $crate::Path,
                _: &mut dyn FnMut(&str, &mut dyn $crate::Slot),
            ) {
            }
            fn tree(&self) -> $crate::Tree {
                let $self = self;
                $tree
            }
        }
    )*};
}

no_slots! {
    bool => |_this| Tree::Empty,
    usize => |_this| Tree::Empty,
    u8 => |_this| Tree::Empty,
    u16 => |_this| Tree::Empty,
    u32 => |_this| Tree::Empty,
    u64 => |_this| Tree::Empty,
    isize => |_this| Tree::Empty,
    i8 => |_this| Tree::Empty,
    i16 => |_this| Tree::Empty,
    i32 => |_this| Tree::Empty,
    i64 => |_this| Tree::Empty,
    f32 => |_this| Tree::Empty,
    f64 => |_this| Tree::Empty,
    char => |_this| Tree::Empty,
    String => |_this| Tree::Empty,
    nn::Dropout => |this| Tree::Leaf(format!("Dropout(p={:?}, inplace=False)", this.prob)),
    nn::Gelu => |_this| Tree::Leaf("GELUActivation()".into()),
    nn::Relu => |_this| Tree::Leaf("ReLU()".into()),
    nn::Linear => |this| crate::BaseLayer::describe(this),
    nn::Embedding => |this| crate::BaseLayer::describe(this),
    nn::LayerNorm => |this| crate::BaseLayer::describe(this),
    conv::Conv1d => |this| crate::BaseLayer::describe(this),
    conv::Conv2d => |this| crate::BaseLayer::describe(this),
    // Burn's norm of a batch is one type for any number of axes.
    nn::BatchNorm => |this| Tree::Leaf(format!(
        "BatchNorm({}, eps={}, momentum={:?}, affine=True, track_running_stats=True)",
        this.gamma.lazy_shape()[0], python_number(this.epsilon), this.momentum
    )),
    nn::GroupNorm => |this| Tree::Leaf(format!(
        "GroupNorm({}, {}, eps={}, affine={})",
        this.num_groups, this.num_channels, python_number(this.epsilon), python_bool(this.affine)
    )),
    pool::MaxPool1d => |this| Tree::Leaf(format!(
        "MaxPool1d(kernel_size={}, stride={}, dilation={}, ceil_mode={})",
        this.kernel_size, this.stride, this.dilation, python_bool(this.ceil_mode)
    )),
    pool::MaxPool2d => |this| Tree::Leaf(format!(
        "MaxPool2d(kernel_size={}, stride={}, dilation={}, ceil_mode={})",
        pair(this.kernel_size), pair(this.stride), pair(this.dilation), python_bool(this.ceil_mode)
    )),
    pool::AvgPool1d => |this| Tree::Leaf(format!(
        "AvgPool1d(kernel_size=({},), stride=({},))", this.kernel_size, this.stride
    )),
    pool::AvgPool2d => |this| Tree::Leaf(format!(
        "AvgPool2d(kernel_size={}, stride={})", pair(this.kernel_size), pair(this.stride)
    )),
    pool::AdaptiveAvgPool1d => |this| Tree::Leaf(format!(
        "AdaptiveAvgPool1d(output_size={})", this.output_size
    )),
    pool::AdaptiveAvgPool2d => |this| Tree::Leaf(format!(
        "AdaptiveAvgPool2d(output_size={})", pair(this.output_size)
    )),
}

macro_rules! parameters {
    ($($kind:ty),*) => {$(
        impl<const D: usize> Adaptable for Param<Tensor<D, $kind>> {
            fn visit_slots(&self, _: &mut Path, _: &mut dyn FnMut(&str, &dyn Slot)) {}
            fn visit_slots_mut(&mut self, _: &mut Path, _: &mut dyn FnMut(&str, &mut dyn Slot)) {}
            fn tree(&self) -> Tree {
                Tree::Empty
            }
        }
    )*};
}

parameters!(burn::tensor::Float, Int, Bool);
