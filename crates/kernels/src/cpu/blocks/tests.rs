use super::*;
use crate::testing::words;

/// Random bytes from a seed.
pub(crate) fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let bytes = words(seed).map(|word| (word >> 40) as u8);
    bytes.take(count).collect()
}

/// Blocks of random codes whose scales are around 1/16.
pub(crate) fn random_blocks(of: BlockType, blocks: usize, seed: u64) -> Vec<u8> {
    let mut out = bytes(blocks * of.bytes(), seed);
    for (number, block) in out.chunks_exact_mut(of.bytes()).enumerate() {
        let halves: &[usize] = match of {
            BlockType::F16 | BlockType::Q8_0 | BlockType::Q4_0 | BlockType::Q5_0 => &[0],
            BlockType::Q4_1 | BlockType::Q5_1 | BlockType::Q4_K | BlockType::Q5_K => &[0, 2],
            BlockType::IQ4_NL | BlockType::IQ4_XS => &[0],
            BlockType::Q2_K => &[80, 82],
            BlockType::Q3_K => &[108],
            BlockType::Q6_K => &[208],
            BlockType::F32 => {
                block[3] = 0x3d | (block[3] & 0x80);
                continue;
            }
            BlockType::BF16 => {
                block[1] = 0x3d | (block[1] & 0x80);
                continue;
            }
            BlockType::MXFP4 => {
                block[0] = 120 + number as u8 % 8;
                continue;
            }
        };
        for &half in halves {
            block[half + 1] = 0x2c | (block[half + 1] & 0x83);
        }
    }
    out
}

#[test]
fn a_line_is_its_blocks() {
    for of in BlockType::ALL {
        let (rows, cols) = (3, 2 * of.values());
        let bytes = random_blocks(of, 2 * rows, 1);
        let matrix = BlockMatrix::new(of, &bytes, rows, cols);
        let mut all = vec![0.0; rows * cols];
        of.dequantize(&bytes, &mut all);
        let mut line = vec![0.0; cols];
        matrix.some_rows(1..3).line(1, &mut line);
        assert_eq!(line, all[2 * cols..], "{}", of.name());
        for column in 0..cols {
            let value = all[cols + column];
            assert!(value.is_finite());
            assert_eq!(matrix.at(1, column), value);
            assert_eq!(matrix.transposed().at(column, 1), value);
        }
    }
}

#[test]
#[should_panic(expected = "is not 17 bytes")]
fn too_few_bytes() {
    BlockMatrix::new(BlockType::Q4_0, &[0; 17], 1, 32);
}

/// The bits are the same on every processor. They are the ones that another test compares with a
/// fixture from the PyPI package.
#[test]
fn all_bodies_give_the_same_bits() {
    for of in BlockType::ALL {
        for seed in 0..20 {
            let blocks = if of.values() == 1 { 517 } else { 67 };
            let bytes = if seed < 10 {
                random_blocks(of, blocks, seed)
            } else {
                bytes(blocks * of.bytes(), seed)
            };
            let mut both = [
                vec![0.0; blocks * of.values()],
                vec![0.0; blocks * of.values()],
            ];
            of.dequantize(&bytes, &mut both[0]);
            of.dequantize_plainly(&bytes, &mut both[1]);
            for (at, (found, expected)) in both[0].iter().zip(&both[1]).enumerate() {
                let same = found.to_bits() == expected.to_bits();
                let name = of.name();
                let are_nan = found.is_nan() && expected.is_nan();
                assert!(same || are_nan, "{name}, {at}: {found}, not {expected}");
            }
        }
    }
}
