//! Chats as a tokenizer's own template and tokens have them.

use crate::error::{DataError, Result, TemplateProblem};
use crate::format::Chat;
use crate::tokenizer::Tokenizer;
use serde_json::{Map, Value};
use std::ops::Range;

impl Tokenizer {
    /// Renders messages (objects with `role` and `content`) with the tokenizer's own template, as
    /// transformers' `apply_chat_template` does; with `add_generation_prompt` up to where the
    /// assistant's answer begins.
    ///
    /// # Errors
    /// A tokenizer without a template, and what the template refuses.
    pub fn apply_chat_template(
        &self,
        messages: &[Value],
        add_generation_prompt: bool,
    ) -> Result<String> {
        let template = self
            .chat_template()
            .map_err(|problem| self.problem(problem))?;
        let rendered = template.render(messages, &Map::new(), add_generation_prompt);
        rendered.map_err(|problem| self.problem(problem.into()))
    }

    /// The tokens of a chat, and which of them are the assistant's. A token that is only in part
    /// the assistant's is.
    pub(crate) fn encode_chat(&self, chat: &Chat, place: &str) -> Result<(Vec<u32>, Vec<bool>)> {
        let bad = |problem: TemplateProblem| DataError::Row {
            place: place.into(),
            problem: problem.into(),
        };
        let template = self
            .chat_template()
            .map_err(|problem| self.problem(problem))?;
        let (text, spans) = template.spans(chat).map_err(bad)?;
        let (ids, offsets) = self.encode_with_offsets(&text)?;
        let is_trained = |token: &Range<usize>| {
            let overlaps = |span: &Range<usize>| span.start < token.end && token.start < span.end;
            spans.iter().any(overlaps)
        };
        Ok((ids, offsets.iter().map(is_trained).collect()))
    }
}
