//! The outer optimizer of DiLoCo (arXiv 2311.08105): what all ranks have learnt in some steps of
//! their own is one gradient, for gradient descent with Nesterov's momentum.

use crate::configuration::distributed::DistributedConfig;
use crate::error::Result;
use crate::exchange::Exchange;

/// The weights that all ranks have in common, and the optimizer that updates them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outer {
    learning_rate: f32,
    momentum: f32,
    /// The weights after the last exchange.
    pub weights: Vec<f32>,
    /// The sum of the gradients so far, weighted less the older they are.
    pub velocity: Vec<f32>,
}

impl Outer {
    /// The state before the first exchange.
    pub fn new(config: &DistributedConfig, weights: Vec<f32>) -> Self {
        Self {
            learning_rate: config.outer_lr() as f32,
            momentum: config.outer_momentum() as f32,
            velocity: vec![0.0; weights.len()],
            weights,
        }
    }

    /// Takes in what every rank has learnt; `own` are this rank's current weights. Afterwards all
    /// ranks have the same weights.
    ///
    /// # Errors
    /// If a rank cannot be reached.
    pub fn step(&mut self, own: &[f32], exchange: &dyn Exchange) -> Result<()> {
        let before = self.weights.iter().zip(own);
        let mut gradient: Vec<f32> = before.map(|(before, own)| before - own).collect();
        exchange.sum(&mut gradient)?;
        let ranks = exchange.size() as f32;
        // As `torch.optim.SGD(nesterov=True)`.
        let state = self.weights.iter_mut().zip(&mut self.velocity);
        for ((weight, velocity), sum) in state.zip(gradient) {
            let gradient = sum / ranks;
            *velocity = self.momentum * *velocity + gradient;
            *weight -= self.learning_rate * (gradient + self.momentum * *velocity);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Alone;

    /// What torch 2.15 gives: `torch.optim.SGD([w], lr=0.7, momentum=0.9, nesterov=True)`.
    #[test]
    fn it_is_pytorchs_nesterov() {
        let config = DistributedConfig {
            outer_lr: Some(0.7),
            outer_momentum: Some(0.9),
            ..DistributedConfig::default()
        };
        let mut outer = Outer::new(&config, vec![1.0, -2.0, 0.5]);
        for (gradient, weights, velocity) in [
            ([0.1, -0.2, 0.3], [0.867, -1.734, 0.101], [0.1, -0.2, 0.3]),
            (
                [0.05, 0.4, -0.1],
                [0.743_8, -2.152_6, 0.063_9],
                [0.14, 0.22, 0.17],
            ),
            (
                [-0.2, 0.1, 0.0],
                [0.930_42, -2.410_34, -0.032_49],
                [-0.074, 0.298, 0.153],
            ),
        ] {
            let own = outer.weights.iter().zip(gradient).map(|(w, g)| w - g);
            let own: Vec<f32> = own.collect();
            outer.step(&own, &Alone).unwrap();
            let close = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-6;
            assert!(outer.weights.iter().zip(&weights).all(close), "{outer:?}");
            assert!(outer.velocity.iter().zip(&velocity).all(close), "{outer:?}");
        }
    }
}
