//! Optimizer steps over all tensors at once, on GPUs: with one launch for every operation on every tensor,
//! a step of small tensors would be nothing but launches.

#[cfg(feature = "gpu")]
use burn::backend::Cube;
use burn::tensor::{DType, Tensor};

#[cfg(feature = "gpu")]
use crate::gpu::{self, many::Lazy};

#[cfg(not(feature = "gpu"))]
type Lazy = std::convert::Infallible;

/// A tensor of 32-bit floats of any rank, without a graph, on a GPU.
pub struct GpuTensor(Lazy);

impl GpuTensor {
    /// This tensor, if it is one and specialised bodies are wanted.
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        if crate::flex::is_plain() || tensor.dtype() != DType::F32 {
            return None;
        }
        lazy(tensor)
    }

    /// As a tensor of its rank.
    ///
    /// # Panics
    /// If it has another rank.
    pub fn into_tensor<const D: usize>(self) -> Tensor<D> {
        #[cfg(feature = "gpu")]
        return Tensor::from_primitive::<Cube>(self.0);
        #[cfg(not(feature = "gpu"))]
        match self.0 {}
    }
}

#[cfg(feature = "gpu")]
fn lazy<const D: usize>(tensor: &Tensor<D>) -> Option<GpuTensor> {
    let tensor = tensor.clone().try_into_primitive::<Cube>();
    tensor.ok().map(GpuTensor)
}

#[cfg(not(feature = "gpu"))]
fn lazy<const D: usize>(_: &Tensor<D>) -> Option<GpuTensor> {
    None
}

/// The norm of all tensors as one vector, `[1]`, on their device.
///
/// # Panics
/// Without tensors.
pub fn norm_of_all(tensors: Vec<GpuTensor>) -> Tensor<1> {
    #[cfg(feature = "gpu")]
    {
        let tensors = tensors.into_iter().map(|tensor| tensor.0).collect();
        GpuTensor(gpu::norm::norm_of_all(tensors)).into_tensor()
    }
    #[cfg(not(feature = "gpu"))]
    match tensors[0].0 {}
}

/// A step of AdamW as PyTorch has it.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// How much of the first moment stays.
    pub beta_1: f32,
    /// How much of the second moment stays.
    pub beta_2: f32,
    /// Added to the root of the corrected second moment.
    pub epsilon: f32,
    /// The number of the step, from 1.
    pub time: usize,
    /// The norm that gradients are cut to; 0 leaves them as they are.
    pub max_norm: f64,
}

/// What is a tensor's own in a step of [`AdamW`].
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// The learning rate.
    pub learning_rate: f64,
    /// The weight decay.
    pub weight_decay: f64,
}

/// Both moments of all tensors, each `[length]` in the order of [`starts`].
#[derive(Clone, Debug)]
pub struct Moments {
    /// The first.
    pub first: Tensor<1>,
    /// The second.
    pub second: Tensor<1>,
}

/// Where tensors of these lengths begin in one that holds all of them, and how long it is: any device can
/// look at every tensor where it lies.
pub fn starts(lengths: impl IntoIterator<Item = usize>) -> (Vec<usize>, usize) {
    /// 512 bytes, the largest alignment of CubeCL's devices.
    const ALIGNMENT: usize = 128;
    let mut end = 0;
    let starts = lengths.into_iter().map(|length| {
        let start = end;
        end += length.next_multiple_of(ALIGNMENT);
        start
    });
    (starts.collect(), end)
}

impl AdamW {
    /// One step with gradients whose norm is `norm` (`[1]`): the tensors after it, and the moments. Without
    /// `moments` they begin at zero.
    ///
    /// # Panics
    /// Without tensors, or if the lists are not equally long, or a gradient, the norm or a moment has
    /// another shape or is in another type.
    pub fn step(
        self,
        parameters: Vec<GpuTensor>,
        gradients: Vec<GpuTensor>,
        norm: Option<Tensor<1>>,
        moments: Option<Moments>,
        rates: Vec<Rate>,
    ) -> (Vec<GpuTensor>, Moments) {
        assert_eq!(parameters.len(), gradients.len(), "a gradient a tensor");
        assert_eq!(parameters.len(), rates.len(), "a rate a tensor");
        #[cfg(feature = "gpu")]
        {
            let lazy = |tensors: Vec<GpuTensor>| tensors.into_iter().map(|tensor| tensor.0);
            let own = |tensor: Tensor<1>| {
                let tensor = tensor.try_into_primitive::<Cube>();
                tensor.expect("norm and moments lie where the tensors do")
            };
            let mut output = gpu::adamw::adamw(
                lazy(parameters).collect(),
                lazy(gradients).collect(),
                norm.map(own),
                moments.map(|moments| [own(moments.first), own(moments.second)]),
                self,
                rates,
            );
            let second = output.pop().map(GpuTensor).expect("two moments");
            let first = output.pop().map(GpuTensor).expect("two moments");
            let moments = Moments {
                first: first.into_tensor(),
                second: second.into_tensor(),
            };
            (output.into_iter().map(GpuTensor).collect(), moments)
        }
        #[cfg(not(feature = "gpu"))]
        {
            let _ = (gradients, norm, moments, rates);
            match parameters[0].0 {}
        }
    }
}
