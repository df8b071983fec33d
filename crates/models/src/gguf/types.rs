//! The types of tensors in GGUF files.

use burn_peft_kernels::BlockType;

/// A type known to ggml.
#[derive(Debug)]
pub(crate) struct GgmlType {
    /// Its number in files.
    number: u32,
    /// ggml's name.
    pub name: &'static str,
    /// The number of values in a block.
    pub values: usize,
    /// The number of bytes in a block.
    pub bytes: usize,
    /// How its values are read, if it is supported.
    pub blocks: Option<BlockType>,
}

impl GgmlType {
    /// The type with this number.
    pub fn of(number: u32) -> Option<&'static Self> {
        TYPES.iter().find(|of| of.number == number)
    }

    /// The number of a block type.
    pub fn number_of(blocks: BlockType) -> u32 {
        let found = TYPES.iter().find(|of| of.blocks == Some(blocks));
        found.expect("all types of blocks are there").number
    }

    /// The names of the supported types, for a message.
    pub fn readable() -> String {
        let names = TYPES.iter().filter(|of| of.blocks.is_some());
        names.map(|of| of.name).collect::<Vec<_>>().join(", ")
    }
}

const fn read(number: u32, of: BlockType) -> GgmlType {
    GgmlType {
        number,
        name: of.name(),
        values: of.values(),
        bytes: of.bytes(),
        blocks: Some(of),
    }
}

const fn known(number: u32, name: &'static str, values: usize, bytes: usize) -> GgmlType {
    GgmlType {
        number,
        name,
        values,
        bytes,
        blocks: None,
    }
}

static TYPES: [GgmlType; 33] = [
    read(0, BlockType::F32),
    read(1, BlockType::F16),
    read(30, BlockType::BF16),
    read(8, BlockType::Q8_0),
    read(2, BlockType::Q4_0),
    read(3, BlockType::Q4_1),
    read(6, BlockType::Q5_0),
    read(7, BlockType::Q5_1),
    read(10, BlockType::Q2_K),
    read(11, BlockType::Q3_K),
    read(12, BlockType::Q4_K),
    read(13, BlockType::Q5_K),
    read(14, BlockType::Q6_K),
    read(20, BlockType::IQ4_NL),
    read(23, BlockType::IQ4_XS),
    read(39, BlockType::MXFP4),
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
