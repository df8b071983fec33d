//! The table `[embed]`.

use std::collections::BTreeMap;

use burn_peft_data::Texts;
use burn_peft_models::embeddings::{Embedder, Modules, Pooling};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The losses, named as in sentence-transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EmbedLoss {
    /// Among all second and further texts of a batch, a row's own second text should be the most
    /// similar to its first.
    MultipleNegativesRankingLoss,
    /// The cosine of two texts should be their score.
    CosineSimilarityLoss,
    /// The second text of a row should be nearer to the first than the third is.
    TripletLoss,
}

/// The similarity of two vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SimilarityFunction {
    /// The cosine of their angle.
    #[default]
    CosSim,
    /// Their dot product.
    DotScore,
}

/// The distance between two vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DistanceMetric {
    /// One minus the cosine.
    Cosine,
    /// The Euclidean distance.
    #[default]
    Euclidean,
    /// The Manhattan distance.
    Manhattan,
}

/// `[embed]`, in the words of sentence-transformers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedConfig {
    /// The loss; unless set, `CosineSimilarityLoss` if rows have a score, else
    /// `MultipleNegativesRankingLoss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<EmbedLoss>,
    /// The columns of the texts, in this order: the first is compared with the others. Unless set,
    /// detected from the names of the columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// Prefixes of the texts, by column; unless set, those of the model's prompts that are named
    /// like columns.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub prompts: BTreeMap<String, String>,
    /// The factor of similarities: one over the temperature.
    pub scale: f64,
    /// The similarity of two vectors.
    pub similarity_fct: SimilarityFunction,
    /// The distance between two vectors, for `TripletLoss`.
    pub distance_metric: DistanceMetric,
    /// By how much the negative should be farther away, for `TripletLoss`.
    pub triplet_margin: f64,
    /// Dimensions to which vectors can be truncated (Matryoshka); none unless set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matryoshka_dims: Vec<usize>,
    /// The weight of each of their losses; 1 unless set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matryoshka_weights: Vec<f64>,
    /// How a text's hidden states become one vector; unless set, as the model's files say, or else
    /// `mean`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Whether vectors are normalised; unless set, as the model's files say, or else not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// The length in tokens that a text is cut to if `data.max_length` is not set; unless set, as
    /// the model's files say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seq_length: Option<usize>,
    /// Whether texts are lower-cased first; unless set, as the model's files say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub do_lower_case: Option<bool>,
}

impl Default for EmbedConfig {
    fn default() -> Self {
        Self {
            loss: None,
            columns: None,
            prompts: BTreeMap::new(),
            scale: 20.0,
            similarity_fct: SimilarityFunction::default(),
            distance_metric: DistanceMetric::default(),
            triplet_margin: 5.0,
            matryoshka_dims: Vec::new(),
            matryoshka_weights: Vec::new(),
            pooling: None,
            normalize: None,
            max_seq_length: None,
            do_lower_case: None,
        }
    }
}

impl EmbedConfig {
    /// The same, with missing values taken from the model's files (`modules`), for rows with these
    /// columns and possibly a score.
    #[must_use]
    pub fn settled(mut self, modules: &Modules, columns: Vec<String>, has_score: bool) -> Self {
        let Embedder { pooling, normalize } = modules.embedder;
        self.pooling.get_or_insert(pooling);
        self.normalize.get_or_insert(normalize);
        self.max_seq_length = self.max_seq_length.or(modules.max_seq_length);
        self.do_lower_case.get_or_insert(modules.do_lower_case);
        let columns = self.columns.get_or_insert(columns);
        if self.prompts.is_empty() {
            let of_columns = modules.prompts.iter();
            let of_columns = of_columns.filter(|(name, _)| columns.contains(name));
            self.prompts = of_columns
                .map(|(name, prompt)| (name.clone(), prompt.clone()))
                .collect();
        }
        self.loss.get_or_insert(if has_score {
            EmbedLoss::CosineSimilarityLoss
        } else {
            EmbedLoss::MultipleNegativesRankingLoss
        });
        self
    }

    /// The task for the rows.
    pub fn task(&self) -> Texts {
        let columns = self.columns.clone().unwrap_or_default();
        let prompt = |column: &String| self.prompts.get(column).cloned().unwrap_or_default();
        Texts {
            prompts: columns.iter().map(prompt).collect(),
            columns,
            max_seq_length: self.max_seq_length,
            do_lower_case: self.do_lower_case.unwrap_or_default(),
            takes_empty: false,
        }
    }

    /// How a text's hidden states become a vector.
    pub fn embedder(&self) -> Embedder {
        Embedder {
            pooling: self.pooling.unwrap_or_default(),
            normalize: self.normalize.unwrap_or_default(),
        }
    }

    /// The loss.
    pub fn loss(&self) -> EmbedLoss {
        self.loss.unwrap_or(EmbedLoss::MultipleNegativesRankingLoss)
    }

    /// The dimensions that are trained, the largest first, with their weights; the whole vector if
    /// none is set.
    pub(super) fn sizes(&self) -> Vec<(usize, f64)> {
        let weights = self.matryoshka_weights.iter().copied();
        let weights = weights.chain(std::iter::repeat(1.0));
        let mut sizes: Vec<_> = self.matryoshka_dims.iter().copied().zip(weights).collect();
        sizes.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
        sizes
    }

    /// The fewest rows that can be learnt from: two, if a row is told apart from others.
    pub(super) fn least_batch(&self) -> usize {
        let texts = self.columns.as_ref().map_or(0, Vec::len);
        match self.loss() {
            EmbedLoss::MultipleNegativesRankingLoss if texts == 2 => 2,
            _ => 1,
        }
    }

    /// Checks that the model's vectors have all dimensions that are trained.
    ///
    /// # Errors
    /// If one is larger.
    pub fn check_width(&self, d: usize) -> Result<(), String> {
        match self.matryoshka_dims.iter().find(|&&size| size > d) {
            Some(size) => Err(format!(
                "embed.matryoshka_dims has {size}, and the model's vectors have {d} dimensions"
            )),
            None => Ok(()),
        }
    }

    /// Rejects values that do not make a loss, and rows that do not fit it.
    pub(super) fn validate(&self) -> Result<(), String> {
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            return Err(format!("embed.scale is {}; it must be above 0", self.scale));
        }
        if !self.triplet_margin.is_finite() {
            return Err(format!(
                "embed.triplet_margin is {}; it must be a number",
                self.triplet_margin
            ));
        }
        if self.matryoshka_dims.contains(&0) {
            return Err("embed.matryoshka_dims has 0; all sizes must be above 0".into());
        }
        let (dims, weights) = (self.matryoshka_dims.len(), self.matryoshka_weights.len());
        if weights > 0 && weights != dims {
            return Err(format!(
                "embed.matryoshka_weights has {weights} weights, and embed.matryoshka_dims {dims} sizes"
            ));
        }
        if let Some(weight) = self.matryoshka_weights.iter().find(|w| !w.is_finite()) {
            return Err(format!("embed.matryoshka_weights has {weight}"));
        }
        let Some(columns) = &self.columns else {
            return Ok(());
        };
        if let Some(column) = self.prompts.keys().find(|column| !columns.contains(column)) {
            return Err(format!(
                "embed.prompts has `{column}`, and the texts are in {}",
                columns.join(", ")
            ));
        }
        let count = columns.len();
        let wanted = match self.loss() {
            EmbedLoss::MultipleNegativesRankingLoss if count < 2 => {
                "two texts or more: anchor and positive, and maybe negative"
            }
            EmbedLoss::CosineSimilarityLoss if count != 2 => {
                "two texts and how alike they are: sentence1, sentence2 and score"
            }
            EmbedLoss::TripletLoss if count != 3 => "three texts: anchor, positive and negative",
            _ => return Ok(()),
        };
        Err(format!(
            "embed.loss needs rows of {wanted}; these have {}",
            match count {
                0 => "one text".to_string(),
                _ => columns.join(", "),
            }
        ))
    }
}
