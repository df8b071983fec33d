//! `peft generate`: a text goes on.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::Device;
use burn_peft_data::Tokenizer;
use burn_peft_models::{CausalLm, GenerationConfig, Gpt2Config, generate};
use serde_json::{Value, json};

use crate::loading::{Loaded, ModelsArgs, find_model, load_tokenizer};
use crate::output::{emit, say, say_json};

const EXAMPLE: &str = "\
Examples:
  peft generate --model gpt2 --adapter out --prompt \"The film was\"
  peft generate --model gpt2 --adapter out-a --adapter out-b --prompt \"The film was\"
  peft generate --model gpt2 --prompt \"The film was\" --temperature 0.8 --top-p 0.9 --seed 1 --json";

/// The tokens added where nothing is said.
const NEW_TOKENS: usize = 50;

/// The command line of `peft generate`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    #[command(flatten)]
    model: ModelsArgs,
    /// The text to continue
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: String,
    /// Tokens to add, at most [default: 50, or as many as the model has positions for]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,
    /// Below 1 more certain, above 1 more varied; 0 takes the most likely token always
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// Choose among the K most likely tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 50)]
    top_k: usize,
    /// Choose among the most likely tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Above 1 makes tokens that were there before less likely
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    repetition_penalty: f64,
    /// Seed of the choice
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// The tokenizer where it does not lie with the model: a folder, a file or a Hub id
    #[arg(long, value_name = "PATH|ID")]
    tokenizer: Option<String>,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

/// Runs `peft generate`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    let files = find_model(&args.model.model)?;
    let tokenizer = load_tokenizer(&files, args.tokenizer.as_deref())?;
    let models = Loaded::open_each(&files, &args.model, false, device)?;
    // A continuation may begin within a word; what reads a pipe has the prompt.
    let echo = match std::io::stdout().is_terminal() && !args.json {
        true => args.prompt.as_str(),
        false => "",
    };
    if let [(_, model)] = &models[..] {
        emit(echo)?;
        let mut show = |text: &str| if args.json { Ok(true) } else { emit(text) };
        let answer = model.answer(&tokenizer, &args, &mut show)?;
        return match args.json {
            true => say_json(&answer.json),
            false => say(""),
        };
    }
    let mut answers = Vec::new();
    for (adapter, model) in &models {
        let mut answer = model.answer(&tokenizer, &args, &mut |_| Ok(true))?;
        answer.json["adapter"] = adapter.as_str().into();
        answers.push((adapter, answer));
    }
    if args.json {
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

/// A continuation, and all about it.
struct Answer {
    text: String,
    json: Value,
}

impl Loaded {
    fn answer(
        &self,
        tokenizer: &Tokenizer,
        args: &Args,
        show: &mut dyn FnMut(&str) -> Result<bool>,
    ) -> Result<Answer> {
        let end = end_tokens(self.config(), tokenizer);
        match self {
            Self::Plain(model) => answer(model, end, tokenizer, args, show),
            Self::Adapted(model) => answer(model, end, tokenizer, args, show),
        }
    }
}

fn answer(
    model: &impl CausalLm,
    eos_token_ids: Vec<u32>,
    tokenizer: &Tokenizer,
    args: &Args,
    show: &mut dyn FnMut(&str) -> Result<bool>,
) -> Result<Answer> {
    let prompt = encode_prompt(tokenizer, &args.prompt)?;
    let space = model.max_positions().saturating_sub(prompt.len());
    let settings = GenerationConfig {
        max_new_tokens: args.max_new_tokens.unwrap_or(NEW_TOKENS.min(space).max(1)),
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        repetition_penalty: args.repetition_penalty,
        eos_token_ids,
        seed: args.seed,
    };
    let start = Instant::now();
    let (token_ids, text) = stream(model, tokenizer, &prompt, &settings, show)?;
    let json = json!({
        "prompt": args.prompt,
        "text": text,
        "prompt_token_ids": prompt,
        "token_ids": token_ids,
        "tokens_per_second": token_ids.len() as f64 / start.elapsed().as_secs_f64(),
    });
    Ok(Answer { text, json })
}

/// The prompt's tokens; an empty one starts where a text starts, behind the end of another.
pub fn encode_prompt(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>> {
    let ids = tokenizer.encode(prompt)?;
    if !ids.is_empty() {
        return Ok(ids);
    }
    let end = tokenizer
        .eos_id()
        .context("the prompt is empty: give some text")?;
    Ok(vec![end])
}

/// The tokens that end a text: the model's, else the tokenizer's.
pub fn end_tokens(config: &Gpt2Config, tokenizer: &Tokenizer) -> Vec<u32> {
    let of_model = config.eos_token_ids();
    match of_model.is_empty() {
        true => tokenizer.eos_id().into_iter().collect(),
        false => of_model.into_iter().map(|id| id as u32).collect(),
    }
}

/// Continues a prompt; `show` gets the text piece by piece and says whether to go on. Returns the
/// new tokens and their text.
pub fn stream(
    model: &impl CausalLm,
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
