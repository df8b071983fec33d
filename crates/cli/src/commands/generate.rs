//! `peft generate`: a text goes on.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::Device;
use burn_peft_data::Tokenizer;
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{CausalLm, GenerationConfig, GenerationDefaults, LanguageModel, generate};
use serde_json::{Value, json};

use crate::loading::{ModelsArgs, find_model, load_tokenizer, open_each};
use crate::output::{emit, say, say_json};

const EXAMPLE: &str = "\
Examples:
  peft generate --model gpt2 --adapter out --prompt \"The film was\"
  peft generate --model gpt2 --adapter out-a --adapter out-b --prompt \"The film was\"
  peft generate --model gpt2 --prompt \"The film was\" --temperature 0.8 --top-p 0.9 --seed 1 --json

What no option says is as the model's generation_config.json has it: do_sample with temperature,
top_k and top_p, repetition_penalty, max_new_tokens or max_length. The text ends at the tokens that
this file, config.json and the tokenizer name.";

/// The tokens added where nothing is said.
const NEW_TOKENS: usize = 50;
/// The seed where none is said.
const SEED: u64 = 42;

/// The command line of `peft generate`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    #[command(flatten)]
    model: ModelsArgs,
    /// The text to continue
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: String,
    /// Tokens to add, at most [default: the model's, or 50, or as many as there are positions for]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least_one)]
    max_new_tokens: Option<usize>,
    /// Below 1 more certain, above 1 more varied; 0 takes the most likely token always [default:
    /// the model's, or 0]
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = temperature)]
    temperature: Option<f64>,
    /// Choose among the K most likely tokens; 0 for all [default: the model's, or 50]
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = whole::<usize>)]
    top_k: Option<usize>,
    /// Choose among the most likely tokens that together have this probability [default: the
    /// model's, or 1]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = top_p)]
    top_p: Option<f64>,
    /// Above 1 makes tokens that were there before less likely [default: the model's, or 1]
    #[arg(long, value_name = "R", allow_negative_numbers = true, value_parser = repetition_penalty)]
    repetition_penalty: Option<f64>,
    /// Seed of the choice [default: 42]
    #[arg(long, allow_negative_numbers = true, value_parser = whole::<u64>)]
    seed: Option<u64>,
    /// The tokenizer where it does not lie with the model: a folder, a file or a Hub id
    #[arg(long, value_name = "PATH|ID")]
    tokenizer: Option<String>,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

/// Reads a number that a setting takes, as the library checks it.
fn setting(text: &str, set: impl Fn(&mut GenerationConfig, f64)) -> Result<f64, String> {
    let value = text
        .parse()
        .map_err(|_| "it has to be a number".to_string())?;
    let mut config = GenerationConfig::default();
    set(&mut config, value);
    config.validate().map_err(|error| error.to_string())?;
    Ok(value)
}

fn temperature(text: &str) -> Result<f64, String> {
    setting(text, |config, value| config.temperature = value)
}

fn top_p(text: &str) -> Result<f64, String> {
    setting(text, |config, value| config.top_p = value)
}

fn repetition_penalty(text: &str) -> Result<f64, String> {
    setting(text, |config, value| config.repetition_penalty = value)
}

fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    let refuse = |_| "it has to be a whole number, 0 or greater".to_string();
    text.parse().map_err(refuse)
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or("it has to be a whole number, 1 or greater".into())
}

/// Runs `peft generate`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    let files = find_model(&args.model.model)?;
    let tokenizer = load_tokenizer(&files, args.tokenizer.as_deref())?;
    let defaults = generation_defaults(&files, Some(&tokenizer))?;
    args.warn(&defaults);
    let models = open_each(&files, &args.model, false, device)?;
    let request = Request { args, defaults };
    let args = &request.args;
    // A continuation may begin within a word; what reads a pipe has the prompt.
    let echo = match std::io::stdout().is_terminal() && !args.json {
        true => args.prompt.as_str(),
        false => "",
    };
    if let [(_, model)] = &models[..] {
        emit(echo)?;
        let mut show = |text: &str| if args.json { Ok(true) } else { emit(text) };
        let answer = answer(model, &tokenizer, &request, &mut show)?;
        return match args.json {
            true => say_json(&answer.json),
            false => say(""),
        };
    }
    let mut answers = Vec::new();
    for (adapter, model) in &models {
        let mut answer = answer(model, &tokenizer, &request, &mut |_| Ok(true))?;
        answer.json["adapter"] = adapter.as_str().into();
        answers.push((adapter, answer));
    }
    if request.args.json {
        let answers = answers.into_iter().map(|(_, answer)| answer.json);
        return say_json(&Value::Array(answers.collect()));
    }
    let width = answers.iter().map(|(adapter, _)| adapter.chars().count());
    let width = width.max().unwrap_or_default();
    for (adapter, answer) in answers {
        // Further lines of a text stand below its first.
        let text = format!("{echo}{}", answer.text).replace('\n', &format!("\n{:width$}  ", ""));
        say(format!("{adapter:width$}  {text}"))?;
    }
    Ok(())
}

/// What is asked for, and what the model's files say where it is not.
struct Request {
    args: Args,
    defaults: GenerationDefaults,
}

impl Args {
    /// Names what has no effect.
    fn warn(&self, defaults: &GenerationDefaults) {
        if !defaults.not_used.is_empty() {
            tracing::warn!(
                "generation_config.json has {}, which peft does not know: the text may differ from \
                 transformers'",
                defaults.not_used.join(", ")
            );
        }
        if self.temperature.unwrap_or(defaults.config.temperature) > 0.0 {
            return;
        }
        let choosing = [
            ("--top-p", self.top_p.is_some()),
            ("--top-k", self.top_k.is_some()),
            ("--seed", self.seed.is_some()),
        ];
        let given = choosing.into_iter().filter(|(_, given)| *given);
        let given: Vec<&str> = given.map(|(name, _)| name).collect();
        if !given.is_empty() {
            tracing::warn!(
                "{} without effect: at temperature 0 the most likely token is taken always; give \
                 --temperature too, such as 0.8",
                given.join(", ")
            );
        }
    }
}

impl Request {
    /// The settings for a prompt of `length` tokens, with `space` positions behind it.
    fn settings(&self, length: usize, space: usize) -> GenerationConfig {
        let (args, defaults) = (&self.args, &self.defaults);
        let of_length = defaults.max_length.map(|most| most.saturating_sub(length));
        let usual = defaults.max_new_tokens.or(of_length).unwrap_or(NEW_TOKENS);
        let config = &defaults.config;
        GenerationConfig {
            max_new_tokens: args.max_new_tokens.unwrap_or(usual.min(space).max(1)),
            temperature: args.temperature.unwrap_or(config.temperature),
            top_k: args.top_k.unwrap_or(config.top_k),
            top_p: args.top_p.unwrap_or(config.top_p),
            repetition_penalty: args.repetition_penalty.unwrap_or(config.repetition_penalty),
            eos_token_ids: config.eos_token_ids.clone(),
            seed: args.seed.unwrap_or(SEED),
        }
    }
}

/// A continuation, and all about it.
struct Answer {
    text: String,
    json: Value,
}

fn answer(
    model: &LanguageModel,
    tokenizer: &Tokenizer,
    request: &Request,
    show: &mut dyn FnMut(&str) -> Result<bool>,
) -> Result<Answer> {
    let prompt = encode_prompt(tokenizer, &request.args.prompt)?;
    let space = match model.has_last_position() {
        true => model.max_positions().saturating_sub(prompt.len()),
        false => usize::MAX,
    };
    let settings = request.settings(prompt.len(), space);
    let start = Instant::now();
    let (token_ids, text) = stream(model, tokenizer, &prompt, &settings, show)?;
    let json = json!({
        "prompt": request.args.prompt,
        "text": text,
        "prompt_token_ids": prompt,
        "token_ids": token_ids,
        "tokens_per_second": token_ids.len() as f64 / start.elapsed().as_secs_f64(),
    });
    Ok(Answer { text, json })
}

/// The prompt's tokens; an empty one starts where a text starts, behind the end of another.
pub fn encode_prompt(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>> {
    let ids = tokenizer.encode_prompt(prompt)?;
    if !ids.is_empty() {
        return Ok(ids);
    }
    let end = tokenizer
        .eos_id()
        .context("the prompt is empty: give some text")?;
    Ok(vec![end])
}

/// What a model's files say of generating text, which ends at the tokenizer's token too.
pub fn generation_defaults(
    files: &ModelFiles,
    tokenizer: Option<&Tokenizer>,
) -> Result<GenerationDefaults> {
    let mut defaults = GenerationDefaults::read(files).context("cannot load the model")?;
    defaults.end_at(tokenizer.and_then(Tokenizer::eos_id));
    Ok(defaults)
}

/// Continues a prompt; `show` gets the text piece by piece and says whether to go on. Returns the
/// new tokens and their text.
fn stream(
    model: &LanguageModel,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    settings: &GenerationConfig,
    show: &mut dyn FnMut(&str) -> Result<bool>,
) -> Result<(Vec<u32>, String)> {
    let mut pieces = tokenizer.stream();
    let mut text = String::new();
    let mut failed = None;
    let token_ids = generate(model, prompt, settings, &mut |id| {
        let shown = pieces.push(id).map_err(Into::into).and_then(|piece| {
            text += &piece;
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
    let rest = pieces.finish()?;
    show(&rest)?;
    Ok((token_ids, text + &rest))
}
