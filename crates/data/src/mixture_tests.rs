use super::*;
use StoppingStrategy::{AllExhausted, FirstExhausted};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[test]
fn the_rows_of_an_epoch_are_those_that_the_weights_say() {
    let first = |rows: &[usize], weights: &[f64]| counts(rows, weights, FirstExhausted).unwrap();
    let all = |rows: &[usize], weights: &[f64]| counts(rows, weights, AllExhausted).unwrap();
    assert_eq!(first(&[10, 100], &[1.0, 1.0]), [10, 10]);
    assert_eq!(all(&[10, 100], &[1.0, 1.0]), [100, 100]);
    // The manual's examples: ten rows last as long as a hundred rows of ten times the weight.
    assert_eq!(first(&[10, 100], &[0.1, 0.9]), [10, 90]);
    assert_eq!(all(&[10, 100], &[0.1, 0.9]), [11, 100]);
    assert_eq!(first(&[1200, 500, 30], &[3.0, 1.0, 0.05]), [1200, 400, 20]);
    // The scale of the weights does not matter, and rounding does not show.
    assert_eq!(first(&[10, 100], &[1e300, 9e300]), [10, 90]);
    assert_eq!(first(&[10, 100, 100], &[0.1, 0.3, 0.7]), [10, 30, 70]);
    // Every set takes part, and an epoch does not fill the memory.
    assert_eq!(first(&[3, 5000], &[1000.0, 0.001]), [3, 1]);
    assert_eq!(counts(&[3, 5000], &[1000.0, 0.001], AllExhausted), None);
    assert_eq!(counts(&[3, 5000], &[1e300, 1e-300], AllExhausted), None);
}

/// For any sizes and weights: every count is less than one row away from its share, the sum is
/// exact, and the rule for the end holds.
#[test]
fn counts_are_exact() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..20_000 {
        let sets = random.random_range(2..6);
        let rows: Vec<usize> = (0..sets).map(|_| random.random_range(1..2000)).collect();
        let weight = |random: &mut ChaCha8Rng| match random.random_range(0..3) {
            0 => f64::from(random.random_range(1..10)),
            1 => random.random_range(0.01..1.0),
            _ => f64::from(random.random_range(1..20)) / 10.0,
        };
        let weights: Vec<f64> = (0..sets).map(|_| weight(&mut random)).collect();
        for strategy in [FirstExhausted, AllExhausted] {
            let counts = counts(&rows, &weights, strategy).unwrap();
            let said = format!("{rows:?} {weights:?} {strategy}: {counts:?}");
            let lasts = |set: usize| rows[set] as f64 / weights[set];
            let by_length = |a: &usize, b: &usize| lasts(*a).total_cmp(&lasts(*b));
            let end = match strategy {
                FirstExhausted => (0..sets).min_by(by_length),
                AllExhausted => (0..sets).max_by(by_length),
            };
            let end = end.unwrap();
            assert_eq!(counts[end], rows[end], "{said}");
            let mut sum = 0.0;
            for set in 0..sets {
                let share = weights[set] * lasts(end);
                sum += share;
                assert!((counts[set] as f64 - share).abs() < 1.0 + 1e-6, "{said}");
                match strategy {
                    FirstExhausted => assert!((1..=rows[set]).contains(&counts[set]), "{said}"),
                    AllExhausted => assert!(counts[set] >= rows[set], "{said}"),
                }
            }
            let small = counts.iter().filter(|count| **count == 1).count() as f64;
            let total = counts.iter().sum::<usize>() as f64;
            assert!((total - sum).abs() <= 0.5 + 1e-6 + small, "{said}");
        }
    }
}

/// How often each sequence occurs in an order.
fn times(order: impl IntoIterator<Item = usize>, sequences: usize) -> Vec<usize> {
    let mut times = vec![0; sequences];
    order.into_iter().for_each(|sequence| times[sequence] += 1);
    times
}

#[test]
fn an_epoch_has_the_counts_and_any_stretch_of_it_the_shares() {
    let sets = [(12, 12), (50, 36), (5, 13), (1, 1)];
    let mixture = Mixture::new(sets);
    let all: usize = sets.iter().map(|(_, count)| count).sum();
    assert_eq!(mixture.len(), all);
    for shuffle in [true, false] {
        for epoch in 0..20 {
            let order = mixture.order(42, epoch, shuffle);
            assert_eq!(order, mixture.order(42, epoch, shuffle));
            let mut first = 0;
            for (sequences, count) in sets {
                let of_set = |sequence: &&usize| (first..first + sequences).contains(*sequence);
                assert_eq!(order.iter().filter(of_set).count(), count);
                for end in 0..=all {
                    let found = order[..end].iter().filter(of_set).count() as f64;
                    let share = (count * end) as f64 / all as f64;
                    assert!(
                        (found - share).abs() <= 1.0,
                        "{found} of {end}, share {share}"
                    );
                }
                let drawn = order.iter().filter(of_set).map(|sequence| sequence - first);
                let times = times(drawn, sequences);
                if count >= sequences {
                    let passes = count / sequences;
                    assert!(times.iter().all(|times| *times >= passes), "{times:?}");
                }
                first += sequences;
            }
        }
    }
    assert_ne!(mixture.order(42, 0, true), mixture.order(43, 0, true));
    assert_ne!(mixture.order(42, 0, true), mixture.order(42, 1, true));
    let in_order = Mixture::new([(3, 3), (6, 6)]).order(1, 0, false);
    assert_eq!(in_order, [3, 0, 4, 5, 1, 6, 7, 2, 8]);
}

#[test]
fn over_epochs_every_sequence_of_a_set_comes_as_often() {
    let sets = [(7, 3), (5, 12), (4, 4), (9, 1)];
    let mixture = Mixture::new(sets);
    for shuffle in [true, false] {
        let mut order = Vec::new();
        for epoch in 0..40 {
            order.extend(mixture.order(3, epoch, shuffle));
            let times = times(order.iter().copied(), 25);
            let mut first = 0;
            for (sequences, _) in sets {
                let of_set = &times[first..first + sequences];
                let (least, most) = (of_set.iter().min(), of_set.iter().max());
                assert!(most.unwrap() - least.unwrap() <= 1, "{epoch}: {of_set:?}");
                first += sequences;
            }
        }
    }
    // Each pass of a set has its own order.
    let passes = Mixture::new([(50, 150), (1, 1)]).order(3, 0, true);
    let set: Vec<usize> = passes
        .into_iter()
        .filter(|sequence| *sequence < 50)
        .collect();
    assert!(set[..50] != set[50..100] && set[50..100] != set[100..]);
}

#[test]
fn sets_without_sequences_and_far_epochs_give_what_there_is() {
    assert!(Mixture::new([(0, 5), (0, 0)]).order(1, 1, true).is_empty());
    assert!(Mixture::new([]).is_empty());
    let far = Mixture::new([(3, 7), (4, 2)]);
    assert_eq!(far.order(1, u64::MAX, true).len(), 9);
}
