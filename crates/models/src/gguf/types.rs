//! The types of tensors in GGUF files.

use super::dequantize as unpack;

/// Makes the values of a block of its bytes.
pub(crate) type Unpack = fn(&[u8], &mut [f32]);

/// A type that ggml knows.
#[derive(Debug)]
pub(crate) struct GgmlType {
    /// Its number in files.
    number: u32,
    /// ggml's name.
    pub name: &'static str,
    /// The values of a block.
    pub values: usize,
    /// The bytes of a block.
    pub bytes: usize,
    /// Makes a block's values of its bytes, if that is known here.
    pub unpack: Option<Unpack>,
}

impl GgmlType {
    /// The type of a number.
    pub fn of(number: u32) -> Option<&'static Self> {
        TYPES.iter().find(|of| of.number == number)
    }

    /// The names of those that can be read, in words.
    pub fn readable() -> String {
        let names = TYPES.iter().filter(|of| of.unpack.is_some());
        names.map(|of| of.name).collect::<Vec<_>>().join(", ")
    }
}

const fn read(
    number: u32,
    name: &'static str,
    values: usize,
    bytes: usize,
    unpack: Unpack,
) -> GgmlType {
    GgmlType {
        number,
        name,
        values,
        bytes,
        unpack: Some(unpack),
    }
}

const fn known(number: u32, name: &'static str, values: usize, bytes: usize) -> GgmlType {
    GgmlType {
        number,
        name,
        values,
        bytes,
        unpack: None,
    }
}

static TYPES: [GgmlType; 33] = [
    read(0, "F32", 1, 4, unpack::f32),
    read(1, "F16", 1, 2, unpack::f16),
    read(30, "BF16", 1, 2, unpack::bf16),
    read(8, "Q8_0", 32, 34, unpack::q8_0),
    read(2, "Q4_0", 32, 18, unpack::q4_0),
    read(3, "Q4_1", 32, 20, unpack::q4_1),
    read(6, "Q5_0", 32, 22, unpack::q5_0),
    read(7, "Q5_1", 32, 24, unpack::q5_1),
    read(10, "Q2_K", 256, 84, unpack::q2_k),
    read(11, "Q3_K", 256, 110, unpack::q3_k),
    read(12, "Q4_K", 256, 144, unpack::q4_k),
    read(13, "Q5_K", 256, 176, unpack::q5_k),
    read(14, "Q6_K", 256, 210, unpack::q6_k),
    read(20, "IQ4_NL", 32, 18, unpack::iq4_nl),
    read(23, "IQ4_XS", 256, 136, unpack::iq4_xs),
    read(39, "MXFP4", 32, 17, unpack::mxfp4),
    known(9, "Q8_1", 32, 40),
    known(15, "Q8_K", 256, 292),
    known(16, "IQ2_XXS", 256, 66),
    known(17, "IQ2_XS", 256, 74),
    known(18, "IQ3_XXS", 256, 98),
    known(19, "IQ1_S", 256, 50),
    known(21, "IQ3_S", 256, 110),
    known(22, "IQ2_S", 256, 82),
    known(24, "I8", 1, 1),
    known(25, "I16", 1, 2),
    known(26, "I32", 1, 4),
    known(27, "I64", 1, 8),
    known(28, "F64", 1, 8),
    known(29, "IQ1_M", 256, 56),
    known(34, "TQ1_0", 256, 54),
    known(35, "TQ2_0", 256, 66),
    known(40, "NVFP4", 64, 36),
];
