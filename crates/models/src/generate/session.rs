//! Generation for texts that share a beginning, such as the prompts of a conversation.

use std::ops::ControlFlow;

use super::padded::Padded;
use super::passes::Passes;
use super::{Continuation, GenerationConfig, Row, check_prompts, go_on};
use crate::{CausalLm, KvCache, Result};

/// Continues one text after another without computing anything twice: of each text only the part
/// after the longest beginning shared with the previous text and its continuation is run.
///
/// The prompts of a conversation are such texts, whether a turn is added, removed or changed. A
/// session is for one model with one adapter.
///
/// ```no_run
/// use std::ops::ControlFlow;
///
/// use burn::tensor::Device;
/// use burn_peft_models::{AutoModel, GenerationConfig, Pretrained, Session, hub::ModelFiles};
///
/// let model = AutoModel::from_files(&ModelFiles::folder("model"), &Device::default())?;
/// let mut session = Session::default();
/// let config = GenerationConfig::default();
/// let go_on = &mut |_| ControlFlow::Continue(());
/// let answer = session.generate(&model, &[5, 6, 7], &config, go_on)?;
/// let text = [&[5, 6, 7], &answer.token_ids[..], &[8, 9]].concat();
/// session.generate(&model, &text, &config, go_on)?;
/// // The last token of the first answer, and the two after it.
/// assert_eq!(session.computed_for_prompt(), 3);
/// # Ok::<(), burn_peft_models::ModelError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Session {
    cache: KvCache,
    /// The tokens whose keys and values are cached.
    cached: Vec<u32>,
    /// The lengths of the shortest and the longest text in which they were computed.
    lengths: (usize, usize),
    computed_for_prompt: usize,
    computed: usize,
}

impl Session {
    /// As [`generate`](super::generate), and also returns the token that ended the text. The tokens
    /// are those that [`generate`](super::generate) gives without a session, up to the rounding of
    /// sums that are split differently.
    ///
    /// # Errors
    /// As [`generate`](super::generate); the cache is then cleared.
    pub fn generate(
        &mut self,
        model: &impl CausalLm,
        prompt: &[u32],
        config: &GenerationConfig,
        on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) -> Result<Continuation> {
        config.validate()?;
        check_prompts(model, &[prompt], config.max_new_tokens)?;
        let kept = self.shared_with(model, prompt);
        let Self { cache, lengths, .. } = std::mem::take(self);
        let device = model.device().without_autodiff();
        let mut passes = Passes::new(Padded::after(kept, &prompt[kept..], device));
        if kept > 0 {
            passes.cache = cache;
            // What an adapter puts before the text precedes it in the cache.
            passes.cache.truncate(model.adapter_positions() + kept);
            passes.lengths = lengths;
        }
        let mut rows = [Row::new(prompt, config.seed, 0)];
        let on_token = &mut |_, id| on_token(id);
        go_on(model, &mut rows, &mut passes, config, on_token)?;
        let [row] = rows;
        *self = Self {
            cached: row.seen[..passes.inputs.past()].to_vec(),
            cache: passes.cache,
            lengths: passes.lengths,
            computed_for_prompt: prompt.len() - kept,
            computed: passes.computed,
        };
        Ok(row.continuation())
    }

    /// The number of positions of the last prompt that had to be computed.
    pub fn computed_for_prompt(&self) -> usize {
        self.computed_for_prompt
    }

    /// The number of positions computed for the last prompt and its continuation.
    pub fn computed(&self) -> usize {
        self.computed
    }

    /// How many of a prompt's tokens need not be computed. The last one always is: its logits give
    /// the next token.
    fn shared_with(&self, model: &impl CausalLm, prompt: &[u32]) -> usize {
        let (shortest, longest) = self.lengths;
        let alike = |length| model.computes_alike(length, prompt.len());
        if self.cached.is_empty() || !alike(shortest) || !alike(longest) {
            return 0;
        }
        let same = prompt.iter().zip(&self.cached);
        let same = same.take_while(|(a, b)| a == b).count();
        same.min(prompt.len() - 1)
    }
}
