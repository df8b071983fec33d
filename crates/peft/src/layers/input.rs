//! What goes into a layer and what comes out.

use std::ops::Add;

use burn::tensor::{Int, Tensor};

use crate::{Adapter, Base, BaseLayer};

/// The input of a layer: activations, ids of an embedding, or signals in channels.
pub trait LayerInput: Clone {
    /// The layer's output for this input.
    type Output: LayerOutput;

    /// The output of a layer with one adapter beside it.
    fn through(self, adapter: &Adapter, base: &Base<'_, Self>) -> Self::Output;

    /// The number of positions; for a convolution, the size of the batch.
    fn tokens(&self) -> usize;

    /// The width of the activations, `d_in`, or the number of channels; `None` for ids.
    fn width(&self) -> Option<usize> {
        None
    }

    /// The shape of input that a layer of this width takes, for messages.
    fn expected(width: usize) -> String {
        format!("[tokens, {width}]")
    }

    /// The activations `[tokens, d_in]`; `None` for ids and for a convolution's input.
    fn activations(&self) -> Option<Tensor<2>> {
        None
    }

    /// The ids of an embedding `[tokens]`; `None` for activations.
    fn ids(&self) -> Option<Tensor<1, Int>> {
        None
    }

    /// The positions with these indices, in this order.
    fn select_positions(&self, positions: &[i64]) -> Self;
}

/// The output of a layer.
pub trait LayerOutput: Clone + Add<Output = Self> {
    /// The output made of this matrix `[tokens, d_out]`; `None` for a convolution.
    fn from_matrix(matrix: Tensor<2>) -> Option<Self>;

    /// The output as a matrix `[tokens, d_out]`; `None` for a convolution.
    fn to_matrix(&self) -> Option<Tensor<2>>;

    /// The parts concatenated along the first axis, with the rows then taken in the order of
    /// `places`.
    fn arranged(parts: Vec<Self>, places: &[i64]) -> Self;
}

/// The output of a layer `M`.
pub type OutputOf<M> = <<M as BaseLayer>::Input as LayerInput>::Output;

fn selected<const D: usize>(tensor: Tensor<D>, positions: &[i64]) -> Tensor<D> {
    let positions = Tensor::from_data(positions, &tensor.device());
    tensor.select(0, positions)
}

impl LayerInput for Tensor<2> {
    type Output = Tensor<2>;

    fn through(self, adapter: &Adapter, base: &Base<'_, Self>) -> Tensor<2> {
        adapter.forward(self, base)
    }

    fn tokens(&self) -> usize {
        self.dims()[0]
    }

    fn width(&self) -> Option<usize> {
        Some(self.dims()[1])
    }

    fn activations(&self) -> Option<Tensor<2>> {
        Some(self.clone())
    }

    fn select_positions(&self, positions: &[i64]) -> Self {
        selected(self.clone(), positions)
    }
}

impl LayerInput for Tensor<1, Int> {
    type Output = Tensor<2>;

    fn through(self, adapter: &Adapter, base: &Base<'_, Self>) -> Tensor<2> {
        adapter.embed(self, base)
    }

    fn tokens(&self) -> usize {
        self.dims()[0]
    }

    fn ids(&self) -> Option<Tensor<1, Int>> {
        Some(self.clone())
    }

    fn select_positions(&self, positions: &[i64]) -> Self {
        let positions = Tensor::from_data(positions, &self.device());
        self.clone().select(0, positions)
    }
}

/// The input of `Conv2d`, `[batch, channels, height, width]`.
impl LayerInput for Tensor<4> {
    type Output = Tensor<4>;

    fn through(self, adapter: &Adapter, base: &Base<'_, Self>) -> Tensor<4> {
        adapter.convolve(self, base)
    }

    fn tokens(&self) -> usize {
        self.dims()[0]
    }

    fn width(&self) -> Option<usize> {
        Some(self.dims()[1])
    }

    fn expected(width: usize) -> String {
        format!("[batch, {width}, height, width]")
    }

    fn select_positions(&self, positions: &[i64]) -> Self {
        selected(self.clone(), positions)
    }
}

/// The input of `Conv1d`, `[batch, channels, length]`. A method sees it as an image one pixel wide.
impl LayerInput for Tensor<3> {
    type Output = Tensor<3>;

    fn through(self, adapter: &Adapter, base: &Base<'_, Self>) -> Tensor<3> {
        let narrow = |image: Tensor<4>| image.squeeze_dim::<3>(3);
        let image = Base {
            forward: &|input| base.forward(narrow(input)).unsqueeze_dim(3),
            frozen: base.frozen,
            forward_with: &|input, weight, bias| {
                let output = base.forward_with(narrow(input), weight, bias);
                output.unsqueeze_dim(3)
            },
        };
        narrow(adapter.convolve(self.unsqueeze_dim(3), &image))
    }

    fn tokens(&self) -> usize {
        self.dims()[0]
    }

    fn width(&self) -> Option<usize> {
        Some(self.dims()[1])
    }

    fn expected(width: usize) -> String {
        format!("[batch, {width}, length]")
    }

    fn select_positions(&self, positions: &[i64]) -> Self {
        selected(self.clone(), positions)
    }
}

impl LayerOutput for Tensor<2> {
    fn from_matrix(matrix: Tensor<2>) -> Option<Self> {
        Some(matrix)
    }

    fn to_matrix(&self) -> Option<Tensor<2>> {
        Some(self.clone())
    }

    fn arranged(parts: Vec<Self>, places: &[i64]) -> Self {
        selected(Tensor::cat(parts, 0), places)
    }
}

macro_rules! of_channels {
    ($($axes:literal),*) => {$(
        impl LayerOutput for Tensor<$axes> {
            fn from_matrix(_: Tensor<2>) -> Option<Self> {
                None
            }

            fn to_matrix(&self) -> Option<Tensor<2>> {
                None
            }

            fn arranged(parts: Vec<Self>, places: &[i64]) -> Self {
                selected(Tensor::cat(parts, 0), places)
            }
        }
    )*};
}

of_channels!(3, 4);
