//! The small networks that compute virtual tokens: linear layers and a bidirectional LSTM on the
//! tensors of an adapter, in PyTorch's layout.

use burn::nn::Dropout;
use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, tanh};
use burn_peft_kernels::apply_dropout;

use crate::{Init, TensorSpec, Tensors, Tree};

/// A tensor of an encoder, which is saved only for further training.
pub(super) fn spec(name: String, shape: impl Into<Vec<usize>>, init: Init) -> TensorSpec {
    let key = format!("prompt_encoder.{name}");
    TensorSpec::new(name, key, shape).with_init(init)
}

/// `y = x Wᵀ + b` with `W` `[d_out, d_in]`, `b` `[d_out]` (torch.nn.Linear).
#[derive(Debug)]
pub(super) struct Linear {
    pub name: &'static str,
    pub d_in: usize,
    pub d_out: usize,
}

impl Linear {
    pub fn tensors(&self) -> [TensorSpec; 2] {
        let (d_in, d_out) = (self.d_in, self.d_out);
        let init = || Init::kaiming_uniform(d_in);
        [
            spec(self.weight(), [d_out, d_in], init()),
            spec(format!("{}.bias", self.name), [d_out], init()),
        ]
    }

    pub fn weight(&self) -> String {
        format!("{}.weight", self.name)
    }

    /// Maps `[rows, d_in]` to `[rows, d_out]`.
    pub fn forward(&self, tensors: &Tensors<'_>, input: Tensor<2>) -> Tensor<2> {
        let weight = tensors.matrix(&self.weight()).transpose();
        let bias = tensors.vector(&format!("{}.bias", self.name));
        input.matmul(weight) + bias.unsqueeze()
    }

    pub fn describe(&self) -> Tree {
        Tree::linear(self.d_in, self.d_out, true)
    }
}

/// A bidirectional LSTM of any number of layers (torch.nn.LSTM, whose gates are in the order
/// input, forget, cell, output).
#[derive(Debug)]
pub(super) struct BiLstm {
    pub name: &'static str,
    pub d_in: usize,
    pub hidden: usize,
    pub layers: usize,
    /// The dropout between layers.
    pub dropout: Dropout,
}

const DIRECTIONS: [&str; 2] = ["", "_reverse"];

impl BiLstm {
    fn layer_input(&self, layer: usize) -> usize {
        match layer {
            0 => self.d_in,
            _ => 2 * self.hidden,
        }
    }

    pub fn tensors(&self) -> Vec<TensorSpec> {
        let (hidden, gates) = (self.hidden, 4 * self.hidden);
        let mut tensors = Vec::new();
        for layer in 0..self.layers {
            for direction in DIRECTIONS {
                let mut add = |part: &str, shape: &[usize]| {
                    let name = format!("{}.{part}_l{layer}{direction}", self.name);
                    tensors.push(spec(name, shape, Init::kaiming_uniform(hidden)));
                };
                add("weight_ih", &[gates, self.layer_input(layer)]);
                add("weight_hh", &[gates, hidden]);
                add("bias_ih", &[gates]);
                add("bias_hh", &[gates]);
            }
        }
        tensors
    }

    /// Maps a sequence `[steps, d_in]` to `[steps, 2 · hidden]`.
    pub fn forward(&self, tensors: &Tensors<'_>, mut input: Tensor<2>) -> Tensor<2> {
        for layer in 0..self.layers {
            let [forward, backward] = DIRECTIONS
                .map(|direction| self.run(tensors, &format!("l{layer}{direction}"), &input));
            input = Tensor::cat(vec![forward, backward], 1);
            if layer + 1 < self.layers {
                input = apply_dropout(&self.dropout, input);
            }
        }
        input
    }

    /// One direction of one layer: `[steps, d]` to `[steps, hidden]`.
    fn run(&self, tensors: &Tensors<'_>, suffix: &str, input: &Tensor<2>) -> Tensor<2> {
        let name = |part: &str| format!("{}.{part}_{suffix}", self.name);
        let bias = tensors.vector(&name("bias_ih")) + tensors.vector(&name("bias_hh"));
        let from_input = tensors.matrix(&name("weight_ih")).transpose();
        let from_input = input.clone().matmul(from_input) + bias.unsqueeze();
        let from_hidden = tensors.matrix(&name("weight_hh")).transpose();

        let steps = input.dims()[0];
        let h = self.hidden;
        let mut hidden = Tensor::<2>::zeros([1, h], &input.device());
        let mut cell = hidden.clone();
        let mut outputs = vec![hidden.clone(); steps];
        let reverse = suffix.ends_with(DIRECTIONS[1]);
        for number in 0..steps {
            let step = if reverse { steps - 1 - number } else { number };
            let gates = from_input.clone().narrow(0, step, 1);
            let gates = gates + hidden.matmul(from_hidden.clone());
            let gate = |index: usize| gates.clone().slice([0..1, index * h..(index + 1) * h]);
            cell = sigmoid(gate(1)) * cell + sigmoid(gate(0)) * tanh(gate(2));
            hidden = sigmoid(gate(3)) * tanh(cell.clone());
            outputs[step] = hidden.clone();
        }
        Tensor::cat(outputs, 0)
    }

    pub fn describe(&self) -> Tree {
        let dropout = if self.dropout.prob > 0.0 {
            format!(", dropout={:?}", self.dropout.prob)
        } else {
            String::new()
        };
        Tree::Leaf(format!(
            "LSTM({}, {}, num_layers={}, batch_first=True{dropout}, bidirectional=True)",
            self.d_in, self.hidden, self.layers
        ))
    }
}
