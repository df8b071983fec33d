//! What a method of fine-tuning answers; everything else is written once.

pub(crate) mod model_method;
mod steps;

pub use model_method::{Extra, ModelInfo, ModelMethod};
pub use steps::{StepGradients, StepLayer};

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};
use burn_peft_kernels::Lora;
use indexmap::IndexMap;
use serde_json::{Map, Value};

use crate::config::{Bias, CommonConfig, TargetModules};
use crate::{LayerInfo, LayerKind, PeftError, Result, Tensors};

/// A method with its configuration: LoRA, IA³, one of your own.
///
/// A method is one file: its configuration (the keys of `adapter_config.json`) and, through
/// [`layer`](Self::layer), what it does at one layer. Attaching, freezing, counting, printing,
/// merging, saving and loading never ask which method they deal with.
pub trait Method: Debug + Send + Sync {
    /// The name in `adapter_config.json`, such as `LORA`.
    fn peft_type(&self) -> &str;

    /// The name of PEFT's class and of its layers, such as `Lora` (`LoraModel`, `lora.Linear`).
    fn class_name(&self) -> &str;

    /// The keys every method has.
    fn common(&self) -> &CommonConfig;

    /// The same configuration with other common keys.
    fn with_common(&self, common: CommonConfig) -> Arc<dyn Method>;

    /// The configuration as it is kept once attached to `layers`: with the layers that it means
    /// spelled out in the common keys.
    fn attached(&self, common: CommonConfig, _layers: &[&LayerInfo]) -> Arc<dyn Method> {
        self.with_common(common)
    }

    /// All keys, as `adapter_config.json` holds them.
    fn to_json(&self) -> Map<String, Value>;

    /// Keys that say nothing where nobody sets them: those of variants, which PEFT fills in.
    fn optional_keys(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Checks what does not depend on a model.
    ///
    /// # Errors
    /// If a value cannot be used; the error names the key and the value.
    fn validate(&self) -> Result<()> {
        Ok(())
    }

    /// Whether the method can adapt this layer.
    fn supports(&self, layer: &LayerInfo) -> bool {
        layer.kind.is_linear()
    }

    /// The configuration with what it leaves to the model filled in, before it is attached to one
    /// of this type with these layers; nothing where it is complete. The layers to adapt have
    /// [`default_target_modules`](Self::default_target_modules).
    ///
    /// # Errors
    /// If the model has no answer.
    fn prepared(
        &self,
        _model_type: &str,
        _layers: &[LayerInfo],
    ) -> Result<Option<Arc<dyn Method>>> {
        Ok(None)
    }

    /// The layers adapted where `target_modules` is not given.
    fn default_target_modules(&self, _model_type: &str) -> Option<TargetModules> {
        None
    }

    /// Which of the base's biases are trained too.
    fn bias(&self) -> Bias {
        Bias::None
    }

    /// Whether what is trained of the input embedding acts on an output layer tied to it too.
    fn ensure_weight_tying(&self) -> bool {
        false
    }

    /// What the method does at one layer.
    ///
    /// # Errors
    /// If the configuration does not fit the layer; the error names it. By default always, for
    /// methods that act at the model.
    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        Err(PeftError::Config(format!(
            "peft_type = {:?} does nothing at a layer such as {}",
            self.peft_type(),
            layer.path
        )))
    }

    /// Whether the method acts at the model and not at layers: [`at_model`](Self::at_model) is
    /// asked in the place of [`layer`](Self::layer).
    fn acts_at_model(&self) -> bool {
        false
    }

    /// What the method does at a model, and the configuration with what it leaves to the model
    /// filled in.
    ///
    /// # Errors
    /// If the configuration does not fit the model. By default always, for methods that act at
    /// layers.
    fn at_model(&self, _model: &ModelInfo) -> Result<(Arc<dyn Method>, Arc<dyn ModelMethod>)> {
        Err(PeftError::Config(format!(
            "peft_type = {:?} acts at layers, not at the model",
            self.peft_type()
        )))
    }

    /// The tokenizer (a folder or Hub id) and the text whose tokens a new adapter starts from, as
    /// long as their ids are not known: this crate has no tokenizers.
    fn init_text(&self) -> Option<(&str, &str)> {
        None
    }

    /// The same configuration with the ids of that text's tokens, for a method that has an
    /// [`init_text`](Self::init_text).
    fn with_init_token_ids(&self, _ids: Vec<i64>) -> Option<Arc<dyn Method>> {
        None
    }

    /// What the method does at each of its layers, for a method whose layers depend on each
    /// other (tensors that all share).
    ///
    /// # Errors
    /// As [`layer`](Self::layer).
    fn layers(&self, layers: &[&LayerInfo]) -> Result<Vec<Arc<dyn LayerMethod>>> {
        layers.iter().map(|layer| self.layer(layer)).collect()
    }

    /// Layers that are adapted whatever the target modules are, by path: rows of the embedding
    /// beside LoRA. `layers` are all of the model.
    ///
    /// # Errors
    /// If the configuration does not fit the model.
    fn further_layers(&self, _layers: &[LayerInfo]) -> Result<Vec<(String, Arc<dyn LayerMethod>)>> {
        Ok(Vec::new())
    }

    /// What training adds to the mean loss, `[1]`, from the tensors of all adapted layers.
    fn regularizer(&self, _layers: &[Tensors<'_>]) -> Option<Tensor<1>> {
        None
    }

    /// The keys of the configuration that [`after_step`](Self::after_step) may change.
    fn learnt_keys(&self) -> &[&str] {
        &[]
    }

    /// Whether [`after_step`](Self::after_step) does anything.
    fn has_steps(&self) -> bool {
        false
    }

    /// Runs after the `step`th optimizer step (from 1), with all adapted layers and the gradients
    /// of the step. Gives the configuration from now on, if the step has changed it.
    fn after_step(&self, _step: usize, _layers: &mut [StepLayer<'_>]) -> Option<Arc<dyn Method>> {
        None
    }

    /// The part of a tensor that the file holds: `tensor` is called `name` in the method, and
    /// belongs to the layer `path`.
    fn to_file(&self, _path: &str, _name: &str, tensor: TensorData) -> TensorData {
        tensor
    }

    /// An adapter that does on the untouched base what `now` does on one that gave a part of its
    /// weights to the adapter `initial`, both by the keys of the file; with its configuration.
    ///
    /// # Errors
    /// If the two do not fit, and by default always: other methods leave the base as it is.
    fn subtract_initial(
        &self,
        _now: StateDict,
        _initial: IndexMap<String, TensorData>,
    ) -> Result<(Arc<dyn Method>, StateDict)> {
        Err(PeftError::Adapter(format!(
            "a {} adapter takes nothing from the base, so there is nothing to convert: use \
             save_pretrained",
            self.peft_type()
        )))
    }
}

/// The tensors of an adapter by their keys in the file, in the order of the layers.
pub type StateDict = Vec<(String, TensorData)>;

/// A method at one layer.
pub trait LayerMethod: Debug + Send + Sync {
    /// What PEFT calls the adapted layer by, before the dot: `lora` in `lora.Linear`.
    fn prefix(&self) -> &str;

    /// What PEFT calls the adapted layer: `lora.Linear`.
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

    /// What an output layer tied to this embedding sees of its weight, `[vocab, d]`. As in PEFT,
    /// most methods act on the embedding only.
    fn tied_weight(&self, _tensors: &Tensors<'_>, weight: Tensor<2>) -> Tensor<2> {
        weight
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
        base.forward(input.clone()) + input.matmul(delta)
    }

    /// As [`forward`](Self::forward) for an embedding: `input` holds ids, `[tokens]`.
    ///
    /// # Panics
    /// By default, since by default [`Method::supports`] takes no embedding.
    fn embed(
        &self,
        _tensors: &Tensors<'_>,
        _input: Tensor<1, Int>,
        _base: &Base<'_, Tensor<1, Int>>,
    ) -> Tensor<2> {
        panic!("{self:?} takes embeddings (Method::supports) but has no LayerMethod::embed");
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
    /// the module it holds for this adapter (`Linear(in_features=…)`), or
    /// [`AS_THE_LAYER`] for a copy of the layer.
    fn parts(&self) -> Vec<(String, String)>;
}

/// In the place of a printed module: the layer, as it prints itself.
pub const AS_THE_LAYER: &str = "a copy of the layer";

/// First values made from a layer's weight.
#[derive(Clone, Debug)]
pub struct Split {
    /// The values by the names of the tensors, in the shapes of the file.
    pub tensors: Vec<(&'static str, TensorData)>,
    /// The weight `[d_in, d_out]` that the layer has as long as the adapter is attached, where it
    /// is another one.
    pub weight: Option<Tensor<2>>,
}

/// Weight and bias of a frozen layer, made only when they are asked for.
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
pub struct Base<'a, I> {
    pub(crate) forward: &'a dyn Fn(I) -> Tensor<2>,
    pub(crate) frozen: Frozen<'a>,
    pub(crate) forward_with: &'a ForwardWith<'a, I>,
}

/// A layer's own computation with another weight and bias.
pub(crate) type ForwardWith<'a, I> = dyn Fn(I, Tensor<2>, Option<Tensor<1>>) -> Tensor<2> + 'a;

impl<I> Base<'_, I> {
    /// The output of the layer beneath, `[tokens, d_out]`.
    pub fn forward(&self, input: I) -> Tensor<2> {
        (self.forward)(input)
    }

    /// The frozen weight, `[d_in, d_out]`; `[1, d]` of a norm.
    pub fn weight(&self) -> Tensor<2> {
        self.frozen.weight()
    }

    /// The frozen bias `[d_out]`, if the layer has one.
    pub fn bias(&self) -> Option<Tensor<1>> {
        self.frozen.bias()
    }

    /// The layer itself with another weight and bias, without the adapters before this one.
    pub fn forward_with(&self, input: I, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<2> {
        (self.forward_with)(input, weight, bias)
    }
}

/// One tensor of an adapter, before it exists.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// How the method calls it: `lora_A`.
    pub name: Cow<'static, str>,
    /// Its key in `adapter_model.safetensors`, after the path of the layer: `lora_A.weight`.
    pub key: Cow<'static, str>,
    /// Its shape, as in the file; one to four axes.
    pub shape: Vec<usize>,
    /// Its first values.
    pub init: Init,
    /// Whether it is trained.
    pub trainable: bool,
    /// Whether it is a parameter, which is counted, and no buffer.
    pub parameter: bool,
    /// Whether it is one and the same tensor in all layers of the adapter. In the file it stands
    /// once, under `base_model.` and its key.
    pub shared: bool,
    /// Whether a shared tensor stands in the file under every layer too, as PEFT writes some.
    pub in_layers: bool,
    /// Whether it stands in the file at all.
    pub saved: bool,
    /// The key under which the file holds it a second time, at the output layer tied to this
    /// embedding, and whether transposed.
    pub tied: Option<(Cow<'static, str>, bool)>,
    /// Whether a batch may leave it without a gradient: rows of tokens that are not in it.
    pub may_rest: bool,
    /// The tensor that has to be non-zero before this one receives a gradient: `lora_A` waits
    /// for `lora_B`, which starts at zero.
    pub waits_for: Option<&'static str>,
}

impl TensorSpec {
    /// A trainable tensor.
    pub fn new(
        name: impl Into<Cow<'static, str>>,
        key: impl Into<Cow<'static, str>>,
        shape: impl Into<Vec<usize>>,
    ) -> Self {
        Self {
            name: name.into(),
            key: key.into(),
            shape: shape.into(),
            init: Init::Zeros,
            trainable: true,
            parameter: true,
            shared: false,
            in_layers: false,
            saved: true,
            tied: None,
            may_rest: false,
            waits_for: None,
        }
    }

    /// The same, never trained; it is still counted.
    pub fn frozen(mut self) -> Self {
        self.trainable = false;
        self
    }

    /// The same as a buffer: never trained and never counted.
    pub fn buffer(mut self) -> Self {
        self.trainable = false;
        self.parameter = false;
        self
    }

    /// The same as one tensor for all layers of the adapter; a trained one has two axes.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// The same, in the file under every layer too.
    pub fn in_layers(mut self) -> Self {
        self.in_layers = true;
        self
    }

    /// The same, left out of the file.
    pub fn unsaved(mut self) -> Self {
        self.saved = false;
        self
    }

    /// The same, in the file a second time under the tied output layer.
    pub fn tied(mut self) -> Self {
        self.tied = Some((self.key.clone(), false));
        self
    }

    /// The same, in the file a second time under the tied output layer, transposed and by another
    /// key.
    pub fn tied_transposed(mut self, key: impl Into<Cow<'static, str>>) -> Self {
        self.tied = Some((key.into(), true));
        self
    }

    /// The same, which a batch may leave without a gradient.
    pub fn may_rest(mut self) -> Self {
        self.may_rest = true;
        self
    }

    /// The same with other first values.
    pub fn with_init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// The same, without a gradient as long as the tensor `name` is zero.
    pub fn waiting_for(mut self, name: &'static str) -> Self {
        self.waits_for = Some(name);
        self
    }
}

/// First values of a tensor. Random ones are drawn from Burn's generator of the device:
/// `device.seed(…)` makes them repeatable.
#[derive(Clone, Debug)]
pub enum Init {
    /// Zeros.
    Zeros,
    /// Ones.
    Ones,
    /// This number.
    Constant(f64),
    /// Uniform between minus and plus this bound.
    Uniform(f64),
    /// Normal around zero with this standard deviation.
    Normal(f64),
    /// These values.
    Data(TensorData),
}

impl Init {
    /// PyTorch's `kaiming_uniform_(a=√5)` for a weight with this many inputs: uniform within
    /// `1/√fan_in`. It is what PEFT gives `lora_A` (peft/tuners/lora/layer.py).
    pub fn kaiming_uniform(fan_in: usize) -> Self {
        Init::Uniform(1.0 / (fan_in as f64).sqrt())
    }
}
