//! Recovering merges from SentencePiece's scores.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::Gguf;
use crate::error::Result;

/// The longest token, in bytes, that is considered a merge; real ones are far shorter.
const LONGEST: usize = 512;

/// The most bytes of all merges together; the largest published vocabularies have a few million.
const MOST: usize = 32 << 20;

/// A token made from two others.
struct Merge<'a> {
    left: &'a str,
    right: &'a str,
    score: f64,
    /// The characters of both parts.
    lengths: (usize, usize),
}

/// All ways to make a token from two others, the best first. Without scores, tokens that come
/// earlier are better. The order is that of transformers' `generate_merges`.
pub(super) fn merges(file: &Gguf, tokens: &[&str], scores: Option<Vec<f64>>) -> Result<Vec<Value>> {
    let key = "tokenizer.ggml.scores";
    if let Some(scores) = &scores {
        if scores.len() != tokens.len() {
            let (scores, tokens) = (scores.len(), tokens.len());
            return Err(file.error(format!("{key} has {scores} entries for {tokens} tokens")));
        }
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            return Err(file.error(format!("{key} has {} at place {at}", scores[at])));
        }
    }
    let ids: HashMap<&str, usize> = (tokens.iter().enumerate())
        .map(|(id, token)| (*token, id))
        .collect();
    let mut merges: Vec<Merge> = Vec::new();
    let mut bytes = 0;
    for (id, token) in tokens.iter().enumerate() {
        if ids[token] != id {
            continue;
        }
        if token.len() > LONGEST {
            return Err(file.error(format!(
                "token {id} of tokenizer.ggml.tokens has {} bytes: at most {LONGEST} are read",
                token.len()
            )));
        }
        let score = scores.as_ref().map_or(-(id as f64), |scores| scores[id]);
        let length = token.chars().count();
        let start = merges.len();
        for (count, (at, _)) in token.char_indices().enumerate().skip(1) {
            let (left, right) = token.split_at(at);
            if ids.contains_key(left) && ids.contains_key(right) {
                merges.push(Merge {
                    left,
                    right,
                    score,
                    lengths: (count, length - count),
                });
            }
        }
        bytes += token.len() * (merges.len() - start);
        if bytes > MOST {
            return Err(file.error(format!(
                "the merges of tokenizer.ggml.tokens come to more than {MOST} bytes at token {id}: that many \
                 are not read"
            )));
        }
        merges[start..].sort_by_key(|merge| (ids[merge.left], ids[merge.right]));
    }
    merges.sort_by(|a, b| {
        let scores = b.score.partial_cmp(&a.score);
        let scores = scores.unwrap_or(std::cmp::Ordering::Equal);
        scores.then(b.lengths.cmp(&a.lengths))
    });
    let pair = |merge: Merge| json!([merge.left, merge.right]);
    Ok(merges.into_iter().map(pair).collect())
}
