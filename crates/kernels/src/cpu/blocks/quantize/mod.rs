//! Turns values into blocks, bit for bit as llama.cpp's reference does.
//!
//! Each function takes the values of one block and the place for its bytes.

mod k;
mod small;

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use super::BlockType;

/// Makes the bytes of a block from its values.
type Pack = fn(&[f32], &mut [u8]);

/// The blocks that a thread takes at a time.
const BLOCKS: usize = 256;

impl BlockType {
    /// Writes the bytes of whole blocks of these values, using all cores. They are those that the
    /// PyPI package `gguf` makes; for `Q4_K` and `Q6_K`, which it cannot make, those of llama.cpp's
    /// reference. Values beyond the range of float16 become infinite in `F16`.
    ///
    /// # Panics
    /// If `values` are not whole blocks, if `out` does not have as many bytes as the blocks, or if
    /// blocks of this type [cannot be made](Self::is_made).
    pub fn quantize(self, values: &[f32], out: &mut [u8]) {
        let (count, bytes) = (self.values(), self.bytes());
        let blocks = values.len() / count;
        assert!(
            values.len() == blocks * count && out.len() == blocks * bytes,
            "{} values are not {} bytes of {}",
            values.len(),
            out.len(),
            self.name(),
        );
        let pack = self.pack().expect("a type that can be made");
        let values = values.par_chunks(BLOCKS * count);
        let pieces = out.par_chunks_mut(BLOCKS * bytes).zip(values);
        pieces.for_each(|(out, values)| {
            let blocks = values.chunks_exact(count);
            for (values, out) in blocks.zip(out.chunks_exact_mut(bytes)) {
                pack(values, out);
            }
        });
    }

    /// Whether [`quantize`](Self::quantize) can make blocks of this type.
    pub fn is_made(self) -> bool {
        self.pack().is_some()
    }

    /// The function that makes the bytes of one block.
    fn pack(self) -> Option<Pack> {
        Some(match self {
            Self::F32 => small::f32,
            Self::F16 => small::f16,
            Self::BF16 => small::bf16,
            Self::Q8_0 => small::q8_0,
            Self::Q4_0 => small::q4_0,
            Self::Q4_1 => small::q4_1,
            Self::Q5_0 => small::q5_0,
            Self::Q5_1 => small::q5_1,
            Self::Q4_K => k::q4_k,
            Self::Q6_K => k::q6_k,
            Self::Q2_K | Self::Q3_K | Self::Q5_K | Self::IQ4_NL | Self::IQ4_XS | Self::MXFP4 => {
                return None;
            }
        })
    }
}
