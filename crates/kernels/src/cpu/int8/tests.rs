mod weights;

use super::body::Body;
use super::product::product_by;
use super::*;
use crate::cpu::{Matrix, MatrixMut, Onto, Weight};
use crate::testing::numbers;

const SHAPES: [[usize; 3]; 10] = [
    [1, 1, 1],
    [2, 3, 70],
    [3, 64, 64],
    [5, 65, 33],
    [7, 130, 129],
    [13, 200, 31],
    [29, 63, 257],
    [70, 900, 100],
    [600, 70, 96],
    // Rows of whole squares.
    [50, 576, 70],
];

/// Rows of several kinds: a plain one, one of zeros, one with an outlier, one of tiny numbers, one
/// whose numbers all differ in size, and two with values that are not finite.
fn rows(m: usize, k: usize) -> Vec<f32> {
    let mut a = numbers(m * k, 1);
    for (row, a) in a.chunks_exact_mut(k).enumerate() {
        let place = row * 37 % k;
        match row % 9 {
            1 => a.fill(0.0),
            2 => a[place] = 1e4,
            3 => a.iter_mut().for_each(|a| *a *= 1e-38),
            4 => a.iter_mut().for_each(|a| *a *= 1e-44),
            5 => (a.iter_mut().enumerate()).for_each(|(at, a)| *a *= (at as f32).exp2() % 1e3),
            6 => a[place] = f32::NAN,
            7 => a[place] = f32::INFINITY,
            _ => {}
        }
    }
    a
}

fn weight(rows: usize, cols: usize) -> Int8Matrix {
    let mut values = numbers(rows * cols, 2);
    // Squares of different sizes, one of them of zeros.
    for (at, value) in values.iter_mut().enumerate() {
        let (row, col) = (at / cols / SQUARE, at % cols / SQUARE);
        *value *= ((row * 2 + col) % 4) as f32;
    }
    Int8Matrix::quantize(Matrix::new(&values, rows, cols))
}

/// The largest magnitude of each block.
fn sizes(row: &[f32]) -> Vec<f64> {
    let blocks = row.chunks(BLOCK);
    let size = |block: &[f32]| block.iter().fold(0f32, |most, x| x.abs().max(most));
    blocks.map(|block| size(block).into()).collect()
}

/// The size above which a block keeps its rest: the bits of a number are its logarithm to within a
/// few hundredths.
fn limit(row: &[f32], limit: Limit) -> f64 {
    let sizes = sizes(row).into_iter().filter(|size| *size > 1e-36);
    let logs: Vec<_> = sizes.map(f64::log2).collect();
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    let far = if logs.is_empty() {
        f64::INFINITY
    } else {
        (mean + 2.7).exp2()
    };
    match limit {
        Limit::Relative => far,
        Limit::Probability => far.max(1.001 / 16.0),
    }
}

/// Both directions of a weight, each with rows for it.
fn each_case(mut run: impl FnMut(Matrix<'_, f32>, Int8View<'_>)) {
    for [m, k, n] in SHAPES {
        for (weight, is_transposed) in [(weight(k, n), false), (weight(n, k), true)] {
            let view = if is_transposed {
                weight.view().transposed()
            } else {
                weight.view()
            };
            let a = rows(m, k);
            run(Matrix::new(&a, m, k), view);
            run(Matrix::new(&a, m, k), view.with_limit(Limit::Probability));
        }
    }
}

fn times(body: &Body, a: Matrix<'_, f32>, b: Int8View<'_>, onto: Onto<'_>) -> Vec<f32> {
    let mut c = numbers(a.rows() * b.cols(), 3);
    product_by(
        body,
        a,
        b,
        None,
        onto,
        &mut MatrixMut::new(&mut c, a.rows(), b.cols()),
    );
    c
}

/// The sum of a row's products with a column in f64, and how far eight bits may be off it. A
/// rounded activation is off by at most half of its block's scale, which is a 127th of its largest;
/// in a block with a rest, by at most a 127th of that. A weight that is rounded again is off
/// by half of its block's scale too. The rounding of f32 is in proportion to the sum of the
/// magnitudes.
fn sum_and_bound(
    row: &[f32],
    column: &dyn Fn(usize) -> f32,
    start: f64,
    limit: f64,
    is_rounded_again: bool,
) -> (f64, f64) {
    let sizes = sizes(row);
    let (mut sum, mut all, mut off) = (start, start.abs(), 1e-42);
    for (at, block) in row.chunks(BLOCK).enumerate() {
        let rest = if sizes[at] < limit { 1.0 } else { 1.0 / 254.0 };
        let off_x = rest * sizes[at].max(1e-36) / 254.0;
        let weight = |p: usize| f64::from(column(at * BLOCK + p));
        let largest = (0..block.len())
            .map(|p| weight(p).abs())
            .fold(0.0, f64::max);
        let off_w = if is_rounded_again {
            largest / 254.0
        } else {
            0.0
        };
        for (p, &x) in block.iter().enumerate() {
            let (x, w) = (f64::from(x), weight(p));
            sum += x * w;
            all += (x * w).abs();
            off += off_x * (w.abs() + off_w) + off_w * x.abs();
        }
    }
    (sum, off + 1e-5 * all)
}

/// Every body, added to each kind of start.
#[test]
fn agrees_with_f64() {
    each_case(|a, b| {
        let (m, k, n) = (a.rows(), a.cols(), b.cols());
        let dense = b.dequantize();
        let bias = numbers(n, 4);
        let before = numbers(m * n, 3);
        for (onto, body) in [Onto::Zero, Onto::Row(&bias), Onto::Current]
            .iter()
            .flat_map(|onto| Body::all().into_iter().map(move |body| (*onto, body)))
        {
            let found = times(body, a, b, onto);
            for (i, found) in found.chunks_exact(n).enumerate() {
                let row = a.row(i);
                let limit = limit(row, b.limit());
                for (j, &found) in found.iter().enumerate() {
                    let start = match onto {
                        Onto::Zero => 0.0,
                        Onto::Row(bias) => bias[j].into(),
                        Onto::Current => f64::from(before[i * n + j]),
                    };
                    // A value that is not finite has no scale: its block is NaN, and so is every
                    // sum of its row, also where f64 has an infinite one.
                    if row.iter().any(|x| !x.is_finite()) {
                        assert!(found.is_nan(), "{m}, {k}, {n}: {found}");
                        continue;
                    }
                    let column = |p: usize| dense[p * n + j];
                    let (sum, off) = sum_and_bound(row, &column, start, limit, b.is_transposed());
                    let error = (f64::from(found) - sum).abs();
                    assert!(
                        error <= off,
                        "{m}, {k}, {n}, row {i}: {found}, {sum} ± {off}"
                    );
                }
            }
        }
    });
}

/// Rounding is to nearest, so errors cancel: much less is left than the bound allows.
#[test]
fn errors_are_small_beside_the_result() {
    let (m, k, n) = (40, 768, 300);
    let a = numbers(m * k, 1);
    let a = Matrix::new(&a, m, k);
    let weight = weight(k, n);
    let dense = weight.view().dequantize();
    let expected = Weight::F32(Matrix::new(&dense, k, n)).times(a, Onto::Zero);
    let found = times(Body::chosen(), a, weight.view(), Onto::Zero);
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>().sqrt();
    let off = norm(&mut found.iter().zip(&expected).map(|(a, b)| a - b));
    let relative = off / norm(&mut expected.iter().copied());
    assert!(relative < 0.005, "{relative}");
}

/// The bits of values; NaN may have any of its bits.
fn bits(values: &[f32]) -> Vec<u32> {
    let canonical = |x: &f32| if x.is_nan() { f32::NAN } else { *x }.to_bits();
    values.iter().map(canonical).collect()
}

#[test]
fn all_bodies_give_the_same_bits() {
    each_case(|a, b| {
        let onto = numbers(b.cols(), 4);
        let all = Body::all();
        let found = all
            .iter()
            .map(|body| bits(&times(body, a, b, Onto::Row(&onto))));
        let found: Vec<_> = found.collect();
        for (body, other) in all.iter().zip(&found) {
            assert!(*other == found[0], "{} differs", body.name);
        }
    });
}

#[test]
fn neither_threads_nor_other_rows_change_a_bit() {
    let (m, k, n) = (600, 900, 330);
    let a = rows(m, k);
    let weight = weight(k, n);
    let back = self::weight(n, k);
    for body in Body::all() {
        let run = |threads, first: usize, m| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let a = Matrix::new(&a, 600, k).some_rows(first..first + m);
                [weight.view(), back.view().transposed()]
                    .map(|b| bits(&times(body, a, b, Onto::Zero)))
            })
        };
        let one = run(1, 0, m);
        for threads in [2, 3, 7] {
            assert!(
                run(threads, 0, m) == one,
                "{threads} threads change a result"
            );
        }
        for (first, count) in [
            (0, 1),
            (2, 1),
            (5, 2),
            (17, 3),
            (100, 4),
            (200, 9),
            (300, 40),
        ] {
            for (some, all) in run(2, first, count).iter().zip(&one) {
                assert!(*some == all[first * n..(first + count) * n], "row {first}");
            }
        }
    }
}

/// A left side whose columns are contiguous, and parts of a head.
#[test]
fn views_are_products_of_their_parts() {
    let (m, k, n) = (20, 130, 500);
    let a = rows(m, k);
    let by_columns: Vec<f32> = (0..m * k).map(|at| a[at % m * k + at / m]).collect();
    let weight = weight(k, n);
    let view = weight.view();
    let all = times(Body::chosen(), Matrix::new(&a, m, k), view, Onto::Zero);
    let turned = Matrix::new(&by_columns, k, m).transposed();
    assert!(bits(&all) == bits(&times(Body::chosen(), turned, view, Onto::Zero)));
    let words = view.transposed().some_rows(128..400);
    let found = times(Body::chosen(), turned, words.transposed(), Onto::Zero);
    let wanted: Vec<f32> = all
        .chunks(n)
        .flat_map(|row| &row[128..400])
        .copied()
        .collect();
    assert!(bits(&found) == bits(&wanted));
    let a = numbers(m * 272, 7);
    let back = times(Body::chosen(), Matrix::new(&a, m, 272), words, Onto::Zero);
    let alone = Int8Matrix::quantize(Matrix::new(&words.dequantize(), 272, k));
    let wanted = times(
        Body::chosen(),
        Matrix::new(&a, m, 272),
        alone.view(),
        Onto::Zero,
    );
    for (found, wanted) in back.iter().zip(wanted) {
        assert!((found - wanted).abs() < 0.3, "{found}, {wanted}");
    }
}

/// The only test that takes the counts. Others run at the same time and count too, so there may be
/// more than this test's: nine rows of 200 values, padded to whole squares, have eight blocks each,
/// some of them above the limit.
#[test]
fn blocks_are_counted() {
    let (a, weight) = (rows(9, 200), weight(200, 10));
    let finite = (a.chunks(200)).filter(|row| row.iter().all(|x| x.is_finite()));
    let outliers = finite.map(|row| {
        let limit = limit(row, Limit::Relative);
        sizes(row).iter().filter(|size| **size > limit).count() as u64
    });
    let outliers: u64 = outliers.sum();
    assert!(outliers > 0);
    take_block_counts();
    times(
        Body::chosen(),
        Matrix::new(&a, 9, 200),
        weight.view(),
        Onto::Zero,
    );
    let counts = take_block_counts();
    assert!(
        counts.all >= 9 * 8 && counts.outliers >= outliers,
        "{counts:?}, {outliers}"
    );
}
