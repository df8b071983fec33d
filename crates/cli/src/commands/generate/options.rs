//! Choosing tokens, from the command line and the model's files.

use std::str::FromStr;

use burn_peft_models::{CausalLm, GenerationConfig, GenerationDefaults, LanguageModel};

use crate::loading::at_least_one;

/// The default number of new tokens.
const NEW_TOKENS: usize = 50;
/// The default seed.
const SEED: u64 = 42;

/// The options for choosing tokens.
#[derive(clap::Args)]
pub struct Options {
    /// The largest number of new tokens [default: the model's, or 50 (for an answer 512), or as
    /// many as there are positions for]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = at_least_one)]
    pub max_new_tokens: Option<usize>,
    /// Below 1 is more certain, above 1 more varied; 0 always takes the most likely token [default:
    /// the model's, or 0]
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = temperature)]
    temperature: Option<f64>,
    /// Choose among the K most likely tokens; 0 for all [default: the model's, or 50]
    #[arg(long, value_name = "K", allow_negative_numbers = true, value_parser = whole::<usize>)]
    top_k: Option<usize>,
    /// Choose among the most likely tokens that together have this probability [default: the
    /// model's, or 1]
    #[arg(long, value_name = "P", allow_negative_numbers = true, value_parser = top_p)]
    top_p: Option<f64>,
    /// Above 1, tokens that occurred before become less likely [default: the model's, or 1]
    #[arg(long, value_name = "R", allow_negative_numbers = true, value_parser = repetition_penalty)]
    repetition_penalty: Option<f64>,
    /// Seed for sampling [default: 42]
    #[arg(long, allow_negative_numbers = true, value_parser = whole::<u64>)]
    seed: Option<u64>,
    /// Continue after tokens that end a text
    #[arg(long)]
    ignore_eos: bool,
}

/// Parses a number for a setting, with the library's own check.
fn setting(text: &str, set: impl Fn(&mut GenerationConfig, f64)) -> Result<f64, String> {
    let value = text
        .parse()
        .map_err(|_| "it has to be a number".to_string())?;
    let mut config = GenerationConfig::default();
    set(&mut config, value);
    config.validate().map_err(|error| error.to_string())?;
    Ok(value)
}

fn temperature(text: &str) -> Result<f64, String> {
    setting(text, |config, value| config.temperature = value)
}

fn top_p(text: &str) -> Result<f64, String> {
    setting(text, |config, value| config.top_p = value)
}

fn repetition_penalty(text: &str) -> Result<f64, String> {
    setting(text, |config, value| config.repetition_penalty = value)
}

fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    let refuse = |_| "it has to be a whole number, 0 or greater".to_string();
    text.parse().map_err(refuse)
}

impl Options {
    /// Names the options that have no effect.
    pub fn warn(&self, defaults: &GenerationDefaults) {
        if !defaults.not_used.is_empty() {
            tracing::warn!(
                "generation_config.json has {}, which peft does not know: the text may differ from \
                 transformers'",
                defaults.not_used.join(", ")
            );
        }
        if self.temperature.unwrap_or(defaults.config.temperature) > 0.0 {
            return;
        }
        let choosing = [
            ("--top-p", self.top_p.is_some()),
            ("--top-k", self.top_k.is_some()),
            ("--seed", self.seed.is_some()),
        ];
        let given = choosing.into_iter().filter(|(_, given)| *given);
        let given: Vec<&str> = given.map(|(name, _)| name).collect();
        if !given.is_empty() {
            tracing::warn!(
                "{} without effect: at temperature 0 the most likely token is always taken; give \
                 --temperature too, such as 0.8",
                given.join(", ")
            );
        }
    }

    /// The settings for prompts of at most `length` tokens; options that are not given are the
    /// model's.
    pub fn settings(
        &self,
        defaults: &GenerationDefaults,
        model: &LanguageModel,
        length: usize,
    ) -> GenerationConfig {
        let space = if model.has_last_position() {
            model.max_positions().saturating_sub(length)
        } else {
            usize::MAX
        };
        let of_length = defaults.max_length.map(|most| most.saturating_sub(length));
        let usual = defaults.max_new_tokens.or(of_length).unwrap_or(NEW_TOKENS);
        let config = &defaults.config;
        let ends = if self.ignore_eos {
            Vec::new()
        } else {
            config.eos_token_ids.clone()
        };
        GenerationConfig {
            max_new_tokens: self.max_new_tokens.unwrap_or(usual.min(space).max(1)),
            temperature: self.temperature.unwrap_or(config.temperature),
            top_k: self.top_k.unwrap_or(config.top_k),
            top_p: self.top_p.unwrap_or(config.top_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(config.repetition_penalty),
            eos_token_ids: ends,
            seed: self.seed.unwrap_or(SEED),
        }
    }
}
