//! The processor: its features, and which of them are used.

use std::thread::available_parallelism;

use burn::tensor::Device;
use burn_peft::int8_body;
use burn_peft_device::product;
use serde_json::{Value, json};

use super::words;

/// A feature of a processor, as Linux calls it, and whether a kernel here has a body for it.
const FEATURES: &[(&str, bool)] = &[
    ("avx2", true),
    ("fma", true),
    ("f16c", true),
    ("avx512f", true),
    ("avx512bw", true),
    ("avx512vl", true),
    ("avx512_vnni", true),
    ("avx_vnni", true),
    ("avx512_bf16", false),
    ("avx512_fp16", false),
    ("amx_bf16", false),
    ("amx_int8", false),
    // On ARM.
    ("asimd", true),
    ("asimddp", false),
    ("i8mm", false),
    ("bf16", false),
    ("sve", false),
];

/// The processor, as the report shows it.
pub struct Processor {
    product: String,
    cores: usize,
    threads: usize,
    used: Vec<&'static str>,
    not_used: Vec<&'static str>,
    is_plain: bool,
}

impl Processor {
    /// Reads it.
    pub fn look() -> Self {
        let flags = flags();
        let has = |name: &str| flags.split_whitespace().any(|flag| flag == name);
        let there = FEATURES.iter().filter(|(name, _)| has(name));
        let (used, not_used): (Vec<_>, Vec<_>) = there.partition(|(_, is_used)| *is_used);
        let names = |features: Vec<&(&'static str, bool)>| -> Vec<&'static str> {
            features.into_iter().map(|(name, _)| *name).collect()
        };
        Self {
            product: product(&Device::flex()),
            cores: available_parallelism().map_or(1, |cores| cores.get()),
            threads: rayon::current_num_threads(),
            used: names(used),
            not_used: names(not_used),
            is_plain: std::env::var("BURN_PEFT_KERNELS").is_ok_and(|value| value == "plain"),
        }
    }

    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let kernels = if self.is_plain {
            "plain (BURN_PEFT_KERNELS=plain): slow, for comparison"
        } else {
            "for this processor"
        };
        vec![
            ("name", self.product.clone()),
            (
                "threads",
                format!("{} on {} cores", self.threads, self.cores),
            ),
            ("used", words(&self.used)),
            ("not used", words(&self.not_used)),
            ("int8", format!("by {}", int8_body())),
            ("kernels", kernels.to_string()),
        ]
    }

    pub fn json(&self) -> Value {
        json!({
            "name": self.product,
            "cores": self.cores,
            "threads": self.threads,
            "features_used": self.used,
            "features_not_used": self.not_used,
            "int8_compute": int8_body(),
            "plain_kernels": self.is_plain,
        })
    }
}

/// The features of the first core, as Linux lists them; empty on other systems.
fn flags() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = told.lines().filter_map(|line| line.split_once(':'));
    let flags = lines.find(|(name, _)| ["flags", "Features"].contains(&name.trim()));
    flags.map_or(String::new(), |(_, flags)| flags.to_string())
}
