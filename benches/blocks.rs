//! Products with a weight in blocks of each of ggml's types, compared with the same product in f32
//! and bf16: `cargo bench -p burn-peft-kernels -p burn-peft-cli --bench blocks [TYPE]`.
//!
//! For a few rows (decoding) it prints the weights and bytes per second, and the speed of a plain
//! read of the same memory. For many rows (training) it prints the time of both passes compared
//! with a dense weight. All take turns, and the best time of each is printed, which other work on
//! the machine disturbs least.

use std::hint::black_box;
use std::time::Instant;

use burn_peft_kernels::BlockType;
use burn_peft_kernels::cpu::{BlockMatrix, Matrix, MatrixMut, Onto, Weight};
use rayon::prelude::*;

/// More than the cache holds.
const BYTES: usize = 160 << 20;
const D: usize = 2048;
const TOKENS: usize = 1024;
const SHAPES: [[usize; 2]; 2] = [[576, 576], [1536, 576]];
const ROUNDS: usize = 15;

fn bytes(count: usize) -> Vec<u8> {
    // Read as scales, they are numbers of an ordinary size.
    (0..count)
        .map(|at| ((at * 2_654_435_761) >> 7) as u8 & 0x3b | 0x20)
        .collect()
}

fn seconds(body: impl FnOnce()) -> f64 {
    let start = Instant::now();
    body();
    start.elapsed().as_secs_f64()
}

fn best(times: Vec<f64>) -> f64 {
    times.into_iter().fold(f64::INFINITY, f64::min)
}

/// Reads memory in as many parts as there are threads.
fn read(bytes: &[u8]) -> u64 {
    let part = bytes.len().div_ceil(rayon::current_num_threads());
    let sum = |part: &[u8]| {
        let (words, _) = part.as_chunks::<64>();
        let mut sums = [0u64; 8];
        for line in words {
            for (sum, word) in sums.iter_mut().zip(line.as_chunks::<8>().0) {
                *sum = sum.wrapping_add(u64::from_ne_bytes(*word));
            }
        }
        sums.iter().fold(0, |all, sum| all ^ sum)
    };
    bytes.par_chunks(part).map(sum).reduce(|| 0, |a, b| a ^ b)
}

fn few(of: BlockType, rows: usize) {
    let matrix_bytes = D * D / of.values() * of.bytes();
    let count = BYTES.div_ceil(matrix_bytes);
    let memory = bytes(count * matrix_bytes);
    let x = vec![0.5; rows * D];
    let mut out = vec![0.0; rows * D];
    let (mut products, mut reads) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        products.push(seconds(|| {
            for bytes in memory.chunks_exact(matrix_bytes) {
                let weight = Weight::Blocks(BlockMatrix::new(of, bytes, D, D).transposed());
                let mut out = MatrixMut::new(&mut out, rows, D);
                weight.product(Matrix::new(&x, rows, D), Onto::Zero, &mut out);
            }
        }));
        reads.push(seconds(|| {
            for bytes in memory.chunks_exact(matrix_bytes) {
                black_box(read(bytes));
            }
        }));
    }
    let (product, read) = (best(products), best(reads));
    println!(
        "{:7} {rows} rows: {:6.2} G weights/s, {:6.2} GB/s; a plain read {:6.2} GB/s",
        of.name(),
        (count * D * D) as f64 / product / 1e9,
        memory.len() as f64 / product / 1e9,
        memory.len() as f64 / read / 1e9,
    );
}

/// The products of a token in SmolLM2-135M's layers, called from inside and outside the thread
/// pool.
fn token(of: BlockType) {
    let of_layer = [
        [576, 576],
        [192, 576],
        [192, 576],
        [576, 576],
        [1536, 576],
        [1536, 576],
        [576, 1536],
    ];
    let size = |[d_out, d_in]: [usize; 2]| d_out * d_in / of.values() * of.bytes();
    if of.values() > 32 {
        return;
    }
    let memory = bytes(30 * of_layer.map(size).iter().sum::<usize>());
    let x = vec![0.5; 1536];
    let run = || {
        let mut out = vec![0.0; 1536];
        let mut rest = &memory[..];
        for shape @ [d_out, d_in] in (0..30).flat_map(|_| of_layer) {
            let (bytes, more) = rest.split_at(size(shape));
            rest = more;
            let weight = Weight::Blocks(BlockMatrix::new(of, bytes, d_out, d_in).transposed());
            let mut out = MatrixMut::new(&mut out, 1, d_out);
            weight.product(Matrix::new(&x[..d_in], 1, d_in), Onto::Zero, &mut out);
        }
        black_box(out);
    };
    let mut times = [const { vec![] }; 3];
    for _ in 0..10 * ROUNDS {
        times[0].push(seconds(run));
        times[1].push(rayon::scope(|_| seconds(run)));
        times[2].push(seconds(|| {
            black_box(read(&memory));
        }));
    }
    let [outside, inside, read] = times.map(|times| 1e3 * best(times));
    println!(
        "{:7} a token: {outside:6.3} ms, from inside the pool {inside:6.3} ms; a plain read {read:6.3} ms",
        of.name(),
    );
}

fn many(of: BlockType, in_bf16: bool) {
    for [d_out, d_in] in SHAPES {
        let d_in = d_in.next_multiple_of(of.values());
        let memory = bytes(d_out * d_in / of.values() * of.bytes());
        let blocks = BlockMatrix::new(of, &memory, d_out, d_in).in_bf16(in_bf16);
        let dense: Vec<f32> = (0..d_out * d_in).map(|at| (at % 7) as f32 * 0.1).collect();
        let narrow: Vec<_> = dense.iter().map(|&x| half::bf16::from_f32(x)).collect();
        let dense = if in_bf16 {
            Weight::BF16(Matrix::new(&narrow, d_out, d_in))
        } else {
            Weight::F32(Matrix::new(&dense, d_out, d_in))
        };
        let x = vec![0.5; TOKENS * d_out.max(d_in)];
        let mut times = [const { vec![] }; 4];
        for _ in 0..ROUNDS {
            let weights = [Weight::Blocks(blocks), dense];
            for (weight, times) in weights.iter().zip(times.chunks_mut(2)) {
                let passes = [weight.transposed(), *weight];
                for (weight, times) in passes.iter().zip(times) {
                    let x = Matrix::new(&x[..TOKENS * weight.rows()], TOKENS, weight.rows());
                    times.push(seconds(|| {
                        black_box(weight.times(x, Onto::Zero));
                    }));
                }
            }
        }
        let [forward, backward, dense_forward, dense_backward] = times.map(best);
        println!(
            "{:7} {TOKENS} rows, {d_in} to {d_out}{}: forward {:6.3} ms ({:4.2} times the dense one's speed), backward {:6.3} ms ({:4.2})",
            of.name(),
            if in_bf16 { " in bf16" } else { "" },
            1e3 * forward,
            dense_forward / forward,
            1e3 * backward,
            dense_backward / backward,
        );
    }
}

fn main() {
    let name = std::env::args().skip(1).find(|name| !name.starts_with('-'));
    for of in BlockType::ALL {
        if name.as_ref().is_some_and(|name| name != of.name()) {
            continue;
        }
        for rows in [1, 4, 8] {
            few(of, rows);
        }
        token(of);
        many(of, false);
        many(of, true);
    }
}
