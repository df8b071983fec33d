use super::super::{Left, Matrix, MatrixMut, Onto};
use super::{ROWS as ROWS_READ, *};
use crate::cpu::Weight;
use crate::cpu::blocks::tests::random_blocks;

/// Random numbers in -1..1 from a seed.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let bytes = crate::cpu::blocks::tests::bytes(4 * count, seed);
    let words = bytes.chunks_exact(4);
    words
        .map(|word| i32::from_le_bytes(word.try_into().unwrap()) as f32 / (1u32 << 31) as f32)
        .collect()
}

const ROWS: [usize; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 33, 130, 256];

/// Compares both directions with sums of the values in f64, for every type and odd shapes.
fn compare(
    round: impl Fn(usize, f32) -> f32,
    run: impl Fn(Matrix<'_, f32>, BlockMatrix<'_>, Onto<'_>, &mut MatrixMut<'_>),
) {
    let bias = numbers(900, 4);
    let mut turn = 0;
    for of in BlockType::ALL {
        for (lines, groups) in [(1, 1), (7, 3), (33, 1), (50, 13), (401, 2)] {
            let length = match of.values() {
                1 => 31 * groups + 2,
                values => values * if values == 32 { groups } else { groups.min(3) },
            };
            let bytes = random_blocks(of, lines * length / of.values(), turn as u64);
            let matrix = BlockMatrix::new(of, &bytes, lines, length);
            let mut values = vec![0.0; lines * length];
            of.dequantize(&bytes, &mut values);
            for m in ROWS {
                // Few rows for all shapes, many rows for some.
                if m > 9 && turn % 3 != 0 {
                    turn += 1;
                    continue;
                }
                turn += 1;
                let onto_row = turn % 3;
                for (b, k, n) in [
                    (matrix.transposed(), length, lines),
                    (matrix, lines, length),
                ] {
                    let gap = turn % 2 * 3;
                    let data = numbers(m * (k + gap), 1);
                    let a = Matrix::with_stride(&data, m, k, k + gap);
                    let before = numbers(m * (n + 5), 3);
                    let onto = [Onto::Zero, Onto::Row(&bias[..n]), Onto::Current][onto_row];
                    let mut c = before.clone();
                    run(a, b, onto, &mut MatrixMut::with_stride(&mut c, m, n, n + 5));
                    let value = |m: usize, p: usize, j: usize| {
                        let value = if b.has_contiguous_rows() {
                            values[p * length + j]
                        } else {
                            values[j * length + p]
                        };
                        f64::from(round(m, value))
                    };
                    // All rows if they are few, otherwise the first and the last.
                    for i in (0..m).filter(|&i| m < 10 || i == 0 || i == m - 1) {
                        for j in 0..n + 5 {
                            let (got, old) = (c[i * (n + 5) + j], before[i * (n + 5) + j]);
                            if j >= n {
                                assert_eq!(got, old, "written beyond row {i}");
                                continue;
                            }
                            let base = match onto {
                                Onto::Zero => 0.0,
                                Onto::Row(row) => row[j],
                                Onto::Current => old,
                            };
                            let (mut sum, mut size) = (f64::from(base), f64::from(base).abs());
                            for p in 0..k {
                                let term = f64::from(round(m, a.at(i, p))) * value(m, p, j);
                                sum += term;
                                size += term.abs();
                            }
                            // k + 1 roundings of sums no larger than `size`.
                            let bound = size * f64::from(f32::EPSILON) * (k as f64 + 2.0);
                            assert!(
                                (f64::from(got) - sum).abs() <= bound,
                                "{}: ({i}, {j}) of [{m}, {k}] · [{k}, {n}]: {got}, not {sum}",
                                of.name(),
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn agrees_with_f64() {
    compare(
        |_, x| x,
        |a, b, onto, c| Weight::Blocks(b).product(a, onto, c),
    );
    compare(|_, x| x, plainly);
}

/// Where rounding is allowed, products of many rows have factors rounded to bf16.
#[test]
fn agrees_with_f64_of_rounded_factors() {
    let run = |a: Matrix<'_, f32>, b: BlockMatrix<'_>, onto: Onto<'_>, c: &mut MatrixMut<'_>| {
        let b = Weight::Blocks(b.in_bf16(true));
        match PackedLeft::new(a) {
            Some(a) if b.wants_packed(a.rows()) => b.product(Left::Packed(&a), onto, c),
            _ => b.product(a, onto, c),
        }
    };
    let rounds = |m| PackedLeft::is_available() && m > ROWS_READ;
    let round = |m, x| {
        if rounds(m) {
            bf16::from_f32(x).to_f32()
        } else {
            x
        }
    };
    compare(round, run);
}

/// The values are those of the dense weight, so products of many rows are, too, bit for bit.
#[test]
fn many_rows_have_the_bits_of_the_dense_weight() {
    for of in BlockType::ALL {
        for (lines, groups) in [(70, 23), (401, 5), (130, 40)] {
            let length = groups * of.values().max(32);
            let bytes = random_blocks(of, lines * length / of.values(), 5);
            let matrix = BlockMatrix::new(of, &bytes, lines, length);
            let mut values = vec![0.0; lines * length];
            of.dequantize(&bytes, &mut values);
            let dense = Matrix::new(&values, lines, length);
            let data = numbers(40 * lines.max(length), 1);
            for (b, dense) in [(matrix.transposed(), dense.transposed()), (matrix, dense)] {
                let a = Matrix::new(&data, 40, b.rows());
                let found = Weight::Blocks(b).times(a, Onto::Zero);
                let expected = Weight::F32(dense).times(a, Onto::Zero);
                assert!(found == expected, "{}, {lines} lines", of.name());
            }
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let (lines, length) = (300, 512);
    let data = numbers(40 * length, 1);
    for of in [BlockType::Q8_0, BlockType::Q4_K, BlockType::F16] {
        let bytes = random_blocks(of, lines * length / of.values(), 5);
        let matrix = BlockMatrix::new(of, &bytes, lines, length);
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let products = [1, 3, 8, 40].map(|m| {
                    let forward = Matrix::new(&data, m, length);
                    let backward = Matrix::new(&data, m, lines);
                    let weight = Weight::Blocks(matrix);
                    [
                        weight.transposed().times(forward, Onto::Zero),
                        weight.times(backward, Onto::Zero),
                    ]
                });
                // A row is the same whatever the other rows are.
                assert_eq!(products[1][0][..lines], products[0][0]);
                assert_eq!(products[2][0][..3 * lines], products[1][0]);
                products
            })
        };
        let one = run(1);
        for threads in [2, 3, 7] {
            assert!(run(threads) == one, "{threads} threads change a result");
        }
    }
}
