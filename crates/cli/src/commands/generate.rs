//! `peft generate`: continues texts.

use std::path::PathBuf;

use anyhow::{Context, Result};
use burn::tensor::Device;
use burn_peft_data::Tokenizer;
use burn_peft_models::GenerationDefaults;
use burn_peft_models::hub::ModelFiles;
use clap::ArgGroup;

use crate::loading::{ModelsArgs, at_least_one, find_model};

mod best;
mod file;
mod messages;
mod options;
mod prompts;
mod text;

pub use options::Options;
pub use prompts::{encode_chat, encode_prompt};
pub use text::finish_reason;

const EXAMPLE: &str = "\
Examples:
  peft generate --model gpt2 --adapter out --prompt \"The film was\"
  peft generate --model gpt2 --adapter out-a --adapter out-b --prompt \"The film was\"
  peft generate --model gpt2 --prompt \"The film was\" --prompt \"The book was\" --json
  peft generate --model gpt2 --prompt \"The film was\" --temperature 0.8 --top-p 0.9 --seed 1 --json
  peft generate --model HuggingFaceTB/SmolLM2-135M-Instruct --chat --prompt \"What is a fjord?\"
  peft generate --model HuggingFaceTB/SmolLM2-135M-Instruct --messages conversations.jsonl --json
  peft generate --model gpt2 --prompt \"The film was\" --temperature 1 --best-of 8 --reward judge
  peft generate --model gpt2 --input prompts.safetensors --output texts.safetensors

With --chat, a prompt is a user's message in the model's own chat template, and the text is the answer.
Whole conversations are given with --messages: one as a JSON list of messages (objects with role and
content), or several as rows with messages, one per line (and with tools, if the template supports them).
With --json, an answer has content, finish_reason (stop or length) and numbers of tokens.

Several prompts go through the model together. A file of prompts holds input_ids [batch, seq] (I64 or
I32), with rows padded on the left, and attention_mask [batch, seq] (1 for a token, 0 for padding). The
output holds sequences [batch, new] (I64): only the new tokens. Rows that end before others are filled
with the model's pad_token_id, or else its eos_token_id.

Settings without an option come from the model's generation_config.json: do_sample with temperature,
top_k and top_p, repetition_penalty, max_new_tokens or max_length. The text ends at the tokens that this
file, config.json and the tokenizer name (with --input, only the two files).";

/// The default limit on an answer's tokens.
pub const ANSWER_TOKENS: usize = 512;

/// The command line of `peft generate`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
#[command(group = ArgGroup::new("conversation").args(["chat", "messages"]).multiple(true))]
pub struct Args {
    #[command(flatten)]
    model: ModelsArgs,
    /// The text to continue; several are continued together
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    #[arg(required_unless_present_any = ["input", "messages"])]
    prompt: Vec<String>,
    /// Answer each --prompt as a user's message, in the model's chat template
    #[arg(long, conflicts_with = "input")]
    chat: bool,
    /// Answer conversations instead of prompts: JSON or JSONL, or - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "input"])]
    messages: Option<PathBuf>,
    /// The system message, before --chat, and before those of --messages that have none
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        conflicts_with = "input"
    )]
    #[arg(requires = "conversation")]
    system: Option<String>,
    /// Tokens to continue instead of a text: the file with input_ids and attention_mask
    #[arg(long, value_name = "IN.safetensors", requires = "output")]
    #[arg(conflicts_with_all = ["prompt", "tokenizer"])]
    input: Option<PathBuf>,
    /// The file for the new tokens
    #[arg(long, value_name = "OUT.safetensors", requires = "input")]
    output: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
    /// The tokenizer, if it is not with the model: a folder, a file or a Hub id
    #[arg(long, value_name = "PATH|ID")]
    tokenizer: Option<String>,
    /// Make N continuations of every prompt, and show the one with the highest reward
    #[arg(long, value_name = "N", value_parser = at_least_one, requires = "reward")]
    #[arg(conflicts_with = "input")]
    best_of: Option<usize>,
    /// The adapter of a reward model on the same model (training.objective = "reward")
    #[arg(long, value_name = "DIR", requires = "best_of")]
    reward: Option<PathBuf>,
    /// Print one JSON object at the end
    #[arg(long)]
    json: bool,
}

/// Runs `peft generate`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    let files = find_model(&args.model.model)?;
    match (&args.input, &args.output) {
        (Some(input), Some(output)) => file::run(&args, &files, input, output, device),
        _ => text::run(&args, &files, device),
    }
}

/// The generation settings in a model's files; a text also ends at the tokenizer's end-of-sequence
/// token.
pub fn generation_defaults(
    files: &ModelFiles,
    tokenizer: Option<&Tokenizer>,
) -> Result<GenerationDefaults> {
    let mut defaults = GenerationDefaults::read(files).context("cannot load the model")?;
    defaults.end_at(tokenizer.and_then(Tokenizer::eos_id));
    Ok(defaults)
}

/// Also ends texts where an answer ends in the tokenizer's chat template, and allows the length of
/// answers.
pub fn for_answers(defaults: &mut GenerationDefaults, tokenizer: &Tokenizer) {
    defaults.end_at(tokenizer.chat_end_ids());
    if defaults.max_length.is_none() {
        defaults.max_new_tokens.get_or_insert(ANSWER_TOKENS);
    }
}
