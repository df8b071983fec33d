//! What can be wrong with a tokenizer.

use super::template::TemplateProblem;
use crate::tokenizer::END_OF_TEXT;
use std::path::PathBuf;

/// What is wrong with a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerProblem {
    /// The folder or file does not exist.
    #[error("there is no such folder or file")]
    Missing,
    /// Its folder has none of the files that a tokenizer is read from.
    #[error("has neither tokenizer.json nor vocab.json with merges.txt nor vocab.txt")]
    NoFiles,
    /// A file of it cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// A file beside it is not a JSON object.
    #[error("{} is not a JSON object: {error}", file.display())]
    NoObject {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// `tokenizer.json` is not a tokenizer.
    #[error("{} is not a tokenizer: {error}", file.display())]
    NoTokenizer {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        error: String,
    },
    /// GPT-2's two files are not a byte-level BPE.
    #[error("vocab.json with merges.txt is not a byte-level BPE: {0}")]
    NoPair(String),
    /// A tokenizer class that cannot be read from GPT-2's two files.
    #[error(
        "tokenizer_class is {0:?}, and vocab.json with merges.txt alone are read as \
         GPT2Tokenizer's: put the tokenizer.json beside them that transformers' save_pretrained \
         writes"
    )]
    ClassOfPair(String),
    /// A class that puts a space before a text, with a `tokenizer.json` that does not.
    #[error(
        "add_prefix_space is true in tokenizer_config.json and not in tokenizer.json, and \
         transformers' tokenizer_class {0:?} puts that space: make both say the same"
    )]
    PrefixSpace(String),
    /// A key that is neither true nor false.
    #[error("{key} of {file} is {value}, which is neither true nor false")]
    NoFlag {
        /// The key.
        key: String,
        /// Its file.
        file: &'static str,
        /// Its value.
        value: String,
    },
    /// A key whose value is not a token.
    #[error("{key} of {file} is {value}, which names no token")]
    NoToken {
        /// The key.
        key: String,
        /// Its file.
        file: String,
        /// Its value.
        value: String,
    },
    /// `added_tokens_decoder` is not an object.
    #[error("added_tokens_decoder of {0} is not an object")]
    NoDecoder(&'static str),
    /// A key of `added_tokens_decoder` is not an id.
    #[error("added_tokens_decoder of {file} has the key {key:?}, which is not an id")]
    NoKey {
        /// The file.
        file: &'static str,
        /// The key.
        key: String,
    },
    /// A value of `added_tokens_decoder` is not a token.
    #[error("added_tokens_decoder of {file}: {id} is {value}")]
    NoAddedToken {
        /// The file.
        file: &'static str,
        /// The id.
        id: String,
        /// Its value.
        value: String,
    },
    /// The id of an added token is not a number.
    #[error("{file}: the id of {token:?} is not an id")]
    NoId {
        /// The file.
        file: &'static str,
        /// The token.
        token: String,
    },
    /// An id far above the number of tokens.
    #[error(
        "the token {token:?} has the id {id}, and there are {tokens} tokens: ids count up from 0"
    )]
    FarAway {
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// The number of tokens.
        tokens: usize,
    },
    /// A vocabulary size that is too small to train.
    #[error("vocab_size is {0}; {END_OF_TEXT} and the 256 bytes need 257 or more")]
    VocabSize(usize),
    /// It has no chat template.
    #[error(
        "it has no chat_template (in tokenizer_config.json or chat_template.jinja), and the data \
         are chats; name the tokenizer of a chat model with `tokenizer`, or write rows of `prompt` \
         and `completion`"
    )]
    NoTemplate,
    /// There are several chat templates and none is the default.
    #[error("tokenizer_config.json names no default chat_template")]
    NoDefaultTemplate,
    /// Its chat template cannot be used.
    #[error(transparent)]
    Template(#[from] TemplateProblem),
    /// An error from the `tokenizers` crate.
    #[error("{0}")]
    Library(String),
}
