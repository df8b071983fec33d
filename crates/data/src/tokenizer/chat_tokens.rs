//! Chats as tokens, through a tokenizer's own template.

use crate::error::{DataError, Result, TemplateProblem};
use crate::format::{Chat, Note};
use crate::tokenizer::Tokenizer;
use crate::tokenizer::chat::{ChatTemplate, message, without_none};
use serde_json::{Map, Value};
use std::ops::Range;
use std::sync::Once;

impl Tokenizer {
    /// Renders messages (objects with `role` and `content`) with the tokenizer's chat template, as
    /// transformers' `apply_chat_template` does; with `add_generation_prompt`, up to where the
    /// assistant's answer begins.
    ///
    /// # Errors
    /// If the tokenizer has no template, or the template rejects the messages.
    pub fn apply_chat_template(
        &self,
        messages: &[Value],
        add_generation_prompt: bool,
    ) -> Result<String> {
        let extras = Map::new();
        self.rendered(|template| template.render(messages, &extras, add_generation_prompt))
    }

    /// The tokens of messages as [`apply_chat_template`](Self::apply_chat_template) renders them.
    /// Special tokens that the template writes are read as such, and none are added. `extras` are
    /// further variables of the template: `tools`, `documents`. Tool calls and reasoning are
    /// written in the template's own terms, as in training.
    ///
    /// # Errors
    /// As [`apply_chat_template`](Self::apply_chat_template) and
    /// [`encode`](Self::encode).
    pub fn chat_prompt(
        &self,
        messages: &[Value],
        extras: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>> {
        let mut chat = Chat {
            messages: messages.iter().map(without_none).collect(),
            extras: extras.clone(),
            given: 0,
        };
        let notes = self.fit(&mut chat);
        if let Some(Note::Unsaid(name)) = notes.first() {
            // Computed for the first prompt: most prompts of a file are alike.
            static TOLD: Once = Once::new();
            TOLD.call_once(|| {
                tracing::warn!(
                    "`{name}` left out of the prompt: the chat template says nothing of it"
                );
            });
        }
        let Chat {
            messages, extras, ..
        } = &chat;
        let text =
            self.rendered(|template| template.written(messages, extras, add_generation_prompt))?;
        self.encode_continuation(&text)
    }

    /// The text of a chat in the template's own terms.
    pub(crate) fn written(&self, chat: &Chat) -> Result<String> {
        self.rendered(|template| template.written(&chat.messages, &chat.extras, false))
    }

    fn rendered(
        &self,
        render: impl FnOnce(&ChatTemplate) -> std::result::Result<String, TemplateProblem>,
    ) -> Result<String> {
        let template = self
            .chat_template()
            .map_err(|problem| self.problem(problem))?;
        render(template).map_err(|problem| self.problem(problem.into()))
    }

    /// The tokens that the template puts after what the assistant says, if they begin with a token
    /// of their own (`<|im_end|>`): an answer ends there, whatever the model's files name as its
    /// end. Empty without a template, or if an answer ends in ordinary text.
    pub fn chat_end_ids(&self) -> Vec<u32> {
        // A word that no template writes by itself.
        const ANSWER: &str = "Quillwort";
        let chat = [
            ("user", "Name it."),
            ("assistant", ANSWER),
            ("user", "Again."),
        ];
        let chat = chat.map(|(role, content)| message(role, content));
        let mut ids = Vec::new();
        // Some templates end only the last message, and some end it differently.
        for messages in [&chat[..2], &chat] {
            let Ok(text) = self.apply_chat_template(messages, false) else {
                continue;
            };
            let Some((_, behind)) = text.rsplit_once(ANSWER) else {
                continue;
            };
            let first = self.encode_continuation(behind.trim_start());
            let first = first.ok().and_then(|ids| ids.first().copied());
            if let Some(id) = first.filter(|id| self.is_added(*id) && !ids.contains(id)) {
                ids.push(id);
            }
        }
        ids
    }

    /// The text of the given messages of a chat, up to where the assistant answers, and the text of
    /// the whole chat, as transformers' `apply_chat_template` renders both. `place` is the row's
    /// name in errors.
    pub(crate) fn answered_chat(&self, chat: &Chat, place: &str) -> Result<(String, String)> {
        let template = self
            .chat_template()
            .map_err(|problem| self.problem(problem))?;
        let written = |messages: &[Value], asks: bool| {
            let text = template.written(messages, &chat.extras, asks);
            text.map_err(|problem| DataError::Row {
                place: place.into(),
                problem: problem.into(),
            })
        };
        let given = written(&chat.messages[..chat.given], true)?;
        Ok((given, written(&chat.messages, false)?))
    }

    /// The tokens of a chat, and which of them are the assistant's, or `all`. A token that is only
    /// partly the assistant's counts.
    pub(crate) fn encode_chat(
        &self,
        chat: &Chat,
        all: bool,
        place: &str,
    ) -> Result<(Vec<u32>, Vec<bool>)> {
        let bad = |problem: TemplateProblem| DataError::Row {
            place: place.into(),
            problem: problem.into(),
        };
        let template = self
            .chat_template()
            .map_err(|problem| self.problem(problem))?;
        let found = if all {
            let text = template.written(&chat.messages, &chat.extras, false);
            text.map(|text| (text, std::iter::once(0..usize::MAX).collect()))
        } else {
            template.answers(chat)
        };
        let (text, spans) = found.map_err(bad)?;
        template.check_said(chat, &text, &spans).map_err(bad)?;
        let (ids, offsets) = self.encode_with_offsets(&text)?;
        let is_trained = |token: &Range<usize>| {
            let overlaps = |span: &Range<usize>| span.start < token.end && token.start < span.end;
            spans.iter().any(overlaps)
        };
        Ok((ids, offsets.iter().map(is_trained).collect()))
    }
}

#[cfg(test)]
mod tests {
    use crate::Tokenizer;
    use serde_json::{Map, json};

    /// A tokenizer of the words "a" and "b" and a few special tokens, with a template.
    fn with_template(template: &str) -> Tokenizer {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        let specials = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>"];
        let added = specials.iter().enumerate().map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false,
                   "rstrip": false, "normalized": false, "special": true})
        });
        let words = specials.iter().chain(&["a", "b", "<unk>"]);
        let vocab: Map<_, _> = (0..)
            .zip(words)
            .map(|(id, word)| (word.to_string(), json!(id)))
            .collect();
        let bos = json!([{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]);
        let json = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
            "added_tokens": added.collect::<Vec<_>>(),
            "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
            "post_processor": {"type": "TemplateProcessing", "single": bos, "pair": [],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
        });
        write("tokenizer.json", json.to_string());
        let config = json!({"chat_template": template, "bos_token": "<s>", "eos_token": "</s>"});
        write("tokenizer_config.json", config.to_string());
        Tokenizer::load(dir.path()).unwrap()
    }

    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m.content + '<|im_end|>\\n' }}{% endfor %}\
         {% if add_generation_prompt %}{{ '<|im_start|>' }}{% endif %}";

    #[test]
    fn a_prompts_special_tokens_are_the_templates_and_no_others() {
        let messages = [json!({"role": "user", "content": "a b"})];
        let prompt = |template: &str, add| {
            with_template(template)
                .chat_prompt(&messages, &Map::new(), add)
                .unwrap()
        };
        assert_eq!(prompt(CHATML, true), [2, 5, 6, 3, 2]);
        assert_eq!(prompt(CHATML, false), [2, 5, 6, 3]);
        // The tokenizer would put <s> before any other text.
        assert_eq!(with_template(CHATML).encode("a").unwrap(), [0, 5]);
        assert_eq!(
            prompt("{{ bos_token + messages[0].content }}", true),
            [0, 5, 6]
        );
        let extras = json!({"tools": ["b"]});
        let with_tools = with_template("{{ messages[0].content }} {{ tools[0] }}");
        let found = with_tools.chat_prompt(&messages, extras.as_object().unwrap(), true);
        assert_eq!(found.unwrap(), [5, 6, 6]);
    }

    #[test]
    fn the_template_says_where_an_answer_ends() {
        let ends = |template: &str| with_template(template).chat_end_ids();
        assert_eq!(ends(CHATML), [3]);
        let spaced = "{% for m in messages %}[{{ m.content }} {{ eos_token }}]{% endfor %}";
        assert_eq!(ends(spaced), [1]);
        // An answer extends to the next turn (GLM-4), or the last one ends differently.
        let turns = "{% for m in messages %}{% if m.role == 'user' %}<|user|>{% endif %}{{ m.content }}{% endfor %}";
        assert_eq!(ends(turns), [4]);
        let last = "{% for m in messages %}{{ m.content }}{% if loop.last %}</s>{% else %}<|im_end|>{% endif %}{% endfor %}";
        assert_eq!(ends(last), [1, 3]);
        assert!(ends("{% for m in messages %}{{ m.content }} b {% endfor %}").is_empty());
        assert!(ends("{{ raise_exception('no') }}").is_empty());
    }
}
