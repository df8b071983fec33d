//! Which type each tensor of a file gets, chosen as llama.cpp's converter and `llama-quantize` do.

use std::fmt;
use std::str::FromStr;

use burn::tensor::FloatDType;
use burn_peft_kernels::BlockType;

/// The type of most tensors of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutType {
    /// Matrices in blocks of one type, with more bits for the output layer if the type has few.
    Plain(BlockType),
    /// `Q4_K`, with `Q6_K` for the most important: values and down projections in the first and
    /// last blocks, and in every third one between.
    Q4KM,
}

/// The names and what they stand for.
const NAMES: [(&str, OutType); 10] = [
    ("f32", OutType::Plain(BlockType::F32)),
    ("f16", OutType::Plain(BlockType::F16)),
    ("bf16", OutType::Plain(BlockType::BF16)),
    ("q8_0", OutType::Plain(BlockType::Q8_0)),
    ("q4_0", OutType::Plain(BlockType::Q4_0)),
    ("q4_1", OutType::Plain(BlockType::Q4_1)),
    ("q5_0", OutType::Plain(BlockType::Q5_0)),
    ("q5_1", OutType::Plain(BlockType::Q5_1)),
    ("q4_k_m", OutType::Q4KM),
    ("q6_k", OutType::Plain(BlockType::Q6_K)),
];

impl OutType {
    /// All names.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|(name, _)| *name)
    }

    /// The type that keeps weights of this type unchanged.
    pub fn of(dtype: FloatDType) -> Self {
        Self::Plain(match dtype {
            FloatDType::F16 => BlockType::F16,
            FloatDType::BF16 => BlockType::BF16,
            _ => BlockType::F32,
        })
    }

    /// The corresponding type of weights in other files, if there is one.
    pub fn dtype(self) -> Option<FloatDType> {
        match self {
            Self::Plain(BlockType::F32) => Some(FloatDType::F32),
            Self::Plain(BlockType::F16) => Some(FloatDType::F16),
            Self::Plain(BlockType::BF16) => Some(FloatDType::BF16),
            _ => None,
        }
    }

    /// The block type for an adapter written by itself, if llama.cpp's converter offers it.
    pub(super) fn of_adapter(self) -> Option<BlockType> {
        let offered = [
            BlockType::F32,
            BlockType::F16,
            BlockType::BF16,
            BlockType::Q8_0,
        ];
        match self {
            Self::Plain(of) => offered.contains(&of).then_some(of),
            Self::Q4KM => None,
        }
    }

    /// Its number in `general.file_type`.
    pub(super) fn file_type(self) -> u32 {
        match self {
            Self::Q4KM => 15,
            Self::Plain(of) => match of {
                BlockType::F32 => 0,
                BlockType::F16 => 1,
                BlockType::Q4_0 => 2,
                BlockType::Q4_1 => 3,
                BlockType::Q8_0 => 7,
                BlockType::Q5_0 => 8,
                BlockType::Q5_1 => 9,
                BlockType::Q6_K => 18,
                BlockType::BF16 => 32,
                _ => unreachable!("it has no name"),
            },
        }
    }

    /// The types of a file's tensors, from their names and shapes, and whether llama.cpp always
    /// keeps them in float32.
    pub(super) fn choose(self, tensors: &[(&str, &[usize], bool)]) -> Vec<BlockType> {
        let is_tied = !tensors.iter().any(|(name, ..)| *name == OUTPUT);
        let values = tensors.iter().filter(|(name, ..)| is_of_values(name));
        let mut values: Vec<usize> = values.filter_map(|(name, ..)| block(name)).collect();
        values.sort_unstable();
        let downs = tensors.iter().filter_map(|(name, ..)| block(name)).max();
        let blocks = downs.map_or(0, |last| last + 1);
        let choose = |&(name, shape, is_f32): &(&str, &[usize], bool)| {
            if is_f32 || shape.len() < 2 || !name.ends_with(".weight") {
                return BlockType::F32;
            }
            let width = shape[shape.len() - 1];
            let is_output = name == OUTPUT || (is_tied && name == EMBEDDING);
            let chosen = match self {
                Self::Plain(of) if of.values() == 1 || of == BlockType::Q8_0 => of,
                Self::Plain(of) if !is_output => of,
                Self::Q4KM if !is_output => {
                    let place = block(name).and_then(|number| {
                        if is_of_values(name) {
                            let place = values.iter().position(|&other| other == number)?;
                            Some((place, values.len()))
                        } else {
                            name.ends_with(".ffn_down.weight")
                                .then_some((number, blocks))
                        }
                    });
                    match place {
                        Some((place, count)) if is_worth_more(place, count) => BlockType::Q6_K,
                        _ => BlockType::Q4_K,
                    }
                }
                _ => BlockType::Q6_K,
            };
            fitting(chosen, width)
        };
        tensors.iter().map(choose).collect()
    }
}

const OUTPUT: &str = "output.weight";
const EMBEDDING: &str = "token_embd.weight";

/// The index of a tensor's block.
fn block(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

fn is_of_values(name: &str) -> bool {
    name.ends_with(".attn_v.weight") || name.ends_with(".attn_qkv.weight")
}

/// The first and the last eighth, and every third block between them.
fn is_worth_more(place: usize, count: usize) -> bool {
    let eighth = count / 8;
    place < eighth || place >= 7 * count / 8 || (place - eighth) % 3 == 2
}

/// A type whose blocks fit into rows of this width: one of similar size, or float16.
pub(super) fn fitting(of: BlockType, width: usize) -> BlockType {
    let smaller = match of {
        _ if width.is_multiple_of(of.values()) => of,
        BlockType::Q4_K => BlockType::Q5_0,
        BlockType::Q6_K => BlockType::Q8_0,
        _ => BlockType::F16,
    };
    if width.is_multiple_of(smaller.values()) {
        smaller
    } else {
        BlockType::F16
    }
}

impl FromStr for OutType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, of)| *of).ok_or_else(|| {
            let known: Vec<&str> = Self::names().collect();
            format!(
                "{name:?} is not a type that can be written; the types are {}",
                known.join(", ")
            )
        })
    }
}

impl fmt::Display for OutType {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        let named = NAMES.iter().find(|(_, of)| of == self);
        out.write_str(named.map_or("", |(name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(name: &str, tensors: &[(&str, &[usize])]) -> Vec<&'static str> {
        let described = tensors.iter().map(|&(name, shape)| {
            (
                name,
                shape,
                name.ends_with("norm.weight") || shape.len() == 1,
            )
        });
        let of: OutType = name.parse().unwrap();
        let types = of.choose(&described.collect::<Vec<_>>());
        types.into_iter().map(BlockType::name).collect()
    }

    const WIDE: &[usize] = &[512, 256];
    const NARROW: &[usize] = &[512, 96];
    const ODD: &[usize] = &[512, 40];

    /// As `llama-quantize` does for such shapes.
    #[test]
    fn rows_and_roles_choose_the_type() {
        let tensors = [
            ("token_embd.weight", WIDE),
            ("output_norm.weight", &[256]),
            ("output.weight", WIDE),
            ("blk.0.attn_q.weight", WIDE),
            ("blk.0.attn_q.bias", &[512]),
            ("blk.0.attn_k.weight", NARROW),
            ("blk.0.ffn_up.weight", ODD),
        ];
        for (of, expected) in [
            ("f32", ["F32", "F32", "F32", "F32", "F32", "F32", "F32"]),
            (
                "bf16",
                ["BF16", "F32", "BF16", "BF16", "F32", "BF16", "BF16"],
            ),
            (
                "q8_0",
                ["Q8_0", "F32", "Q8_0", "Q8_0", "F32", "Q8_0", "F16"],
            ),
            (
                "q4_0",
                ["Q4_0", "F32", "Q6_K", "Q4_0", "F32", "Q4_0", "F16"],
            ),
            (
                "q6_k",
                ["Q6_K", "F32", "Q6_K", "Q6_K", "F32", "Q8_0", "F16"],
            ),
            (
                "q4_k_m",
                ["Q4_K", "F32", "Q6_K", "Q4_K", "F32", "Q5_0", "F16"],
            ),
        ] {
            assert_eq!(chosen(of, &tensors), expected, "{of}");
        }
        // A tied embedding is the output layer.
        assert_eq!(chosen("q4_1", &[("token_embd.weight", WIDE)]), ["Q6_K"]);
        assert_eq!(chosen("q4_1", &[("token_embd.weight", NARROW)]), ["Q8_0"]);
        assert_eq!("Q4_K_M".parse(), Ok(OutType::Q4KM));
        assert!("q3_k".parse::<OutType>().unwrap_err().contains("q4_k_m"));
    }

    #[test]
    fn a_mixture_has_more_bits_where_they_count() {
        let blocks = 0..16;
        let names = |part: &str| -> Vec<String> {
            blocks
                .clone()
                .map(|at| format!("blk.{at}.{part}.weight"))
                .collect()
        };
        for part in ["attn_v", "ffn_down", "attn_qkv"] {
            let names = names(part);
            let mut tensors: Vec<(&str, &[usize])> = vec![("output.weight", WIDE)];
            tensors.extend(names.iter().map(|name| (name.as_str(), WIDE)));
            let found = &chosen("q4_k_m", &tensors)[1..];
            let more = found.iter().enumerate().filter(|(_, of)| **of == "Q6_K");
            let more: Vec<usize> = more.map(|(at, _)| at).collect();
            assert_eq!(more, [0, 1, 4, 7, 10, 13, 14, 15], "{part}");
        }
        let names = names("ffn_up");
        let tensors: Vec<(&str, &[usize])> =
            names.iter().map(|name| (name.as_str(), WIDE)).collect();
        assert!(chosen("q4_k_m", &tensors).iter().all(|of| *of == "Q4_K"));
    }
}
