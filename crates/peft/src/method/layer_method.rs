//! What a method does at one layer.

use std::fmt::Debug;

use burn::tensor::{Int, Tensor, TensorData};
use burn_peft_kernels::Lora;

use crate::{LayerInput, LayerKind, Result, TensorSpec, Tensors};

/// A method at one layer.
pub trait LayerMethod: Debug + Send + Sync {
    /// PEFT's name of the adapted layer up to the dot: `lora` in `lora.Linear`.
    fn prefix(&self) -> &str;

    /// PEFT's name of the adapted layer: `lora.Linear`.
    fn layer_name(&self, kind: LayerKind) -> String {
        let kind = match kind {
            LayerKind::Conv1D => LayerKind::Linear,
            kind => kind,
        };
        format!("{}.{kind}", self.prefix())
    }

    /// The tensors the method adds to the frozen `layer`.
    fn tensors(&self, layer: &Frozen<'_>) -> Vec<TensorSpec>;

    /// First values that are made from the weight and may leave less of it, in place of those of
    /// [`tensors`](Self::tensors); asked once, when the adapter is attached.
    ///
    /// # Errors
    /// If the weight or the configuration does not allow it.
    fn split(&self, _layer: &Frozen<'_>) -> Result<Option<Split>> {
        Ok(None)
    }

    /// Whether [`split`](Self::split) leaves less of the weight.
    fn takes_weight(&self) -> bool {
        false
    }

    /// The weight `[vocab, d]` that an output layer tied to this embedding uses, where it is not the
    /// `layer`'s own. As in PEFT, most methods act on the embedding only.
    fn tied_weight(&self, _tensors: &Tensors<'_>, _layer: &Frozen<'_>) -> Option<Tensor<2>> {
        None
    }

    /// The method as `scaling · dropout(x) aᵀ bᵀ` beside the layer, where that is all it does:
    /// a linear layer then makes it in one operation with its own product, and
    /// [`forward`](Self::forward) is not asked.
    fn low_rank(&self, _tensors: &Tensors<'_>) -> Option<Lora> {
        None
    }

    /// What the method adds to the weight of `layer`, `[d_in, d_out]`; nothing where it does
    /// something else. By default that of [`low_rank`](Self::low_rank).
    fn delta_weight(&self, tensors: &Tensors<'_>, _layer: &Frozen<'_>) -> Option<Tensor<2>> {
        self.low_rank(tensors).map(|lora| lora.delta_weight())
    }

    /// What remains of [`delta_weight`](Self::delta_weight) in a forward pass: by default all of it. A
    /// method drops a part of it in training.
    fn dropped(&self, delta: Tensor<2>, _is_training: bool) -> Tensor<2> {
        delta
    }

    /// The adapted output `[tokens, d_out]` for the input `[tokens, d_in]`.
    ///
    /// `base` is the layer without this adapter: the method may change its input, scale its
    /// output or add beside it. Only what lies on the way of a gradient is recorded, so a
    /// method that leaves the base weight alone never causes a gradient of its size.
    ///
    /// By default [`low_rank`](Self::low_rank), or else the input times
    /// [`delta_weight`](Self::delta_weight), is added to the output of `base`.
    ///
    /// # Panics
    /// If a method has none of the three.
    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        if let Some(lora) = self.low_rank(tensors) {
            return base.forward(input.clone()) + lora.forward(input);
        }
        let Some(delta) = self.delta_weight(tensors, &base.frozen) else {
            panic!("{self:?} has neither LayerMethod::forward nor low_rank nor delta_weight");
        };
        let delta = self.dropped(delta, input.is_autodiff());
        base.forward(input.clone()) + input.matmul(delta)
    }

    /// As [`forward`](Self::forward) for an embedding: `input` holds ids, `[tokens]`.
    ///
    /// # Panics
    /// By default, since by default [`Method::supports`](crate::Method::supports) takes no embedding.
    fn embed(
        &self,
        _tensors: &Tensors<'_>,
        _input: Tensor<1, Int>,
        _base: &Base<'_, Tensor<1, Int>>,
    ) -> Tensor<2> {
        panic!("{self:?} takes embeddings (Method::supports) but has no LayerMethod::embed");
    }

    /// As [`forward`](Self::forward) for a convolution, from `[batch, channels, height, width]` to
    /// `[batch, d_out, height, width]`; a `Conv1d` has a width of 1.
    ///
    /// By default the layer with [`delta_weight`](Self::delta_weight) in the place of its weight is
    /// added to the output of `base`.
    ///
    /// # Panics
    /// If a method that takes convolutions ([`Method::supports`](crate::Method::supports)) has neither.
    fn convolve(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<4>,
        base: &Base<'_, Tensor<4>>,
    ) -> Tensor<4> {
        let Some(delta) = self.delta_weight(tensors, &base.frozen) else {
            panic!("{self:?} takes convolutions and has neither convolve nor delta_weight");
        };
        let delta = self.dropped(delta, input.is_autodiff());
        base.forward(input.clone()) + base.forward_with(input, delta, None)
    }

    /// The weight `[d_in, d_out]` and bias `[d_out]` that compute the same without the adapter,
    /// or nothing where the method cannot be merged. By default
    /// [`delta_weight`](Self::delta_weight) is added to the weight.
    fn merge(
        &self,
        tensors: &Tensors<'_>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        let layer = Frozen {
            weight: &|| weight.clone(),
            bias: &|| bias.clone(),
        };
        let delta = self.delta_weight(tensors, &layer)?;
        Some((weight + delta, bias))
    }

    /// What PEFT prints of the adapter beside `base_layer`: the name of each part (`lora_A`) and
    /// the module it holds for this adapter (`Linear(in_features=…)`), or [`AS_THE_LAYER`] for a
    /// copy of the layer.
    fn parts(&self) -> Vec<(String, String)>;
}

/// In the place of a printed module: the layer, as it prints itself.
pub const AS_THE_LAYER: &str = "a copy of the layer";

/// First values made from a layer's weight.
#[derive(Clone, Debug)]
pub struct Split {
    /// The values by the names of the tensors, in the shapes of the file.
    pub tensors: Vec<(&'static str, TensorData)>,
    /// The layer's weight `[d_in, d_out]` while the adapter is attached, if the method changes it.
    pub weight: Option<Tensor<2>>,
}

/// Weight and bias of a frozen layer, made only when they are asked for.
#[derive(Clone, Copy)]
pub struct Frozen<'a> {
    pub(crate) weight: &'a dyn Fn() -> Tensor<2>,
    pub(crate) bias: &'a dyn Fn() -> Option<Tensor<1>>,
}

impl Frozen<'_> {
    /// The weight, `[d_in, d_out]`; `[1, d]` of a norm.
    pub fn weight(&self) -> Tensor<2> {
        (self.weight)()
    }

    /// The bias `[d_out]`, if the layer has one.
    pub fn bias(&self) -> Option<Tensor<1>> {
        (self.bias)()
    }
}

/// The layer beneath an adapter.
pub struct Base<'a, I: LayerInput> {
    pub(crate) forward: &'a dyn Fn(I) -> I::Output,
    pub(crate) frozen: Frozen<'a>,
    pub(crate) forward_with: &'a ForwardWith<'a, I>,
}

/// A layer's own computation with another weight and bias.
pub(crate) type ForwardWith<'a, I> =
    dyn Fn(I, Tensor<2>, Option<Tensor<1>>) -> <I as LayerInput>::Output + 'a;

impl<I: LayerInput> Base<'_, I> {
    /// The output of the layer beneath, `[tokens, d_out]`, or `[batch, d_out, …]` of a convolution.
    pub fn forward(&self, input: I) -> I::Output {
        (self.forward)(input)
    }

    /// The frozen weight, `[d_in, d_out]`; `[1, d]` of a norm; of a convolution as
    /// [`BaseLayer::weight`](crate::BaseLayer::weight).
    pub fn weight(&self) -> Tensor<2> {
        self.frozen.weight()
    }

    /// The frozen bias `[d_out]`, if the layer has one.
    pub fn bias(&self) -> Option<Tensor<1>> {
        self.frozen.bias()
    }

    /// The layer itself with another weight and bias, without the adapters before this one.
    pub fn forward_with(&self, input: I, weight: Tensor<2>, bias: Option<Tensor<1>>) -> I::Output {
        (self.forward_with)(input, weight, bias)
    }
}
