//! The `[distributed]` table: how often several ranks exchange what they have learnt.

use burn_peft::parameters::NamedParameter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ConfigProblem;

/// When ranks exchange gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sync {
    /// At every step, which computes the same as a single process.
    Step,
}

/// How often ranks exchange what they learn (`docs/distributed.md`).
///
/// With `local_steps`, each rank makes this many optimizer steps on its own rows. The mean change
/// of the ranks' weights then serves as the gradient of an outer optimizer, and all ranks continue
/// with its weights: DiLoCo (arXiv 2311.08105). The state of the inner optimizer stays on its rank.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DistributedConfig {
    /// `step`, the default unless `local_steps` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync: Option<Sync>,
    /// The number of steps between two exchanges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_steps: Option<usize>,
    /// The learning rate of the outer optimizer; 0.8 unless set (the paper's 0.7 with momentum 0.9
    /// is meant for hundreds of exchanges). At 1, without momentum, all ranks continue with the
    /// mean of their weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outer_lr: Option<f64>,
    /// Its Nesterov momentum; 0.4 unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outer_momentum: Option<f64>,
}

impl DistributedConfig {
    /// The learning rate of the outer optimizer.
    pub fn outer_lr(&self) -> f64 {
        self.outer_lr.unwrap_or(0.8)
    }

    /// The momentum of the outer optimizer.
    pub fn outer_momentum(&self) -> f64 {
        self.outer_momentum.unwrap_or(0.4)
    }

    /// The same with exactly the values that are used.
    pub(crate) fn settled(&self) -> Self {
        let local = self.local_steps;
        Self {
            sync: None,
            local_steps: local,
            outer_lr: local.map(|_| self.outer_lr()),
            outer_momentum: local.map(|_| self.outer_momentum()),
        }
    }

    /// What is wrong with the keys, if anything.
    pub(crate) fn problem(&self) -> Option<ConfigProblem> {
        let problem = |text: String| Some(ConfigProblem::Distributed(text));
        let Some(steps) = self.local_steps else {
            let outer = [
                ("outer_lr", self.outer_lr),
                ("outer_momentum", self.outer_momentum),
            ];
            let mut outer = outer.into_iter();
            let (key, value) = outer.find_map(|(key, value)| Some((key, value?)))?;
            return problem(format!(
                "{key} = {value} is the outer optimizer's, and without distributed.local_steps there \
                 is none: set it, or leave {key} out"
            ));
        };
        if self.sync.is_some() {
            return problem(format!(
                "sync = \"step\" and distributed.local_steps = {steps} exclude each other: keep one of them"
            ));
        }
        if steps == 0 {
            return problem("local_steps is 0; it must be 1 or more".into());
        }
        let (lr, momentum) = (self.outer_lr(), self.outer_momentum());
        if !(lr > 0.0 && lr.is_finite()) {
            return problem(format!("outer_lr is {lr}; it must be more than 0"));
        }
        if !(0.0..1.0).contains(&momentum) {
            let must = "it must be 0 or more and below 1";
            return problem(format!("outer_momentum is {momentum}; {must}"));
        }
        None
    }

    /// What is wrong with the keys for a model with these parameters, if anything.
    pub(crate) fn problem_with(&self, parameters: &[NamedParameter]) -> Option<ConfigProblem> {
        let is_adalora = |parameter: &NamedParameter| parameter.name.contains(".lora_E.");
        self.local_steps
            .filter(|_| parameters.iter().any(is_adalora))?;
        Some(ConfigProblem::Distributed(
            "local_steps cannot be combined with peft_type = \"ADALORA\", which chooses its ranks from the \
             gradients of every step: leave it out, or use LORA"
                .into(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_have_no_effect_or_cannot_be_are_named() {
        let problem = |text: &str| {
            let config: DistributedConfig = toml::from_str(text).unwrap();
            let problem = config.problem();
            problem.map_or(String::new(), |problem| problem.to_string())
        };
        for fine in [
            "",
            "sync = 'step'",
            "local_steps = 1",
            "local_steps = 20\nouter_momentum = 0",
        ] {
            assert_eq!(problem(fine), "", "{fine}");
        }
        for (text, said) in [
            (
                "sync = 'step'\nlocal_steps = 20",
                "distributed.sync = \"step\" and distributed.local_steps = 20",
            ),
            (
                "outer_lr = 0.5",
                "distributed.outer_lr = 0.5 is the outer optimizer's",
            ),
            (
                "local_steps = 0",
                "distributed.local_steps is 0; it must be 1 or more",
            ),
            (
                "local_steps = 2\nouter_lr = 0",
                "distributed.outer_lr is 0; it must be more than 0",
            ),
            (
                "local_steps = 2\nouter_momentum = 1.0",
                "distributed.outer_momentum is 1; it must be",
            ),
        ] {
            assert!(problem(text).starts_with(said), "{}", problem(text));
        }
        assert!(toml::from_str::<DistributedConfig>("sync = 'never'").is_err());
    }
}
