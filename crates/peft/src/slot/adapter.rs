//! One named adapter in one slot: a method and its tensors.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use burn_peft_kernels::{Lora, random};

use crate::config::check::allocatable;
use crate::{
    AnyParam, Base, Frozen, Init, LayerMethod, PeftError, Result, SharedParam, TensorSpec, Tensors,
};

/// One named adapter in one slot.
#[derive(Module, Debug)]
pub struct Adapter {
    #[module(skip)]
    pub(crate) name: String,
    #[module(skip)]
    pub(crate) method: Arc<dyn LayerMethod>,
    pub(crate) tensors: Vec<AdapterTensor>,
}

/// One tensor of an adapter.
#[derive(Module, Debug)]
pub struct AdapterTensor {
    #[module(skip)]
    pub(crate) spec: TensorSpec,
    pub(crate) value: AdapterParam,
}

/// A parameter of one to four axes, so that Burn sees an adapter of any method as plain data.
#[derive(Module, Debug)]
pub enum AdapterParam {
    /// A vector.
    D1(Param<Tensor<1>>),
    /// A matrix.
    D2(Param<Tensor<2>>),
    /// Three axes.
    D3(Param<Tensor<3>>),
    /// Four axes.
    D4(Param<Tensor<4>>),
    /// A trained matrix that all layers of the adapter share.
    Shared(SharedParam),
}

impl Adapter {
    /// A new adapter with its initial values, and the remaining weight of the layer if the adapter
    /// takes a part of it.
    ///
    /// # Errors
    /// If the method asks for a tensor without axes or with more than four, or cannot compute its
    /// initial values from this weight.
    pub fn new(
        name: &str,
        method: Arc<dyn LayerMethod>,
        layer: &Frozen<'_>,
        device: &Device,
    ) -> Result<(Self, Option<Tensor<2>>)> {
        let specs = method.tensors(layer);
        Self::with_tensors(name, method, specs, layer, device)
    }

    /// The adapter as a product of two matrices added to a linear layer, if that is all it does.
    pub fn low_rank(&self) -> Option<Lora> {
        self.method.low_rank(&self.tensors())
    }

    /// Like [`new`](Self::new), for tensors that are known already.
    pub(crate) fn with_tensors(
        name: &str,
        method: Arc<dyn LayerMethod>,
        mut specs: Vec<TensorSpec>,
        layer: &Frozen<'_>,
        device: &Device,
    ) -> Result<(Self, Option<Tensor<2>>)> {
        let mut weight = None;
        if let Some(split) = method.split(layer)? {
            for (name, values) in split.tensors {
                if let Some(spec) = specs.iter_mut().find(|spec| spec.name == name) {
                    spec.init = Init::Data(values);
                }
            }
            weight = split.weight;
        }
        let tensors = specs.into_iter();
        let tensors = tensors.map(|spec| AdapterTensor::new(spec, device));
        let adapter = Self {
            name: name.to_string(),
            tensors: tensors.collect::<Result<_>>()?,
            method,
        };
        Ok((adapter, weight))
    }

    /// The adapter's name, `default` unless another was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the adapter's method does here.
    pub fn method(&self) -> &dyn LayerMethod {
        self.method.as_ref()
    }

    /// The adapter's tensors.
    pub fn tensors(&self) -> Tensors<'_> {
        Tensors::new(&self.tensors)
    }

    /// The adapted output `[tokens, d_out]` of a layer with the input `[tokens, d_in]`.
    pub fn forward(&self, input: Tensor<2>, base: &Base<'_, Tensor<2>>) -> Tensor<2> {
        self.method.forward(&self.tensors(), input, base)
    }

    /// The adapted output `[tokens, d]` of an embedding of the ids `[tokens]`.
    pub fn embed(&self, input: Tensor<1, Int>, base: &Base<'_, Tensor<1, Int>>) -> Tensor<2> {
        self.method.embed(&self.tensors(), input, base)
    }

    /// The adapted output `[batch, d_out, height, width]` of a convolution.
    pub fn convolve(&self, input: Tensor<4>, base: &Base<'_, Tensor<4>>) -> Tensor<4> {
        self.method.convolve(&self.tensors(), input, base)
    }

    /// Trains the adapter's trainable tensors, or freezes all of them.
    pub(crate) fn set_requires_grad(&mut self, requires_grad: bool) {
        for tensor in &mut self.tensors {
            let trainable = tensor.spec.trainable;
            tensor
                .param_mut()
                .set_requires_grad(requires_grad && trainable);
        }
    }
}

impl Init {
    /// The values for a tensor of this shape.
    pub(crate) fn draw<const D: usize>(&self, shape: [usize; D], device: &Device) -> Tensor<D> {
        match self {
            Init::Zeros => Tensor::zeros(shape, device),
            Init::Ones => Tensor::ones(shape, device),
            Init::Constant(value) => Tensor::full(shape, *value, device),
            // The generator does not accept an empty range.
            Init::Uniform(bound) if *bound as f32 == 0.0 => Tensor::zeros(shape, device),
            Init::Uniform(bound) => random(shape, Distribution::Uniform(-bound, *bound), device),
            Init::Normal(std) => random(shape, Distribution::Normal(0.0, *std), device),
            Init::Data(data) => {
                let values: Vec<f32> = data.clone().convert::<f32>().iter::<f32>().collect();
                Tensor::from_data(TensorData::new(values, shape), device)
            }
        }
    }
}

impl AdapterTensor {
    pub(crate) fn new(mut spec: TensorSpec, device: &Device) -> Result<Self> {
        fn make<const D: usize>(spec: &TensorSpec, device: &Device) -> Param<Tensor<D>> {
            let shape: [usize; D] = spec.shape.clone().try_into().expect("D axes");
            let tensor = spec.init.draw(shape, device);
            Param::from_tensor(tensor).set_require_grad(spec.trainable)
        }
        allocatable(&spec.name, &spec.shape)?;
        let value = match spec.shape.len() {
            2 if spec.shared && spec.trainable => {
                AdapterParam::Shared(SharedParam::new(make(&spec, device)))
            }
            _ if spec.shared && spec.trainable => {
                return Err(PeftError::Axes {
                    problem: format!(
                        "is trained and shared by all layers, and has {} axes: it needs two",
                        spec.shape.len()
                    ),
                    tensor: spec.name.to_string(),
                });
            }
            1 => AdapterParam::D1(make(&spec, device)),
            2 => AdapterParam::D2(make(&spec, device)),
            3 => AdapterParam::D3(make(&spec, device)),
            4 => AdapterParam::D4(make(&spec, device)),
            axes => {
                return Err(PeftError::Axes {
                    problem: format!("has {axes} axes; an adapter's tensors have one to four"),
                    tensor: spec.name.to_string(),
                });
            }
        };
        if let Init::Data(_) = spec.init {
            // The parameter has the values now. Without this, every clone of the model, such as in
            // every optimizer step, would copy them on the host.
            spec.init = Init::Zeros;
        }
        Ok(Self { spec, value })
    }

    /// The method's description of the tensor, without initial values that are data.
    pub fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    /// The parameter.
    pub fn param(&self) -> &dyn AnyParam {
        match &self.value {
            AdapterParam::D1(param) => param,
            AdapterParam::D2(param) => param,
            AdapterParam::D3(param) => param,
            AdapterParam::D4(param) => param,
            AdapterParam::Shared(shared) => shared.param(),
        }
    }

    /// The tensor for another layer, if all layers share it.
    pub(crate) fn follower(&self) -> Self {
        let mut follower = self.clone();
        if let AdapterParam::Shared(shared) = &self.value {
            follower.value = AdapterParam::Shared(shared.follower());
        }
        follower
    }

    /// The parameter, mutable.
    pub fn param_mut(&mut self) -> &mut dyn AnyParam {
        match &mut self.value {
            AdapterParam::D1(param) => param,
            AdapterParam::D2(param) => param,
            AdapterParam::D3(param) => param,
            AdapterParam::D4(param) => param,
            AdapterParam::Shared(shared) => shared.param_mut(),
        }
    }
}

impl AdapterParam {
    pub(crate) fn set(&mut self, values: Tensor<1>) {
        macro_rules! set {
            ($param:expr) => {
                *$param = $param.clone().map(|old| {
                    let value = values.reshape(old.dims());
                    let value = if old.is_autodiff() {
                        value.autodiff()
                    } else {
                        value
                    };
                    value.set_require_grad(old.is_require_grad())
                })
            };
        }
        match self {
            AdapterParam::D1(param) => set!(param),
            AdapterParam::D2(param) => set!(param),
            AdapterParam::D3(param) => set!(param),
            AdapterParam::D4(param) => set!(param),
            AdapterParam::Shared(shared) => {
                let param = shared.param_mut();
                set!(param)
            }
        }
    }

    pub(crate) fn gradient_of(&self, gradients: &GradientsParams) -> Option<Tensor<1>> {
        match self {
            AdapterParam::D1(param) => gradients.get::<1>(param.id),
            AdapterParam::D2(param) => gradients.get::<2>(param.id).map(|g| g.flatten(0, 1)),
            AdapterParam::D3(param) => gradients.get::<3>(param.id).map(|g| g.flatten(0, 2)),
            AdapterParam::D4(param) => gradients.get::<4>(param.id).map(|g| g.flatten(0, 3)),
            AdapterParam::Shared(shared) => {
                let gradient = gradients.get::<2>(shared.param().id);
                gradient.map(|g| g.flatten(0, 1))
            }
        }
    }
}
