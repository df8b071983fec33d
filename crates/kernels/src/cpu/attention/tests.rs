//! Compares with plain loops in f64, whose own gradients one test compares with differences.

mod case;

use pulp::Arch;

use self::case::{Case, archs, exact, values};
use super::decode::decode_on;
use super::*;

#[test]
fn plain_loops_have_the_right_gradients() {
    let mut case = Case::new(4, 2, 3, &[(1, 5, 3), (6, 2, 2)]);
    case.check_differences();
    case.dims.window = Some(2);
    case.dims.softcap = Some(0.7);
    case.check_differences();
    case.dropout = Some(Dropout {
        seed: 5,
        first: 0,
        probability: 0.3,
    });
    case.check_differences();
}

#[test]
fn agrees_with_plain_loops() {
    // Texts without padding, with it, with gaps between them, and one that is nothing but padding.
    let spans = [
        (0, 1, 1),
        (1, 7, 7),
        (8, 65, 65),
        (80, 129, 129),
        (209, 40, 33),
        (250, 3, 0),
    ];
    for head_dim in [16, 48, 64, 80] {
        Case::new(2, 2, head_dim, &spans).check();
    }
    Case::new(4, 2, 20, &spans).check();
    Case::new(6, 1, 7, &spans).check();
}

#[test]
fn agrees_on_many_blocks() {
    let spans = [
        (3, 2 * KEYS + 70, 2 * KEYS + 70),
        (500, 3 * QUERIES + 5, KEYS + 1),
    ];
    Case::new(2, 1, 64, &spans).check();
    // More queries than a task has, with and without a window.
    let mut long = Case::new(1, 1, 20, &[(1, 9 * QUERIES, 9 * QUERIES - 3)]);
    long.check();
    long.dims.window = Some(150);
    long.check();
}

#[test]
fn windows_and_caps_agree_with_plain_loops() {
    let spans = [
        (0, 1, 1),
        (2, 7, 5),
        (9, 2 * KEYS + 70, 2 * KEYS + 70),
        (400, 3 * QUERIES + 5, KEYS + 1),
        (700, 40, 40),
    ];
    for (heads, kv_heads, head_dim) in [(2, 2, 64), (4, 2, 20), (3, 1, 96)] {
        let mut case = Case::new(heads, kv_heads, head_dim, &spans);
        for window in [1, 5, 16, 100, 129, 300, 1000] {
            case.dims.window = Some(window);
            case.dims.softcap = (window % 2 == 1).then_some(3.0);
            case.dropout = (window == 100).then_some(Dropout {
                seed: 3,
                first: 0,
                probability: 0.2,
            });
            case.check();
        }
    }
}

#[test]
fn wide_heads_and_shared_keys_agree_with_plain_loops() {
    let short = [(0, 60, 60), (60, 9, 7)];
    for (heads, kv_heads, head_dim) in [(4, 2, 128), (3, 1, 256), (9, 3, 64), (2, 2, 96)] {
        Case::new(heads, kv_heads, head_dim, &short).check();
        // More texts than [`FEW`]: a task is all the heads that share keys.
        let many: Vec<_> = (0..9).map(|text| (text * 31, 30, 30 - text)).collect();
        Case::new(heads, kv_heads, head_dim, &many).check();
    }
}

#[test]
fn drops_the_same_weights_in_both_directions() {
    let spans = [(2, 25, 25), (30, 140, 131)];
    let mut case = Case::new(4, 2, 16, &spans);
    case.dropout = Some(Dropout {
        seed: 9,
        first: 0,
        probability: 0.2,
    });
    case.check();
    case.dropout = Some(Dropout {
        seed: 9,
        first: 0,
        probability: 0.0,
    });
    case.check();
}

#[test]
fn large_scores_do_not_overflow() {
    let mut case = Case::new(1, 1, 16, &[(0, 140, 140)]);
    case.dims.scale = 40.0;
    let qkv = values(3, case.tokens * 48);
    let grad_out = values(4, case.tokens * 16);
    let [out, lse, grads] = case.run(Arch::new(), &qkv, &grad_out);
    assert!(
        [out, lse, grads]
            .iter()
            .flatten()
            .all(|value| value.is_finite())
    );
}

/// Asserts that one thread and three give the same.
fn assert_same_by_threads<T: PartialEq + std::fmt::Debug + Send>(run: impl Fn() -> T + Sync) {
    let [one, three] = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(&run)
    });
    assert_eq!(one, three);
}

#[test]
fn threads_change_no_bit() {
    let three = [(0, 200, 200), (200, 90, 77), (290, 7, 7)];
    let mut case = Case::new(6, 3, 48, &three);
    case.dropout = Some(Dropout {
        seed: 1,
        first: 0,
        probability: 0.1,
    });
    let mut one = Case::new(6, 2, 48, &[(0, 1000, 990)]);
    one.dims.window = Some(600);
    one.dims.softcap = Some(2.0);
    for case in [case.both(), one.both(), case, one] {
        let qkv = values(5, case.tokens * case.widths().iter().sum::<usize>());
        let grad_out = values(6, case.tokens * case.dims.query_width());
        assert_same_by_threads(|| case.run(Arch::new(), &qkv, &grad_out));
        let (keys, cached) = (values(7, 2 * 48 * 900), values(8, 2 * 48 * 900));
        let dims = Dims {
            kv_heads: 2,
            ..case.dims
        };
        assert_same_by_threads(|| {
            let cache = Cache {
                keys: &keys,
                values: &cached,
                capacity: 900,
                seen: std::slice::from_ref(&(13..900)),
            };
            let mut out = vec![0.0; dims.query_width()];
            decode(
                dims,
                Columns::new(&qkv, dims.query_width(), 0),
                cache,
                &mut out,
            );
            out
        });
    }
}

#[test]
fn one_token_over_a_cache_is_the_last_of_a_text() {
    for (heads, kv_heads, head_dim) in [(2, 2, 64), (4, 2, 80), (3, 1, 23)] {
        let scale = 1.0 / (head_dim as f32).sqrt();
        let dims = Dims {
            heads,
            kv_heads,
            head_dim,
            scale,
            causal: true,
            window: None,
            softcap: None,
        };
        let (capacity, lengths) = (600, [1, 599, 17, 0]);
        let seen = lengths.map(|length| 0..length);
        let size = lengths.len() * kv_heads * capacity * head_dim;
        let (keys, cached) = (values(1, size), values(2, size));
        let q = values(3, lengths.len() * heads * head_dim);
        let outs = archs().into_iter().map(|arch| {
            let mut out = vec![f32::NAN; q.len()];
            let cache = Cache {
                keys: &keys,
                values: &cached,
                capacity,
                seen: &seen,
            };
            decode_on(
                arch,
                dims,
                Columns::new(&q, dims.query_width(), 0),
                cache,
                &mut out,
            );
            out
        });
        let outs: Vec<_> = outs.collect();
        for (sequence, &length) in lengths.iter().enumerate() {
            // The same text flattened, with a query at its last token.
            let case = Case {
                dims,
                tokens: length,
                spans: vec![Span {
                    start: 0,
                    queries: length,
                    keys: length,
                }],
                dropout: None,
            };
            let mut qkv = Vec::new();
            let width = dims.query_width();
            for token in 0..length {
                qkv.extend(exact(&q[sequence * width..][..width]));
                for from in [&keys, &cached] {
                    for head in 0..kv_heads {
                        let row = (sequence * kv_heads + head) * capacity + token;
                        qkv.extend(exact(&from[row * head_dim..][..head_dim]));
                    }
                }
            }
            let [naive, ..] = case.naive(&qkv, &vec![0.0; length * width]);
            let expected = if length == 0 { vec![0.0; width] } else { naive };
            let last = &expected[expected.len() - width..];
            for out in &outs {
                for (ours, exact) in out[sequence * width..][..width].iter().zip(last) {
                    assert!(
                        (f64::from(*ours) - exact).abs() < 2e-6,
                        "{ours} and {exact}"
                    );
                }
            }
        }
    }
}
