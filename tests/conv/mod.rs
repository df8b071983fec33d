//! Methods at convolutions, compared with Python's peft on two networks (`fixtures/conv/make.py`).

mod changing;
mod dropping;
mod reference;

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::nn::conv::{Conv1d, Conv1dConfig, Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig1d, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Tensor, TensorData};
use burn_peft::{Adaptable, BaseModel, LoraAdapter, tensor_file};

use crate::common::device;
use crate::conformance::fixtures;

#[derive(Module, Adaptable, Debug)]
struct Image {
    conv1: LoraAdapter<Conv2d>,
    conv2: LoraAdapter<Conv2d>,
    conv3: LoraAdapter<Conv2d>,
    conv4: LoraAdapter<Conv2d>,
    fc: LoraAdapter<Linear>,
}

#[derive(Module, Adaptable, Debug)]
struct Signal {
    conv1: LoraAdapter<Conv1d>,
    conv2: LoraAdapter<Conv1d>,
    conv3: LoraAdapter<Conv1d>,
    fc: LoraAdapter<Linear>,
}

/// A network of the fixture.
trait Net: BaseModel {
    const NAME: &'static str;
    type Input: Clone;

    fn new() -> Self;
    fn input(data: TensorData) -> Self::Input;
    fn tracked(input: Self::Input) -> Self::Input;
    fn gradient(input: &Self::Input, gradients: &burn::tensor::Gradients) -> TensorData;
    fn forward(&self, input: Self::Input) -> Tensor<2>;
}

macro_rules! input {
    ($axes:literal) => {
        type Input = Tensor<$axes>;

        fn input(data: TensorData) -> Self::Input {
            Tensor::from_data(data, &device())
        }

        fn tracked(input: Self::Input) -> Self::Input {
            input.autodiff().require_grad()
        }

        fn gradient(input: &Self::Input, gradients: &burn::tensor::Gradients) -> TensorData {
            input.grad(gradients).unwrap().into_data()
        }
    };
}

impl Net for Image {
    const NAME: &'static str = "image";
    input!(4);

    fn new() -> Self {
        let device = device();
        let conv = |config: Conv2dConfig| LoraAdapter::new(config.init(&device));
        let conv1 = Conv2dConfig::new([3, 8], [3, 3]);
        let conv2 = Conv2dConfig::new([8, 12], [3, 2]).with_stride([2, 1]);
        let conv4 = Conv2dConfig::new([8, 6], [2, 3]).with_dilation([1, 2]);
        Self {
            conv1: conv(conv1.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))),
            conv2: conv(
                conv2
                    .with_padding(PaddingConfig2d::Explicit(1, 0, 1, 0))
                    .with_groups(2),
            ),
            conv3: conv(Conv2dConfig::new([12, 8], [1, 1]).with_bias(false)),
            conv4: conv(conv4),
            fc: LoraAdapter::new(LinearConfig::new(6, 4).init(&device)),
        }
    }

    fn forward(&self, mut x: Tensor<4>) -> Tensor<2> {
        for conv in [&self.conv1, &self.conv2, &self.conv3, &self.conv4] {
            x = relu(conv.forward(x));
        }
        self.fc
            .forward(x.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2))
    }
}

impl Net for Signal {
    const NAME: &'static str = "signal";
    input!(3);

    fn new() -> Self {
        let device = device();
        let conv = |config: Conv1dConfig| LoraAdapter::new(config.init(&device));
        let conv1 = Conv1dConfig::new(4, 8, 3).with_padding(PaddingConfig1d::Explicit(1, 1));
        Self {
            conv1: conv(conv1),
            conv2: conv(Conv1dConfig::new(8, 12, 4).with_stride(2).with_groups(2)),
            conv3: conv(Conv1dConfig::new(12, 6, 1).with_bias(false)),
            fc: LoraAdapter::new(LinearConfig::new(6, 4).init(&device)),
        }
    }

    fn forward(&self, mut x: Tensor<3>) -> Tensor<2> {
        for conv in [&self.conv1, &self.conv2, &self.conv3] {
            x = relu(conv.forward(x));
        }
        self.fc.forward(x.mean_dim(2).squeeze_dim(2))
    }
}

type Tensors = std::collections::HashMap<String, TensorData>;

fn folder() -> PathBuf {
    fixtures().join("conv")
}

fn read(path: &Path) -> Tensors {
    let tensors = tensor_file::read_tensors(path).unwrap();
    tensors.into_iter().collect()
}

/// The network with the fixture's weights.
fn net<N: Net>() -> N {
    let mut net = N::new();
    let weights = read(&folder().join(format!("{}.safetensors", N::NAME)));
    net.visit_slots_mut(&mut burn_peft::Path::default(), &mut |path, slot| {
        let kind = slot.kind();
        slot.visit_base_mut(&mut |name, param| {
            let data = weights[&format!("{path}.{name}")].clone();
            param.set_data(data, kind.is_transposed(name));
        });
    });
    net
}

fn inputs<N: Net>() -> (N::Input, Tensor<2>) {
    let mut tensors = read(&folder().join(format!("{}_inputs.safetensors", N::NAME)));
    let mut take = |name: &str| tensors.remove(name).unwrap();
    (
        N::input(take("x")),
        Tensor::from_data(take("target"), &device()),
    )
}
