//! The texts of a batch.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

#[cfg(feature = "gpu")]
use burn::tensor::{DType, TensorData};
use burn::tensor::{Device, Int, Tensor};

use super::Span;
use super::groups::Groups;
use super::shared::SharedTokens;
#[cfg(feature = "gpu")]
use crate::gpu::attention::ROWS;

/// The texts of a batch, in the order of their tokens.
#[derive(Clone, Debug)]
pub struct Texts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    spans: Vec<Span>,
    /// If texts share tokens, the rows that `spans` counts in.
    shared: Option<SharedTokens>,
    /// For the plain body, made once for all layers.
    groups: OnceLock<Groups>,
    /// The same for the body on GPUs: the number of tokens, and the blocks.
    #[cfg(feature = "gpu")]
    blocks: OnceLock<(usize, Tensor<2, Int>)>,
}

impl Texts {
    /// The texts of these spans.
    pub fn new(spans: Vec<Span>) -> Self {
        Self::of(spans, None)
    }

    /// Texts that may share tokens. Each text is put together from ranges of the batch's `tokens`
    /// tokens, so that a beginning which texts have in common is computed once.
    ///
    /// # Panics
    /// If a range goes beyond the tokens.
    pub fn sharing(texts: &[Vec<Range<usize>>], tokens: usize) -> Self {
        let mut token_of = Vec::new();
        let spans = texts.iter().map(|text| {
            let start = token_of.len();
            token_of.extend(text.iter().cloned().flatten());
            let length = token_of.len() - start;
            Span {
                start,
                queries: length,
                keys: length,
            }
        });
        let spans = spans.collect();
        Self::of(spans, Some(SharedTokens::new(token_of, tokens)))
    }

    fn of(spans: Vec<Span>, shared: Option<SharedTokens>) -> Self {
        Self(Arc::new(Inner {
            spans,
            shared,
            groups: OnceLock::new(),
            #[cfg(feature = "gpu")]
            blocks: OnceLock::new(),
        }))
    }

    /// Where the texts lie; for texts that [share tokens](Self::sharing), in rows of their own.
    pub fn spans(&self) -> &[Span] {
        &self.0.spans
    }

    /// Whether the texts may share tokens.
    pub fn share_tokens(&self) -> bool {
        self.0.shared.is_some()
    }

    /// The rows of texts that share tokens.
    pub(super) fn shared(&self) -> Option<&SharedTokens> {
        self.0.shared.as_ref()
    }

    /// The groups of a batch of `tokens` tokens, or of that many rows where tokens are shared.
    pub(super) fn groups(&self, tokens: usize, device: &Device) -> &Groups {
        let made = || Groups::new(&self.0.spans, tokens, &device.clone().without_autodiff());
        self.0.groups.get_or_init(made)
    }

    /// The blocks of rows that the body on GPUs works on, for a batch of `tokens` tokens, or of
    /// that many rows where tokens are shared: see
    /// [`gpu::attention`](crate::gpu::attention::attention).
    #[cfg(feature = "gpu")]
    pub(super) fn blocks(&self, tokens: usize, device: &Device) -> Tensor<2, Int> {
        let made = || {
            let lines = blocks(&self.0.spans, tokens);
            let data = TensorData::new(lines.concat(), [lines.len(), 4]);
            Tensor::from_data(data, (&device.clone().without_autodiff(), DType::I32))
        };
        let (of, blocks) = self.0.blocks.get_or_init(|| (tokens, made()));
        // Blocks for another number of tokens would reach beyond them or leave some out.
        if *of == tokens {
            blocks.clone()
        } else {
            made()
        }
    }

    /// The numbers that a GPU wants for a batch of so many tokens, so that they may come to it together
    /// with others: [`set_numbers`](Self::set_numbers) says where they are then.
    pub fn numbers(&self, tokens: usize, device: &Device) -> Option<Vec<i64>> {
        #[cfg(feature = "gpu")]
        if crate::is_gpu(device) && !crate::flex::is_plain() && !self.share_tokens() {
            let lines = blocks(&self.0.spans, tokens);
            return Some(lines.into_iter().flatten().map(i64::from).collect());
        }
        let _ = (tokens, device);
        None
    }

    /// Where on the device the [numbers](Self::numbers) for a batch of so many tokens are.
    pub fn set_numbers(&self, tokens: usize, numbers: Tensor<1, Int>) {
        #[cfg(feature = "gpu")]
        {
            let lines = numbers.dims()[0] / 4;
            let blocks = numbers.without_autodiff().reshape([lines, 4]);
            // Where they are known they are the same.
            let _ = self.0.blocks.set((tokens, blocks));
        }
        #[cfg(not(feature = "gpu"))]
        let _ = (tokens, numbers);
    }

    /// An upper bound for the number of blocks.
    #[cfg(feature = "gpu")]
    pub(super) fn block_count(&self, tokens: usize) -> usize {
        tokens.div_ceil(ROWS) + 2 * self.0.spans.len()
    }
}

#[cfg(feature = "gpu")]
fn blocks(spans: &[Span], tokens: usize) -> Vec<[i32; 4]> {
    let mut lines = Vec::new();
    let mut of_rows = |start: usize, queries: usize, keys: usize| {
        let firsts = (0..queries).step_by(ROWS);
        lines.extend(firsts.map(|first| [start, queries, keys, first].map(|number| number as i32)));
    };
    let mut end = 0;
    for span in spans {
        assert!(
            span.start >= end,
            "texts overlap or are out of order at {span:?}"
        );
        assert!(
            span.keys <= span.queries,
            "more keys than queries in {span:?}"
        );
        of_rows(end, span.start - end, 0);
        of_rows(span.start, span.queries, span.keys);
        end = span.start + span.queries;
    }
    assert!(end <= tokens, "texts end at token {end} of {tokens}");
    of_rows(end, tokens - end, 0);
    lines
}
