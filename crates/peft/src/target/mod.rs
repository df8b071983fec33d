//! Which layers of a model a configuration selects, exactly as in PEFT.

mod defaults;
mod layers;
mod matching;
mod no_match;
mod paths;
mod pattern;
mod save;
mod skipped;
mod suffix;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub use defaults::{
    adalora_target_modules, fourierft_target_modules, ia3_target_modules, ln_tuning_target_modules,
    lora_target_modules, vera_target_modules,
};
pub(crate) use layers::warn_unused_patterns;
pub use layers::{Targets, target_layers};
pub(crate) use paths::{ends_with_name, short_names};
pub(crate) use pattern::escaped;
pub use pattern::{full_match, pattern_value};
pub use save::modules_to_save;
pub(crate) use skipped::SkippedModules;
