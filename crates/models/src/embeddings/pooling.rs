//! Pooling: one vector from the hidden states of a text.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use burn::tensor::{Int, Tensor, TensorData};
use burn_peft_kernels::MovedRows;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a text's hidden states become its embedding, in sentence-transformers' words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean of all hidden states.
    #[default]
    Mean,
    /// The first token's hidden state.
    Cls,
    /// The last token's hidden state.
    #[serde(rename = "lasttoken", alias = "last")]
    LastToken,
    /// The maximum in each dimension.
    Max,
    /// The sum divided by the square root of the number of tokens.
    MeanSqrtLenTokens,
    /// The mean, weighted by position, counted from 1.
    #[serde(rename = "weightedmean")]
    WeightedMean,
}

impl Pooling {
    /// All modes.
    pub const ALL: [Self; 6] = [
        Self::Mean,
        Self::Cls,
        Self::LastToken,
        Self::Max,
        Self::MeanSqrtLenTokens,
        Self::WeightedMean,
    ];

    /// Its name in sentence-transformers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Cls => "cls",
            Self::LastToken => "lasttoken",
            Self::Max => "max",
            Self::MeanSqrtLenTokens => "mean_sqrt_len_tokens",
            Self::WeightedMean => "weightedmean",
        }
    }

    /// The tokens of the texts whose hidden states are needed, and the range of them that belongs
    /// to each text.
    pub fn places(self, texts: &[Range<usize>]) -> (Vec<usize>, Vec<Range<usize>>) {
        let one = |of: fn(&Range<usize>) -> usize| {
            let places: Vec<usize> = texts.iter().map(of).collect();
            let each = (0..places.len()).map(|place| place..place + 1).collect();
            (places, each)
        };
        match self {
            Self::Cls => one(|text| text.start),
            Self::LastToken => one(|text| text.end - 1),
            _ => {
                let (mut places, mut each) = (Vec::new(), Vec::new());
                for text in texts {
                    let start = places.len();
                    places.extend(text.clone());
                    each.push(start..places.len());
                }
                (places, each)
            }
        }
    }

    /// One vector for each text, `[texts, d]`, from hidden states, `[tokens, d]`.
    ///
    /// # Panics
    /// If a text has no token, or an index is out of range.
    pub fn of(self, hidden: Tensor<2>, texts: &[Range<usize>]) -> Tensor<2> {
        match self {
            Self::Cls => rows(hidden, texts.iter().map(|text| text.start)),
            Self::LastToken => rows(hidden, texts.iter().map(|text| text.end - 1)),
            Self::Mean => weighted(hidden, texts, |_, length| 1.0 / length),
            Self::MeanSqrtLenTokens => weighted(hidden, texts, |_, length| 1.0 / length.sqrt()),
            Self::WeightedMean => weighted(hidden, texts, |place, length| {
                place * 2.0 / (length * (length + 1.0))
            }),
            Self::Max => {
                // Shorter texts are padded with their first token, which changes no maximum.
                let width = texts.iter().map(Range::len).max().unwrap_or(0);
                let filled = texts.iter().flat_map(|text| {
                    text.clone()
                        .chain(std::iter::repeat_n(text.start, width - text.len()))
                });
                let [_, d] = hidden.dims();
                let all = rows(hidden, filled).reshape([texts.len(), width, d]);
                all.max_dim(1).squeeze_dim(1)
            }
        }
    }
}

/// These rows, in this order.
fn rows(hidden: Tensor<2>, places: impl Iterator<Item = usize>) -> Tensor<2> {
    let places: Vec<i64> = places.map(|place| place as i64).collect();
    let places = Tensor::<1, Int>::from_data(places.as_slice(), &hidden.device());
    hidden.select(0, places)
}

/// The sum of each text's rows, weighted by position (counted from 1) and length of the text.
fn weighted(
    hidden: Tensor<2>,
    texts: &[Range<usize>],
    weight: impl Fn(f64, f64) -> f64,
) -> Tensor<2> {
    let ([tokens, d], device) = (hidden.dims(), hidden.device());
    let width = texts.iter().map(Range::len).max().unwrap_or(0);
    let (mut from, mut weights) = (Vec::new(), Vec::new());
    for text in texts {
        let missing = width - text.len();
        let places = (1..=text.len()).map(|place| weight(place as f64, text.len() as f64) as f32);
        weights.extend(places.chain(std::iter::repeat_n(0.0, missing)));
        from.extend(text.clone().map(Some));
        from.extend(std::iter::repeat_n(None, missing));
    }
    let shape = [texts.len(), width, 1];
    let weights = Tensor::<3>::from_data(TensorData::new(weights, shape), &device);
    let moved = MovedRows::new(&from, tokens, &device).there(hidden);
    let sum = (moved.reshape([texts.len(), width, d]) * weights).sum_dim(1);
    sum.squeeze_dim(1)
}

/// Normalises vectors to length one, `[rows, d]`; zero stays zero.
pub fn normalize(vectors: Tensor<2>) -> Tensor<2> {
    let length = vectors.clone().powi_scalar(2).sum_dim(1).sqrt();
    vectors / length.clamp_min(1e-12)
}

/// How a text's hidden states become its embedding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Embedder {
    /// How they become one vector.
    pub pooling: Pooling,
    /// Whether the vector is normalised to length one.
    pub normalize: bool,
}

impl Embedder {
    /// The embeddings of texts, `[texts, d]`, from hidden states, `[tokens, d]`.
    ///
    /// # Panics
    /// As [`Pooling::of`].
    pub fn of(self, hidden: Tensor<2>, texts: &[Range<usize>]) -> Tensor<2> {
        let vectors = self.pooling.of(hidden, texts);
        if self.normalize {
            normalize(vectors)
        } else {
            vectors
        }
    }
}

impl fmt::Display for Pooling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Pooling {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let name = if name == "last" { "lasttoken" } else { name };
        let found = Self::ALL.into_iter().find(|mode| mode.name() == name);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("give one of {names} (last for lasttoken)")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Two texts, with three tokens and with one.
    fn pooled(mode: &str) -> Vec<f32> {
        let device = Device::flex();
        let hidden = [[1.0, 8.0], [2.0, -4.0], [6.0, 2.0], [9.0, 3.0]];
        let hidden = Tensor::<2>::from_data(hidden, &device);
        let pooling: Pooling = mode.parse().unwrap();
        let pooled = pooling.of(hidden, &[0..3, 3..4]);
        pooled.into_data().try_to_vec().unwrap()
    }

    fn near(found: Vec<f32>, expected: [f32; 4]) {
        let mut pairs = found.iter().zip(&expected);
        assert!(pairs.all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    }

    /// The values are those of sentence-transformers 6.2's `Pooling`.
    #[test]
    fn texts_are_pooled() {
        near(pooled("mean"), [3.0, 2.0, 9.0, 3.0]);
        near(pooled("cls"), [1.0, 8.0, 9.0, 3.0]);
        near(pooled("last"), [6.0, 2.0, 9.0, 3.0]);
        near(pooled("max"), [6.0, 8.0, 9.0, 3.0]);
        near(
            pooled("mean_sqrt_len_tokens"),
            [5.196_152, 3.464_102, 9.0, 3.0],
        );
        near(pooled("weightedmean"), [3.833_333_3, 1.0, 9.0, 3.0]);
        assert!("middle".parse::<Pooling>().is_err());
    }

    #[test]
    fn vectors_have_length_one() {
        let vectors = Tensor::<2>::from_data([[3.0, 4.0], [0.0, 0.0]], &Device::flex());
        let found = normalize(vectors).into_data().try_to_vec().unwrap();
        near(found, [0.6, 0.8, 0.0, 0.0]);
    }
}
