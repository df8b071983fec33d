//! Weights as blocks of a GGUF file: each block holds a few values that share a scale, in a few
//! bits each.

#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) mod avx512;
mod matrix;
mod quantize;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(target_arch = "x86_64")]
mod types_avx512;
mod values;

pub use matrix::BlockMatrix;

/// How the values of a block are kept. A type without blocks has blocks of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(non_camel_case_types, reason = "ggml's names")]
#[allow(missing_docs, reason = "ggml's names say it all")]
pub enum BlockType {
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
    MXFP4,
}

impl BlockType {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q8_0,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q2_K,
        Self::Q3_K,
        Self::Q4_K,
        Self::Q5_K,
        Self::Q6_K,
        Self::IQ4_NL,
        Self::IQ4_XS,
        Self::MXFP4,
    ];

    /// The type that has this name in ggml; `None` if there is none.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|of| of.name() == name)
    }

    /// ggml's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q2_K => "Q2_K",
            Self::Q3_K => "Q3_K",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
            Self::IQ4_NL => "IQ4_NL",
            Self::IQ4_XS => "IQ4_XS",
            Self::MXFP4 => "MXFP4",
        }
    }

    /// The number of values in a block.
    pub const fn values(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q8_0 | Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 => 32,
            Self::IQ4_NL | Self::MXFP4 => 32,
            Self::Q2_K | Self::Q3_K | Self::Q4_K | Self::Q5_K | Self::Q6_K | Self::IQ4_XS => 256,
        }
    }

    /// The number of bytes in a block.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q8_0 => 34,
            Self::Q4_0 | Self::IQ4_NL => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q2_K => 84,
            Self::Q3_K => 110,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
            Self::IQ4_XS => 136,
            Self::MXFP4 => 17,
        }
    }

    /// Writes the values of whole blocks, the same as those of the PyPI package `gguf`.
    ///
    /// # Panics
    /// If `bytes` are not whole blocks, or if `out` does not have as many values as the blocks.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        let blocks = bytes.len() / self.bytes();
        assert!(
            bytes.len() == blocks * self.bytes() && out.len() == blocks * self.values(),
            "{} bytes of {} are not {} values",
            bytes.len(),
            self.name(),
            out.len(),
        );
        #[cfg(target_arch = "x86_64")]
        if avx512::is_available() {
            // SAFETY: the features and the lengths were checked.
            unsafe { avx512::unpack(self, bytes.as_ptr(), 0, out.len(), out.as_mut_ptr()) };
            return;
        }
        self.dequantize_plainly(bytes, out);
    }

    /// [`dequantize`](Self::dequantize) on any processor.
    fn dequantize_plainly(self, bytes: &[u8], out: &mut [f32]) {
        let unpack = self.unpack();
        let blocks = bytes.chunks_exact(self.bytes());
        for (block, out) in blocks.zip(out.chunks_exact_mut(self.values())) {
            unpack(block, out);
        }
    }

    /// The function that unpacks one block.
    fn unpack(self) -> fn(&[u8], &mut [f32]) {
        match self {
            Self::F32 => values::f32,
            Self::F16 => values::f16,
            Self::BF16 => values::bf16,
            Self::Q8_0 => values::q8_0,
            Self::Q4_0 => values::q4_0,
            Self::Q4_1 => values::q4_1,
            Self::Q5_0 => values::q5_0,
            Self::Q5_1 => values::q5_1,
            Self::Q2_K => values::q2_k,
            Self::Q3_K => values::q3_k,
            Self::Q4_K => values::q4_k,
            Self::Q5_K => values::q5_k,
            Self::Q6_K => values::q6_k,
            Self::IQ4_NL => values::iq4_nl,
            Self::IQ4_XS => values::iq4_xs,
            Self::MXFP4 => values::mxfp4,
        }
    }
}
