//! An evaluation during a run.

use std::sync::Arc;
use std::time::Instant;

use burn::data::dataloader::Progress;
use burn::module::Module;
use burn::train::{LearnerEvent, TrainingItem};

use super::Run;
use crate::error::Result;
use crate::objective::metric::Sums;
use crate::run::evaluate::{Evaluation, SharedSums};
use crate::run::step::StepOutput;
use crate::run::target::TrainTarget;
use crate::seeing::metrics::StepMetrics;
use crate::seeing::metrics_file::EvalLog;

impl<T: TrainTarget> Run<'_, T> {
    /// Evaluates the model on the validation data.
    pub(super) fn evaluate(&mut self, epoch: usize) -> Result<()> {
        self.settle()?;
        let started = Instant::now();
        let model = self.common_model().valid();
        let valid = self.valid.clone();
        self.emit_valid(LearnerEvent::StartSplit {
            epoch_number: epoch,
            total_items: valid.num_items(),
        });
        let exchange = Arc::clone(&self.strategy.exchange);
        let mut shared = SharedSums::new(&*exchange);
        let mut batches = valid.iter();
        while let Some(batch) = batches.next() {
            let objective = &self.strategy.objective;
            let measured = shared.of_next(|| objective.measure(&model.model, &batch?.batch))?;
            // What several ranks find is shown once all of it has arrived.
            if let Some(of_batch) = measured
                && exchange.size() == 1
            {
                self.show_measured(of_batch, batches.progress());
            }
            if self.interrupter.should_stop() {
                break;
            }
        }
        let (each, is_told) = shared.of_each(self.interrupter.should_stop())?;
        if is_told {
            self.stop_with_others(exchange.size() > 1);
            return Ok(());
        }
        let mut sums = Sums::default();
        for of_batch in &each {
            sums.add(of_batch);
            if exchange.size() > 1 {
                self.show_measured(of_batch, batches.progress());
            }
        }
        self.strategy.objective.finish(&model.model, &mut sums)?;
        let measures = self.strategy.objective.measures();
        let evaluation = Evaluation { measures, sums };
        let state = &self.record.state;
        let entry = EvalLog::new(
            state.global_step,
            state.epoch(self.strategy.batches_per_epoch),
            &evaluation,
            started.elapsed().as_secs_f64(),
        );
        self.record.metrics.write(&entry)?;
        if let Some(prompts) = &self.strategy.samples
            && exchange.is_first()
        {
            let samples = prompts.continued(&model.model)?;
            prompts.samples.push(prompts.shown(&samples));
            let metrics = &mut self.record.metrics;
            metrics.write_samples(entry.step, entry.epoch, &samples)?;
        }
        let saved = self.record.checkpoints.last();
        let best = &mut self.record.state.best;
        best.evaluated(self.arguments, &entry);
        if saved == Some(entry.step) {
            // The run was interrupted in the middle of this evaluation, and saved.
            best.saved(self.arguments, entry.step);
        }
        self.record.state.evaluated = entry.step;
        self.record.evaluation = Some((entry.step, evaluation));
        self.record.evaluations.push(entry);
        self.emit_valid(LearnerEvent::EndSplit(epoch));
        Ok(())
    }

    /// Shows what was measured in one batch of an evaluation.
    fn show_measured(&mut self, of_batch: &Sums, progress: Progress) {
        let means = of_batch.sums.iter().map(|&sum| of_batch.mean(sum));
        let metrics = StepMetrics {
            loss: of_batch.mean_loss(),
            count: of_batch.count,
            means: means.collect(),
            ..StepMetrics::default()
        };
        let output = StepOutput {
            loss: None,
            sums: None,
            metrics,
        };
        let item = TrainingItem::new(output, progress, None, None);
        self.emit_valid(LearnerEvent::ProcessedItem(item));
    }
}
