//! Training embeddings: texts that belong together get similar vectors.

mod config;
mod losses;
mod measures;
mod retrieval;

#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use burn::tensor::Tensor;
use burn_peft::config::TaskType;
use burn_peft_data::{Batch, Task, Texts, forward_task};
use burn_peft_models::embeddings::Embedder;
use burn_peft_models::{CausalLm, Checkpointed};

pub use self::config::{DistanceMetric, EmbedConfig, EmbedLoss, SimilarityFunction};
use self::measures::{ALIKE, ALL, FOUND, FOUND_AND_TOLD_APART};
use crate::configuration::keys::fields_of;
use crate::error::{ConfigProblem, Result};
use crate::objective::classify::no_packing;
use crate::objective::heads::on_device;
use crate::objective::metric::{Measures, Sums, Vectors};
use crate::objective::registry::{Kind, check_batches};
use crate::objective::{Objective, read_all};

/// The entry of the registry.
pub(crate) static KIND: Kind = Kind {
    name: "embed",
    task_type: TaskType::FeatureExtraction,
    num_labels: None,
    measures: &ALL,
    keys: fields_of::<EmbedConfig>,
    has_table: |config| config.embed.is_some(),
    max_length: |_| None,
    fill: |config| {
        config.embed.get_or_insert_default();
    },
    check: |config| {
        no_packing(config, "a vector")?;
        let embed = config.embed.clone().unwrap_or_default();
        embed.validate().map_err(ConfigProblem::Objective)?;
        check_batches("embed", embed.least_batch(), &config.training)
    },
    task: |config| Arc::new(config.embed.clone().unwrap_or_default().task()),
    reference: |_| false,
    build: |config, _| {
        let config = config.embed.clone().unwrap_or_default();
        Ok(Arc::new(Embed::new(config)))
    },
};

/// The vectors of the texts of a batch, `[texts, d]`, from a model without a head.
pub fn embeddings<M: CausalLm>(model: &M, embedder: Embedder, batch: &Batch) -> Tensor<2> {
    let (places, texts) = embedder.pooling.places(&batch.spans);
    let hidden = model.logits_at(&on_device(model, batch), &places);
    embedder.of(hidden, &texts)
}

/// The objective, for a model without a head. Its loss compares the vectors of the texts within
/// each row, and with those of other rows of the batch.
#[derive(Clone, Debug)]
pub struct Embed {
    config: EmbedConfig,
    task: Texts,
}

impl Embed {
    /// With these keys, whose `columns` are those of the rows.
    pub fn new(config: EmbedConfig) -> Self {
        Self {
            task: config.task(),
            config,
        }
    }

    /// The number of texts in a row.
    fn texts(&self) -> usize {
        self.task.examples_per_row()
    }

    /// The target similarity of the texts of each row of a batch.
    fn scores(&self, batch: &Batch) -> Vec<f32> {
        let firsts = batch.example_labels().step_by(self.texts());
        firsts.map(Texts::score).collect()
    }

    fn loss_of(&self, vectors: Tensor<2>, batch: &Batch) -> Tensor<1> {
        let columns = losses::columns(vectors, self.texts());
        self.config.loss_of(&columns, &self.scores(batch))
    }

    fn compares_scores(&self) -> bool {
        self.config.loss() == EmbedLoss::CosineSimilarityLoss
    }

    /// The vectors of an evaluation, for retrieval among all of them.
    fn vectors(&self, batch: &Batch, d: usize, values: &[f64]) -> Vectors {
        let key = |span: &std::ops::Range<usize>| {
            let mut hasher = DefaultHasher::new();
            batch.input_ids[span.clone()].hash(&mut hasher);
            hasher.finish()
        };
        Vectors {
            d,
            keys: batch.spans.iter().map(key).collect(),
            values: values.iter().map(|&value| value as f32).collect(),
        }
    }
}

impl Task for Embed {
    forward_task!(self => self.task);
}

impl<M: CausalLm> Objective<M> for Embed {
    fn measures(&self) -> &'static Measures {
        match (self.compares_scores(), self.texts()) {
            (true, _) => &ALIKE,
            (false, 0..=2) => &FOUND,
            (false, _) => &FOUND_AND_TOLD_APART,
        }
    }

    fn count(&self, batch: &Batch) -> usize {
        batch.spans.len() / self.texts()
    }

    fn least_batch(&self) -> usize {
        self.config.least_batch()
    }

    fn loss(&self, model: &M, batch: &Batch) -> Tensor<1> {
        self.loss_of(embeddings(model, self.config.embedder(), batch), batch)
    }

    fn checkpointed_backward(&self, model: &M, batch: &Batch, weight: f64) -> Option<Checkpointed> {
        let embedder = self.config.embedder();
        let (places, texts) = embedder.pooling.places(&batch.spans);
        let loss = |hidden| self.loss_of(embedder.of(hidden, &texts), batch) * weight;
        model.checkpointed_logits_at(&on_device(model, batch), &places, &loss)
    }

    fn measure(&self, model: &M, batch: &Batch) -> Result<Sums> {
        let vectors = embeddings(model, self.config.embedder(), batch);
        let [texts, d] = vectors.dims();
        let loss = self.loss_of(vectors.clone(), batch);
        let mut numbers = read_all(Tensor::cat(vec![loss, vectors.reshape([texts * d])], 0))?;
        let values = numbers.split_off(1);
        let mut sums = Sums {
            loss: numbers[0],
            count: texts / self.texts(),
            ..Sums::default()
        };
        if self.compares_scores() {
            let pairs = values.chunks(2 * d).zip(self.scores(batch));
            let pairs = pairs.map(|(both, score)| {
                let (a, b) = both.split_at(d);
                [retrieval::cosine(a, b), f64::from(score)]
            });
            sums.pairs = pairs.collect();
        } else {
            sums.vectors = self.vectors(batch, d, &values);
        }
        Ok(sums)
    }

    fn finish(&self, model: &M, sums: &mut Sums) -> Result<()> {
        if !self.compares_scores() {
            let vectors = std::mem::take(&mut sums.vectors);
            let dot = self.config.similarity_fct == SimilarityFunction::DotScore;
            sums.sums = retrieval::figures(vectors, self.texts(), dot, &model.device())?;
        }
        Ok(())
    }
}
