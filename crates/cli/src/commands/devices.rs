//! `peft devices`: lists the devices of this machine and this build.

use anyhow::Result;
use burn_peft_device::{Backend, DeviceInfo, list};
use serde_json::json;

use crate::kernels::{describe_int8, int8};
use crate::output::{say, say_json, size, table};

const EXAMPLE: &str = "\
Examples:
  peft devices
  peft train configs/quickstart.toml --device wgpu:0";

/// The command line of `peft devices`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `peft devices`.
pub fn run(args: Args) -> Result<()> {
    let devices = list();
    let missing: Vec<_> = Backend::ALL.into_iter().filter(|b| !b.is_built()).collect();
    if args.json {
        let devices: Vec<_> = devices.iter().map(as_json).collect();
        let missing: Vec<_> = missing.iter().map(|backend| backend.name()).collect();
        return say_json(&json!({
            "devices": devices,
            "int8_compute": int8(),
            "not_in_this_build": missing,
        }));
    }
    let head = ["device", "memory", "largest tensor", "dtypes", "name"].map(String::from);
    let rows = devices.iter().map(as_row);
    say(table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()).trim_end())?;
    say(format!("int8_compute on cpu: {}", describe_int8()))?;
    for backend in missing {
        say(format!(
            "{backend} is not in this build: cargo build --release --features {backend}"
        ))?;
    }
    Ok(())
}

fn as_row(device: &DeviceInfo) -> [String; 5] {
    let size = |bytes: Option<u64>| bytes.map_or("-".to_owned(), size);
    [
        device.name.to_string(),
        size(device.memory),
        size(device.max_tensor_bytes),
        device.dtypes.join(" "),
        device.product.clone(),
    ]
}

fn as_json(device: &DeviceInfo) -> serde_json::Value {
    json!({
        "device": device.name.to_string(),
        "name": device.product,
        "memory": device.memory,
        "max_tensor_bytes": device.max_tensor_bytes,
        "dtypes": device.dtypes,
    })
}
