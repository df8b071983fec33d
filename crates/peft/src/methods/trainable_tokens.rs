//! Trainable tokens: trains some rows of an embedding, alone or beside LoRA.

use std::collections::HashSet;
use std::sync::Arc;

use burn::tensor::{Device, FloatDType, IndexingUpdateOp, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::shared::parts::parameter;
use crate::config::{CommonConfig, TargetModules};
use crate::{
    Base, Frozen, Init, LayerInfo, LayerKind, LayerMethod, Method, PeftError, Result, TensorSpec,
    Tensors,
};

/// The configuration of trainable tokens: trained rows `[n, d]` replace the rows `token_indices` of
/// the embedding and, if the output layer is tied to the embedding, its rows too
/// (peft/tuners/trainable_tokens/layer.py).
///
/// It costs `n d` parameters. Merging writes the rows into the embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct TrainableTokensConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The ids of the tokens.
    pub token_indices: Vec<usize>,
    /// Whether the rows start as those of the embedding; otherwise at normal random numbers.
    pub init_weights: bool,
}

impl Default for TrainableTokensConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            token_indices: Vec::new(),
            init_weights: true,
        }
    }
}

crate::peft_config!(
    TrainableTokensConfig, "TRAINABLE_TOKENS", "TrainableTokens",
    without: ["exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save"]
);

impl Method for TrainableTokensConfig {
    crate::method_of_keys!();

    fn validate(&self) -> Result<()> {
        check_indices("token_indices", &self.token_indices)
    }

    fn supports(&self, layer: &LayerInfo) -> bool {
        layer.kind == LayerKind::Embedding
    }

    fn prepared(&self, _: &str, layers: &[LayerInfo]) -> Result<Option<Arc<dyn Method>>> {
        if self.common.target_modules.is_some() {
            return Ok(None);
        }
        let mut config = self.clone();
        let path = input_embedding("target_modules", layers)?.path.clone();
        config.common.target_modules = Some(TargetModules::Pattern(path));
        Ok(Some(Arc::new(config)))
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let (prefix, key) = ("trainable_tokens", NEW_ROWS);
        let indices = &self.token_indices;
        let layer = TokensLayer::new(layer, "token_indices", indices, prefix, key)?;
        Ok(Arc::new(TokensLayer {
            from_embedding: self.init_weights,
            tied_file: true,
            ..layer
        }))
    }
}

fn check_indices(key: &str, indices: &[usize]) -> Result<()> {
    let mut seen = HashSet::new();
    if indices.is_empty() {
        return Err(PeftError::value(
            key,
            "[]",
            "name the ids of the tokens to train",
        ));
    }
    match indices.iter().find(|index| !seen.insert(**index)) {
        Some(twice) => Err(PeftError::target(
            key,
            format!("names the token {twice} twice"),
        )),
        None => Ok(()),
    }
}

/// The model's input embedding; `key` is the key that would name it otherwise.
fn input_embedding<'a>(key: &str, layers: &'a [LayerInfo]) -> Result<&'a LayerInfo> {
    layers.iter().find(|layer| layer.is_input).ok_or_else(|| {
        PeftError::target(
            key,
            "names no embedding, and the model does not say which is its input embedding",
        )
    })
}

/// The rows that LoRA trains in addition to its own layers (PEFT's `trainable_token_indices`):
/// those of the input embedding, or of named embeddings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a list of ids, or lists of ids by the name of a layer"
)]
pub enum TrainableTokenIndices {
    /// Ids for the input embedding.
    Input(Vec<usize>),
    /// Ids for each embedding, by the end of its path.
    Named(indexmap::IndexMap<String, Vec<usize>>),
}

impl TrainableTokenIndices {
    const KEY: &'static str = "trainable_token_indices";

    /// Checks everything that does not depend on a model.
    pub(crate) fn validate(&self) -> Result<()> {
        match self {
            Self::Input(indices) => check_indices(Self::KEY, indices),
            Self::Named(lists) => lists
                .values()
                .try_for_each(|indices| check_indices(Self::KEY, indices)),
        }
    }

    /// What is done at which embedding.
    pub(crate) fn layers(
        &self,
        layers: &[LayerInfo],
    ) -> Result<Vec<(String, Arc<dyn LayerMethod>)>> {
        let method = |layer: &LayerInfo, indices: &[usize]| -> Result<_> {
            let key = "token_adapter.trainable_tokens_delta";
            let method = TokensLayer::new(layer, Self::KEY, indices, "trainable_tokens", key)?;
            Ok((layer.path.clone(), Arc::new(method) as Arc<dyn LayerMethod>))
        };
        let lists = match self {
            Self::Input(indices) => {
                return Ok(vec![method(input_embedding(Self::KEY, layers)?, indices)?]);
            }
            Self::Named(lists) => lists,
        };
        let mut found = Vec::new();
        for (name, indices) in lists {
            let named = layers.iter().filter(|layer| layer.path.ends_with(name));
            let named: Vec<_> = named.collect();
            if named.is_empty() {
                return Err(PeftError::target(
                    Self::KEY,
                    format!("names {name:?}, which is not a layer of the model"),
                ));
            }
            for layer in named {
                found.push(method(layer, indices)?);
            }
        }
        Ok(found)
    }
}

/// The trained rows of one embedding.
#[derive(Debug)]
struct TokensLayer {
    prefix: &'static str,
    key: &'static str,
    indices: Vec<i64>,
    d: usize,
    from_embedding: bool,
    /// Whether the file has the rows under the tied output layer too.
    tied_file: bool,
}

/// The name of the trained rows.
pub(crate) const NEW_ROWS: &str = "trainable_tokens_delta";

impl TokensLayer {
    fn new(
        layer: &LayerInfo,
        config_key: &str,
        indices: &[usize],
        prefix: &'static str,
        key: &'static str,
    ) -> Result<Self> {
        if layer.kind != LayerKind::Embedding {
            return Err(PeftError::target(
                config_key,
                format!(
                    "names {} ({}): only rows of an embedding can be trained",
                    layer.path, layer.kind
                ),
            ));
        }
        if let Some(index) = indices.iter().find(|index| **index >= layer.d_in) {
            return Err(PeftError::unfit(
                &layer.path,
                format!(
                    "{config_key} names the token {index}, but {} has rows 0 to {}",
                    layer.path,
                    layer.d_in - 1
                ),
            ));
        }
        Ok(Self {
            prefix,
            key,
            indices: indices.iter().map(|&index| index as i64).collect(),
            d: layer.d_out,
            from_embedding: true,
            tied_file: false,
        })
    }

    fn indices(&self, device: &Device) -> Tensor<1, Int> {
        Tensor::from_data(self.indices.as_slice(), device)
    }

    /// The embedding with its rows replaced by the trained ones.
    fn replaced(&self, tensors: &Tensors<'_>, weight: Tensor<2>) -> Tensor<2> {
        let rows = tensors.matrix(NEW_ROWS);
        let indices = self.indices(&weight.device());
        // The rows are set to zero first, since select_assign adds: the result is exact.
        let [vocab, _] = weight.dims();
        let kept = Tensor::<1>::ones([vocab], &weight.device()).select_assign(
            0,
            indices.clone(),
            -Tensor::ones([self.indices.len()], &weight.device()),
            IndexingUpdateOp::Add,
        );
        let weight = weight * kept.unsqueeze_dim(1);
        weight.select_assign(0, indices, rows, IndexingUpdateOp::Add)
    }
}

impl LayerMethod for TokensLayer {
    fn prefix(&self) -> &str {
        self.prefix
    }

    fn layer_name(&self, _: LayerKind) -> String {
        "TrainableTokensLayer".into()
    }

    fn tensors(&self, layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let init = if self.from_embedding {
            let weight = layer.weight();
            let indices = self.indices(&weight.device());
            Init::Data(weight.select(0, indices).into_data())
        } else {
            Init::Normal(1.0)
        };
        let spec = TensorSpec::new(NEW_ROWS, self.key, [self.indices.len(), self.d]);
        let spec = spec.with_init(init).may_rest();
        vec![if self.tied_file { spec.tied() } else { spec }]
    }

    fn forward(&self, _: &Tensors<'_>, input: Tensor<2>, base: &Base<'_, Tensor<2>>) -> Tensor<2> {
        // Only attached to embeddings.
        base.forward(input)
    }

    fn embed(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<1, Int>,
        base: &Base<'_, Tensor<1, Int>>,
    ) -> Tensor<2> {
        let output = base.forward(input.clone());
        let device = input.device();
        let (tokens, n) = (input.dims()[0], self.indices.len());
        let ids = input.reshape([tokens, 1]).expand([tokens, n]);
        let indices = self.indices(&device).unsqueeze::<2>().expand([tokens, n]);
        // One in the row of a token's id; nothing for the other tokens.
        let is_row = ids.equal(indices).float();
        let kept = is_row.clone().sum_dim(1).neg() + 1.0;
        output * kept + is_row.matmul(tensors.matrix(NEW_ROWS))
    }

    fn tied_weight(&self, tensors: &Tensors<'_>, layer: &Frozen<'_>) -> Option<Tensor<2>> {
        Some(self.replaced(tensors, layer.weight().cast(FloatDType::F32)))
    }

    fn merge(
        &self,
        tensors: &Tensors<'_>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        Some((self.replaced(tensors, weight), bias))
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![parameter(NEW_ROWS, [self.indices.len(), self.d])]
    }
}
