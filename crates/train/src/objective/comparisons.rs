//! What each of the losses over answers needs: rows, tokens, other models.

use std::borrow::Cow;

use burn_peft_data::{Batch, DEFAULT_LENGTH, IGNORE_INDEX, Judged, Pairs, PromptTokens};
use burn_peft_models::TokenLogProbs;

use crate::objective::comparing::{Comparison, Others};
use crate::objective::metric::Measures;
use crate::objective::preference::{
    CpoConfig, DpoConfig, KtoConfig, OrpoConfig, PreferenceLoss, cpo, cpo_loss, dpo, dpo_loss, kto,
    kto_loss, orpo, orpo_loss,
};

impl Comparison for DpoConfig {
    type Task = Pairs;

    fn task(&self) -> Pairs {
        Pairs::default()
    }

    fn measures(&self) -> &'static Measures {
        &dpo::MEASURES
    }

    fn needs_statistics(&self) -> bool {
        DpoConfig::needs_statistics(self)
    }

    fn disables_dropout(&self) -> bool {
        self.disable_dropout
    }

    fn precomputes(&self) -> Option<Option<usize>> {
        self.precompute_ref_log_probs
            .then_some(self.precompute_ref_batch_size)
    }

    fn loss(&self, batch: &Batch, policy: &TokenLogProbs, others: Others<'_>) -> PreferenceLoss {
        // The first token of a text without a prompt is not predicted, but belongs to the answer.
        let counts = others.lengths.iter().zip(batch.example_labels());
        let counts = counts.map(|(length, labels)| {
            let is_answer = labels.first().is_some_and(|&label| label != IGNORE_INDEX);
            length + usize::from(is_answer)
        });
        let counts: Vec<usize> = counts.collect();
        let reference = others.reference();
        dpo_loss(self, policy, reference, others.lengths, &counts)
    }
}

impl Comparison for KtoConfig {
    type Task = Judged;

    fn task(&self) -> Judged {
        Judged
    }

    fn measures(&self) -> &'static Measures {
        &kto::MEASURES
    }

    fn count(&self, batch: &Batch) -> usize {
        batch.spans.len()
    }

    fn disables_dropout(&self) -> bool {
        self.disable_dropout
    }

    fn precomputes(&self) -> Option<Option<usize>> {
        self.precompute_ref_log_probs
            .then_some(self.precompute_ref_batch_size)
    }

    /// An answer to another prompt comes from another row.
    fn least_batch(&self) -> usize {
        if self.calculates_kl() { 2 } else { 1 }
    }

    /// Pairs each prompt with the answer of the nearest preceding text (cyclically) that answers
    /// another prompt; if all answer the same prompt, with the answer of the text right before it.
    fn mismatched(&self, batch: &Batch, positions: usize) -> Option<Batch> {
        if !self.calculates_kl() {
            return None;
        }
        let texts = batch.spans.len();
        let most = self.max_length.unwrap_or(DEFAULT_LENGTH).min(positions);
        let answer_at = |text: usize| {
            let span = batch.spans[text].clone();
            // The label of the first token is the judgement.
            let labels = batch.labels[span.clone()].iter().skip(1);
            let given = labels.take_while(|label| **label == IGNORE_INDEX);
            span.start + 1 + given.count()
        };
        let mut other = Batch {
            pad_id: batch.pad_id,
            rows: batch.rows.clone(),
            sets: batch.sets.clone(),
            ..Batch::default()
        };
        let prompt_of = |text: usize| batch.spans[text].start..answer_at(text);
        let tokens_of = |text: usize| &batch.input_ids[prompt_of(text)];
        for text in 0..texts {
            let mut earlier = (1..texts).map(|back| (text + texts - back) % texts);
            let before = earlier
                .find(|&other| tokens_of(other) != tokens_of(text))
                .unwrap_or((text + texts - 1) % texts);
            let prompt = prompt_of(text);
            let answer = answer_at(before)..batch.spans[before].end;
            let room = most.saturating_sub(prompt.len()).max(1);
            let answer = answer.start..answer.end.min(answer.start + room);
            let start = other.input_ids.len();
            other.labels.extend(prompt.clone().map(|_| IGNORE_INDEX));
            other.input_ids.extend(&batch.input_ids[prompt]);
            other.labels.extend(&batch.input_ids[answer.clone()]);
            other.input_ids.extend(&batch.input_ids[answer]);
            other.spans.push(start..other.input_ids.len());
            other.width = other.width.max(other.input_ids.len() - start);
        }
        Some(other)
    }

    fn loss(&self, batch: &Batch, policy: &TokenLogProbs, others: Others<'_>) -> PreferenceLoss {
        let liked: Vec<bool> = batch.example_labels().map(Judged::is_good).collect();
        let reference = others.reference();
        kto_loss(
            self,
            policy,
            reference,
            others.lengths,
            &liked,
            others.mismatched,
        )
    }
}

impl Comparison for OrpoConfig {
    type Task = Pairs;

    fn task(&self) -> Pairs {
        Pairs {
            tokens: PromptTokens::Bare,
        }
    }

    fn measures(&self) -> &'static Measures {
        &orpo::MEASURES
    }

    fn disables_dropout(&self) -> bool {
        self.disable_dropout
    }

    /// For the better text, the prompt too: its cross-entropy covers everything.
    fn labelled<'a>(&self, batch: &'a Batch) -> Cow<'a, Batch> {
        let mut batch = batch.clone();
        for span in batch.spans.iter().step_by(2) {
            let ids = batch.input_ids[span.clone()].to_vec();
            batch.labels[span.clone()].copy_from_slice(&ids);
        }
        Cow::Owned(batch)
    }

    fn loss(&self, batch: &Batch, policy: &TokenLogProbs, others: Others<'_>) -> PreferenceLoss {
        let texts = batch.spans.iter().zip(others.lengths).enumerate();
        let texts = texts.map(|(text, (span, &answer))| match text % 2 {
            0 => (span.len() - 1, span.len() - 1 - answer),
            _ => (answer, 0),
        });
        let (lengths, prompts): (Vec<usize>, Vec<usize>) = texts.unzip();
        orpo_loss(self, policy, &lengths, &prompts)
    }
}

impl Comparison for CpoConfig {
    type Task = Pairs;

    fn task(&self) -> Pairs {
        Pairs {
            tokens: PromptTokens::Bare,
        }
    }

    fn measures(&self) -> &'static Measures {
        &cpo::MEASURES
    }

    fn disables_dropout(&self) -> bool {
        self.disable_dropout
    }

    fn loss(&self, _batch: &Batch, policy: &TokenLogProbs, others: Others<'_>) -> PreferenceLoss {
        cpo_loss(self, policy, others.lengths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pairs, each with one prompt and two answers.
    #[test]
    fn the_divergence_takes_answers_to_other_prompts() {
        let text = |prompt: i64, answer: i64| [prompt, prompt, answer, answer];
        let batch = Batch {
            input_ids: [text(1, 10), text(1, 11), text(2, 20), text(2, 21)].concat(),
            labels: [IGNORE_INDEX, IGNORE_INDEX, 7, 7].repeat(4),
            spans: (0..4).map(|text| 4 * text..4 * text + 4).collect(),
            width: 4,
            ..Batch::default()
        };
        let other = KtoConfig::default().mismatched(&batch, 16).unwrap();
        let expected = [text(1, 21), text(1, 21), text(2, 11), text(2, 11)];
        assert_eq!(other.input_ids, expected.concat());
    }
}
