//! Products in eight bits, compared with those in f32 and bf16:
//! `cargo bench -p burn-peft-kernels -p burn-peft-cli --bench int8 [rate|train|head|decode]`.
//!
//! It measures what the instructions alone can do; the frozen products of a training step of GPT-2
//! small and SmolLM2-135M with 4 texts of 256 tokens, forward and backward, with the rounding of
//! activations in the time; the vocabulary loss; and decoding, whose weights the cache does not
//! hold. The types take turns. Ratios are medians over neighbouring runs, times are the best.

use std::hint::black_box;
use std::time::Instant;

use burn_peft_kernels::cpu::vocabulary::cross_entropy;
use burn_peft_kernels::cpu::{Int8Matrix, Matrix, MatrixMut, Onto, Weight, int8};
use half::bf16;

const TOKENS: usize = 1024;

/// `[d_in, d_out]` of the products of a layer, and the head's width and words.
struct Model {
    name: &'static str,
    layers: usize,
    products: &'static [[usize; 2]],
    head: [usize; 2],
}

const MODELS: [Model; 2] = [
    Model {
        name: "GPT-2 small",
        layers: 12,
        products: &[[768, 2304], [768, 768], [768, 3072], [3072, 768]],
        head: [768, 50257],
    },
    Model {
        name: "SmolLM2-135M",
        layers: 30,
        products: &[
            [576, 576],
            [576, 192],
            [576, 192],
            [576, 576],
            [576, 1536],
            [576, 1536],
            [1536, 576],
        ],
        head: [576, 49152],
    },
];

/// Numbers around zero, roughly of a normal distribution.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        // The sum of four uniform numbers.
        (0..4)
            .map(|part| (state >> (16 * part) & 0xffff) as f32 / 65536.0 - 0.5)
            .sum::<f32>()
    };
    (0..count).map(|_| next()).collect()
}

/// A weight `[d_in, d_out]` in all types; f32 and bf16 are stored as in files, `[d_out, d_in]`.
struct Weights {
    wide: Vec<f32>,
    narrow: Vec<bf16>,
    bytes: Int8Matrix,
}

impl Weights {
    fn new([d_in, d_out]: [usize; 2]) -> Self {
        let wide = numbers(d_in * d_out, (d_in * 7 + d_out) as u64);
        let narrow = wide.iter().map(|&x| bf16::from_f32(x)).collect();
        let bytes = Int8Matrix::quantize(Matrix::new(&wide, d_out, d_in).transposed());
        Self {
            wide,
            narrow,
            bytes,
        }
    }

    /// `[d_in, d_out]`.
    fn all(&self) -> [Weight<'_>; 3] {
        let (d_in, d_out) = (self.bytes.rows(), self.bytes.cols());
        [
            Weight::F32(Matrix::new(&self.wide, d_out, d_in).transposed()),
            Weight::BF16(Matrix::new(&self.narrow, d_out, d_in).transposed()),
            Weight::Int8(self.bytes.view()),
        ]
    }
}

/// The times of f32, bf16 and int8, in turns.
#[derive(Default)]
struct Times([Vec<f64>; 3]);

impl Times {
    fn measure(rounds: usize, mut run: impl FnMut(usize)) -> Self {
        let mut times = Self::default();
        for round in 0..=rounds {
            for (of, times) in times.0.iter_mut().enumerate() {
                let start = Instant::now();
                run(of);
                // The first round warms up.
                if round > 0 {
                    times.push(start.elapsed().as_secs_f64());
                }
            }
        }
        times
    }

    fn best(&self) -> [f64; 3] {
        self.0
            .each_ref()
            .map(|times| times.iter().copied().fold(f64::INFINITY, f64::min))
    }

    /// The times of f32 and bf16, divided by that of int8.
    fn ratios(&self) -> [f64; 2] {
        let [wide, narrow, bytes] = &self.0;
        [wide, narrow].map(|times| median(times.iter().zip(bytes).map(|(a, b)| a / b).collect()))
    }

    fn print(&self, what: &str) {
        let [wide, narrow, bytes] = self.best().map(|time| 1e3 * time);
        let [to_wide, to_narrow] = self.ratios();
        println!(
            "{what:38} f32 {wide:8.3} ms, bf16 {narrow:8.3} ms, int8 {bytes:8.3} ms: {to_wide:.2} times f32's speed, {to_narrow:.2} times bf16's"
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// All frozen products of a layer, each as many times as the layer has it.
fn train(model: &Model) {
    let mut sums = [0.0; 3];
    let mut all = Times(std::array::from_fn(|_| vec![0.0; 15]));
    for &shape in model.products {
        let weights = Weights::new(shape);
        for is_backward in [false, true] {
            let weights = weights.all().map(|weight| {
                if is_backward {
                    weight.transposed()
                } else {
                    weight
                }
            });
            let [k, n] = [weights[0].rows(), weights[0].cols()];
            let a = numbers(TOKENS * k, 3);
            let mut out = vec![0.0; TOKENS * n];
            let times = Times::measure(15, |of| {
                let mut out = MatrixMut::new(&mut out, TOKENS, n);
                weights[of].product(Matrix::new(&a, TOKENS, k), Onto::Zero, &mut out);
            });
            let way = if is_backward { "backward" } else { "forward" };
            times.print(&format!("{way}, {k} to {n}"));
            for (sum, best) in sums.iter_mut().zip(times.best()) {
                *sum += best;
            }
            for (all, times) in all.0.iter_mut().zip(&times.0) {
                all.iter_mut()
                    .zip(times)
                    .for_each(|(all, time)| *all += time);
            }
        }
    }
    all.print(&format!("{}: a layer's", model.name));
    let speeds = [sums[0] / sums[2], sums[1] / sums[2]];
    println!("  of the best times {:.2} and {:.2}", speeds[0], speeds[1]);
}

fn head(model: &Model) {
    let [d, words] = model.head;
    let weights = Weights::new(model.head);
    let hidden = numbers(TOKENS * d, 5);
    let targets: Vec<usize> = (0..TOKENS).map(|row| row * 47 % words).collect();
    let times = Times::measure(3, |of| {
        let weight = weights.all()[of].transposed();
        black_box(cross_entropy(&hidden, weight, &targets, true));
    });
    times.print(&format!("{}: the vocabulary loss", model.name));
}

/// The products of `rows` tokens in all layers, one layer after the other, and in the head.
fn decode(model: &Model, rows: usize) {
    let shapes = (0..model.layers).flat_map(|_| model.products.iter().copied());
    let weights: Vec<_> = shapes.chain([model.head]).map(Weights::new).collect();
    let a = numbers(rows * 4096, 3);
    let mut out = vec![0.0; rows * 65536];
    let times = Times::measure(15, |of| {
        for weights in &weights {
            let weight = weights.all()[of];
            let a = Matrix::new(&a, rows, weight.rows());
            weight.product(
                a,
                Onto::Zero,
                &mut MatrixMut::new(&mut out, rows, weight.cols()),
            );
        }
    });
    times.print(&format!("{}: {rows} rows decoded", model.name));
}

/// The rate of each instruction, issued one after the other on all threads.
#[cfg(target_arch = "x86_64")]
fn rate() {
    use std::arch::x86_64::*;

    const ROUNDS: usize = 1_000_000;

    // Twelve sums, more than the cycles that an instruction takes; the loops leave them in
    // registers.
    #[target_feature(enable = "avx512f")]
    fn fma() {
        let mut sums = [_mm512_setzero_ps(); 12];
        let (a, b) = (
            _mm512_set1_ps(black_box(0.5)),
            _mm512_set1_ps(black_box(0.1)),
        );
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(a, b, *sum);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn vnni() {
        let mut sums = [_mm512_setzero_si512(); 12];
        let (a, b) = (
            _mm512_set1_epi32(black_box(3)),
            _mm512_set1_epi32(black_box(5)),
        );
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, a, b);
            }
        }
        black_box(sums);
    }

    if !(is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni")) {
        return println!("no AVX512-VNNI here");
    }
    let threads = rayon::current_num_threads();
    let of = |body: fn()| {
        let start = Instant::now();
        rayon::broadcast(|_| body());
        (12 * ROUNDS * threads) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    let mut best = [0f64; 2];
    for _ in 0..30 {
        // SAFETY: the features were checked.
        let rates = [of(|| unsafe { fma() }), of(|| unsafe { vnni() })];
        best.iter_mut()
            .zip(rates)
            .for_each(|(best, rate)| *best = best.max(rate));
    }
    let [wide, whole] = best;
    println!(
        "{threads} threads: vfmadd {wide:.2} G/s, {:.0} GFLOP/s; vpdpbusd {whole:.2} G/s, {:.0} GOP/s: {:.2} times",
        32.0 * wide,
        128.0 * whole,
        4.0 * whole / wide,
    );
}

#[cfg(not(target_arch = "x86_64"))]
fn rate() {}

fn main() {
    let name = std::env::args().skip(1).find(|name| !name.starts_with('-'));
    let wants = |what: &str| name.as_ref().is_none_or(|name| name == what);
    println!("{}", int8::body_name());
    if wants("rate") {
        rate();
    }
    for model in MODELS {
        if wants("train") {
            train(&model);
        }
        if wants("head") {
            head(&model);
        }
        if wants("decode") {
            for rows in [1, 2, 4, 8] {
                decode(&model, rows);
            }
        }
    }
}
