//! The `peft` command: trains, runs, evaluates, merges and inspects adapters.
//!
//! ```text
//! arguments ──> commands, a file for each ──> loading: the model and its adapters
//!                  │                             │
//!                  │                             └──> burn-peft-models, burn-peft-device
//!                  ├──> burn-peft-train, burn-peft-data
//!                  └──> results on standard output; errors, warnings and progress on standard error
//! ```
//!
//! The library has a single function, [`main`], which is the whole command. A program that first
//! registers methods of its own is a `peft` that knows these methods too:
//!
//! ```no_run
//! use std::process::ExitCode;
//! # use burn_peft::methods::IA3Config as MyConfig;
//!
//! fn main() -> ExitCode {
//!     burn_peft::methods::register::<MyConfig>();
//!     burn_peft_cli::main()
//! }
//! ```
//!
//! `examples/custom_method.rs` is such a binary.

mod beside;
mod commands;
mod failure;
mod hints;
mod interrupt;
mod kernels;
mod loading;
mod memory;
mod output;
mod output_file;
mod ranks;
mod token_rows;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use burn::tensor::Device;
use burn_peft_device::DeviceName;
use burn_peft_files::without_os_errors;
use burn_peft_train::above_bar;
use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

use commands::{
    chat, combine, completions, convert, data, devices, doctor, eval, export, forward, generate,
    init, inspect, man, merge, new, predict, schema, train,
};

/// Parameter-efficient fine-tuning of language models, with Hugging Face PEFT's files
#[derive(Parser)]
#[command(name = "peft", version, propagate_version = true, after_help = EXAMPLE)]
struct Cli {
    /// Print more on standard error; twice for details
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = LAST - 1)]
    verbose: u8,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Example:
  peft train configs/quickstart.toml

Exit status: 0 if done, 1 if the job failed, 2 for wrong usage, 130 if stopped by Ctrl-C (143 by
SIGTERM, 129 by SIGHUP). Results go to standard output; errors, warnings and progress go to standard
error.";

/// A command that computes, and where it does.
#[derive(clap::Args)]
struct On<A: clap::Args> {
    #[command(flatten)]
    args: A,
    /// Where to compute: cpu, cuda, metal, vulkan, wgpu or webgpu, with an index (cuda:1), or auto
    #[arg(long, default_value = "cpu", value_name = "DEVICE", display_order = LAST)]
    device: DeviceName,
}

/// After all other options in the help.
const LAST: usize = 1000;

#[derive(Subcommand)]
enum Command {
    /// Write a training file to start from
    New(new::Args),
    /// Train an adapter as a training file describes
    Train(On<train::Args>),
    /// Talk to a model
    Chat(On<chat::Args>),
    /// Continue a text
    Generate(On<generate::Args>),
    /// Show a data file as training sees it
    Data(data::Args),
    /// Measure loss and metrics on a file
    Eval(On<eval::Args>),
    /// Predict the labels of texts, the tags of their words, or their vectors
    Predict(On<predict::Args>),
    /// Merge an adapter into the weights of its model
    #[command(visible_alias = "fuse")]
    Merge(On<merge::Args>),
    /// Write a model, with adapters in its weights, as a GGUF file for llama.cpp and Ollama
    Export(On<export::Args>),
    /// Combine several LoRA or IA3 adapters into one
    Combine(combine::Args),
    /// Convert another method's adapter to a LoRA adapter
    Convert(On<convert::Args>),
    /// Show a model, its parameters and which of them are trained
    Inspect(On<inspect::Args>),
    /// Show what this machine and this build can compute on
    Devices(devices::Args),
    /// Show what a bug report needs: versions, processor, memory, caches, the Hub
    Doctor(doctor::Args),
    /// Print the JSON Schema of a training file, for editors
    Schema(schema::Args),
    /// Print the completion script for a shell
    Completions(completions::Args),
    /// Write manual pages
    Man(man::Args),
    /// Create a model with random weights
    Init(init::Args),
    /// Compute logits for given token ids, to compare with another implementation
    Forward(On<forward::Args>),
}

impl Command {
    /// The device that it computes on, if it computes.
    fn device(&self) -> Option<DeviceName> {
        match self {
            Self::Train(on) => Some(on.device),
            Self::Chat(on) => Some(on.device),
            Self::Generate(on) => Some(on.device),
            Self::Eval(on) => Some(on.device),
            Self::Predict(on) => Some(on.device),
            Self::Merge(on) => Some(on.device),
            Self::Export(on) => Some(on.device),
            Self::Convert(on) => Some(on.device),
            Self::Inspect(on) => Some(on.device),
            Self::Forward(on) => Some(on.device),
            _ => None,
        }
    }
}

/// Runs the command that the process's arguments name, and returns its exit status. Invalid
/// arguments end the process with status 2, `--help` with 0.
pub fn main() -> ExitCode {
    memory::keep_freed();
    let args: Vec<_> = std::env::args_os().collect();
    let cli = Cli::try_parse_from(&args)
        .unwrap_or_else(|error| hints::explain(error, &args, &Cli::command()).exit());
    let level = match cli.verbose {
        0 => LevelFilter::WARN,
        1 => LevelFilter::INFO,
        _ => LevelFilter::DEBUG,
    };
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(|| PlainStderr)
        .with_ansi(output::coloured(&std::io::stderr()))
        .with_target(false)
        .without_time()
        // A warning that finds its terminal closed must not end a run that is saving.
        .log_internal_errors(false)
        .init();
    let gpu = cli.command.device();
    let gpu = gpu.filter(|&device| device != DeviceName::CPU);
    failure::run(gpu, || run(cli))
}

/// Standard error for a logger, above a run's progress bar; a message is written at once.
struct PlainStderr;

impl Write for PlainStderr {
    fn write(&mut self, message: &[u8]) -> std::io::Result<usize> {
        if !ranks::is_first() {
            return Ok(message.len());
        }
        let text = String::from_utf8_lossy(message);
        above_bar(|out| out.write_all(without_os_errors(&text).as_bytes()))?;
        Ok(message.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

fn run(cli: Cli) -> Result<()> {
    interrupt::clean_up()?;
    match cli.command {
        Command::New(args) => new::run(args),
        Command::Train(on) => {
            ranks::join()?;
            train::run(on.args, &open(ranks::device(on.device))?)?;
            ranks::leave();
            Ok(())
        }
        Command::Chat(on) => chat::run(on.args, &open(on.device)?),
        Command::Generate(on) => generate::run(on.args, &open(on.device)?),
        Command::Data(args) => data::run(args),
        Command::Eval(on) => eval::run(on.args, &open(on.device)?),
        Command::Predict(on) => predict::run(on.args, &open(on.device)?),
        Command::Merge(on) => merge::run(on.args, &open(on.device)?),
        Command::Export(on) => export::run(on.args, &open(on.device)?),
        Command::Combine(args) => combine::run(args),
        Command::Convert(on) => convert::run(on.args, &open(on.device)?),
        Command::Inspect(on) => inspect::run(on.args, &open(on.device)?),
        Command::Devices(args) => devices::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Completions(args) => completions::run(args, Cli::command()),
        Command::Man(args) => man::run(args, Cli::command()),
        Command::Init(args) => init::run(args),
        Command::Forward(on) => forward::run(on.args, &open(on.device)?),
    }
}

fn open(name: DeviceName) -> Result<Device> {
    burn_peft_device::open(name).with_context(|| format!("--device {name}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn every_command_is_well_formed_and_shows_an_example() {
        let command = super::Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            let after = sub
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let call = format!("peft {}", sub.get_name());
            assert!(after.contains(&call), "{}: {after}", sub.get_name());
        }
    }
}
