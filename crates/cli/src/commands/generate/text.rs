//! Continuing prompts on the command line, as text.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::Result;
use burn::tensor::Device;
use burn_peft_data::Tokenizer;
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{Continuation, GenerationDefaults, LanguageModel, generate_rows};
use serde_json::{Value, json};

use super::prompts::{Prompt, prompts};
use super::{Args, best, for_answers, generation_defaults};
use crate::loading::{check_language_model, load_tokenizer, open_each};
use crate::output::{emit, say, say_json};

/// Continues the prompts of the command line.
pub fn run(args: &Args, files: &ModelFiles, device: &Device) -> Result<()> {
    let tokenizer = &load_tokenizer(files, args.tokenizer.as_deref())?;
    let mut defaults = generation_defaults(files, Some(tokenizer))?;
    args.options.warn(&defaults);
    // Before loading the model, which takes time.
    let prompts = prompts(args, tokenizer)?;
    if prompts.iter().any(|prompt| prompt.messages.is_some()) {
        for_answers(&mut defaults, tokenizer);
    }
    let models = open_each(files, &args.model, false, device)?;
    check_language_model(&models[0].1)?;
    let request = Request {
        args,
        tokenizer,
        defaults,
        prompts,
    };
    if let (Some(count), Some(reward)) = (args.best_of, &args.reward) {
        return best::run(
            request,
            models,
            count,
            &best::Judge {
                files,
                reward,
                device,
            },
        );
    }
    if let ([(_, model)], [prompt]) = (&models[..], &request.prompts[..]) {
        return request.stream(model, prompt);
    }
    let mut answers = Vec::new();
    for (adapter, model) in &models {
        for mut answer in request.answers(model, &mut |_| Ok(true))? {
            if models.len() > 1 {
                answer.json["adapter"] = adapter.as_str().into();
            }
            answers.push((adapter, answer));
        }
    }
    if args.json {
        let answers = answers.into_iter().map(|(_, answer)| answer.json);
        return say_json(&Value::Array(answers.collect()));
    }
    let of_several = request.prompts.len() > 1;
    if models.len() == 1 {
        let texts = answers.into_iter().map(|(_, answer)| answer.whole());
        return say(texts.collect::<Vec<_>>().join("\n\n"));
    }
    let width = answers.iter().map(|(adapter, _)| adapter.chars().count());
    let width = width.max().unwrap_or_default();
    for (adapter, answer) in answers {
        let text = if of_several || is_read_here(args) {
            answer.whole()
        } else {
            answer.text
        };
        // Further lines of a text are indented below its first.
        let text = text.replace('\n', &format!("\n{:width$}  ", ""));
        say(format!("{adapter:width$}  {text}"))?;
    }
    Ok(())
}

/// Whether the prompt is shown before the continuation: a continuation may begin within a word. A
/// program that reads the pipe has the prompt already.
fn is_read_here(args: &Args) -> bool {
    std::io::stdout().is_terminal() && !args.json
}

/// The requested settings, completed by those in the model's files.
pub(super) struct Request<'a> {
    pub args: &'a Args,
    pub tokenizer: &'a Tokenizer,
    pub defaults: GenerationDefaults,
    pub prompts: Vec<Prompt>,
}

/// A continuation, with everything about it.
pub(super) struct Answer {
    pub prompt: String,
    pub text: String,
    pub json: Value,
}

impl Answer {
    pub fn whole(&self) -> String {
        format!("{}{}", self.prompt, self.text)
    }
}

impl Request<'_> {
    /// Shows the continuation of a single prompt as it is generated.
    fn stream(&self, model: &LanguageModel, prompt: &Prompt) -> Result<()> {
        if is_read_here(self.args) {
            emit(&prompt.text)?;
        }
        let json = self.args.json;
        let mut show = |text: &str| if json { Ok(true) } else { emit(text) };
        for answer in self.answers(model, &mut show)? {
            if answer.text.trim().is_empty() {
                let hello = [json!({"role": "user", "content": "Hello"})];
                let way_out = match prompt.messages {
                    None if self.tokenizer.apply_chat_template(&hello, true).is_ok() => {
                        "; --chat asks a chat model"
                    }
                    _ => "",
                };
                tracing::warn!("the model ends the text at once{way_out}");
            }
            if json {
                say_json(&answer.json)?;
            } else {
                say("")?;
            }
        }
        Ok(())
    }

    /// Continues all prompts together. `show` gets the text of a single prompt piece by piece, and
    /// returns whether to continue.
    pub fn answers(
        &self,
        model: &LanguageModel,
        show: &mut dyn FnMut(&str) -> Result<bool>,
    ) -> Result<Vec<Answer>> {
        let tokenizer = self.tokenizer;
        let prompts: Vec<&[u32]> = self.prompts.iter().map(|prompt| &prompt.ids[..]).collect();
        let longest = prompts.iter().map(|prompt| prompt.len()).max();
        let options = &self.args.options;
        let settings = options.settings(&self.defaults, model, longest.unwrap_or_default());
        let start = Instant::now();
        let mut texts: Vec<_> = prompts
            .iter()
            .map(|_| (tokenizer.stream(), String::new()))
            .collect();
        let mut failed = None;
        let continued = generate_rows(model, &prompts, &settings, &mut |row, id| {
            let (pieces, text) = &mut texts[row];
            let shown = pieces.push(id).map_err(Into::into).and_then(|piece| {
                *text += &piece;
                show(&piece)
            });
            match shown {
                Ok(true) => ControlFlow::Continue(()),
                Ok(false) => ControlFlow::Break(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        let seconds = start.elapsed().as_secs_f64();
        let tokens: usize = continued.iter().map(|row| row.token_ids.len()).sum();
        let each = continued.into_iter().zip(texts).zip(&self.prompts);
        let answers = each.map(|((row, (pieces, text)), prompt)| {
            let rest = pieces.finish()?;
            show(&rest)?;
            let text = text + &rest;
            let json = json_of(prompt, &row, &text, tokens as f64 / seconds);
            let prompt = prompt.text.clone();
            Ok(Answer { prompt, text, json })
        });
        answers.collect()
    }
}

/// A continuation as a JSON object: of a text, or of a conversation in the form of chat APIs.
fn json_of(prompt: &Prompt, row: &Continuation, text: &str, speed: f64) -> Value {
    let Some(messages) = &prompt.messages else {
        return json!({
            "prompt": prompt.text,
            "text": text,
            "prompt_token_ids": prompt.ids,
            "token_ids": row.token_ids,
            "tokens_per_second": speed,
        });
    };
    json!({
        "messages": messages,
        "content": text,
        "finish_reason": finish_reason(row),
        "prompt_tokens": prompt.ids.len(),
        "completion_tokens": row.token_ids.len(),
        "prompt_token_ids": prompt.ids,
        "token_ids": row.token_ids,
        "tokens_per_second": speed,
    })
}

/// Why a continuation ended: `stop` at a token that ends it, `length` at the largest length.
pub fn finish_reason(row: &Continuation) -> &'static str {
    match row.ended_by {
        Some(_) => "stop",
        None => "length",
    }
}
