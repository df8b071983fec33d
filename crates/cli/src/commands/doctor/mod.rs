//! `peft doctor`: what a bug report needs.

mod hub;
mod machine;
mod private;
mod processor;
mod variables;

use anyhow::Result;
use burn_peft_device::{Backend, list};
use serde_json::{Value, json};

use crate::output::{say, say_json, size};
use hub::Hub;
use machine::{Folder, Memory};
use processor::Processor;

const EXAMPLE: &str = "\
Examples:
  peft doctor
  peft doctor --json

It checks whether the Hub can be reached, unless HF_HUB_OFFLINE=1 is set. It never prints a token.";

/// The command line of `peft doctor`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The version of Burn that the workspace is pinned to; a test compares it with Cargo.lock.
const BURN: &str = "0.22.1";

/// What `peft` was built with.
fn versions() -> [(&'static str, &'static str); 5] {
    [
        ("peft", env!("CARGO_PKG_VERSION")),
        ("burn", BURN),
        ("rustc", env!("PEFT_RUSTC")),
        ("target", env!("PEFT_TARGET")),
        ("opt_level", env!("PEFT_OPT_LEVEL")),
    ]
}

/// The cargo features other than those of devices.
fn features() -> Vec<&'static str> {
    let features = [
        ("cuda-cpp", cfg!(feature = "cuda-cpp")),
        ("mpi", cfg!(feature = "mpi")),
        ("persistence", cfg!(feature = "persistence")),
        ("tui", cfg!(feature = "tui")),
    ];
    let built = features.into_iter().filter(|(_, is_built)| *is_built);
    built.map(|(name, _)| name).collect()
}

/// Runs `peft doctor`.
pub fn run(args: Args) -> Result<()> {
    let processor = Processor::look();
    let memory = Memory::look();
    let hub = Hub::look();
    let mut folders = vec![Folder::look("tokens", burn_peft_data::default_cache_dir())];
    folders.extend(hub.cache().map(|folder| Folder::look("models", folder)));
    if args.json {
        let (built, missing): (Vec<_>, Vec<_>) = Backend::ALL
            .into_iter()
            .partition(|backend| backend.is_built());
        let names = |backends: Vec<Backend>| -> Vec<_> {
            backends.into_iter().map(Backend::name).collect()
        };
        let devices = list().into_iter().map(|device| {
            json!({ "device": device.name.to_string(), "name": device.product, "memory": device.memory })
        });
        let versions = versions().into_iter();
        return say_json(&json!({
            "versions": versions.map(|(name, value)| (name.to_string(), value.into()))
                .collect::<serde_json::Map<String, Value>>(),
            "features": features(),
            "backends": names(built),
            "not_in_this_build": names(missing),
            "processor": processor.json(),
            "devices": devices.collect::<Vec<_>>(),
            "memory": memory.json(),
            "caches": folders.iter().map(Folder::json).collect::<Vec<_>>(),
            "hub": hub.json(),
            "environment": variables::json(),
        }));
    }
    say("versions")?;
    for (name, value) in versions() {
        line(name, value)?;
    }
    let missing = Backend::ALL
        .into_iter()
        .filter(|backend| !backend.is_built());
    let missing: Vec<_> = missing.map(Backend::name).collect();
    line("features", words(&features()))?;
    line("not built", words(&missing))?;
    say("\nprocessor")?;
    for (name, value) in processor.lines() {
        line(name, value)?;
    }
    say("\ndevices")?;
    for device in list() {
        let memory = device
            .memory
            .map_or(String::new(), |bytes| format!(", {}", size(bytes)));
        line(
            &device.name.to_string(),
            format!("{}{memory}", device.product),
        )?;
    }
    line("memory", memory.text())?;
    say("\ncaches")?;
    for folder in &folders {
        line(folder.what, folder.text())?;
    }
    say("\nHub")?;
    for (name, value) in hub.lines() {
        line(name, value)?;
    }
    say("\nenvironment")?;
    let set = variables::set();
    if set.is_empty() {
        line("", "no variable that peft reads is set")?;
    }
    for (name, value) in set {
        line(name, value)?;
    }
    Ok(())
}

fn line(name: &str, value: impl std::fmt::Display) -> Result<()> {
    say(format!("  {name:<10} {value}").trim_end())
}

fn words(words: &[&str]) -> String {
    if words.is_empty() {
        "none".to_string()
    } else {
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn burn_is_of_the_version_that_is_told() {
        let lock = include_str!("../../../../../Cargo.lock");
        let lines = format!("name = \"burn\"\nversion = \"{}\"\n", super::BURN);
        assert!(lock.contains(&lines));
    }
}
