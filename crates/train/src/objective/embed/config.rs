//! The table `[embed]`.

use std::collections::BTreeMap;

use burn_peft_data::Texts;
use burn_peft_models::embeddings::{Embedder, Modules, Pooling};
use serde::{Deserialize, Serialize};

/// The losses, as sentence-transformers calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmbedLoss {
    /// Of all second and further texts of a batch, a row's own second one is the most alike to its first.
    MultipleNegativesRankingLoss,
    /// The cosine of two texts is their score.
    CosineSimilarityLoss,
    /// The second text of a row is nearer to the first than the third is.
    TripletLoss,
}

/// How alike two vectors are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SimilarityFunction {
    /// The cosine of their angle.
    #[default]
    CosSim,
    /// Their product.
    DotScore,
}

/// How far two vectors are from each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DistanceMetric {
    /// One less the cosine.
    Cosine,
    /// The length of the line between them.
    #[default]
    Euclidean,
    /// The sum of the distances in each dimension.
    Manhattan,
}

/// `[embed]`, in the words of sentence-transformers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbedConfig {
    /// What is learnt; `CosineSimilarityLoss` where rows have a score, else
    /// `MultipleNegativesRankingLoss`, unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<EmbedLoss>,
    /// The columns of the texts, in this order: the first is compared with the others. Told from the
    /// names of the columns unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// What stands before the texts of a column, by its name; those of the model's prompts that are
    /// called as columns are unless set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub prompts: BTreeMap<String, String>,
    /// What likenesses are multiplied by: one over the temperature.
    pub scale: f64,
    /// How alike two vectors are.
    pub similarity_fct: SimilarityFunction,
    /// How far two vectors are from each other, for `TripletLoss`.
    pub distance_metric: DistanceMetric,
    /// By how much the negative is to be further away, for `TripletLoss`.
    pub triplet_margin: f64,
    /// Sizes of which the first so many dimensions are a vector too; none unless set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matryoshka_dims: Vec<usize>,
    /// What the loss of each of them counts; 1 unless set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub matryoshka_weights: Vec<f64>,
    /// How a text's hidden states become one vector; as the model's files say, or else `mean`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pooling: Option<Pooling>,
    /// Whether vectors are brought to length one; as the model's files say, or else not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normalize: Option<bool>,
    /// The tokens that a text is cut to where `data.max_length` does not say it; as the model's files say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_seq_length: Option<usize>,
    /// Whether texts are written in small letters first; as the model's files say.
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
    /// The same, with what is not set as the model's files say (`modules`), of rows with these columns,
    /// which may have a score.
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
        self.loss.get_or_insert(match has_score {
            true => EmbedLoss::CosineSimilarityLoss,
            false => EmbedLoss::MultipleNegativesRankingLoss,
        });
        self
    }

    /// What becomes of rows.
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

    /// What makes a vector of a text's hidden states.
    pub fn embedder(&self) -> Embedder {
        Embedder {
            pooling: self.pooling.unwrap_or_default(),
            normalize: self.normalize.unwrap_or_default(),
        }
    }

    /// What is learnt.
    pub fn loss(&self) -> EmbedLoss {
        self.loss.unwrap_or(EmbedLoss::MultipleNegativesRankingLoss)
    }

    /// The sizes of vectors that are learnt, the largest first, and what each counts; all of a vector
    /// where none is set.
    pub(super) fn sizes(&self) -> Vec<(usize, f64)> {
        let weights = self.matryoshka_weights.iter().copied();
        let weights = weights.chain(std::iter::repeat(1.0));
        let mut sizes: Vec<_> = self.matryoshka_dims.iter().copied().zip(weights).collect();
        sizes.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
        sizes
    }

    /// The fewest rows of which something can be learnt: two, where other rows are what a row is told
    /// apart from.
    pub(super) fn least_batch(&self) -> usize {
        let texts = self.columns.as_ref().map_or(0, Vec::len);
        match self.loss() {
            EmbedLoss::MultipleNegativesRankingLoss if texts == 2 => 2,
            _ => 1,
        }
    }

    /// Checks that the vectors of a model of this width have all sizes that are learnt.
    ///
    /// # Errors
    /// A size that is larger.
    pub fn check_width(&self, d: usize) -> Result<(), String> {
        match self.matryoshka_dims.iter().find(|&&size| size > d) {
            Some(size) => Err(format!(
                "embed.matryoshka_dims has {size}, and the model's vectors have {d} dimensions"
            )),
            None => Ok(()),
        }
    }

    /// Refuses values that make no loss, and rows that do not fit it.
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
            "embed.loss wants rows of {wanted}; these have {}",
            match count {
                0 => "one text".to_string(),
                _ => columns.join(", "),
            }
        ))
    }
}
