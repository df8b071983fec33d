//! Optimizer steps over all tensors at once, on GPUs. With a launch for each operation on each
//! tensor, a step over small tensors would spend its time on launches.

#[cfg(feature = "gpu")]
use burn::backend::Cube;
use burn::tensor::{DType, Tensor};

#[cfg(feature = "gpu")]
use crate::gpu::{self, many::Lazy};

#[cfg(not(feature = "gpu"))]
type Lazy = std::convert::Infallible;

/// A tensor of 32-bit floats on a GPU, of any rank, that records no gradients.
pub struct GpuTensor(Lazy);

impl GpuTensor {
    /// Returns the tensor as one of these; `None` if it is not one, or if the specialised bodies
    /// are switched off.
    pub fn of<const D: usize>(tensor: &Tensor<D>) -> Option<Self> {
        if crate::flex::is_plain() || tensor.dtype() != DType::F32 {
            return None;
        }
        lazy(tensor)
    }

    /// Returns the tensor itself.
    ///
    /// # Panics
    /// If `D` is not its rank.
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

/// Returns the Euclidean norm of all tensors taken as one vector, `[1]`, on their device.
///
/// # Panics
/// If there are no tensors.
pub fn norm_of_all(tensors: Vec<GpuTensor>) -> Tensor<1> {
    #[cfg(feature = "gpu")]
    {
        let tensors = tensors.into_iter().map(|tensor| tensor.0).collect();
        GpuTensor(gpu::norm::norm_of_all(tensors)).into_tensor()
    }
    #[cfg(not(feature = "gpu"))]
    match tensors[0].0 {}
}

/// A step of AdamW (arXiv 1711.05101) as PyTorch computes it.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// The share of the first moment that stays.
    pub beta_1: f32,
    /// The share of the second moment that stays.
    pub beta_2: f32,
    /// Added to the root of the corrected second moment.
    pub epsilon: f32,
    /// The number of the step, from 1.
    pub time: usize,
    /// The norm that the gradients are clipped to; 0 means no clipping.
    pub max_norm: f64,
}

/// The settings of one tensor in a step of [`AdamW`].
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
    /// The first moments.
    pub first: Tensor<1>,
    /// The second moments.
    pub second: Tensor<1>,
}

/// Returns where tensors of these lengths begin in one tensor that holds them all, and the length
/// of that. The starts are aligned, so that any device can read each tensor in place.
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
    /// Takes one step; returns the parameters and the moments after it. `norm` (`[1]`) is the norm
    /// of the gradients; without it they are not clipped. Without `moments` the moments begin at
    /// zero.
    ///
    /// # Panics
    /// If there are no tensors, if the lists differ in length, or if a gradient, the norm or a
    /// moment has the wrong shape or type.
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
