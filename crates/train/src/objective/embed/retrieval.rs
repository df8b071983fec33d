//! Retrieval: the rank at which a text is found among all others.

use std::collections::HashMap;

use burn::tensor::{Device, Tensor, TensorData};
use burn_peft_models::embeddings::normalize;

use crate::error::Result;
use crate::objective::metric::Vectors;
use crate::objective::read_all;

/// How many scores are ranked at a time.
const SCORES: usize = 1 << 22;
/// The values of k for recall@k.
const RECALL: [usize; 3] = [1, 5, 10];
/// The number of ranks that count for nDCG and MRR.
const PLACES: usize = 10;

/// Retrieval results for the vectors of rows of this many texts: the number of distinct queries;
/// the sums over them of recall at 1, 5 and 10, of nDCG and of the reciprocal rank at 10; and the
/// number of rows whose second text is more similar to the first than the other texts of the row.
///
/// Each first text is a query among the second and further texts of all rows, where equal texts
/// count once; relevant are the second texts of the rows that begin with the query.
pub(super) fn figures(
    vectors: Vectors,
    texts: usize,
    dot: bool,
    device: &Device,
) -> Result<Vec<f64>> {
    let Vectors { d, keys, values } = vectors;
    let device = device.clone().without_autodiff();
    let vector = |text: usize| &values[text * d..(text + 1) * d];
    let mut corpus = Unique::default();
    let mut queries = Unique::default();
    let mut right: Vec<Vec<usize>> = Vec::new();
    let mut apart = 0.0;
    for first in (0..keys.len()).step_by(texts) {
        let query = queries.add(keys[first], first);
        right.resize(queries.texts.len(), Vec::new());
        let others = first + 1..first + texts;
        let found: Vec<usize> = others
            .clone()
            .map(|text| corpus.add(keys[text], text))
            .collect();
        if let Some(&second) = found.first()
            && !right[query].contains(&second)
        {
            right[query].push(second);
        }
        let alike = |text: usize| likeness(vector(first), vector(text), dot);
        let of_right = alike(first + 1);
        let is_apart = others.skip(1).all(|text| of_right > alike(text));
        apart += f64::from(u8::from(is_apart));
    }
    let matrix = |texts: &[usize]| {
        let rows: Vec<f32> = texts
            .iter()
            .flat_map(|&text| vector(text))
            .copied()
            .collect();
        let matrix = Tensor::<2>::from_data(TensorData::new(rows, [texts.len(), d]), &device);
        if dot { matrix } else { normalize(matrix) }
    };
    let mut sums = vec![0.0; 7];
    sums[0] = queries.texts.len() as f64;
    sums[6] = apart;
    if queries.texts.is_empty() || corpus.texts.is_empty() {
        return Ok(sums);
    }
    let columns = matrix(&corpus.texts).transpose();
    let block = (SCORES / corpus.texts.len()).max(1);
    for (texts, right) in queries.texts.chunks(block).zip(right.chunks(block)) {
        // Not all against all at once.
        let scores = read_all(matrix(texts).matmul(columns.clone()))?;
        for (scores, right) in scores.chunks(corpus.texts.len()).zip(right) {
            add(&mut sums, &places(scores, right));
        }
    }
    Ok(sums)
}

/// The distinct texts.
#[derive(Default)]
struct Unique {
    places: HashMap<u64, usize>,
    texts: Vec<usize>,
}

impl Unique {
    /// The index of a text among the distinct ones.
    fn add(&mut self, key: u64, text: usize) -> usize {
        *self.places.entry(key).or_insert_with(|| {
            self.texts.push(text);
            self.texts.len() - 1
        })
    }
}

/// The ranks of the relevant texts by descending score, counted from 1 and sorted. Among equal
/// scores, the earlier text comes first.
fn places(scores: &[f64], right: &[usize]) -> Vec<usize> {
    let place = |&right: &usize| {
        let of_right = scores[right];
        let before = scores
            .iter()
            .enumerate()
            .filter(|&(at, &score)| score > of_right || score == of_right && at < right);
        before.count() + 1
    };
    let mut places: Vec<usize> = right.iter().map(place).collect();
    places.sort_unstable();
    places
}

/// Adds what the ranks of the relevant texts contribute for one query.
fn add(sums: &mut [f64], places: &[usize]) {
    let count = places.len().max(1) as f64;
    for (sum, k) in sums[1..].iter_mut().zip(RECALL) {
        *sum += places.iter().filter(|&&place| place <= k).count() as f64 / count;
    }
    let gain = |place: usize| 1.0 / ((place + 1) as f64).log2();
    let found = places.iter().filter(|&&place| place <= PLACES);
    let found: f64 = found.map(|&place| gain(place)).sum();
    let best: f64 = (1..=places.len().min(PLACES)).map(gain).sum();
    sums[4] += if best > 0.0 { found / best } else { 0.0 };
    let first = places.first().filter(|&&place| place <= PLACES);
    sums[5] += first.map_or(0.0, |&place| 1.0 / place as f64);
}

fn likeness(a: &[f32], b: &[f32], dot: bool) -> f64 {
    let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect();
    let (a, b): (Vec<f64>, Vec<f64>) = (wide(a), wide(b));
    if dot { product(&a, &b) } else { cosine(&a, &b) }
}

fn product(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The cosine of two vectors.
pub(super) fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let length = |of: &[f64]| product(of, of).sqrt().max(1e-12);
    product(a, b) / (length(a) * length(b))
}
