//! Examples as one of Burn's data sets, and one of Burn's data sets as examples.

use std::error::Error;
use std::sync::Arc;

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::{Dataset, DatasetError};
use burn::tensor::Device;
use burn_peft_data::{Batch, DataConfig, DataError, Example, Examples, Limits, Task, Tokenizer};
use burn_peft_models::{CausalLm, LmBatch};
use serde::Serialize;

use crate::objective::lm::on_device;

/// The sequences that a model can take, for the data it is trained on.
pub fn limits(model: &impl CausalLm) -> Limits {
    Limits {
        max_positions: model.max_positions(),
        has_last_position: model.has_last_position(),
        positions_key: model.positions_key(),
        adapter_positions: model.adapter_positions(),
        vocab_size: model.vocab_size(),
    }
}

/// Examples as one of Burn's data sets, for Burn's transforms, `DataLoaderBuilder` and `Learner`.
/// The items are the examples in their order; the tokens stay in the cache's file, which is mapped
/// into memory.
///
/// With packing, the items are still single examples, not packed sequences.
#[derive(Clone, Debug)]
pub struct ExampleDataset {
    examples: Arc<Examples>,
    /// If sequences have several examples, the number of the first example of each sequence.
    starts: Option<Arc<[usize]>>,
}

impl ExampleDataset {
    /// Makes batches of the items.
    pub fn batcher(&self) -> LmBatcher {
        LmBatcher {
            pad_id: self.examples.pad_id,
            pad_to_multiple_of: self.examples.pad_to_multiple_of,
        }
    }
}

impl From<Arc<Examples>> for ExampleDataset {
    fn from(examples: Arc<Examples>) -> Self {
        let starts = (examples.len() != examples.sequences()).then(|| {
            let counts = (0..examples.sequences()).map(|index| examples.examples_in(index));
            let starts = counts.scan(0, |next, count| {
                let start = *next;
                *next += count;
                Some(start)
            });
            starts.collect()
        });
        Self { examples, starts }
    }
}

impl From<Examples> for ExampleDataset {
    fn from(examples: Examples) -> Self {
        Arc::new(examples).into()
    }
}

impl Dataset<Example> for ExampleDataset {
    fn get(&self, index: usize) -> Result<Example, DatasetError> {
        assert!(
            index < self.len(),
            "example {index} of {}: Dataset::get takes numbers below len()",
            self.len()
        );
        let (sequence, place) = match &self.starts {
            None => (index, 0),
            Some(starts) => {
                let sequence = starts.partition_point(|start| *start <= index) - 1;
                (sequence, index - starts[sequence])
            }
        };
        Ok(self.examples.example(sequence, place))
    }

    fn len(&self) -> usize {
        self.examples.len()
    }
}

/// Makes batches of examples for a language model, as
/// [`CausalLm::loss`](burn_peft_models::CausalLm) takes them.
#[derive(Clone, Debug)]
pub struct LmBatcher {
    /// The token that a matrix is padded with.
    pub pad_id: u32,
    /// The multiple that the width of a matrix is rounded up to.
    pub pad_to_multiple_of: Option<usize>,
}

impl Batcher<Example, LmBatch> for LmBatcher {
    fn batch(&self, items: Vec<Example>, device: &Device) -> LmBatch {
        let batch = Batch::collate(&items, self.pad_id, self.pad_to_multiple_of);
        on_device(&batch, device)
    }
}

/// The examples of one of Burn's data sets, to train on instead of a file: one in memory, in a
/// database, or a transform of another. serde has to make an object of each item, with the columns
/// that a row of a file would have. `name` is the data set's name in errors. The data set is read
/// once, in its order, and all of it: use Burn's transforms for a part of it, since `max_samples`
/// and `validation_split` of `config` are for its own files. A run draws from the examples as from
/// those of a file, and can resume exactly as long as the items are the same.
///
/// # Errors
/// The data set's own errors, with the number of the item, and those of
/// [`Examples::of_rows`](burn_peft_data::Examples::of_rows).
pub fn examples_of<I: Serialize, E: Error + Send + Sync + 'static>(
    name: &str,
    dataset: &(impl Dataset<I, E> + ?Sized),
    config: &DataConfig,
    tokenizer: Option<&Tokenizer>,
    limits: Limits,
    task: &dyn Task,
) -> burn_peft_data::Result<Examples> {
    let rows = (0..dataset.len()).map(|index| {
        dataset.get(index).map_err(|error| DataError::Io {
            path: format!("{name}, item {index}").into(),
            source: std::io::Error::other(error),
        })
    });
    Examples::of_rows(name, rows, config, tokenizer, limits, task)
}

#[cfg(test)]
mod tests {
    use burn::data::dataloader::DataLoaderBuilder;
    use burn::data::dataset::transform::PartialDataset;
    use burn::module::Module;
    use burn::optim::AdamWConfig;
    use burn::train::metric::LossMetric;
    use burn::train::{
        InferenceStep, Learner, RegressionOutput, SupervisedTraining, TrainOutput, TrainStep,
    };
    use burn_peft::{LoraConfig, PeftModel, get_peft_model};
    use burn_peft_data::Shape;
    use burn_peft_models::{AutoModel, CausalLm, Pretrained};

    use super::*;

    /// The model that Burn's learner trains.
    #[derive(Module, Debug)]
    struct Trained {
        model: PeftModel<AutoModel>,
    }

    impl Trained {
        fn loss(&self, batch: &LmBatch) -> RegressionOutput {
            let loss = self.model.loss(batch) / batch.count.max(1) as f32;
            let shown = loss.clone().reshape([1, 1]);
            RegressionOutput::new(loss, shown.clone(), shown)
        }
    }

    impl TrainStep for Trained {
        type Input = LmBatch;
        type Output = RegressionOutput;

        fn step(&self, batch: LmBatch) -> TrainOutput<RegressionOutput> {
            let output = self.loss(&batch);
            TrainOutput::new(self, output.loss.backward(), output)
        }
    }

    impl InferenceStep for Trained {
        type Input = LmBatch;
        type Output = RegressionOutput;

        fn step(&self, batch: LmBatch) -> RegressionOutput {
            self.loss(&batch)
        }
    }

    /// Burn's transforms, loader and learner accept the examples.
    #[test]
    fn burns_learner_trains_on_them() {
        let _alone = crate::tests::alone();
        let device = Device::flex();
        let dataset = ExampleDataset::from(examples());
        let loader = |device: &Device| {
            let loader = DataLoaderBuilder::new(dataset.batcher()).batch_size(2);
            let part = PartialDataset::new(dataset.clone(), 1, 7);
            loader.shuffle(1).set_device(device.clone()).build(part)
        };
        let base = AutoModel::from_pretrained("../../assets/tiny-gpt2", &device).unwrap();
        let model = get_peft_model(base, LoraConfig::new().with_r(2)).unwrap();
        let batch = dataset
            .batcher()
            .batch(vec![dataset.get(1).unwrap()], &device);
        let before = model.loss(&batch).into_scalar::<f32>();

        let folder = tempfile::tempdir().unwrap();
        let learner = Learner::new(Trained { model }.train(), AdamWConfig::new().init(), 0.05);
        let autodiff = device.clone().autodiff();
        let training = SupervisedTraining::new(folder.path(), loader(&autodiff), loader(&device))
            .metrics((LossMetric::new(),))
            .num_epochs(2);
        let trained = training.launch(learner).model;
        let after = trained.model.loss(&batch).into_scalar::<f32>();
        assert!(after < before, "{before} before, {after} after");
    }

    fn examples() -> Examples {
        let example = |row: usize| Example {
            input_ids: vec![row as u32; 1 + row % 3],
            labels: vec![row as i64; 1 + row % 3],
            row,
        };
        let examples: Vec<Example> = (1..=7).map(example).collect();
        Examples::new("a", Shape::default(), &examples).unwrap()
    }

    #[test]
    fn items_are_the_examples_in_the_order_of_the_sequences() {
        let all = examples();
        for examples in [all.clone(), all.clone().packed(4), all.select(&[5, 0, 5])] {
            let dataset = ExampleDataset::from(examples.clone());
            let items: Vec<Example> = dataset.iter().map(Result::unwrap).collect();
            assert_eq!(items, examples.iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_batch_is_that_of_the_examples() {
        let examples = examples();
        let dataset = ExampleDataset::from(examples.clone());
        let device = Device::flex();
        let items = [3, 1].map(|index| dataset.get(index).unwrap());
        let found = dataset.batcher().batch(items.into(), &device);
        let expected = on_device(&examples.batch(&[3, 1]), &device);
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
    }
}
