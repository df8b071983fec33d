//! Conducting a conversation with a model.

use std::fmt::Display;
use std::io::Write;
use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Result, ensure};
use burn_peft_data::Tokenizer;
use burn_peft_models::{CausalLm, GenerationConfig, GenerationDefaults};
use serde_json::Map;

use super::answer::{Answer, Finish};
use super::conversation::{Conversation, Turn, quoted};
use super::voices::Voices;
use crate::commands::generate::{ANSWER_TOKENS, Options};
use crate::interrupt::Stop;
use crate::output::counted;

/// A conversation and its participants.
pub struct Talk {
    /// The model and its adapters.
    pub voices: Voices,
    /// The conversation so far.
    pub conversation: Conversation,
    /// The tokenizer, with its chat template.
    pub tokenizer: Tokenizer,
    defaults: GenerationDefaults,
    options: Options,
    /// The number of answers so far; each one uses other random numbers.
    answers: u64,
    is_over: bool,
}

impl Talk {
    /// A new conversation.
    pub fn new(
        voices: Voices,
        tokenizer: Tokenizer,
        defaults: GenerationDefaults,
        options: Options,
        system: Option<String>,
    ) -> Result<Self> {
        for voice in voices.all() {
            let positions = voice.model.max_positions();
            let wanted = options.max_new_tokens.unwrap_or_default();
            ensure!(
                wanted < positions,
                "--max-new-tokens {wanted} leaves no room for a message: {} has {positions} positions \
                 ({})",
                voice.name,
                voice.model.positions_key()
            );
        }
        Ok(Self {
            voices,
            conversation: Conversation {
                system,
                ..Conversation::default()
            },
            tokenizer,
            defaults,
            options,
            answers: 0,
            is_over: false,
        })
    }

    /// The prompt before a typed line.
    pub fn prompt(&self) -> String {
        match self.voices.all().len() {
            1 => "> ".into(),
            _ => format!("{}> ", self.voices.current().name),
        }
    }

    /// Ends the conversation.
    pub fn leave(&mut self) {
        self.is_over = true;
    }

    /// Whether the conversation has ended.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Answers a message. `show` gets the answer piece by piece, and returns whether to continue.
    /// If there is no answer, for example because it was stopped before it began, the message is
    /// removed.
    pub fn say(
        &mut self,
        user: &str,
        stop: Option<&Stop>,
        show: &mut dyn FnMut(&str) -> Result<bool>,
    ) -> Result<Answer> {
        let (prompt, new) = self.fitting(user)?;
        let voice = self.voices.current_mut();
        let settings = self
            .options
            .settings(&self.defaults, &voice.model, prompt.len());
        let settings = GenerationConfig {
            max_new_tokens: new,
            seed: settings.seed.wrapping_add(self.answers),
            ..settings
        };
        self.answers += 1;
        let (mut pieces, mut content) = (self.tokenizer.stream(), String::new());
        let (mut is_interrupted, mut failed) = (false, None);
        let is_stopped = || stop.is_some_and(Stop::is_asked);
        let start = Instant::now();
        let continued = voice
            .session
            .generate(&voice.model, &prompt, &settings, &mut |id| {
                let shown = pieces.push(id).map_err(Into::into).and_then(|piece| {
                    content += &piece;
                    show(&piece)
                });
                match shown {
                    Ok(true) if !is_stopped() => return ControlFlow::Continue(()),
                    Ok(true) => is_interrupted = true,
                    Ok(false) => self.is_over = true,
                    Err(error) => failed = Some(error),
                }
                ControlFlow::Break(())
            })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let rest = pieces.finish()?;
        self.is_over |= !show(&rest)?;
        content += &rest;
        let finish = match (continued.ended_by, is_interrupted) {
            (_, true) => Finish::Interrupted,
            (Some(_), _) => Finish::Stop,
            (None, _) => Finish::Length,
        };
        let answer = Answer {
            content,
            prompt_tokens: prompt.len(),
            computed_tokens: voice.session.computed_for_prompt(),
            completion_tokens: continued.token_ids.len(),
            seconds: start.elapsed().as_secs_f64(),
            finish,
        };
        if finish != Finish::Interrupted || !answer.is_empty() {
            self.conversation.turns.push(Turn {
                user: user.into(),
                assistant: answer.content.clone(),
            });
        }
        Ok(answer)
    }

    /// The tokens of the conversation with a new message, and how many may follow. If there is too
    /// little room for an answer, the oldest turns are left out from now on, which is reported.
    fn fitting(&mut self, user: &str) -> Result<(Vec<u32>, usize)> {
        let model = &self.voices.current().model;
        let positions = model.max_positions();
        let usual = self.defaults.max_new_tokens.unwrap_or(ANSWER_TOKENS);
        let wanted = self.options.max_new_tokens.unwrap_or(usual);
        // A length that nobody asked for is not worth dropping more of the conversation.
        let room = self
            .options
            .max_new_tokens
            .unwrap_or(usual.min(positions / 4));
        let mut left_out = self.conversation.left_out;
        let prompt = loop {
            let seen = Conversation {
                left_out,
                ..self.conversation.clone()
            };
            let messages = seen.prompt(user);
            let prompt = self.tokenizer.chat_prompt(&messages, &Map::new(), true)?;
            if prompt.len() + room <= positions || left_out == self.conversation.turns.len() {
                break prompt;
            }
            left_out += 1;
        };
        let tokens = prompt.len();
        ensure!(
            tokens < positions,
            "the message has {tokens} tokens with the template around it, and the model has \
             {positions} positions ({}): shorten it",
            model.positions_key()
        );
        let turns = &self.conversation.turns[self.conversation.left_out..left_out];
        if !turns.is_empty() {
            let said: Vec<String> = turns.iter().map(|turn| quoted(&turn.user)).collect();
            note(format!(
                "the conversation is too long for {positions} positions: from here on the model does \
                 not see {} of it: {}, with the answer{}",
                counted(2 * turns.len(), "message"),
                said.join(", "),
                if turns.len() == 1 { "" } else { "s" },
            ));
        }
        self.conversation.left_out = left_out;
        Ok((prompt, wanted.min(positions - tokens)))
    }
}

/// Prints something that is not an answer.
pub fn note(text: impl Display) {
    // If standard error is closed, there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}
