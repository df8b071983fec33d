//! LoRA (arXiv 2106.09685), as PEFT computes it (peft/tuners/lora/layer.py).

use burn::nn::Dropout;
use burn::tensor::{FloatDType, Int, Tensor, TensorData};
use burn_peft_kernels::{Lora, apply_dropout};

use super::init::{Start, Weight, start};
use crate::config::{InitLoraWeights, LoftQConfig};
use crate::methods::shared::parts::{dropout, linear, parameter};
use crate::{Base, Frozen, Init, LayerKind, LayerMethod, Result, Split, TensorSpec, Tensors};

/// The keys of `A` and `B` in the file, below the path of a linear layer and of an embedding.
pub(crate) const FACTORS: [[&str; 2]; 2] = [LINEAR, EMBEDDING];
const LINEAR: [&str; 2] = ["lora_A.weight", "lora_B.weight"];
const EMBEDDING: [&str; 2] = ["lora_embedding_A", "lora_embedding_B"];

/// LoRA at one layer: `y = base(x) + scaling · B(A(dropout(x)))`, with `A` `[r, d_in]` and `B`
/// `[d_out, r]` as in the file.
#[derive(Debug)]
pub(super) struct LoraLayer {
    pub kind: LayerKind,
    pub d_in: usize,
    pub d_out: usize,
    pub r: usize,
    pub scaling: f64,
    pub dropout: Dropout,
    pub init: InitLoraWeights,
    pub loftq: LoftQConfig,
    pub lora_bias: bool,
    /// Whether a tied output layer gets the change of this embedding too.
    pub is_tied: bool,
}

impl LoraLayer {
    /// The change of the weight, `[d_in, d_out]`: `scaling · (B A)ᵀ`.
    pub fn delta(&self, tensors: &Tensors<'_>) -> Tensor<2> {
        let [a, b] = self.names().map(|name| tensors.matrix(name));
        self.delta_of(a, b)
    }

    /// [`delta`](Self::delta) for any `A` and `B`.
    pub fn delta_of(&self, a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
        a.transpose().matmul(b.transpose()) * self.scaling
    }

    /// The names of `A` and `B` at this layer.
    pub fn names(&self) -> [&'static str; 2] {
        match self.kind {
            LayerKind::Embedding => EMBEDDING,
            _ => ["lora_A", "lora_B"],
        }
    }

    /// Whether the initial `A` and `B` are computed from the weight.
    pub fn splits(&self) -> bool {
        self.kind != LayerKind::Embedding && self.init.splits()
    }

    /// Whether elements of this input are dropped: in training, with a dropout above 0.
    pub fn drops(&self, input: &Tensor<2>) -> bool {
        self.dropout.prob > 0.0 && input.is_autodiff()
    }

    /// `scaling · B(A(x))` of an input after dropout, `[tokens, d_out]`.
    pub fn change(&self, tensors: &Tensors<'_>, dropped: Tensor<2>) -> Tensor<2> {
        // Scaling the [tokens, r] product is d_out / r times cheaper than scaling the result.
        let hidden = dropped.matmul(tensors.matrix("lora_A").transpose()) * self.scaling;
        hidden.matmul(tensors.matrix("lora_B").transpose())
    }
}

impl LayerMethod for LoraLayer {
    fn prefix(&self) -> &str {
        "lora"
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let (r, d_in, d_out) = (self.r, self.d_in, self.d_out);
        if self.kind == LayerKind::Embedding {
            // PEFT starts embeddings the other way round: A is zero, B is not.
            let [name_of_a, name_of_b] = EMBEDDING;
            let a = TensorSpec::named(name_of_a, [r, d_in]).waiting_for(name_of_b);
            let b = TensorSpec::named(name_of_b, [d_out, r])
                .with_init(Init::Normal(1.0))
                .waiting_for(name_of_a);
            return if self.is_tied {
                // The output layer is the transposed matrix, so its factors are transposed and swap
                // places.
                vec![a.tied_transposed(LINEAR[1]), b.tied_transposed(LINEAR[0])]
            } else {
                vec![a, b]
            };
        }
        let (a, b) = match self.init {
            InitLoraWeights::True | InitLoraWeights::Eva => {
                (Init::kaiming_uniform(d_in), Init::Zeros)
            }
            InitLoraWeights::False => (Init::kaiming_uniform(d_in), Init::kaiming_uniform(r)),
            InitLoraWeights::Gaussian => (Init::Normal(1.0 / r as f64), Init::Zeros),
            // `split` replaces these.
            _ => (Init::Zeros, Init::Zeros),
        };
        let mut tensors = vec![
            TensorSpec::new("lora_A", "lora_A.weight", [r, d_in])
                .with_init(a)
                .waiting_for("lora_B"),
            TensorSpec::new("lora_B", "lora_B.weight", [d_out, r])
                .with_init(b)
                .waiting_for("lora_A"),
        ];
        if self.lora_bias {
            let bias = TensorSpec::named("lora_B.bias", [d_out]);
            tensors.push(match self.init {
                InitLoraWeights::False => bias.with_init(Init::kaiming_uniform(r)),
                _ => bias,
            });
        }
        tensors
    }

    /// Unlike a linear layer's change, this one is computed in every step as a matrix of the size
    /// of the embedding; and `lora_dropout` does not affect the input of the output layer.
    fn tied_weight(&self, tensors: &Tensors<'_>, layer: &Frozen<'_>) -> Option<Tensor<2>> {
        let tied = || layer.weight().cast(FloatDType::F32) + self.delta(tensors);
        self.is_tied.then(tied)
    }

    fn takes_weight(&self) -> bool {
        self.splits() && self.init != InitLoraWeights::Orthogonal
    }

    fn split(&self, layer: &Frozen<'_>) -> Result<Option<Split>> {
        if !self.splits() {
            return Ok(None);
        }
        let (r, d_in, d_out) = (self.r, self.d_in, self.d_out);
        let weight = layer.weight();
        let device = weight.device().without_autodiff();
        let weight = Weight::new(weight);
        let Start { a, b, weight } = start(self.init, self.loftq, weight, r, self.scaling)?;
        let weight = weight.map(|values| {
            let weight = TensorData::new(values, [d_out, d_in]);
            Tensor::<2>::from_data(weight, &device).transpose()
        });
        Ok(Some(Split {
            tensors: vec![
                ("lora_A", TensorData::new(a, [r, d_in])),
                ("lora_B", TensorData::new(b, [d_out, r])),
            ],
            weight,
        }))
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        let output = base.forward(input.clone());
        let output = output + self.change(tensors, apply_dropout(&self.dropout, input));
        if self.lora_bias {
            output + (tensors.vector("lora_B.bias") * self.scaling).unsqueeze()
        } else {
            output
        }
    }

    fn low_rank(&self, tensors: &Tensors<'_>) -> Option<Lora> {
        let is_all = !self.lora_bias && self.kind != LayerKind::Embedding;
        is_all.then(|| Lora {
            a: tensors.matrix("lora_A"),
            b: tensors.matrix("lora_B"),
            scaling: self.scaling,
            dropout: self.dropout.prob,
        })
    }

    fn embed(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<1, Int>,
        base: &Base<'_, Tensor<1, Int>>,
    ) -> Tensor<2> {
        let output = base.forward(input.clone());
        let [a, b] = EMBEDDING.map(|name| tensors.matrix(name).transpose());
        let hidden = a.select(0, input) * self.scaling;
        output + hidden.matmul(b)
    }

    fn delta_weight(&self, tensors: &Tensors<'_>, _layer: &Frozen<'_>) -> Option<Tensor<2>> {
        Some(self.delta(tensors))
    }

    fn merge(
        &self,
        tensors: &Tensors<'_>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        let weight = weight + self.delta(tensors);
        if !self.lora_bias {
            return Some((weight, bias));
        }
        // As in PEFT, a bias of the adapter can be merged only into a bias of the layer.
        let bias = bias? + tensors.vector("lora_B.bias") * self.scaling;
        Some((weight, Some(bias)))
    }

    fn parts(&self) -> Vec<(String, String)> {
        let (r, d_in, d_out) = (self.r, self.d_in, self.d_out);
        let dropout = dropout("lora_dropout", self.dropout.prob);
        match self.kind {
            LayerKind::Embedding => vec![
                dropout,
                parameter(EMBEDDING[0], [r, d_in]),
                parameter(EMBEDDING[1], [d_out, r]),
            ],
            _ => vec![
                dropout,
                linear("lora_A", d_in, r, false),
                linear("lora_B", r, d_out, self.lora_bias),
            ],
        }
    }
}
