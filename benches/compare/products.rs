//! Matrix products, each measured alone: the limit of a training step's speed.
//!
//! ```text
//! cargo run --release --example products -- SHAPES.json [--bf16]
//! ```
//!
//! `SHAPES.json` is a list of `{"batch", "m", "k", "n"}` (`benches/compare/products.py`). Prints
//! the median seconds of each as JSON. A product without a batch is ours, into memory that exists
//! already (with `--bf16` the right side is in bf16); one with a batch is Burn's.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::{Device, Distribution, Tensor};
use burn_peft_kernels::cpu::{Matrix, MatrixMut, Onto, Weight};
use half::{bf16, slice::HalfFloatSliceExt};
use serde_json::{Value, json};

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("give SHAPES.json")?;
    let narrow = std::env::args().nth(2).is_some_and(|word| word == "--bf16");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let shapes: Vec<Value> =
        serde_json::from_str(&text).with_context(|| format!("{path} is not a list of shapes"))?;
    let mut seconds = Vec::new();
    for shape in &shapes {
        let size = |key: &str| {
            let size = shape[key].as_u64();
            size.map(|size| size as usize)
                .with_context(|| format!("{path}: {shape} has no number `{key}`"))
        };
        let [batch, m, k, n] = [size("batch")?, size("m")?, size("k")?, size("n")?];
        seconds.push(match batch {
            1 => ours(m, k, n, narrow)?,
            _ => burns(batch, m, k, n),
        });
    }
    println!("{}", json!({ "seconds": seconds }));
    Ok(())
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Default, &Device::flex())
}

/// Our `[m, k] · [k, n]`, in the faster layout of the right side.
fn ours(m: usize, k: usize, n: usize, narrow: bool) -> Result<f64> {
    let values = |length| -> Result<Vec<f32>> { Ok(random([length]).into_data().try_to_vec()?) };
    let (left, right, mut out) = (values(m * k)?, values(k * n)?, vec![0.0; m * n]);
    let mut bits = vec![bf16::ZERO; k * n];
    bits.convert_from_f32_slice(&right);
    let weight = |rows, columns| {
        if narrow {
            Weight::BF16(Matrix::new(&bits, rows, columns))
        } else {
            Weight::F32(Matrix::new(&right, rows, columns))
        }
    };
    let mut time = |weight: Weight| {
        median(|| {
            let mut out = MatrixMut::new(&mut out, m, n);
            weight.product(Matrix::new(&left, m, k), Onto::Zero, &mut out);
        })
    };
    Ok(time(weight(k, n)).min(time(weight(n, k).transposed())))
}

/// Burn's `[batch, m, k] · [batch, k, n]`, likewise in the faster layout.
fn burns(batch: usize, m: usize, k: usize, n: usize) -> f64 {
    let (left, right) = (random([batch, m, k]), random([batch, k, n]));
    let turned = random([batch, n, k]).swap_dims(1, 2);
    let time = |right: &Tensor<3>| {
        median(|| {
            black_box(left.clone().matmul(right.clone()));
        })
    };
    time(&right).min(time(&turned))
}

/// The median of five times, in seconds, after one that does not count.
fn median(mut product: impl FnMut()) -> f64 {
    let mut time = || {
        let start = Instant::now();
        product();
        start.elapsed().as_secs_f64()
    };
    time();
    let mut times: [f64; 5] = std::array::from_fn(|_| time());
    times.sort_by(f64::total_cmp);
    times[2]
}
