//! Burn's convolutions.

use burn::module::{Param, ParamId};
use burn::nn::conv::{Conv1d, Conv2d};
use burn::nn::{PaddingConfig1d, PaddingConfig2d};
use burn::tensor::{Device, FloatDType, Tensor};

use super::base_layer::{replace, replace_bias, weight_and_bias};
use crate::{AnyParam, BaseLayer, LayerKind, Tree};

/// The parameters of a convolution as methods see them. `Conv1d` counts as a `Conv2d` on an image
/// one pixel wide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConvInfo {
    /// The number of input channels, over all groups.
    pub channels_in: usize,
    /// The number of axes that the kernel moves along, 1 or 2.
    pub axes: usize,
    /// The sides of the kernel; the second is 1 for `Conv1d`.
    pub kernel: [usize; 2],
    /// The stride along each axis.
    pub stride: [usize; 2],
    /// The dilation along each axis.
    pub dilation: [usize; 2],
    /// Zeros added at the top, left, bottom and right; `None` keeps the size.
    pub padding: Option<[usize; 4]>,
    /// The number of groups of channels; a group sees only its own channels.
    pub groups: usize,
}

impl ConvInfo {
    /// The number of elements of the kernel.
    pub fn elements(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// `[rows, columns, kernel…]`, as PyTorch shapes such a weight.
    pub fn shape(&self, rows: usize, columns: usize) -> Vec<usize> {
        let kernel = &self.kernel[..self.axes];
        [rows, columns].iter().chain(kernel).copied().collect()
    }

    /// [`shape`](Self::shape) of a kernel of one element.
    pub fn pointwise(&self, rows: usize, columns: usize) -> Vec<usize> {
        let mut shape = vec![1; 2 + self.axes];
        shape[..2].copy_from_slice(&[rows, columns]);
        shape
    }

    /// Convolves `[batch, channels_in, …]` with another kernel `[out, channels_in, …]` of the same
    /// sides, with this padding and stride, without dilation or groups.
    pub fn apply(&self, input: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
        let padding = match self.padding {
            None => PaddingConfig2d::Same,
            Some([top, left, bottom, right]) => PaddingConfig2d::Explicit(top, left, bottom, right),
        };
        plain(weight, self.kernel, self.stride, padding, 1).forward(input)
    }

    /// Multiplies each pixel of `[batch, channels, …]` by a kernel
    /// `[out, channels / groups, 1, 1]`.
    pub fn apply_pointwise(&self, input: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
        plain(weight, [1, 1], [1, 1], PaddingConfig2d::Valid, self.groups).forward(input)
    }

    /// The layer as PyTorch prints it.
    pub(crate) fn describe(&self, d_out: usize, has_bias: bool) -> String {
        let axes = self.axes;
        let tuple = |values: [usize; 2]| match axes {
            1 => format!("({},)", values[0]),
            _ => format!("({}, {})", values[0], values[1]),
        };
        let mut text = format!(
            "Conv{axes}d({}, {d_out}, kernel_size={}, stride={}",
            self.channels_in,
            tuple(self.kernel),
            tuple(self.stride)
        );
        match self.padding {
            None => text += ", padding=same",
            Some([0, 0, 0, 0]) => {}
            Some([top, left, bottom, right]) if (top, left) == (bottom, right) => {
                text += &format!(", padding={}", tuple([top, left]));
            }
            // PyTorch has no such layer.
            Some(padding) => text += &format!(", padding={padding:?}"),
        }
        if self.dilation != [1, 1] {
            text += &format!(", dilation={}", tuple(self.dilation));
        }
        if self.groups != 1 {
            text += &format!(", groups={}", self.groups);
        }
        if !has_bias {
            text += ", bias=False";
        }
        text + ")"
    }
}

/// A convolution with this weight, which need not be a parameter, and no bias.
fn plain(
    weight: Tensor<4>,
    kernel_size: [usize; 2],
    stride: [usize; 2],
    padding: PaddingConfig2d,
    groups: usize,
) -> Conv2d {
    Conv2d {
        weight: Param::initialized(ParamId::new(), weight),
        bias: None,
        stride,
        kernel_size,
        dilation: [1, 1],
        groups,
        padding,
    }
}

/// What is the same for any number of axes, as a macro.
macro_rules! convolution {
    ($axes:literal, $kind:ident) => {
        type Input = Tensor<$axes>;

        fn kind(&self) -> LayerKind {
            LayerKind::$kind
        }

        fn dims(&self) -> [usize; 2] {
            let shape = self.weight.lazy_shape();
            [shape[1..].iter().product(), shape[0]]
        }

        fn forward_base(&self, input: Self::Input) -> Self::Input {
            self.forward(input)
        }

        fn forward_with(
            &self,
            input: Self::Input,
            weight: Tensor<2>,
            bias: Option<Tensor<1>>,
        ) -> Self::Input {
            let mut layer = self.clone();
            let shape: [usize; $axes] = self.weight.lazy_shape().dims();
            let weight = weight.transpose().reshape(shape);
            // The parameters of this clone need not be leaves of a graph.
            layer.weight = Param::initialized(self.weight.id, weight);
            layer.bias = bias.map(|bias| Param::initialized(ParamId::new(), bias));
            layer.forward(input)
        }

        fn weight(&self) -> Tensor<2> {
            self.stored_weight().cast(FloatDType::F32)
        }

        fn stored_weight(&self) -> Tensor<2> {
            let [d_in, d_out] = self.dims();
            self.weight.val().reshape([d_out, d_in]).transpose()
        }

        fn set_weight(&mut self, weight: Tensor<2>, bias: Option<Tensor<1>>) {
            let shape: [usize; $axes] = self.weight.lazy_shape().dims();
            replace(&mut self.weight, weight.transpose().reshape(shape));
            replace_bias(&mut self.bias, bias);
        }

        weight_and_bias!(weight, bias);

        fn describe(&self) -> Tree {
            let [_, d_out] = self.dims();
            let info = self.convolution().expect("of a convolution");
            Tree::Leaf(info.describe(d_out, self.bias.is_some()))
        }
    };
}

impl BaseLayer for Conv2d {
    convolution!(4, Conv2d);

    fn convolution(&self) -> Option<ConvInfo> {
        let shape: [usize; 4] = self.weight.lazy_shape().dims();
        Some(ConvInfo {
            channels_in: shape[1] * self.groups,
            axes: 2,
            kernel: self.kernel_size,
            stride: self.stride,
            dilation: self.dilation,
            padding: match self.padding {
                PaddingConfig2d::Same => None,
                PaddingConfig2d::Valid => Some([0; 4]),
                PaddingConfig2d::Explicit(top, left, bottom, right) => {
                    Some([top, left, bottom, right])
                }
            },
            groups: self.groups,
        })
    }
}

impl BaseLayer for Conv1d {
    convolution!(3, Conv1d);

    fn convolution(&self) -> Option<ConvInfo> {
        let shape: [usize; 3] = self.weight.lazy_shape().dims();
        Some(ConvInfo {
            channels_in: shape[1] * self.groups,
            axes: 1,
            kernel: [self.kernel_size, 1],
            stride: [self.stride, 1],
            dilation: [self.dilation, 1],
            padding: match self.padding {
                PaddingConfig1d::Same => None,
                PaddingConfig1d::Valid => Some([0; 4]),
                PaddingConfig1d::Explicit(left, right) => Some([left, 0, right, 0]),
            },
            groups: self.groups,
        })
    }
}
