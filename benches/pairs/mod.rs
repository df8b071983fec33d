//! Runs specialised and plain bodies in turns.

use std::fmt;
use std::time::Instant;

// For its allocator, which the command uses too.
use burn_peft_cli as _;
use burn_peft_kernels::with_plain_bodies;

/// The result of a comparison.
pub struct Comparison {
    name: String,
    /// The median times, in milliseconds.
    specialised: f64,
    plain: f64,
    /// The median of the ratios of neighbouring runs: how many times as fast the specialised body
    /// is.
    pub ratio: f64,
}

/// Runs `body` both ways, `rounds` times each, after one round that does not count.
pub fn compare(name: &str, rounds: usize, body: &dyn Fn()) -> Comparison {
    let time = |run: &dyn Fn()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e3
    };
    let plain_body = || with_plain_bodies(body);
    let pair = || (time(body), time(&plain_body));
    pair();
    let pairs: Vec<(f64, f64)> = (0..rounds).map(|_| pair()).collect();
    Comparison {
        name: name.to_string(),
        specialised: median(pairs.iter().map(|pair| pair.0)),
        plain: median(pairs.iter().map(|pair| pair.1)),
        ratio: median(pairs.iter().map(|pair| pair.1 / pair.0)),
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, ratio) = (&self.name, self.ratio);
        let (specialised, plain) = (self.specialised, self.plain);
        write!(
            f,
            "{name:<32} {specialised:>9.2} ms   plain {plain:>9.2} ms   {ratio:>5.1} times as fast"
        )
    }
}
