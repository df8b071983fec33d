//! Several products with the same few rows of activations, which are rounded once.

use super::Int8View;
use super::body::Body;
use super::product::{Layer, few};
use crate::cpu::product::Output;
use crate::cpu::{LowRank, Matrix, MatrixMut, Onto};

/// One of the products: `out = bias + a · weight`, and a low-rank part.
pub struct Part<'a> {
    /// `[k, n]`.
    pub weight: Int8View<'a>,
    /// `[n]`.
    pub bias: Option<&'a [f32]>,
    /// What is added to the product.
    pub low_rank: Option<LowRank<'a>>,
    /// `[m, n]`, to be overwritten.
    pub out: &'a mut [f32],
}

/// Makes all products, with the bits that each has alone. Returns `false`, with nothing useful
/// written, if there are too many rows, or if a size is zero or a low-rank part lies in another order.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn products(a: Matrix<'_, f32>, parts: &mut [Part<'_>]) -> bool {
    let body = Body::chosen();
    let has_rows = (1..=body.rows).contains(&a.rows()) && a.cols() > 0;
    let limit = parts.first().map(|part| part.weight.limit());
    let fits = |part: &Part<'_>| part.weight.cols() > 0 && Some(part.weight.limit()) == limit;
    if parts.is_empty() || !has_rows || !parts.iter().all(fits) {
        return false;
    }
    for part in &*parts {
        let (m, k, n) = (a.rows(), a.cols(), part.weight.cols());
        let biased = part.bias.is_none_or(|bias| bias.len() == n);
        let adapted = part.low_rank.as_ref().is_none_or(|low_rank| {
            let (down, up) = (low_rank.down, low_rank.up);
            let r = down.cols();
            let shapes = [down.rows(), up.rows(), up.cols(), low_rank.hidden.len()];
            shapes == [k, r, n, m * r]
        });
        let fits = part.weight.rows() == k && part.out.len() == m * n;
        assert!(
            fits && biased && adapted,
            "[{m}, {k}] · [{}, {n}]",
            part.weight.rows()
        );
    }
    let mut rest = Vec::with_capacity(parts.len());
    let mut besides = Vec::with_capacity(parts.len());
    for part in parts {
        let (out, cols) = (&mut *part.out, part.weight.cols());
        let onto = part.bias.map_or(Onto::Zero, Onto::Row);
        rest.push((
            part.weight,
            Output::new(onto, &mut MatrixMut::new(out, a.rows(), cols)),
        ));
        let low_rank = part.low_rank.as_mut();
        besides.push(match low_rank.map(|low_rank| low_rank.beside(a)) {
            Some(None) => return false,
            beside => beside.flatten(),
        });
    }
    let layers = rest.into_iter().zip(&besides);
    let layers = layers.map(|((weight, output), beside)| Layer {
        weight,
        beside: beside.as_ref(),
        output,
    });
    few(body, a, &layers.collect::<Vec<_>>());
    true
}
