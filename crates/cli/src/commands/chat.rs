//! `peft chat`: a conversation with a model.

use anyhow::{Result, bail};
use burn::tensor::Device;

use super::generate::{Options, for_answers, generation_defaults};
use crate::failure::describe;
use crate::interrupt::Stop;
use crate::loading::{ModelsArgs, find_model, load_tokenizer};
use crate::output::emit;

mod answer;
mod commands;
mod conversation;
mod input;
mod save;
mod talk;
mod template;
mod voices;

use input::Lines;
use talk::Talk;
use voices::Voices;

const EXAMPLE: &str = "\
Examples:
  peft chat HuggingFaceTB/SmolLM2-135M-Instruct
  peft chat HuggingFaceTB/SmolLM2-135M-Instruct --adapter runs/chat-smollm2
  peft chat model --adapter runs/a --adapter runs/b      (/adapter b, /adapter base: who answers)
  echo 'What is the capital of France?' | peft chat model --json

A line is a message. A line that begins with / is a command; /help lists the commands. Ctrl-C stops the
answer, and what was written so far stays in the conversation. A second Ctrl-C, or one without an
answer, leaves, as Ctrl-D does. If a conversation exceeds the model's positions, its oldest questions
are dropped with their answers, and a note says so; the system message stays.

If standard input is not a terminal, every line of it is a message or a command, and standard output
has only the answers: as text or, with --json, as one object per line with content, prompt_tokens,
completion_tokens, tokens_per_second and finish_reason (\"stop\" or \"length\"). A line without an answer
is reported on standard error, with --json also as an object with error, and the exit status is 1.

An answer ends at the tokens that generation_config.json, config.json, the tokenizer and its chat
template name. Settings without an option come from generation_config.json. If that does not set
max_new_tokens, it is 512, or what the conversation leaves room for.";

/// The command line of `peft chat`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
// An empty --model counts as missing: MODEL replaces it.
#[command(mut_arg("model", |arg| arg.required(false).default_value("").hide_default_value(true)))]
pub struct Args {
    /// The model: a folder with config.json, model.safetensors and a tokenizer, a GGUF file, or a
    /// Hub id; also given as --model
    #[arg(
        value_name = "MODEL",
        required_unless_present = "model",
        conflicts_with = "model"
    )]
    place: Option<String>,
    #[command(flatten)]
    models: ModelsArgs,
    /// The system message, which precedes the conversation
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    #[command(flatten)]
    options: Options,
    /// The tokenizer, if it is not with the model: a folder, a file or a Hub id
    #[arg(long, value_name = "PATH|ID")]
    tokenizer: Option<String>,
    /// Print every answer as a JSON object on one line
    #[arg(long)]
    json: bool,
}

/// Runs `peft chat`.
pub fn run(args: Args, device: &Device) -> Result<()> {
    let files = find_model(args.place.as_ref().unwrap_or(&args.models.model))?;
    let tokenizer = load_tokenizer(&files, args.tokenizer.as_deref())?;
    template::check(&tokenizer, args.system.as_deref())?;
    let mut defaults = generation_defaults(&files, Some(&tokenizer))?;
    for_answers(&mut defaults, &tokenizer);
    args.options.warn(&defaults);
    let voices = Voices::open(&files, &args.models, device)?;
    let mut talk = Talk::new(voices, tokenizer, defaults, args.options, args.system)?;
    let mut lines = Lines::open()?;
    // Unless at a terminal, Ctrl-C ends the command, as usual.
    let stop = lines.is_terminal().then(Stop::new).transpose()?;
    if lines.is_terminal() {
        talk::note("/help lists the commands; Ctrl-C stops an answer, Ctrl-D leaves");
    }
    let mut failed = 0;
    while let Some(line) = lines.next(&talk.prompt())? {
        let Err(error) = commands::obey(&mut talk, &line, args.json, stop.as_ref()) else {
            if talk.is_over() {
                break;
            }
            continue;
        };
        failed += 1;
        talk::note(describe(&error).trim_end());
        if args.json {
            let object = serde_json::json!({ "error": format!("{error:#}") });
            emit(&format!("{object}\n"))?;
        }
    }
    if failed > 0 && !lines.is_terminal() {
        bail!("of the lines on standard input, {failed} failed; see above");
    }
    Ok(())
}
