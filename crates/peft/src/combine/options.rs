//! How adapters are combined.

use std::fmt;
use std::str::FromStr;

use super::arithmetic::Arithmetic;
use crate::{PeftError, Result};

/// PEFT's `combination_type`.
///
/// The types without `svd` combine A and B separately and are cheap; the result is close to the sum
/// of the adapters' effects, but not equal to it. Those with `svd` combine the effects `B A`, at
/// the cost of a singular value decomposition for each layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CombinationType {
    Linear,
    /// The exact sum, whose rank is the sum of the ranks.
    Cat,
    #[default]
    Svd,
    /// arXiv 2306.01708: prunes, elects a sign, averages the values that agree with it.
    Ties,
    TiesSvd,
    /// arXiv 2311.03099: prunes at random and scales the rest.
    DareLinear,
    DareTies,
    DareLinearSvd,
    DareTiesSvd,
    MagnitudePrune,
    MagnitudePruneSvd,
}

impl CombinationType {
    /// All of them by their names in PEFT.
    pub const ALL: [(&str, Self); 11] = [
        ("linear", Self::Linear),
        ("cat", Self::Cat),
        ("svd", Self::Svd),
        ("ties", Self::Ties),
        ("ties_svd", Self::TiesSvd),
        ("dare_linear", Self::DareLinear),
        ("dare_ties", Self::DareTies),
        ("dare_linear_svd", Self::DareLinearSvd),
        ("dare_ties_svd", Self::DareTiesSvd),
        ("magnitude_prune", Self::MagnitudePrune),
        ("magnitude_prune_svd", Self::MagnitudePruneSvd),
    ];
}

impl fmt::Display for CombinationType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Self::ALL.iter().find(|(_, value)| value == self);
        f.write_str(named.map_or("", |(name, _)| name))
    }
}

impl FromStr for CombinationType {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut all = Self::ALL.iter();
        let found = all.find(|(name, _)| *name == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names = Self::ALL.map(|(name, _)| name);
            format!("expected one of {}", names.join(", "))
        })
    }
}

/// How `ties` elects the sign of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MajoritySign {
    /// By the sum of the adapters' values.
    #[default]
    Total,
    /// By the number of adapters with each sign.
    Frequency,
}

impl FromStr for MajoritySign {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "total" => Ok(Self::Total),
            "frequency" => Ok(Self::Frequency),
            _ => Err("expected total or frequency".into()),
        }
    }
}

/// How adapters are combined. PEFT's `svd_clamp` is left out: it depends on the signs of singular
/// vectors, which are arbitrary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Combination {
    /// The type of combination.
    pub combination_type: CombinationType,
    /// The rank of the result, for types with `svd`; by default the largest of the adapters' ranks.
    pub svd_rank: Option<usize>,
    /// The share of values that pruning keeps, from 0 to 1.
    pub density: Option<f64>,
    /// How `ties` elects the sign of a value.
    pub majority_sign_method: MajoritySign,
    /// The seed for the values that `dare` drops.
    pub seed: u64,
}

impl Combination {
    /// A combination of this type.
    pub fn new(combination_type: CombinationType) -> Self {
        Self {
            combination_type,
            ..Self::default()
        }
    }

    /// Sets the share of values that pruning keeps.
    pub fn with_density(mut self, density: f64) -> Self {
        self.density = Some(density);
        self
    }

    /// What is done with the tensors, and whether it is done with the effects instead of the
    /// factors; `None` for `cat`.
    pub(super) fn arithmetic(&self) -> Option<(Arithmetic, bool)> {
        use CombinationType as T;
        let sign = self.majority_sign_method;
        let arithmetic = match self.combination_type {
            T::Cat => return None,
            T::Linear | T::Svd => Arithmetic::Linear,
            T::Ties | T::TiesSvd => Arithmetic::Ties(sign),
            T::DareLinear | T::DareLinearSvd => Arithmetic::DareLinear,
            T::DareTies | T::DareTiesSvd => Arithmetic::DareTies(sign),
            T::MagnitudePrune | T::MagnitudePruneSvd => Arithmetic::MagnitudePrune,
        };
        Some((arithmetic, self.is_by_svd()))
    }

    pub(super) fn is_by_svd(&self) -> bool {
        self.combination_type.to_string().ends_with("svd")
    }

    pub(super) fn validate(&self) -> Result<()> {
        let kind = self.combination_type;
        let fail = |reason: String| Err(PeftError::not_combinable(reason));
        let prunes = self
            .arithmetic()
            .is_some_and(|(arithmetic, _)| arithmetic != Arithmetic::Linear);
        match self.density {
            None if prunes => {
                return fail(format!(
                    "combination_type {kind} needs a density, the share of values it keeps, such \
                     as 0.5"
                ));
            }
            Some(density) if !(0.0..=1.0).contains(&density) || (density == 0.0 && prunes) => {
                return fail(format!(
                    "density = {density}: has to be above 0 and at most 1"
                ));
            }
            Some(density) if !prunes => {
                return fail(format!(
                    "density = {density} has no meaning for combination_type {kind}, which keeps \
                     all values"
                ));
            }
            _ => {}
        }
        match self.svd_rank {
            Some(0) => fail("svd_rank = 0: has to be 1 or more".into()),
            Some(rank) if !self.is_by_svd() => fail(format!(
                "svd_rank = {rank} has no meaning for combination_type {kind}"
            )),
            _ => Ok(()),
        }
    }
}
