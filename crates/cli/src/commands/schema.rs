//! `peft schema`: the JSON Schema of a training file.

use anyhow::{Context, Result};
use burn_peft_train::schema;

use crate::output::say;

const EXAMPLE: &str = "\
Example:
  peft schema > peft.schema.json

Make `#:schema ./peft.schema.json` the first line of a training file: editors with TOML support (Even
Better TOML, taplo, Tombi) then complete its keys, explain them, and mark unknown ones.";

/// The command line of `peft schema`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {}

/// Runs `peft schema`.
pub fn run(_: Args) -> Result<()> {
    let schema = serde_json::to_string_pretty(&schema());
    say(schema.context("the schema cannot be written as JSON")?)
}
