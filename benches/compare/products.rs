//! Matrix products, each measured alone: the limit of what a training step can reach.
//!
//! ```text
//! cargo run --release --example products -- SHAPES.json
//! ```
//!
//! `SHAPES.json` is a list of `{"batch", "m", "k", "n"}` (`benches/compare/products.py`). Prints
//! the least seconds of each as JSON, of Burn's product and of ours.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use burn::tensor::{Device, Distribution, Tensor};
use burn_peft_kernels::linear;
use serde_json::{Value, json};

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("give SHAPES.json")?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let shapes: Vec<Value> =
        serde_json::from_str(&text).with_context(|| format!("{path} is no list of shapes"))?;
    let device = Device::flex();
    let mut seconds = Vec::new();
    for shape in &shapes {
        let size = |key: &str| {
            let size = shape[key].as_u64();
            size.map(|size| size as usize)
                .with_context(|| format!("{path}: {shape} has no number `{key}`"))
        };
        let [batch, m, k, n] = [size("batch")?, size("m")?, size("k")?, size("n")?];
        let random = |shape: [usize; 3]| Tensor::<3>::random(shape, Distribution::Default, &device);
        let (left, right, turned) = (
            random([batch, m, k]),
            random([batch, k, n]),
            random([batch, n, k]).swap_dims(1, 2),
        );
        seconds.push(match batch {
            1 => {
                let left = left.squeeze_dim::<2>(0);
                let (right, turned) = (right.squeeze_dim::<2>(0), turned.squeeze_dim::<2>(0));
                let product = |right: &Tensor<2>| {
                    let ours = || linear(left.clone(), right.clone(), None, None, None);
                    best(&left, right).min(least(&ours))
                };
                product(&right).min(product(&turned))
            }
            _ => best(&left, &right).min(best(&left, &turned)),
        });
    }
    println!("{}", json!({ "seconds": seconds }));
    Ok(())
}

/// The least time of Burn's product, in seconds.
fn best<const D: usize>(left: &Tensor<D>, right: &Tensor<D>) -> f64 {
    least(&|| left.clone().matmul(right.clone()))
}

/// The least of several times, in seconds; flex computes at once.
fn least<T>(product: &dyn Fn() -> T) -> f64 {
    let time = || {
        let start = Instant::now();
        black_box(product());
        start.elapsed().as_secs_f64()
    };
    time();
    (0..5).map(|_| time()).fold(f64::INFINITY, f64::min)
}
