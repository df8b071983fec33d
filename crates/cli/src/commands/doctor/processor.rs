//! The processor: its features, and which of them are used.

use std::thread::available_parallelism;

use burn::tensor::Device;
use burn_peft_device::product;
use serde_json::{Value, json};

use super::words;
use crate::kernels::{are_plain, describe_int8, int8};

/// Features that no kernel here uses, by Linux's names.
const NOT_USED: &[&str] = &[
    "avx512_fp16",
    "amx_bf16",
    "amx_int8",
    // ARM.
    "i8mm",
    "bf16",
    "sve",
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
    /// Reads the processor's features.
    pub fn look() -> Self {
        let flags = flags();
        let has = |name: &&&str| flags.split_whitespace().any(|flag| flag == **name);
        let unknown = NOT_USED.iter().filter(has).copied();
        let is_plain = are_plain();
        let (used, not_used) = if is_plain {
            (Vec::new(), used().into_iter().chain(unknown).collect())
        } else {
            (used(), unknown.collect())
        };
        Self {
            product: product(&Device::flex()),
            cores: available_parallelism().map_or(1, |cores| cores.get()),
            threads: rayon::current_num_threads(),
            used,
            not_used,
            is_plain,
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
            (
                "used",
                if self.is_plain {
                    "none: the kernels are plain".into()
                } else {
                    words(&self.used)
                },
            ),
            ("not used", words(&self.not_used)),
            ("int8", describe_int8()),
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
            "int8_compute": int8(),
            "plain_kernels": self.is_plain,
        })
    }
}

/// The features that kernels here have a version for, by Rust's names. They are detected in the
/// same way as in the kernels.
#[cfg(target_arch = "x86_64")]
fn used() -> Vec<&'static str> {
    let features = [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("f16c", is_x86_feature_detected!("f16c")),
        ("avxvnni", is_x86_feature_detected!("avxvnni")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vl", is_x86_feature_detected!("avx512vl")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
        ("avx512bf16", is_x86_feature_detected!("avx512bf16")),
    ];
    let found = features.into_iter().filter(|(_, is_there)| *is_there);
    found.map(|(name, _)| name).collect()
}

/// The same for a 64-bit ARM processor.
#[cfg(target_arch = "aarch64")]
fn used() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected;
    let features = [
        ("neon", is_aarch64_feature_detected!("neon")),
        ("dotprod", is_aarch64_feature_detected!("dotprod")),
    ];
    let found = features.into_iter().filter(|(_, is_there)| *is_there);
    found.map(|(name, _)| name).collect()
}

/// No kernel has a version for other processors.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn used() -> Vec<&'static str> {
    Vec::new()
}

/// The features of the first core, as Linux lists them; empty on other systems.
fn flags() -> String {
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mut lines = told.lines().filter_map(|line| line.split_once(':'));
    let flags = lines.find(|(name, _)| ["flags", "Features"].contains(&name.trim()));
    flags.map_or(String::new(), |(_, flags)| flags.to_string())
}
