//! Choosing the next token of a row from its logits.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::GenerationConfig;

/// Makes tokens that were seen less likely.
pub(super) fn penalise(logits: &mut [f32], seen: &[u32], penalty: f64) {
    if penalty == 1.0 {
        return;
    }
    let mut seen = seen.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        if let Some(logit) = logits.get_mut(id as usize) {
            let value = f64::from(*logit);
            let penalised = if value < 0.0 {
                value * penalty
            } else {
                value / penalty
            };
            *logit = penalised.clamp(f32::MIN.into(), f32::MAX.into()) as f32;
        }
    }
}

/// Applies temperature, then `top_k`, then `top_p`, then samples.
pub(super) fn choose(logits: &[f32], config: &GenerationConfig, random: &mut ChaCha8Rng) -> u32 {
    let descending = |a: &u32, b: &u32| {
        let (x, y) = (logits[*a as usize], logits[*b as usize]);
        y.total_cmp(&x).then(a.cmp(b))
    };
    let ids = 0..logits.len() as u32;
    if config.temperature == 0.0 {
        return ids.min_by(descending).unwrap_or_default();
    }
    let mut order: Vec<u32> = ids.collect();
    if config.top_k > 0 && config.top_k < order.len() {
        order.select_nth_unstable_by(config.top_k - 1, descending);
        order.truncate(config.top_k);
    }
    order.sort_unstable_by(descending);
    let largest = f64::from(logits[order[0] as usize]);
    let weight =
        |id: &u32| ((f64::from(logits[*id as usize]) - largest) / config.temperature).exp();
    let mut weights: Vec<f64> = order.iter().map(weight).collect();
    let total: f64 = weights.iter().sum();
    let mut kept = 0.0;
    let nucleus = weights.iter().position(|weight| {
        kept += weight / total;
        kept >= config.top_p
    });
    if config.top_p < 1.0
        && let Some(last) = nucleus
    {
        weights.truncate(last + 1);
    }
    let mut draw = random.random::<f64>() * weights.iter().sum::<f64>();
    for (id, weight) in order.iter().zip(&weights) {
        draw -= weight;
        if draw < 0.0 {
            return *id;
        }
    }
    order[weights.len() - 1]
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn draw(logits: &[f32], config: GenerationConfig) -> Vec<u32> {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut drawn: Vec<u32> = (0..500)
            .map(|_| choose(logits, &config, &mut random))
            .collect();
        drawn.sort_unstable();
        drawn.dedup();
        drawn
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        let config = GenerationConfig::default();
        let mut random = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(choose(&[0.0, 2.0, 2.0], &config, &mut random), 1);
    }

    #[test]
    fn top_k_and_top_p_keep_the_most_likely() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let logits = [4.0f32, 2.0, 1.0, 1.0].map(f32::ln);
        let all = GenerationConfig {
            temperature: 1.0,
            top_k: 0,
            ..Default::default()
        };
        assert_eq!(draw(&logits, all.clone()), [0, 1, 2, 3]);
        let top_k = GenerationConfig {
            top_k: 2,
            ..all.clone()
        };
        assert_eq!(draw(&logits, top_k), [0, 1]);
        // transformers keeps the token that crosses top_p.
        let top_p = GenerationConfig {
            top_p: 0.6,
            ..all.clone()
        };
        assert_eq!(draw(&logits, top_p), [0, 1]);
        let cold = GenerationConfig {
            temperature: 0.01,
            ..all
        };
        assert_eq!(draw(&logits, cold), [0]);
    }

    #[test]
    fn repetition_penalty_divides_positive_and_multiplies_negative_logits() {
        let mut logits = [2.0, -2.0, 2.0];
        penalise(&mut logits, &[0, 1, 1], 2.0);
        assert_eq!(logits, [1.0, -4.0, 2.0]);
    }
}
