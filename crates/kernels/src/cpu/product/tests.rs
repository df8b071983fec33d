use half::bf16;

use super::*;
use crate::testing::numbers;

const SIZES: [usize; 12] = [1, 2, 3, 7, 15, 16, 17, 31, 33, 64, 100, 129];

fn narrow(numbers: &[f32]) -> Vec<bf16> {
    numbers.iter().map(|&x| bf16::from_f32(x)).collect()
}

/// A matrix `[rows, cols]` in memory of either order, with gaps.
struct Case<T> {
    data: Vec<T>,
    rows: usize,
    cols: usize,
    by_columns: bool,
}

impl<T: Copy> Case<T> {
    const GAP: usize = 3;

    fn new(rows: usize, cols: usize, by_columns: bool, make: impl Fn(usize) -> Vec<T>) -> Self {
        let (lines, len) = if by_columns {
            (cols, rows)
        } else {
            (rows, cols)
        };
        Self {
            data: make(lines * (len + Self::GAP) - Self::GAP),
            rows,
            cols,
            by_columns,
        }
    }

    fn view(&self) -> Matrix<'_, T> {
        if self.by_columns {
            Matrix::with_stride(&self.data, self.cols, self.rows, self.rows + Self::GAP)
                .transposed()
        } else {
            Matrix::with_stride(&self.data, self.rows, self.cols, self.cols + Self::GAP)
        }
    }
}

fn at<T: Copy>(a: Matrix<'_, T>, i: usize, j: usize) -> T {
    a.data()[i * a.row_stride() + j * a.col_stride()]
}

/// Runs a product over C with gaps and compares it with sums in f64 of the (rounded) factors.
fn compare<T: Copy>(
    a: Matrix<'_, f32>,
    b: Matrix<'_, T>,
    onto: Onto<'_>,
    round: impl Fn(f32) -> f32,
    value: impl Fn(T) -> f64,
    run: impl Fn(Matrix<'_, f32>, Matrix<'_, T>, Onto<'_>, &mut MatrixMut<'_>),
) {
    let (m, n, k) = (a.rows(), b.cols(), a.cols());
    let stride = n + 5;
    let before = numbers(m * stride, 3);
    let mut c = before.clone();
    run(
        a,
        b,
        onto,
        &mut MatrixMut::with_stride(&mut c, m, n, stride),
    );
    for i in 0..m {
        for j in 0..stride {
            let got = c[i * stride + j];
            if j >= n {
                assert_eq!(got, before[i * stride + j], "written beyond row {i}");
                continue;
            }
            let base = match onto {
                Onto::Zero => 0.0,
                Onto::Row(row) => row[j],
                Onto::Current => before[i * stride + j],
            };
            let terms = (0..k).map(|p| f64::from(round(at(a, i, p))) * value(at(b, p, j)));
            let (sum, size) = terms.fold((f64::from(base), f64::from(base).abs()), |(s, z), x| {
                (s + x, z + x.abs())
            });
            // k + 1 roundings of sums no larger than `size`.
            let bound = size * f64::from(f32::EPSILON) * (k as f64 + 2.0);
            assert!(
                (f64::from(got) - sum).abs() <= bound,
                "({i}, {j}) of [{m}, {k}] · [{k}, {n}]: {got} instead of {sum}"
            );
        }
    }
}

/// Every size in every place, with the orders and bases taken in turn.
fn each_shape(mut check: impl FnMut(usize, usize, usize, bool, bool, Onto<'_>)) {
    let bias = numbers(700, 4);
    let mut turn = 0;
    let odd = [
        (15, 33, 515),
        (16, 16, 700),
        (30, 550, 17),
        (300, 70, 31),
        (143, 600, 258),
    ];
    let triples = SIZES
        .iter()
        .flat_map(|&m| SIZES.iter().map(move |&n| (m, n)));
    let triples = triples.flat_map(|(m, n)| SIZES.iter().map(move |&k| (m, n, k)));
    for (m, n, k) in triples.chain(odd) {
        turn += 1;
        let onto = [Onto::Zero, Onto::Row(&bias[..n]), Onto::Current][turn % 3];
        check(m, n, k, turn / 3 % 2 == 0, turn / 6 % 4 == 0, onto);
    }
}

#[test]
fn f32_agrees_with_f64() {
    each_shape(|m, n, k, b_by_columns, a_by_columns, onto| {
        let a = Case::new(m, k, a_by_columns, |len| numbers(len, 1));
        let b = Case::new(k, n, b_by_columns, |len| numbers(len, 2));
        compare(a.view(), b.view(), onto, |x| x, f64::from, product_f32);
        if m * n < 300 {
            compare(
                a.view(),
                b.view(),
                onto,
                |x| x,
                f64::from,
                portable::product_f32,
            );
        }
    });
}

#[test]
fn bf16_agrees_with_f64_of_the_rounded_factors() {
    each_shape(|m, n, k, b_by_columns, a_by_columns, onto| {
        let a = Case::new(m, k, a_by_columns, |len| numbers(len, 1));
        let b = Case::new(k, n, b_by_columns, |len| narrow(&numbers(len, 2)));
        let round = |x| bf16::from_f32(x).to_f32();
        #[cfg(target_arch = "x86_64")]
        let rounds = is_x86_feature_detected!("avx512bf16");
        #[cfg(not(target_arch = "x86_64"))]
        let rounds = false;
        // Few rows keep their precision.
        if rounds && (m > 4 || a.view().col_stride() != 1) {
            compare(a.view(), b.view(), onto, round, bf16::to_f64, product_bf16);
        }
        if !rounds || m <= 4 && a.view().col_stride() == 1 {
            compare(a.view(), b.view(), onto, |x| x, bf16::to_f64, product_bf16);
        }
        if m * n < 300 {
            compare(
                a.view(),
                b.view(),
                onto,
                |x| x,
                bf16::to_f64,
                portable::product_bf16,
            );
        }
    });
}

#[test]
fn threads_do_not_change_a_bit() {
    let (n, k) = (600, 700);
    let (a, w) = (numbers(143 * k, 1), numbers(k * n, 2));
    let half = narrow(&w);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let mut out = vec![];
            for m in [1, 3, 8, 143] {
                let a = Matrix::new(&a[..m * k], m, k);
                let mut c = vec![0.0; m * n];
                let by_rows = Matrix::new(&w, k, n);
                product_f32(a, by_rows, Onto::Zero, &mut MatrixMut::new(&mut c, m, n));
                let by_columns = Matrix::new(&half, n, k).transposed();
                for half in [by_columns, Matrix::new(&half, k, n)] {
                    product_bf16(a, half, Onto::Current, &mut MatrixMut::new(&mut c, m, n));
                }
                out.push(c);
            }
            out
        })
    };
    let one = run(1);
    for threads in [2, 3, 7] {
        assert!(run(threads) == one, "{threads} threads change a result");
    }
}

#[test]
fn nothing_along_k_leaves_the_base() {
    let mut c = vec![7.0; 6];
    let (a, b) = (Matrix::new(&[], 2, 0), Matrix::new(&[], 0, 3));
    product_f32(
        a,
        b,
        Onto::Row(&[1.0, 2.0, 3.0]),
        &mut MatrixMut::new(&mut c, 2, 3),
    );
    assert_eq!(c, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    product_f32(a, b, Onto::Current, &mut MatrixMut::new(&mut c, 2, 3));
    assert_eq!(c, [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]);
    let nothing = Matrix::new(&[], 0, 0);
    product_f32(
        nothing,
        nothing,
        Onto::Zero,
        &mut MatrixMut::new(&mut [], 0, 0),
    );
}

#[test]
fn plain_loops_of_few_rows_agree_with_the_product() {
    let (k, n) = (33, 19);
    let (a, w) = (numbers(2 * k, 1), narrow(&numbers(k * n, 2)));
    let rows = [&a[..k], &a[k..]];
    let mut c = vec![0.0; 2 * n];
    let by_rows = Matrix::new(&w, k, n);
    portable::product_bf16(
        Matrix::new(&a, 2, k),
        by_rows,
        Onto::Zero,
        &mut MatrixMut::new(&mut c, 2, n),
    );
    let mut sums = vec![0.0; 2 * n];
    gemv::plain::add_rows(rows.map(|a| &a[..20]), by_rows, 0, &mut sums);
    gemv::plain::add_rows(rows.map(|a| &a[20..]), by_rows, 20, &mut sums);
    assert!(
        c.iter().zip(&sums).all(|(c, sum)| (c - sum).abs() < 1e-5),
        "{c:?} {sums:?}"
    );

    let by_columns = Matrix::new(&w, n, k);
    let b = by_columns.transposed();
    portable::product_bf16(
        Matrix::new(&a, 2, k),
        b,
        Onto::Zero,
        &mut MatrixMut::new(&mut c, 2, n),
    );
    gemv::plain::inner_products(&rows, by_columns, 5, &mut sums[..2 * (n - 5)]);
    for j in 5..n {
        for i in 0..2 {
            assert!(
                (c[i * n + j] - sums[(j - 5) * 2 + i]).abs() < 1e-5,
                "({i}, {j})"
            );
        }
    }
}

/// A row is the same to the last bit whether there are few or many other rows.
#[test]
#[cfg(target_arch = "x86_64")]
fn few_rows_are_those_of_many() {
    for (k, n) in [(1, 1), (7, 33), (576, 200), (1001, 97), (1700, 1601)] {
        let (a, w) = (numbers(40 * k, 1), numbers(k * n, 2));
        let (half, bias) = (narrow(&w), numbers(n, 3));
        let before = numbers(40 * n, 4);
        let run = |m: usize, onto: Onto<'_>| {
            let mut both = [before[..m * n].to_vec(), before[..m * n].to_vec()];
            let a = Matrix::new(&a[..m * k], m, k);
            let [c, narrow] = &mut both;
            product_f32(a, Matrix::new(&w, k, n), onto, &mut MatrixMut::new(c, m, n));
            let half = Matrix::new(&half, k, n);
            product_bf16(a, half, onto, &mut MatrixMut::new(narrow, m, n));
            both
        };
        if !is_x86_feature_detected!("avx512bf16") {
            return;
        }
        for onto in [Onto::Zero, Onto::Row(&bias), Onto::Current] {
            let many = run(40, onto);
            for m in 5..=8 {
                for (few, many) in run(m, onto).iter().zip(&many) {
                    assert!(*few == many[..m * n], "[{m}, {k}] · [{k}, {n}]");
                }
            }
        }
    }
}

/// Narrow right sides, and few rows that are stored as columns, give the same bits as among others.
#[test]
#[cfg(target_arch = "x86_64")]
fn narrow_sides_are_those_of_wide_ones() {
    if !is_x86_feature_detected!("avx512f") {
        return;
    }
    for (m, k) in [(9, 1), (13, 33), (100, 576), (257, 1001)] {
        let (many, few) = (numbers(m * k, 1), numbers(k * 40, 2));
        let before = numbers(m * 40, 4);
        // [m, k] · [k, n], with the first of 40 columns, which lie either way.
        let run = |n: usize, by_columns: bool| {
            let mut c = before.clone();
            let b = if by_columns {
                Matrix::new(&few, 40, k).transposed()
            } else {
                Matrix::new(&few, k, 40)
            };
            let (a, b) = (Matrix::new(&many, m, k), b.some_columns(0..n));
            let mut part = MatrixMut::with_stride(&mut c, m, n, 40);
            product_f32(a, b, Onto::Current, &mut part);
            c
        };
        // [r, k] · [k, m], with the first of 40 rows.
        let turned = |r: usize| {
            let mut c = before[..r * m].to_vec();
            let a = Matrix::new(&few, k, 40).some_columns(0..r).transposed();
            let b = Matrix::new(&many, k, m);
            product_f32(a, b, Onto::Current, &mut MatrixMut::new(&mut c, r, m));
            c
        };
        let (wide, high) = ([false, true].map(|way| run(40, way)), turned(40));
        for some in [1, 7, 8, 16, 17, 32] {
            for (wide, way) in wide.iter().zip([false, true]) {
                let found = run(some, way);
                for row in 0..m {
                    let columns = 40 * row..40 * row + some;
                    assert!(
                        found[columns.clone()] == wide[columns],
                        "{m} x {k} x {some}"
                    );
                }
            }
            assert!(turned(some) == high[..some * m], "{some} x {k} x {m}");
        }
    }
}
