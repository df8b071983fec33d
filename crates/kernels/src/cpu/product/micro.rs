//! The innermost loops of the packed product: one tile of C, held in AVX-512 registers.

use std::arch::x86_64::*;

/// The most rows of a tile: 14 rows of 2 vectors, 2 vectors of B and a broadcast fill the 32
/// registers.
pub(super) const TILE_ROWS: usize = 14;

/// The most vectors of 16 columns in a tile.
pub(super) const TILE_VECTORS: usize = 2;

/// The most words (32 bits: an f32, or two bf16 neighbours along k) that a packed block is deep.
pub(super) const DEPTH: usize = 384;

/// Words from a packed row of A to the next. It is not a multiple of 4 KiB, which would put every
/// row in the same cache set.
pub(super) const A_STRIDE: usize = DEPTH + 16;

/// One tile's work: `c = base + a · b`.
pub(super) struct Tile {
    /// Packed rows of A, `[rows][A_STRIDE]` words.
    pub a: *const u32,
    /// A packed panel of B, `[depth][vectors * 16]` words.
    pub b: *const u32,
    /// Words along k.
    pub depth: usize,
    pub c: *mut f32,
    pub c_stride: usize,
    /// What the product is added to, or null.
    pub base: *const f32,
    pub base_stride: usize,
    /// Columns of C to write, at most `vectors * 16`.
    pub columns: usize,
}

/// # Safety
/// The processor must have the kernel's features; `a`, `b`, `c` and `base` must cover the tile.
pub(super) type Micro = unsafe fn(&Tile);

/// Kernels by `[rows - 1][vectors - 1]`.
pub(super) type Table = [[Micro; TILE_VECTORS]; TILE_ROWS];

macro_rules! micro_kernels {
    ($(#[$doc:meta])* $table:ident, $kernel:ident, $features:literal, |$sum:ident, $a:ident, $b:ident| $step:expr) => {
        #[target_feature(enable = $features)]
        unsafe fn $kernel<const ROWS: usize, const VECTORS: usize>(tile: &Tile) {
            // SAFETY: the caller's promise about the tile's pointers.
            unsafe {
                for i in 0..ROWS {
                    let row = tile.c.wrapping_add(i * tile.c_stride) as *const i8;
                    for v in 0..VECTORS {
                        _mm_prefetch::<_MM_HINT_T0>(row.wrapping_add(64 * v));
                    }
                }
                let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
                let (mut left, mut right) = (tile.a, tile.b);
                for _ in 0..tile.depth {
                    let mut columns = [_mm512_setzero_si512(); VECTORS];
                    for v in 0..VECTORS {
                        columns[v] = _mm512_load_si512(right.add(16 * v).cast());
                    }
                    for i in 0..ROWS {
                        let $a = _mm512_set1_epi32(*left.add(i * A_STRIDE) as i32);
                        for v in 0..VECTORS {
                            let ($sum, $b) = (sums[i][v], columns[v]);
                            sums[i][v] = $step;
                        }
                    }
                    left = left.add(1);
                    right = right.add(16 * VECTORS);
                }
                for v in 0..VECTORS {
                    let columns = tile.columns.saturating_sub(16 * v).min(16);
                    let mask = ((1u32 << columns) - 1) as __mmask16;
                    for i in 0..ROWS {
                        let mut sum = sums[i][v];
                        if !tile.base.is_null() {
                            let base = tile.base.wrapping_add(i * tile.base_stride + 16 * v);
                            sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, base), sum);
                        }
                        let c = tile.c.wrapping_add(i * tile.c_stride + 16 * v);
                        _mm512_mask_storeu_ps(c, mask, sum);
                    }
                }
            }
        }

        $(#[$doc])*
        pub(super) const $table: Table = [
            [$kernel::<1, 1>, $kernel::<1, 2>],
            [$kernel::<2, 1>, $kernel::<2, 2>],
            [$kernel::<3, 1>, $kernel::<3, 2>],
            [$kernel::<4, 1>, $kernel::<4, 2>],
            [$kernel::<5, 1>, $kernel::<5, 2>],
            [$kernel::<6, 1>, $kernel::<6, 2>],
            [$kernel::<7, 1>, $kernel::<7, 2>],
            [$kernel::<8, 1>, $kernel::<8, 2>],
            [$kernel::<9, 1>, $kernel::<9, 2>],
            [$kernel::<10, 1>, $kernel::<10, 2>],
            [$kernel::<11, 1>, $kernel::<11, 2>],
            [$kernel::<12, 1>, $kernel::<12, 2>],
            [$kernel::<13, 1>, $kernel::<13, 2>],
            [$kernel::<14, 1>, $kernel::<14, 2>],
        ];
    };
}

micro_kernels!(
    /// A word is an f32. Needs `avx512f`.
    F32,
    micro_f32,
    "avx512f",
    |sum, a, b| _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum)
);

micro_kernels!(
    /// A word is two bf16, summed in f32. Needs `avx512bf16`.
    BF16,
    micro_bf16,
    "avx512f,avx512bf16",
    |sum, a, b| _mm512_dpbf16_ps(
        sum,
        std::mem::transmute::<__m512i, __m512bh>(a),
        std::mem::transmute::<__m512i, __m512bh>(b)
    )
);
