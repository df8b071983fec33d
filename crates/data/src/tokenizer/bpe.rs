//! Training a tokenizer: byte-level BPE, as for GPT-2.

use crate::error::{DataError, Result, TokenizerProblem};
use crate::tokenizer::{END_OF_TEXT, Tokenizer, byte_level};
use tokenizers::AddedToken;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// Trains a byte-level BPE, with `<|endoftext|>` as token 0 and the 256 bytes after it. The same
/// texts always give the same tokenizer.
///
/// Texts with too few pairs to merge give fewer tokens than `vocab_size`;
/// [`Tokenizer::vocab_size`](crate::Tokenizer::vocab_size) has the number.
///
/// # Errors
/// If `vocab_size` has no room for `<|endoftext|>` and the bytes.
pub fn train_bpe<S>(texts: impl IntoIterator<Item = S>, vocab_size: usize) -> Result<Tokenizer>
where
    S: AsRef<str> + Send,
{
    let name = || "to be trained".to_owned();
    let bad = |problem| DataError::Tokenizer {
        name: name(),
        problem,
    };
    if vocab_size < 257 {
        return Err(bad(TokenizerProblem::VocabSize(vocab_size)));
    }
    let trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .min_frequency(2)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let mut trainer = TrainerWrapper::BpeTrainer(trainer);
    let mut inner = byte_level(BPE::default(), false);
    let texts: Vec<S> = texts.into_iter().collect();
    inner
        .train(&mut trainer, texts.into_iter())
        .map_err(|error| bad(TokenizerProblem::Library(error.to_string())))?;
    Tokenizer::from_inner(inner, name())
}

/// A small tokenizer for tests.
#[cfg(test)]
pub(crate) fn tiny() -> Tokenizer {
    train_bpe(["the cat sat on the mat\n", "the cat and the dog\n"], 260).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_the_most_frequent_pairs() {
        let tokenizer = tiny();
        assert_eq!((tokenizer.vocab_size(), tokenizer.eos_id()), (260, Some(0)));
        // The three merges: "at" and "he", four times each, then "the".
        assert!(
            ["at", "he", "the"]
                .iter()
                .all(|merged| tokenizer.token_to_id(merged).is_some())
        );
        assert_eq!(tokenizer.encode("the").unwrap().len(), 1);
        let text = "The café is ünlike\tanything 日本語 🦀";
        assert_eq!(
            tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(),
            text
        );
    }

    #[test]
    fn gives_the_same_bytes_every_time() {
        let words = [
            "river", "stone", "light", "water", "winter", "lantern", "lighter", "rivers",
        ];
        let texts: Vec<String> = (0..400usize)
            .map(|i| {
                (0..9)
                    .map(|j| words[(i * i + j * (i + 3)) % 8])
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let save = |name: &str| {
            let file = dir.path().join(name);
            train_bpe(&texts, 400).unwrap().save(&file).unwrap();
            std::fs::read(file).unwrap()
        };
        let first = save("0.json");
        assert!((1..5).all(|i| save(&format!("{i}.json")) == first));
    }

    #[test]
    fn needs_room_for_the_bytes() {
        let error = train_bpe(["a"], 256).unwrap_err().to_string();
        assert!(error.contains("vocab_size is 256"), "{error}");
    }
}
