//! The command line of `image_classifier` and `encoder`: the folder to write to, and the method.

use std::path::PathBuf;
use std::sync::Arc;

use burn_peft::config::{CommonConfig, TargetModules};
use burn_peft::{IA3Config, LoHaConfig, LoKrConfig, LoraConfig, Method};
use clap::{Parser, ValueEnum};

#[derive(Parser)]
pub struct Arguments {
    /// The folder that the adapter and its base are written to; by default one among the system's temporary files.
    folder: Option<PathBuf>,
    /// The method of the adapter.
    #[arg(long, value_enum, default_value_t = MethodName::Lora)]
    pub method: MethodName,
}

impl Arguments {
    /// The folder, by default one with this name.
    pub fn folder(&self, name: &str) -> PathBuf {
        let temporary = || std::env::temp_dir().join(name);
        self.folder.clone().unwrap_or_else(temporary)
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub enum MethodName {
    Lora,
    Ia3,
    Loha,
    Lokr,
}

impl MethodName {
    /// The method on the layers `targets`, beside which the layer `head` is trained in full.
    pub fn config(self, targets: impl Into<TargetModules>, head: &str) -> Arc<dyn Method> {
        let method: Arc<dyn Method> = match self {
            Self::Lora => Arc::new(LoraConfig::new().with_r(4).with_lora_alpha(8)),
            Self::Ia3 => Arc::new(IA3Config {
                // Layers named here are scaled at their input, all others at their output.
                feedforward_modules: Some(TargetModules::List(Vec::new())),
                ..IA3Config::new()
            }),
            Self::Loha => Arc::new(LoHaConfig {
                r: 4,
                ..LoHaConfig::new()
            }),
            Self::Lokr => Arc::new(LoKrConfig {
                r: 4,
                ..LoKrConfig::new()
            }),
        };
        method.with_common(CommonConfig {
            target_modules: Some(targets.into()),
            modules_to_save: Some(vec![head.into()]),
            ..method.common().clone()
        })
    }
}
