//! `peft man`: a manual page for each command.

use std::path::PathBuf;

use anyhow::{Context, Result};
use burn_peft_files::atomic;
use clap::Command;
use clap_mangen::Man;

use crate::output::say;

const EXAMPLE: &str = "\
Examples:
  peft man --output ~/.local/share/man/man1
  man peft-train";

/// The command line of `peft man`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// The folder for peft.1, peft-train.1 and so on
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

/// Runs `peft man`; `command` is the command line of `peft`.
pub fn run(args: Args, mut command: Command) -> Result<()> {
    let folder = &args.output;
    std::fs::create_dir_all(folder)
        .with_context(|| format!("{}: the folder cannot be made", folder.display()))?;
    // Building gives each command its full name and the global options.
    command.build();
    let subcommands: Vec<Command> = command.get_subcommands().cloned().collect();
    let mut pages = vec![("peft".to_string(), command)];
    for subcommand in subcommands {
        // `help` has no options of its own.
        if subcommand.get_name() != "help" {
            pages.push((format!("peft-{}", subcommand.get_name()), subcommand));
        }
    }
    let count = pages.len();
    for (name, command) in pages {
        let path = folder.join(format!("{name}.1"));
        let mut page = Vec::new();
        Man::new(command)
            .render(&mut page)
            .and_then(|()| atomic::write(&path, &page))
            .with_context(|| format!("{}: the page cannot be written", path.display()))?;
    }
    say(format!("{count} pages are in {}", folder.display()))
}
