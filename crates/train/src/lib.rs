//! Training of adapters on Burn's `Learner`.
//!
//! A [`TrainConfig`] is a training file; its `[training]` table is [`TrainingArguments`], with the
//! keys of transformers. [`train`] runs it: `SupervisedTraining` drives our own strategy, which
//! counts optimizer steps, averages accumulated gradients over tokens, clips them by their global
//! norm, and evaluates, logs and saves at the chosen steps. Metrics, interrupter and renderer are
//! Burn's.
//!
//! ```text
//! TrainConfig (a file) ──> TrainingArguments ─┐
//! Examples (burn-peft-data) ──────────────────┤
//! LanguageModel (burn-peft-models) ───────────┼──> train ──> TrainOutcome: the trained model
//! Objective: Lm, Classify, Preference, … ─────┘      │
//!                                                    └──> adapter, metrics.jsonl, checkpoint-N/
//! ```
//!
//! From Rust, on three rows of tokens:
//!
//! ```
//! use burn::tensor::Device;
//! use burn_peft::{LoraConfig, get_peft_model};
//! use burn_peft_data::{Example, Examples, Shape};
//! use burn_peft_models::{AutoModel, LanguageModel, Pretrained};
//! use burn_peft_train::{TrainOptions, TrainingArguments, train};
//!
//! # let folder = std::env::temp_dir().join(format!("burn-peft-train-{}", std::process::id()));
//! let model = AutoModel::from_pretrained("../../assets/tiny-gpt2", &Device::flex())?;
//! let model: LanguageModel = get_peft_model(model, LoraConfig::new().with_r(2))?.into();
//! // `DataSet::load` reads files, `examples_of` Burn's data sets.
//! let rows = [1, 2, 3].map(|row| Example {
//!     input_ids: vec![10, 20, 30, 40],
//!     labels: vec![10, 20, 30, 40],
//!     row,
//! });
//! let data = Examples::new("rows", Shape::default(), &rows)?;
//! let arguments = TrainingArguments {
//!     max_steps: 2,
//!     learning_rate: 1e-2,
//!     ..TrainingArguments::new(&folder)
//! };
//! let outcome = train(model, data, None, &arguments, TrainOptions::default())?;
//! assert_eq!(outcome.steps, 2);
//! assert!(folder.join("adapter_model.safetensors").exists());
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checkpoint;
mod configuration;
mod dataset;
mod error;
mod exchange;
mod lock;
mod objective;
mod optimizer;
mod run;
mod seeing;

#[cfg(test)]
mod tests;

pub use burn::train::Interrupter;
pub use burn::train::renderer::MetricsRenderer;
pub use checkpoint::best::{Best, BestCheckpoint};
pub use checkpoint::info::CheckpointInfo;
pub use checkpoint::old_run::OldRun;
pub use checkpoint::run_folder::RunFolder;
pub use configuration::arguments::{IntervalStrategy, SamplingStrategy, Steps, TrainingArguments};
pub use configuration::config::TrainConfig;
pub use configuration::distributed::{DistributedConfig, Sync};
pub use configuration::keys::keys_meant_by;
pub use configuration::quantization::{BitsAndBytesConfig, Bnb4BitQuantType, ComputeDtype};
pub use configuration::schema::schema;
pub use configuration::settings::{Origin, Setting, settings_toml};
pub use dataset::{ExampleDataset, LmBatcher, examples_of, limits};
pub use error::{
    ArgumentProblem, ConfigProblem, DashboardProblem, OptimizerProblem, Result, ResumeProblem,
    TrainError,
};
#[cfg(feature = "mpi")]
pub use exchange::mpi::Mpi;
pub use exchange::threads::{Threads, threads};
pub use exchange::{Alone, Exchange};
pub use objective::best_metric::BestMetric;
pub use objective::by_class::{ByClass, ClassFigures, Confusion};
pub use objective::classify::{Classify, ClassifyConfig};
pub use objective::comparing::{Comparison, Others, Preference};
pub use objective::embed::{
    DistanceMetric, Embed, EmbedConfig, EmbedLoss, SimilarityFunction, embeddings,
};
pub use objective::entities::{Entity, entities};
pub use objective::heads::scores as text_scores;
pub use objective::label_weights::{LabelWeights, WeightRule};
pub use objective::lm::{on_device, on_device_sharing};
pub use objective::metric::{Measures, Metric, Sums, Vectors};
pub use objective::preference::{
    CpoConfig, CpoLossType, DpoConfig, DpoLossType, FDivergence, KtoConfig, KtoLossType,
    Mismatched, OrpoConfig, PreferenceLoss, TableProblem, cpo_loss, dpo_loss, kto_loss, orpo_loss,
};
pub use objective::reference::Reference;
pub use objective::registry::{Kind, ObjectiveName};
pub use objective::reward::{Reward, RewardConfig};
pub use objective::scoring::best as best_label;
pub use objective::tag::{Tag, TagConfig, tag_scores};
pub use objective::{MeasuredLoss, Objective, read, read_all};
pub use optimizer::name::OptimizerName;
pub use optimizer::schedule::{Schedule, SchedulerKwargs, SchedulerType};
pub use optimizer::{adamw, optimizer};
pub use run::estimate::{Estimate, estimate, estimate_with};
pub use run::eva::initialize_lora_eva_weights;
pub use run::evaluate::{Evaluation, evaluate, evaluate_shared, evaluate_with};
pub use run::same::{check_same_config, check_same_work};
pub use run::target::TrainTarget;
pub use run::train::{TrainOptions, TrainOutcome, train, train_with};
pub use seeing::above_bar::above_bar;
pub use seeing::assessment::Assessment;
pub use seeing::card::{CARD_NAME, DataFile, ModelCard};
pub use seeing::dashboard::{check_dashboard, dashboard};
pub use seeing::memory::peak_memory_bytes;
pub use seeing::metrics_file::{EvalLog, METRICS_NAME, SampleLog, TrainLog};
pub use seeing::numbers::{clock, number, paragraph, perplexity, speed, time_left};
pub use seeing::renderer::ProgressRenderer;
pub use seeing::report::{REPORT_NAME, Report};
pub use seeing::sample::{Sample, SamplePrompt, SamplePrompts, Samples};
pub use seeing::tensorboard::EVENTS_NAME;

// It is compiled and run here because this crate has Burn's `train`.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/library.md")]
struct LibraryPage;
