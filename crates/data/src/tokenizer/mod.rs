//! Text to token ids and back: the `tokenizers` crate, loaded from the files people have.

use crate::error::{DataError, Result, TokenizerProblem};
use crate::format::{Chat, Note, Speech};
use crate::tokenizer::chat::ChatTemplate;
use crate::tokenizer::declared::Declared;
use crate::tokens::cache::Key;
use burn_peft_files::{atomic, read_text};
use serde_json::{Map, Value};
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;
use tokenizers::utils::truncation::{TruncationParams, truncate_encodings};
use tokenizers::{PostProcessor, Tokenizer as Inner};

pub(crate) mod bpe;
mod build;
pub(crate) mod chat;
mod chat_tokens;
mod declared;
mod speech;
pub(crate) mod stream;

mod ids;

/// The token that ends a text unless a file names another; GPT-2's only special token.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// A tokenizer, and what a causal language model needs to know about it.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Inner,
    name: String,
    eos: Option<u32>,
    bos: Option<u32>,
    /// The token that pads short rows, if the files name one.
    pad: Option<u32>,
    /// Whether special tokens in a text are read as ordinary text.
    splits_special_tokens: bool,
    /// The chat template, or what is wrong with it, which matters only once there is a chat.
    chat: std::result::Result<ChatTemplate, TokenizerProblem>,
    /// What the template can express, once it was determined.
    speech: OnceLock<Speech>,
}

/// The tokens of a text, or of two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Their ids.
    pub ids: Vec<u32>,
    /// Which of the two texts each token belongs to: 0 or 1.
    pub types: Vec<u32>,
    /// The word that each token is a piece of; special tokens belong to none.
    pub words: Vec<Option<u32>>,
    /// Whether tokens were cut off.
    pub was_cut: bool,
}

/// BERT's vocabulary: one token a line.
const WORDS: &str = "vocab.txt";

impl Tokenizer {
    /// Loads a tokenizer from a folder with `tokenizer.json`, with GPT-2's `vocab.json` and
    /// `merges.txt`, or with BERT's `vocab.txt`; or from one of these files.
    ///
    /// Special tokens, added tokens and what is put around a text are read from the files beside
    /// them as transformers 5 does: from the `added_tokens_decoder` of `tokenizer_config.json` if
    /// there is one, else from `special_tokens_map.json` before `tokenizer_config.json`, and from
    /// `added_tokens.json`. If files contradict each other, a warning is logged.
    ///
    /// The end-of-sequence token is the `eos_token` of these files, else GPT-2's `<|endoftext|>`
    /// for a model of its family, else the `eos_token_id` of `config.json`, else `<|endoftext|>` if
    /// it exists, else none.
    ///
    /// # Errors
    /// If files are missing or malformed, or a setting cannot be honoured; the error names it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let (tokenizer, disagreements) = Self::read(path.as_ref())?;
        for disagreement in disagreements {
            tracing::warn!("tokenizer {}: {disagreement}", tokenizer.name);
        }
        Ok(tokenizer)
    }

    /// As [`load`](Self::load), and also returns what the files contradict each other in.
    fn read(path: &Path) -> Result<(Self, Vec<String>)> {
        let name = path.display().to_string();
        let bad = |problem| DataError::Tokenizer {
            name: name.clone(),
            problem,
        };
        if !path.exists() {
            return Err(bad(TokenizerProblem::Missing));
        }
        let folder = if path.is_dir() {
            path
        } else {
            path.parent().unwrap_or(Path::new(""))
        };
        let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        let one_of_two = [&vocab, &merges].iter().any(|file| file.as_path() == path);
        let json = if path.is_dir() {
            path.join("tokenizer.json")
        } else {
            path.to_path_buf()
        };
        let mut said = Declared::read(folder).map_err(bad)?;
        let inner = if json.is_file() && !one_of_two {
            build::from_json(&json, &mut said).map_err(bad)?
        } else if vocab.is_file() && merges.is_file() {
            build::from_pair(&vocab, &merges, &mut said).map_err(bad)?
        } else if build::is_word_piece(&said) && folder.join(WORDS).is_file() {
            build::from_words(&folder.join(WORDS), folder).map_err(bad)?
        } else {
            return Err(bad(TokenizerProblem::NoFiles));
        };
        let mut tokenizer = Self::from_inner(inner, name.clone())?;
        let id = |token: &str| tokenizer.inner.token_to_id(token);
        let of_family = || said.is_gpt2().then(|| id(END_OF_TEXT)).flatten();
        // A config may keep GPT-2's 50256 beside a smaller vocabulary.
        let is_known = |id: &u32| tokenizer.inner.id_to_token(*id).is_some();
        let of_model = || said.eos_token_id.filter(is_known);
        let eos = said.special_token("eos_token").and_then(id);
        let eos = eos.or_else(of_family).or_else(of_model).or(tokenizer.eos);
        tokenizer.bos = said.special_token("bos_token").and_then(id);
        tokenizer.pad = said.special_token("pad_token").and_then(id);
        tokenizer.eos = eos;
        tokenizer.splits_special_tokens = said.split_special_tokens;
        let eos = eos.and_then(|eos| tokenizer.id_to_token(eos));
        tokenizer.chat = declared_chat(folder, &said, eos);
        Ok((tokenizer, said.disagreements))
    }

    /// Wraps a tokenizer; `name` is its name in errors.
    pub(crate) fn from_inner(mut inner: Inner, name: String) -> Result<Self> {
        // Truncation and padding are this crate's own, set in the training file.
        inner.with_padding(None);
        if let Err(error) = inner.with_truncation(None) {
            return Err(DataError::Tokenizer {
                name,
                problem: TokenizerProblem::Library(error.to_string()),
            });
        }
        if let Some(problem) = ids::far_away(&inner) {
            return Err(DataError::Tokenizer { name, problem });
        }
        let eos = inner.token_to_id(END_OF_TEXT);
        Ok(Self {
            inner,
            name,
            eos,
            bos: None,
            pad: None,
            splits_special_tokens: false,
            chat: Err(TokenizerProblem::NoTemplate),
            speech: OnceLock::new(),
        })
    }

    /// The token ids of a text, with the special tokens that this tokenizer puts around it (GPT-2:
    /// none).
    ///
    /// # Errors
    /// If the tokenizer cannot encode the text, for example without a token for unknown characters.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_as(text, true)
    }

    /// The token ids of a text to be continued, and the special tokens that would close it, which
    /// this tokenizer puts after every text (GPT-2: none).
    pub(crate) fn encode_open(&self, text: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let encode = |text: &str| {
            let encoding = self.inner.encode_fast(text, true);
            let encoding = encoding.map_err(|error| self.error(error))?;
            let mask = encoding.get_special_tokens_mask();
            let closing = mask.iter().rev().take_while(|&&added| added == 1);
            let (ids, closing) = (encoding.get_ids().to_vec(), closing.count());
            Ok::<_, DataError>((ids, closing))
        };
        let (mut ids, mut closing) = encode(text)?;
        if closing == ids.len() && closing > 0 {
            // For an empty text, opening and closing tokens cannot be told apart.
            let of_another = encode("a").map_or(0, |(_, closing)| closing);
            closing = closing.min(of_another);
        }
        let closing = ids.split_off(ids.len() - closing);
        Ok((ids, closing))
    }

    /// The token ids of a text that a model is to continue: with the special tokens that open a
    /// text, without those that close one.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        Ok(self.encode_open(text)?.0)
    }

    /// The token ids of a text that continues another: without special tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_as(text, false)
    }

    /// A text, or two that belong together, as at most `max` tokens, truncated as in transformers:
    /// special tokens stay, and the longer of two texts loses more.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_within(&self, first: &str, second: Option<&str>, max: usize) -> Result<Tokens> {
        let first = self.bare(first)?;
        let second = second.map(|text| self.bare(text)).transpose()?;
        self.with_special(first, second, max)
    }

    /// As [`encode_within`](Self::encode_within), for words.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_words_within(&self, words: Vec<String>, max: usize) -> Result<Tokens> {
        let encoding = self.inner.encode(words, false);
        let encoding = encoding.map_err(|error| self.error(error))?;
        self.with_special(encoding, None, max)
    }

    fn bare(&self, text: &str) -> Result<tokenizers::Encoding> {
        let encoding = self.inner.encode_fast(text, false);
        encoding.map_err(|error| self.error(error))
    }

    fn with_special(
        &self,
        first: tokenizers::Encoding,
        second: Option<tokenizers::Encoding>,
        max: usize,
    ) -> Result<Tokens> {
        let special = self.inner.get_post_processor();
        let special = special.map_or(0, |special| special.added_tokens(second.is_some()));
        let length = first.len() + second.as_ref().map_or(0, tokenizers::Encoding::len);
        let room = max.saturating_sub(special);
        let was_cut = length > room;
        let (first, second) = if was_cut {
            let params = TruncationParams {
                max_length: room,
                ..TruncationParams::default()
            };
            truncate_encodings(first, second, &params).map_err(|error| self.error(error))?
        } else {
            (first, second)
        };
        let encoding = self.inner.post_process(first, second, true);
        let encoding = encoding.map_err(|error| self.error(error))?;
        Ok(Tokens {
            ids: encoding.get_ids().to_vec(),
            types: encoding.get_type_ids().to_vec(),
            words: encoding.get_word_ids().to_vec(),
            was_cut,
        })
    }

    fn encode_as(&self, text: &str, special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, special_tokens);
        Ok(encoding
            .map_err(|error| self.error(error))?
            .get_ids()
            .to_vec())
    }

    /// A text as the vocabulary spells it, with the special tokens that this tokenizer puts around
    /// it, and the end-of-sequence token after it.
    pub(crate) fn with_special_tokens(&self, text: &str) -> Result<String> {
        let encoding = self.inner.encode_fast(text, true);
        let encoding = encoding.map_err(|error| self.error(error))?;
        let (ids, added) = (encoding.get_ids(), encoding.get_special_tokens_mask());
        let is_added = |mask: &&u32| **mask == 1;
        let before = added.iter().take_while(is_added).count();
        let behind = added[before..].iter().rev().take_while(is_added).count();
        let spell = |ids: &[u32]| -> String {
            let tokens = ids.iter().filter_map(|&id| self.id_to_token(id));
            tokens.collect()
        };
        let eos = self.eos.filter(|eos| ids.last() != Some(eos));
        Ok([
            &spell(&ids[..before]),
            text,
            &spell(&ids[ids.len() - behind..]),
            &spell(&eos.into_iter().collect::<Vec<_>>()),
        ]
        .concat())
    }

    /// The text of token ids, including special tokens. An id outside of the vocabulary has no
    /// text.
    ///
    /// # Errors
    /// If the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner
            .decode(ids, false)
            .map_err(|error| self.error(error))
    }

    /// The number of tokens, including added ones.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of the end-of-sequence token.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos
    }

    /// The id of the padding token: its own, or else the end-of-sequence token.
    pub fn pad_id(&self) -> Option<u32> {
        self.pad.or(self.eos)
    }

    /// The id of the token that begins a sequence, if the files name one.
    pub(crate) fn bos_id(&self) -> Option<u32> {
        self.bos
    }

    /// The id of a token as the vocabulary spells it.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// A token as the vocabulary spells it (byte-level BPE spells a space `Ġ`).
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Whether a token was added to the vocabulary, as special tokens are.
    pub(crate) fn is_added(&self, id: u32) -> bool {
        let added = self.inner.get_added_vocabulary();
        added.get_added_tokens_decoder().contains_key(&id)
    }

    /// The chat template's text, if there is one.
    pub fn chat_template_source(&self) -> Option<&str> {
        Some(self.chat.as_ref().ok()?.identity().0)
    }

    /// The chat template, or why there is none.
    pub(crate) fn chat_template(&self) -> std::result::Result<&ChatTemplate, TokenizerProblem> {
        self.chat.as_ref().map_err(Clone::clone)
    }

    /// Rewrites the tool calls and the reasoning of a chat in the terms of the chat template;
    /// returns what the template cannot express.
    pub(crate) fn fit(&self, chat: &mut Chat) -> Vec<Note> {
        let speech = (!chat.is_plain()).then(|| self.speech()).flatten();
        speech.map_or_else(Vec::new, |speech| chat.fit(speech))
    }

    /// What the chat template can express, if there is one.
    fn speech(&self) -> Option<&Speech> {
        let template = self.chat.as_ref().ok()?;
        Some(self.speech.get_or_init(|| template.speech()))
    }

    /// The token ids of a text that already has its special tokens, and the bytes that each is made
    /// from.
    pub(crate) fn encode_with_offsets(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        let encoding = self.inner.encode(text, false);
        let encoding = encoding.map_err(|error| self.error(error))?;
        let offsets = encoding.get_offsets().iter();
        let offsets = offsets.map(|&(start, end)| start..end).collect();
        Ok((encoding.get_ids().to_vec(), offsets))
    }

    /// Adds everything that determines a text's tokens.
    pub(crate) fn hash_into(&self, key: &mut Key) -> Result<()> {
        let text = self.inner.to_string(false);
        key.add(text.map_err(|error| self.error(error))?.as_bytes());
        for id in [self.eos, self.bos] {
            key.add(&id.map_or(-1, i64::from).to_le_bytes());
        }
        key.add(&[u8::from(self.splits_special_tokens)]);
        if let Ok(template) = &self.chat {
            let (source, special_tokens) = template.identity();
            key.add(source.as_bytes());
            key.add(Value::from(special_tokens.clone()).to_string().as_bytes());
        }
        Ok(())
    }

    /// Writes `tokenizer.json`. The same tokenizer always gives the same bytes.
    ///
    /// # Errors
    /// If the file cannot be written; no partial file is left behind.
    pub fn save(&self, file: impl AsRef<Path>) -> Result<()> {
        let file = file.as_ref();
        let text = self
            .inner
            .to_string(true)
            .map_err(|error| self.error(error))?;
        atomic::write(file, text.as_bytes()).map_err(DataError::io(file))
    }

    fn error(&self, error: tokenizers::Error) -> DataError {
        self.problem(TokenizerProblem::Library(error.to_string()))
    }

    pub(crate) fn problem(&self, problem: TokenizerProblem) -> DataError {
        let name = self.name.clone();
        DataError::Tokenizer { name, problem }
    }
}

/// A BPE model between GPT-2's splitting into bytes, with a space before a text or without, and its
/// inverse.
pub(crate) fn byte_level(model: BPE, add_prefix_space: bool) -> Inner {
    let mut inner = Inner::new(model);
    inner.with_pre_tokenizer(Some(ByteLevel::new(add_prefix_space, true, true)));
    inner.with_decoder(Some(ByteLevel::new(false, true, true)));
    inner
}

/// The chat template in the files beside a tokenizer: `chat_template.jinja`, else the
/// `chat_template` of `tokenizer_config.json` (if there are several, the one named `default`).
fn declared_chat(
    folder: &Path,
    said: &Declared,
    eos: Option<String>,
) -> std::result::Result<ChatTemplate, TokenizerProblem> {
    let file = folder.join("chat_template.jinja");
    let config = folder.join("tokenizer_config.json");
    let origin = if file.is_file() { &file } else { &config };
    let template = match (file.is_file(), &said.chat_template) {
        (true, _) => {
            read_text(&file).map_err(|error| TokenizerProblem::Unreadable(error.to_string()))?
        }
        (false, Value::String(template)) => template.clone(),
        (false, Value::Array(named)) => {
            let default = named.iter().find(|entry| entry["name"] == "default");
            let template = default.and_then(|entry| entry["template"].as_str());
            template.ok_or(TokenizerProblem::NoDefaultTemplate)?.into()
        }
        _ => return Err(TokenizerProblem::NoTemplate),
    };
    let mut special_tokens = Map::new();
    if let Some(eos) = eos {
        special_tokens.insert("eos_token".into(), eos.into());
    }
    for (name, token) in &said.named {
        special_tokens.insert(name.clone(), token.content.clone().into());
    }
    let origin = origin.display().to_string();
    Ok(ChatTemplate::new(&template, &origin, special_tokens)?)
}

#[cfg(test)]
mod tests;
