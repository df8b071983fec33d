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

    /// Initial values that are computed from the weight, instead of those in
    /// [`tensors`](Self::tensors); they may also reduce the weight. Called once, when the adapter
    /// is attached.
    ///
    /// # Errors
    /// If the weight or the configuration does not allow it.
    fn split(&self, _layer: &Frozen<'_>) -> Result<Option<Split>> {
        Ok(None)
    }

    /// Whether [`split`](Self::split) reduces the weight.
    fn takes_weight(&self) -> bool {
        false
    }

    /// The weight `[vocab, d]` for an output layer tied to this embedding, if it is not the
    /// `layer`'s own. As in PEFT, most methods act on the embedding only.
    fn tied_weight(&self, _tensors: &Tensors<'_>, _layer: &Frozen<'_>) -> Option<Tensor<2>> {
        None
    }

    /// The method as `scaling · dropout(x) aᵀ bᵀ` added to the layer's output, if that is all it
    /// does. A linear layer then computes it in one operation with its own product and does not
    /// call [`forward`](Self::forward).
    fn low_rank(&self, _tensors: &Tensors<'_>) -> Option<Lora> {
        None
    }

    /// What the method adds to the weight `[d_in, d_out]` of `layer`; `None` if the method does
    /// something else. By default this is computed from [`low_rank`](Self::low_rank).
    fn delta_weight(&self, tensors: &Tensors<'_>, _layer: &Frozen<'_>) -> Option<Tensor<2>> {
        self.low_rank(tensors).map(|lora| lora.delta_weight())
    }

    /// The part of [`delta_weight`](Self::delta_weight) that is used in a forward pass: by default
    /// all of it. A method can drop a part of it in training.
    fn dropped(&self, delta: Tensor<2>, _is_training: bool) -> Tensor<2> {
        delta
    }

    /// The adapted output `[tokens, d_out]` for the input `[tokens, d_in]`.
    ///
    /// `base` is the layer without this adapter: the method may change its input, scale its output
    /// or add to it. Only operations that a gradient passes through are recorded, so a method that
    /// does not touch the base weight never computes a gradient of its size.
    ///
    /// By default [`low_rank`](Self::low_rank), or else the input times
    /// [`delta_weight`](Self::delta_weight), is added to the output of `base`.
    ///
    /// # Panics
    /// If the method implements none of the three.
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

    /// Like [`forward`](Self::forward), for an embedding: `input` holds ids, `[tokens]`.
    ///
    /// # Panics
    /// By default, since by default [`Method::supports`](crate::Method::supports) accepts no
    /// embedding.
    fn embed(
        &self,
        _tensors: &Tensors<'_>,
        _input: Tensor<1, Int>,
        _base: &Base<'_, Tensor<1, Int>>,
    ) -> Tensor<2> {
        panic!("{self:?} takes embeddings (Method::supports) but has no LayerMethod::embed");
    }

    /// Like [`forward`](Self::forward), for a convolution, from `[batch, channels, height, width]`
    /// to `[batch, d_out, height, width]`; a `Conv1d` has a width of 1.
    ///
    /// By default, adds the output of the layer with [`delta_weight`](Self::delta_weight) as its
    /// weight to the output of `base`.
    ///
    /// # Panics
    /// If a method that accepts convolutions ([`Method::supports`](crate::Method::supports))
    /// implements neither.
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

    /// The weight `[d_in, d_out]` and bias `[d_out]` that compute the same without the adapter;
    /// `None` if the method cannot be merged. By default [`delta_weight`](Self::delta_weight) is
    /// added to the weight.
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

    /// What PEFT prints for the adapter next to `base_layer`: the name of each part (`lora_A`) and
    /// this adapter's module in it (`Linear(in_features=…)`), or [`AS_THE_LAYER`] for a copy of the
    /// layer.
    fn parts(&self) -> Vec<(String, String)>;
}

/// Stands for a printed module that is a copy of the layer.
pub const AS_THE_LAYER: &str = "a copy of the layer";

/// Initial values computed from a layer's weight.
#[derive(Clone, Debug)]
pub struct Split {
    /// The values by tensor name, in the shapes of the file.
    pub tensors: Vec<(&'static str, TensorData)>,
    /// The layer's weight `[d_in, d_out]` while the adapter is attached, if the method changes it.
    pub weight: Option<Tensor<2>>,
}

/// The weight and the bias of a frozen layer, computed only when they are asked for.
#[derive(Clone, Copy)]
pub struct Frozen<'a> {
    pub(crate) weight: &'a dyn Fn() -> Tensor<2>,
    pub(crate) bias: &'a dyn Fn() -> Option<Tensor<1>>,
}

impl Frozen<'_> {
    /// The weight, `[d_in, d_out]`; `[1, d]` for a norm.
    pub fn weight(&self) -> Tensor<2> {
        (self.weight)()
    }

    /// The bias `[d_out]`, if the layer has one.
    pub fn bias(&self) -> Option<Tensor<1>> {
        (self.bias)()
    }
}

/// The layer below an adapter.
pub struct Base<'a, I: LayerInput> {
    pub(crate) forward: &'a dyn Fn(I) -> I::Output,
    pub(crate) frozen: Frozen<'a>,
    pub(crate) forward_with: &'a ForwardWith<'a, I>,
}

/// A layer's own computation with another weight and bias.
pub(crate) type ForwardWith<'a, I> =
    dyn Fn(I, Tensor<2>, Option<Tensor<1>>) -> <I as LayerInput>::Output + 'a;

impl<I: LayerInput> Base<'_, I> {
    /// The output of the layer below, `[tokens, d_out]`, or `[batch, d_out, …]` for a convolution.
    pub fn forward(&self, input: I) -> I::Output {
        (self.forward)(input)
    }

    /// The frozen weight, `[d_in, d_out]`; `[1, d]` for a norm; for a convolution as in
    /// [`BaseLayer::weight`](crate::BaseLayer::weight).
    pub fn weight(&self) -> Tensor<2> {
        self.frozen.weight()
    }

    /// The frozen bias `[d_out]`, if the layer has one.
    pub fn bias(&self) -> Option<Tensor<1>> {
        self.frozen.bias()
    }

    /// The output of the layer itself with another weight and bias, without the adapters before
    /// this one.
    pub fn forward_with(&self, input: I, weight: Tensor<2>, bias: Option<Tensor<1>>) -> I::Output {
        (self.forward_with)(input, weight, bias)
    }
}
