//! Rotary position embedding (RoPE, arXiv 2104.09864): the angles of every position.

use burn::tensor::Tensor;

use super::scaled;

/// The frequencies of one kind of rotary embedding, as a configuration describes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// The number of a head's values that are rotated; the others stay as they are.
    pub dim: usize,
    /// The base of the wavelengths.
    pub theta: f64,
    /// How the frequencies are stretched for texts longer than those of the original training.
    pub scaling: Scaling,
    /// The factor of sine and cosine.
    pub attention_factor: f64,
}

/// transformers' `rope_type`.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// `default`: the frequencies are not stretched.
    None,
    /// `linear`: all frequencies are divided by one factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// `dynamic`: the base grows with texts longer than `max_positions`.
    Dynamic {
        /// How fast the base grows.
        factor: f64,
        /// The length up to which it does not grow.
        max_positions: usize,
    },
    /// `dynamic` with `alpha`: the base is stretched once for all lengths.
    Alpha {
        /// How far it is stretched.
        alpha: f64,
    },
    /// `llama3`: low frequencies are divided by a factor, high ones are not, and those in between
    /// are partly.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original / low` are stretched.
        low: f64,
        /// Wavelengths below `original / high` are not.
        high: f64,
        /// The length of the original training.
        original: f64,
    },
    /// `yarn` (arXiv 2309.00071).
    Yarn {
        /// The factor of the low frequencies.
        factor: f64,
        /// Dimensions that turn more often than this within `original` are not stretched.
        beta_fast: f64,
        /// Dimensions that turn less often than this are stretched by the whole factor.
        beta_slow: f64,
        /// The length of the original training.
        original: f64,
        /// Whether the bounds in between are rounded to whole dimensions.
        truncate: bool,
    },
    /// `longrope` (arXiv 2402.13753): a factor for every frequency.
    LongRope {
        /// The factors for texts up to `original` positions.
        short: Vec<f32>,
        /// The factors for longer texts.
        long: Vec<f32>,
        /// The length of the original training.
        original: usize,
    },
}

impl Rope {
    /// Whether the frequencies depend on the length of the text.
    pub fn depends_on_length(&self) -> bool {
        matches!(
            self.scaling,
            Scaling::Dynamic { .. } | Scaling::LongRope { .. }
        )
    }

    /// The angle by which each pair of values turns from one position to the next, `[dim / 2]`, in
    /// texts of `length` positions. Computed in 32 bits throughout, as in transformers, because the
    /// rounding shows at far positions.
    pub fn frequencies(&self, length: usize) -> Vec<f32> {
        let powers = |theta: f64| -> Vec<f32> {
            let exponents = (0..self.dim).step_by(2);
            let exponents = exponents.map(|i| i as f32 / self.dim as f32);
            exponents.map(|power| (theta as f32).powf(power)).collect()
        };
        // The frequencies for a base that is stretched so that the lowest frequency is divided by
        // `by`.
        let stretched = |by: f64| {
            let dim = self.dim as f64;
            powers(self.theta * by.powf(dim / (dim - 2.0)))
        };
        let inverse = |powers: Vec<f32>| powers.into_iter().map(|power| 1.0 / power);
        match &self.scaling {
            Scaling::None => inverse(powers(self.theta)).collect(),
            Scaling::Linear { factor } => {
                let frequencies = inverse(powers(self.theta));
                frequencies.map(|f| f / *factor as f32).collect()
            }
            &Scaling::Dynamic {
                factor,
                max_positions,
            } => {
                let share = length.max(max_positions) as f64 / max_positions as f64;
                inverse(stretched(factor * share - (factor - 1.0))).collect()
            }
            Scaling::Alpha { alpha } => inverse(stretched(*alpha)).collect(),
            &Scaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                let of = |frequency| llama3(frequency, factor, low, high, original);
                inverse(powers(self.theta)).map(of).collect()
            }
            Scaling::Yarn { factor, .. } => {
                let factor = *factor as f32;
                let powers = powers(self.theta).into_iter().zip(self.yarn_shares());
                let mixed = powers.map(|(power, kept)| {
                    1.0 / (factor * power) * (1.0 - kept) + 1.0 / power * kept
                });
                mixed.collect()
            }
            Scaling::LongRope {
                short,
                long,
                original,
            } => {
                let factors = if length > *original { long } else { short };
                let powers = powers(self.theta).into_iter().zip(factors);
                powers
                    .map(|(power, factor)| 1.0 / (factor * power))
                    .collect()
            }
        }
    }

    /// The share of each frequency that is not stretched.
    fn yarn_shares(&self) -> Vec<f32> {
        let &Scaling::Yarn {
            beta_fast,
            beta_slow,
            original,
            truncate,
            ..
        } = &self.scaling
        else {
            return Vec::new();
        };
        let dim = self.dim as f64;
        let dimension = |turns: f64| {
            dim * (original / (turns * 2.0 * std::f64::consts::PI)).ln() / (2.0 * self.theta.ln())
        };
        let (mut low, mut high) = (dimension(beta_fast), dimension(beta_slow));
        if truncate {
            (low, high) = (low.floor(), high.ceil());
        }
        let (low, mut high) = (low.max(0.0), high.min(dim - 1.0));
        if low == high {
            high += 0.001;
        }
        let ramp = (0..self.dim / 2).map(|i| (i as f32 - low as f32) / (high - low) as f32);
        ramp.map(|ramp| 1.0 - ramp.clamp(0.0, 1.0)).collect()
    }

    /// The cosines and sines of `positions`, `[tokens]`, in texts of `length` positions.
    pub fn table(&self, positions: &Tensor<1>, length: usize) -> RopeTable {
        let frequencies = self.frequencies(length);
        let frequencies = Tensor::<1>::from_data(frequencies.as_slice(), &positions.device());
        let angles = positions.clone().unsqueeze_dim::<2>(1) * frequencies.unsqueeze::<2>();
        let factor = self.attention_factor;
        RopeTable {
            cos: scaled(angles.clone().cos(), factor),
            sin: scaled(angles.sin(), factor),
        }
    }
}

/// The rotation of every token's heads.
#[derive(Clone, Debug)]
pub struct RopeTable {
    /// The cosines, `[tokens, dim / 2]`.
    pub cos: Tensor<2>,
    /// The sines, `[tokens, dim / 2]`.
    pub sin: Tensor<2>,
}

fn llama3(frequency: f32, factor: f64, low: f64, high: f64, original: f64) -> f32 {
    let wavelength = 2.0 * std::f32::consts::PI / frequency;
    let (longest, shortest) = ((original / low) as f32, (original / high) as f32);
    let factor = factor as f32;
    if wavelength < shortest {
        frequency
    } else if wavelength > longest {
        frequency / factor
    } else {
        let smooth = (original as f32 / wavelength - low as f32) / (high - low) as f32;
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}
