//! The decorator: a layer with adapters.

mod describe;
mod module;
mod rows;
mod slot;
mod tied;
mod together;
mod weight;

pub use rows::BASE_ROW;

use burn::tensor::{Int, Tensor};
use burn_peft_kernels::Lora;

use crate::slot::kept::Kept;
use crate::{
    Adaptable, Adapter, Base, BaseLayer, Frozen, LayerInput, LayerOutput, OutputOf, Path, Slot,
    SlotState, Tree,
};

/// A layer `M` with any number of adapters, some or none of which are active.
///
/// It takes the place of `M` in the model. Without adapters it *is* `M`. With an adapter, it
/// computes what the adapter's method defines; for LoRA `M(x) + scaling · B(A(dropout(x)))` (arXiv
/// 2106.09685), on activations: a frozen weight never gets a gradient of its size.
///
/// ```
/// # use burn::{nn::LinearConfig, tensor::{Device, Tensor}};
/// # use burn_peft::LoraAdapter;
/// # let device = Device::flex();
/// let layer = LoraAdapter::new(LinearConfig::new(10, 20).init(&device));
/// let output = layer.forward(Tensor::zeros([3, 10], &device)); // [3, 20]
/// ```
/// For Burn's records it is `M` as well: its layer's parameters have the same paths as without a
/// slot, so a record of a plain trained model loads into the same model with slots, and vice versa.
#[derive(Clone, Debug)]
pub struct LoraAdapter<M: BaseLayer> {
    /// The layer, frozen while an adapter is trained. If its weight is stored in another form, its
    /// parameter has been released ([`AnyParam::release`](crate::AnyParam::release)).
    pub base_layer: M,
    /// The layer's weight, if it is quantised or in the blocks of a file.
    kept: Option<Kept>,
    /// The adapters, in the order they were added.
    adapters: Vec<Adapter>,
    /// Trained copies of the layer (`modules_to_save`), named in the state.
    modules_to_save: Vec<M>,
    state: SlotState,
}

impl<M: BaseLayer> LoraAdapter<M> {
    /// A slot without adapters.
    pub fn new(base_layer: M) -> Self {
        Self {
            base_layer,
            kept: None,
            adapters: Vec::new(),
            modules_to_save: Vec::new(),
            state: SlotState::default(),
        }
    }

    /// Whether an adapter that is not merged affects the output.
    pub fn is_adapted(&self) -> bool {
        !self.acting().is_empty()
    }

    /// The layer, if it alone computes the output: no adapter acts on it, no probe watches its
    /// input, and its weight is its parameter.
    pub fn unadapted(&self) -> Option<&M> {
        let alone = self.state.probe.is_none() && self.state.rows.is_none() && !self.is_adapted();
        let layer = self.acting_layer();
        (alone && self.kept_of(layer).is_none()).then_some(layer)
    }

    /// The output of the layer and its active adapters: `[tokens, d_out]`, or `[batch, d_out, …]`
    /// for a convolution.
    ///
    /// # Panics
    /// If the input does not have the layer's width; the message names the layer.
    #[track_caller]
    pub fn forward(&self, input: M::Input) -> OutputOf<M> {
        self.forward_onto(input, None)
    }

    /// Like [`forward`](Self::forward), plus `residual`, which has the shape of the output.
    ///
    /// # Panics
    /// As for [`forward`](Self::forward).
    #[track_caller]
    pub fn forward_onto(&self, input: M::Input, residual: Option<OutputOf<M>>) -> OutputOf<M> {
        self.take_in(&input);
        if let (Some(rows), false) = (&self.state.rows, self.state.disabled) {
            let output = self.by_rows(rows, input, |name, part| self.forward_with(name, part));
            return match residual {
                Some(residual) => residual + output,
                None => output,
            };
        }
        let acting = self.acting();
        if let Some(output) = self.forward_fused(&acting, &input, residual.as_ref()) {
            return output;
        }
        let output = if self.state.disabled {
            self.forward_layer(&self.base_layer, input)
        } else {
            self.forward_through(self.active_layer(), &acting, input)
        };
        match residual {
            Some(residual) => residual + output,
            None => output,
        }
    }

    /// Checks the width of an input, and shows it to what watches.
    #[track_caller]
    fn take_in(&self, input: &M::Input) {
        let d_in = match (self.base_layer.convolution(), &self.kept) {
            (Some(convolution), _) => convolution.channels_in,
            // Sooner found than the shape of a released parameter.
            (None, Some(Kept::Int8(weight))) => weight.dims()[0],
            (None, _) => self.base_layer.dims()[0],
        };
        if let Some(width) = input.width().filter(|&width| width != d_in) {
            let path = match self.state.path.as_str() {
                "" => "a layer",
                path => path,
            };
            panic!(
                "{path}, {}, got an input {width} wide: it takes {}",
                self.base_layer.describe(),
                M::Input::expected(d_in)
            );
        }
        if let Some((probe, input)) = self.state.probe.as_ref().zip(input.activations()) {
            probe.see(input);
        }
    }

    /// What acts on the layer, if it is nothing or a low-rank change.
    fn low_rank(acting: &[&Adapter]) -> Option<Option<Lora>> {
        match acting {
            [] => Some(None),
            [adapter] => adapter.method.low_rank(&adapter.tensors()).map(Some),
            _ => None,
        }
    }

    /// Everything in one operation, if the layer is linear and its adapters, if any, are a low-rank
    /// change.
    fn forward_fused(
        &self,
        acting: &[&Adapter],
        input: &M::Input,
        residual: Option<&OutputOf<M>>,
    ) -> Option<OutputOf<M>> {
        let lora = Self::low_rank(acting)?;
        let layer = self.acting_layer();
        match self.kept_of(layer) {
            Some(weight) => {
                let residual = residual.and_then(LayerOutput::to_matrix);
                let output = weight.linear(input.activations()?, layer.bias(), residual, lora);
                LayerOutput::from_matrix(output)
            }
            None => layer.forward_fused(input, residual, lora),
        }
    }

    /// The output of the slot's own layer or of a copy of it, without adapters.
    fn forward_layer(&self, layer: &M, input: M::Input) -> OutputOf<M> {
        let kept = match (self.kept_of(layer), input.activations(), input.ids()) {
            (Some(weight), Some(input), _) => Some(weight.linear(input, layer.bias(), None, None)),
            (Some(weight), _, Some(ids)) => Some(weight.select(ids, &layer.device())),
            _ => None,
        };
        let kept = kept.and_then(LayerOutput::from_matrix);
        kept.unwrap_or_else(|| layer.forward_base(input))
    }

    /// The adapters that act, in their order.
    fn acting(&self) -> Vec<&Adapter> {
        if self.state.disabled {
            return Vec::new();
        }
        let names = self.state.active.iter();
        names
            .filter(|name| !self.state.merged.contains(name))
            .filter_map(|name| self.adapters.iter().find(|adapter| adapter.name == **name))
            .collect()
    }

    /// Each adapter acts on the output of the layer and the adapters before it.
    fn forward_through(&self, layer: &M, adapters: &[&Adapter], input: M::Input) -> OutputOf<M> {
        let Some((last, others)) = adapters.split_last() else {
            return self.forward_layer(layer, input);
        };
        let base = Base {
            forward: &|input| self.forward_through(layer, others, input),
            frozen: Frozen {
                weight: &|| self.weight(),
                bias: &|| self.base_layer.bias(),
            },
            forward_with: &|input, weight, bias| layer.forward_with(input, weight, bias),
        };
        input.through(last, &base)
    }

    /// The output with the adapter of this name alone, active or not.
    fn forward_with(&self, adapter: &str, input: M::Input) -> OutputOf<M> {
        let layer = self.saved(adapter).unwrap_or(&self.base_layer);
        self.forward_through(layer, &self.named(adapter), input)
    }

    /// The adapter of this name, active or not, if there is one.
    fn named(&self, name: &str) -> Vec<&Adapter> {
        let adapters = self.adapters.iter();
        adapters.filter(|adapter| adapter.name == name).collect()
    }

    /// The active adapter's copy of the layer, or the layer itself.
    fn active_layer(&self) -> &M {
        let saved = self.state.active.iter().find_map(|name| self.saved(name));
        saved.unwrap_or(&self.base_layer)
    }

    /// The layer that acts: its own if adapters are disabled.
    fn acting_layer(&self) -> &M {
        if self.state.disabled {
            &self.base_layer
        } else {
            self.active_layer()
        }
    }

    fn saved(&self, adapter: &str) -> Option<&M> {
        let index = self.state.saved.iter().position(|name| name == adapter)?;
        self.modules_to_save.get(index)
    }
}

/// Gives every parameter a new identity and values of its own.
struct FreshIds;

impl burn::module::ModuleMapper for FreshIds {
    fn map_float<const D: usize>(
        &mut self,
        param: burn::module::Param<Tensor<D>>,
    ) -> burn::module::Param<Tensor<D>> {
        let (_, tensor, mapper) = param.consume();
        burn::module::Param::from_mapped_value(
            burn::module::ParamId::new(),
            tensor.detach(),
            mapper,
        )
    }
}

impl<M: BaseLayer> Adaptable for LoraAdapter<M> {
    fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
        visit(path.as_str(), self);
    }

    fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot)) {
        visit(path.as_str(), self);
    }

    fn tree(&self) -> Tree {
        self.describe()
    }
}

/// Inputs of more convenient shapes than `[tokens, d]`.
impl<M: BaseLayer<Input = Tensor<2>>> LoraAdapter<M> {
    /// Like [`forward`](Self::forward), for any number of leading axes: `[…, d_in]` to
    /// `[…, d_out]`.
    ///
    /// # Panics
    /// As for [`forward`](Self::forward).
    #[track_caller]
    pub fn forward_nd<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        let mut dims = input.dims();
        let tokens: usize = dims[..D - 1].iter().product();
        let output = self.forward(input.reshape([tokens, dims[D - 1]]));
        dims[D - 1] = output.dims()[1];
        output.reshape(dims)
    }
}

impl<M: BaseLayer<Input = Tensor<1, Int>>> LoraAdapter<M> {
    /// Like [`forward`](Self::forward), for a batch of ids: `[batch, seq]` to `[batch, seq, d]`.
    pub fn forward_2d(&self, input: Tensor<2, Int>) -> Tensor<3> {
        let [batch, seq] = input.dims();
        let output = self.forward(input.reshape([batch * seq]));
        let d = output.dims()[1];
        output.reshape([batch, seq, d])
    }
}
