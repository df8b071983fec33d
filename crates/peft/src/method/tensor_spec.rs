//! The description of an adapter's tensor, made before the tensor.

use std::borrow::Cow;

use burn::tensor::TensorData;

/// One tensor of an adapter, described before it exists.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// The method's name for it: `lora_A`.
    pub name: Cow<'static, str>,
    /// Its key in `adapter_model.safetensors`, after the path of the layer: `lora_A.weight`.
    pub key: Cow<'static, str>,
    /// Its shape, as in the file; one to four axes.
    pub shape: Vec<usize>,
    /// Its initial values.
    pub init: Init,
    /// Whether it is trained.
    pub trainable: bool,
    /// Whether it is a parameter, which is counted, or a buffer, which is not.
    pub parameter: bool,
    /// Whether all layers of the adapter share it. The file then has it once, under `base_model.`
    /// and its key.
    pub shared: bool,
    /// Whether the file also has a shared tensor under every layer, as PEFT writes some.
    pub in_layers: bool,
    /// Whether the file has it.
    pub saved: bool,
    /// The key under which the file has it a second time, at the output layer tied to this
    /// embedding, and whether it is transposed there.
    pub tied: Option<(Cow<'static, str>, bool)>,
    /// Whether a batch may leave it without a gradient, such as rows of tokens that are not in it.
    pub may_rest: bool,
    /// The tensor that has to be non-zero before this one receives a gradient: `lora_A` waits for
    /// `lora_B`, which starts at zero.
    pub waits_for: Option<&'static str>,
    /// For indices: the upper limit of each row; empty for other numbers.
    pub limits: Vec<usize>,
}

impl TensorSpec {
    /// A trainable tensor whose key in the file is its name.
    pub fn named(name: impl Into<Cow<'static, str>>, shape: impl Into<Vec<usize>>) -> Self {
        let name = name.into();
        Self::new(name.clone(), name, shape)
    }

    /// A trainable tensor with another key in the file.
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
            limits: Vec::new(),
        }
    }

    /// The same, but never trained; it is still counted.
    pub fn frozen(mut self) -> Self {
        self.trainable = false;
        self
    }

    /// The same, as a buffer: never trained and never counted.
    pub fn buffer(mut self) -> Self {
        self.trainable = false;
        self.parameter = false;
        self
    }

    /// The same, as a buffer of indices, stored as integers of 32 bits: those of row `i` are below
    /// `limits[i]`, or the file is rejected.
    pub fn indices(mut self, limits: impl Into<Vec<usize>>) -> Self {
        self.limits = limits.into();
        self.buffer()
    }

    /// The same, as one tensor for all layers of the adapter; a trained one has two axes.
    pub fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// The same, also written under every layer.
    pub fn in_layers(mut self) -> Self {
        self.in_layers = true;
        self
    }

    /// The same, not written to the file.
    pub fn unsaved(mut self) -> Self {
        self.saved = false;
        self
    }

    /// The same, written a second time under the tied output layer.
    pub fn tied(mut self) -> Self {
        self.tied = Some((self.key.clone(), false));
        self
    }

    /// The same, written a second time under the tied output layer, transposed and with another
    /// key.
    pub fn tied_transposed(mut self, key: impl Into<Cow<'static, str>>) -> Self {
        self.tied = Some((key.into(), true));
        self
    }

    /// The same, but a batch may leave it without a gradient.
    pub fn may_rest(mut self) -> Self {
        self.may_rest = true;
        self
    }

    /// The same with other initial values.
    pub fn with_init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// The same, but without a gradient while the tensor `name` is zero.
    pub fn waiting_for(mut self, name: &'static str) -> Self {
        self.waits_for = Some(name);
        self
    }
}

/// The initial values of a tensor. Random ones are drawn from the device's generator in Burn:
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
    /// `1/√fan_in`. PEFT initialises `lora_A` with it (peft/tuners/lora/layer.py).
    pub fn kaiming_uniform(fan_in: usize) -> Self {
        Init::Uniform(1.0 / (fan_in as f64).sqrt())
    }
}
