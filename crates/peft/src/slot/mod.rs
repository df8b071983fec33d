//! The interface of a slot, whatever layer it holds.

mod adapter;
mod any_param;
mod kept;
mod kept_param;
mod lora_adapter;
mod part;
mod probe;
mod shared_param;
mod tensors;

pub use adapter::{Adapter, AdapterParam, AdapterTensor};
pub use any_param::{AnyParam, LazyData};
pub use lora_adapter::{BASE_ROW, LoraAdapter};
pub use part::{Part, PartInput};
pub(crate) use probe::Probe;
pub use shared_param::SharedParam;
pub use tensors::Tensors;

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use burn_peft_kernels::{BlockWeight, Int8Weight, Quantization, QuantizedWeight};

use self::kept::Kept;

use crate::{Adaptable, ConvInfo, LayerInfo, LayerKind, Result, Tree};

/// A place in the model where a layer can be adapted, whatever its type.
pub trait Slot {
    /// The kind of the layer.
    fn kind(&self) -> LayerKind;

    /// `[d_in, d_out]` of the layer.
    fn dims(&self) -> [usize; 2];

    /// The parameters of a convolution; `None` for other layers.
    fn convolution(&self) -> Option<ConvInfo>;

    /// Whether the layer has a bias.
    fn has_bias(&self) -> bool;

    /// The device of the layer.
    fn device(&self) -> Device;

    /// The weight as `[d_in, d_out]`, merged adapters included.
    fn weight(&self) -> Tensor<2>;

    /// The bias `[d_out]`, if the layer has one, merged adapters included.
    fn bias(&self) -> Option<Tensor<1>>;

    /// The weight `[vocab, d]` that an output layer tied to this embedding uses, whether adapters
    /// are merged or not. Some adapters act on the embedding alone.
    fn tied_weight(&self) -> Tensor<2>;

    /// Like [`weight`](Self::weight), without merged adapters.
    fn unmerged_weight(&self) -> Tensor<2>;

    /// Replaces the weight `[d_in, d_out]` by another of the same shape; it stays frozen or
    /// trainable.
    fn set_weight(&mut self, weight: Tensor<2>);

    /// Quantises the frozen weight of a linear layer. A weight that is set later is quantised the
    /// same way. Does nothing to other kinds of layers, or if the weight is already quantised.
    ///
    /// # Errors
    /// If a value is NaN or infinite, which rounding would hide; the error names the layer by
    /// `path`.
    fn quantize(&mut self, path: &str, quantization: Quantization) -> Result<()>;

    /// The weight, if it is kept quantised.
    fn quantized(&self) -> Option<&QuantizedWeight>;

    /// Rounds the frozen weight of a linear layer or an embedding to the eight bits in which its
    /// products are computed; a weight in the blocks of a file is unpacked and rounded again. A
    /// weight that is set later is rounded the same way. Does nothing to other kinds of layers, or
    /// if the weight is already quantised.
    ///
    /// # Errors
    /// As for [`quantize`](Self::quantize).
    fn quantize_int8(&mut self, path: &str) -> Result<()>;

    /// The weight, if its products are computed in eight bits.
    fn int8(&self) -> Option<&Int8Weight>;

    /// Keeps the frozen weight `[d_in, d_out]` of a linear layer, or `[vocab, d]` of an embedding,
    /// in the blocks of a file; the values of the layer's own parameter are released. A weight that
    /// is set later is a parameter again.
    ///
    /// # Panics
    /// If the layer is of another kind, or the shape differs.
    fn set_blocks(&mut self, weight: BlockWeight);

    /// The weight, if it is kept in blocks.
    fn blocks(&self) -> Option<&BlockWeight>;

    /// Turns a weight that is stored in another form back into a parameter.
    fn make_dense(&mut self);

    /// The adapters in the slot, active or not.
    fn adapters(&self) -> &[Adapter];

    /// The adapters in the slot, mutable.
    fn adapters_mut(&mut self) -> &mut Vec<Adapter>;

    /// Which adapters are active, merged and so on.
    fn state(&self) -> &SlotState;

    /// [`state`](Self::state), mutable.
    fn state_mut(&mut self) -> &mut SlotState;

    /// Calls `visit` with the layer's own parameters, by their names in the checkpoint.
    fn visit_base(&self, visit: &mut dyn FnMut(&str, &dyn AnyParam));

    /// Like [`visit_base`](Self::visit_base), but the parameters can be changed.
    fn visit_base_mut(&mut self, visit: &mut dyn FnMut(&str, &mut dyn AnyParam));

    /// Calls `visit` with the parameters of the layer's copy that belongs to an adapter
    /// (`modules_to_save`), if there is one.
    fn visit_saved(&self, adapter: &str, visit: &mut dyn FnMut(&str, &dyn AnyParam));

    /// Like [`visit_saved`](Self::visit_saved), but the parameters can be changed.
    fn visit_saved_mut(&mut self, adapter: &str, visit: &mut dyn FnMut(&str, &mut dyn AnyParam));

    /// Gives an adapter a copy of the layer that is trained in the layer's place.
    fn add_saved(&mut self, adapter: &str);

    /// Removes an adapter and its copy of the layer.
    fn remove(&mut self, adapter: &str);

    /// Merges the active adapters into the weight; with `safe_merge`, only if the result is finite.
    ///
    /// # Errors
    /// If a method cannot be merged, or if the merged weight is not finite. The slot is then
    /// unchanged.
    fn merge(&mut self, path: &str, safe_merge: bool) -> Result<()>;

    /// The layer's own parameters, by their names in the checkpoint, with the active adapters
    /// merged into them, or the active adapter's copy of the layer instead. The slot is unchanged,
    /// and a quantised weight is not rounded again.
    ///
    /// # Errors
    /// As for [`merge`](Self::merge) with `safe_merge`.
    fn merged(&self, path: &str) -> Result<Vec<(String, TensorData)>>;

    /// Removes merged adapters from the weight again, exactly.
    fn unmerge(&mut self);

    /// Removes every adapter. What is merged stays in the weight; with `keep_saved`, the active
    /// adapter's copy of the layer replaces the layer.
    fn unload(&mut self, keep_saved: bool);

    /// The slot as PEFT prints it.
    fn describe(&self) -> Tree;
}

impl dyn Slot + '_ {
    /// The description of the slot for targeting and methods.
    pub fn info(&self, path: &str, model: &impl Adaptable) -> LayerInfo {
        let [d_in, d_out] = self.dims();
        LayerInfo {
            path: path.to_string(),
            kind: self.kind(),
            d_in,
            d_out,
            conv: self.convolution(),
            has_bias: self.has_bias(),
            is_input: path == model.input_embedding(),
            is_output: path == model.output_embedding(),
        }
    }

    /// The adapter of this name.
    pub fn adapter(&self, name: &str) -> Option<&Adapter> {
        self.adapters()
            .iter()
            .find(|adapter| adapter.name() == name)
    }

    /// The adapter of this name, mutable.
    pub fn adapter_mut(&mut self, name: &str) -> Option<&mut Adapter> {
        self.adapters_mut()
            .iter_mut()
            .find(|adapter| adapter.name == name)
    }

    /// Whether an active adapter changes or replaces the layer.
    pub fn is_adapted(&self) -> bool {
        let mut active = self.state().active.iter();
        active.any(|name| self.has_saved(name) || self.adapter(name).is_some())
    }

    /// Whether the layer's own weight differs from the checkpoint's, because an adapter took a part
    /// of it or its file had one.
    pub fn has_own_weight(&self) -> bool {
        !(self.state().originals.is_empty() && self.state().stored.is_empty())
    }

    /// Whether the weight is rounded to 4 or 8 bits.
    pub fn is_quantized(&self) -> bool {
        self.quantized().is_some() || self.int8().is_some()
    }

    /// Whether the adapter has a copy of the layer.
    pub fn has_saved(&self, adapter: &str) -> bool {
        self.state().saved.iter().any(|name| name == adapter)
    }
}

/// The state of a slot's adapters.
#[derive(Clone, Debug, Default)]
pub struct SlotState {
    /// The path of the slot, for messages; empty in a model that has never been wrapped.
    pub(crate) path: String,
    /// The names of the active adapters, in the order they act.
    pub active: Vec<String>,
    /// Whether all adapters are switched off for now.
    pub disabled: bool,
    /// The names of the adapters that are merged into the weight.
    pub merged: Vec<String>,
    /// The names of the adapters that have a copy of the layer.
    pub(crate) saved: Vec<String>,
    /// The names of the adapters whose copy also serves an output layer tied to this embedding.
    pub(crate) tied: Vec<String>,
    /// The adapters whose files contain the layer's own weight, each with one of its keys there.
    pub(crate) stored: Vec<(String, String)>,
    /// A function that sees every input of the layer.
    pub(crate) probe: Option<Probe>,
    /// The adapter of each row of the batch, which replace the active adapters.
    pub(crate) rows: Option<Arc<[String]>>,
    /// The weights from before adapters took a part of them, each with the adapter's name.
    pub(crate) originals: Vec<(String, Tensor<2>)>,
    /// Weight and bias before merging.
    pub(crate) unmerged: Option<(StoredWeight, Option<Tensor<1>>)>,
}

/// A layer's weight in its stored form.
#[derive(Clone, Debug)]
pub(crate) enum StoredWeight {
    Dense(Box<Tensor<2>>),
    Kept(Kept),
}

impl SlotState {
    /// Whether an adapter's copy of the layer also serves the tied output layer.
    pub(crate) fn is_tied(&self, adapter: &str) -> bool {
        self.tied.iter().any(|name| name == adapter)
    }
}
