//! `peft completions`: the completion script for a shell.

use anyhow::Result;
use clap::Command;
use clap_complete::Shell;

use crate::output::emit;

const EXAMPLE: &str = "\
Examples:
  peft completions bash > ~/.local/share/bash-completion/completions/peft
  peft completions zsh > ~/.zfunc/_peft      # with `fpath+=~/.zfunc` before compinit in ~/.zshrc
  peft completions fish > ~/.config/fish/completions/peft.fish";

/// The command line of `peft completions`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Runs `peft completions`; `command` is the command line of `peft`.
pub fn run(args: Args, mut command: Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "peft", &mut script);
    emit(&String::from_utf8_lossy(&script)).map(drop)
}
