//! Ids outside of any vocabulary.

use crate::error::TokenizerProblem;
use tokenizers::Tokenizer as Inner;

/// How many ids below the largest may be unused.
const GAPS: usize = 1 << 16;

/// What is wrong with a vocabulary whose largest id is far above its number of tokens. Code that
/// writes such a tokenizer, as the `tokenizers` crate does for its hash, counts up to that id.
pub(super) fn far_away(inner: &Inner) -> Option<TokenizerProblem> {
    let vocab = inner.get_vocab(false);
    let (token, &id) = vocab.iter().max_by_key(|(_, id)| **id)?;
    let tokens = vocab.len();
    let is_near = (id as usize) < 2 * tokens + GAPS;
    (!is_near).then(|| TokenizerProblem::FarAway {
        token: token.clone(),
        id,
        tokens,
    })
}

#[cfg(test)]
mod tests {
    use crate::Tokenizer;

    #[test]
    fn an_id_far_beyond_the_others_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("merges.txt", "#version: 0.2\n");
        for (id, is_fine) in [
            (2, true),
            (60_000, true),
            (2_147_483_648_u32, false),
            (u32::MAX, false),
        ] {
            write("vocab.json", &format!(r#"{{"a": 0, "b": 1, "c": {id}}}"#));
            let loaded = Tokenizer::load(dir.path());
            assert_eq!(loaded.is_ok(), is_fine, "{id}");
            if let Err(error) = loaded {
                assert!(
                    error.to_string().contains(&format!("the id {id}")),
                    "{error}"
                );
            }
        }
    }
}
