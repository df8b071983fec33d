//! Text to token ids and back: the `tokenizers` crate, loaded from the files people have.

use crate::cache::Key;
use crate::chat::ChatTemplate;
use crate::error::{DataError, Result};
use burn_peft_files::{atomic, read_text};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::{AddedToken, Tokenizer as Inner};

mod ids;

/// The token that ends a text where nothing else is said; GPT-2's only special token.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// A tokenizer and what a causal language model needs to know of it.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Inner,
    name: String,
    eos: Option<u32>,
    /// Its chat template, or what is wrong with it: of no matter until a chat comes.
    chat: std::result::Result<ChatTemplate, String>,
}

/// Why a tokenizer can do without.
const NO_TEMPLATE: &str = "it has no chat_template (in tokenizer_config.json or \
    chat_template.jinja), and the data are chats; name the tokenizer of a chat model with \
    `tokenizer`, or write rows of `prompt` and `completion`";

impl Tokenizer {
    /// Loads a tokenizer from a folder with `tokenizer.json`, or with GPT-2's `vocab.json` and
    /// `merges.txt`; or from one of these files.
    ///
    /// The end-of-sequence token is the `eos_token` of `tokenizer_config.json` or
    /// `special_tokens_map.json`, else the `eos_token_id` of `config.json`, else
    /// `<|endoftext|>`, else none.
    ///
    /// # Errors
    /// Missing or malformed files, and an `eos_token` that is not in the vocabulary.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let bad = |problem: String| DataError::Tokenizer {
            name: name.clone(),
            problem,
        };
        if !path.exists() {
            return Err(bad("there is no such folder or file".into()));
        }
        let folder = match path.is_dir() {
            true => path,
            false => path.parent().unwrap_or(Path::new("")),
        };
        let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        let one_of_two = [&vocab, &merges].iter().any(|file| file.as_path() == path);
        let json = match path.is_dir() {
            true => path.join("tokenizer.json"),
            false => path.to_path_buf(),
        };
        let inner = if json.is_file() && !one_of_two {
            let text = read_text(&json).map_err(|error| bad(error.to_string()))?;
            guarded(|| Inner::from_bytes(text))
                .map_err(|error| bad(format!("{} is no tokenizer: {error}", json.display())))?
        } else if vocab.is_file() && merges.is_file() {
            guarded(|| gpt2(&vocab, &merges)).map_err(|error| {
                bad(format!(
                    "vocab.json with merges.txt is no byte-level BPE: {error}"
                ))
            })?
        } else {
            return Err(bad(
                "has neither tokenizer.json nor vocab.json with merges.txt".into(),
            ));
        };
        let mut tokenizer = Self::from_inner(inner, name.clone())?;
        if let Some(eos) = declared_eos(folder, &tokenizer.inner).map_err(bad)? {
            tokenizer.eos = Some(eos);
        }
        let eos = tokenizer.eos.and_then(|eos| tokenizer.id_to_token(eos));
        tokenizer.chat = declared_chat(folder, eos);
        Ok(tokenizer)
    }

    /// Wraps a tokenizer, `name` being how errors call it.
    pub(crate) fn from_inner(mut inner: Inner, name: String) -> Result<Self> {
        // Cutting and padding are this crate's own, and said in the training file.
        inner.with_padding(None);
        if let Err(error) = inner.with_truncation(None) {
            return Err(DataError::Tokenizer {
                name,
                problem: error.to_string(),
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
            chat: Err(NO_TEMPLATE.into()),
        })
    }

    /// Token ids of a text, with the special tokens this tokenizer puts around one (GPT-2: none).
    ///
    /// # Errors
    /// When the tokenizer cannot encode the text, as one without a token for unknown characters.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_as(text, true)
    }

    /// Token ids of a text that goes on from another: without special tokens around it.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_as(text, false)
    }

    fn encode_as(&self, text: &str, special_tokens: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, special_tokens);
        Ok(encoding
            .map_err(|error| self.error(error))?
            .get_ids()
            .to_vec())
    }

    /// The text of token ids, special tokens included. An id beyond the vocabulary has no text.
    ///
    /// # Errors
    /// When the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner
            .decode(ids, false)
            .map_err(|error| self.error(error))
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The id of the end-of-sequence token.
    pub fn eos_id(&self) -> Option<u32> {
        self.eos
    }

    /// The id of a token as the vocabulary spells it.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// A token as the vocabulary spells it (byte-level BPE spells a space `Ġ`).
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The chat template, or why there is none.
    pub(crate) fn chat_template(&self) -> std::result::Result<&ChatTemplate, String> {
        self.chat.as_ref().map_err(Clone::clone)
    }

    /// Token ids of a text that has its special tokens already, and the bytes each is made of.
    pub(crate) fn encode_with_offsets(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        let encoding = self.inner.encode(text, false);
        let encoding = encoding.map_err(|error| self.error(error))?;
        let offsets = encoding.get_offsets().iter();
        let offsets = offsets.map(|&(start, end)| start..end).collect();
        Ok((encoding.get_ids().to_vec(), offsets))
    }

    /// Adds all that decides what a text's tokens are.
    pub(crate) fn hash_into(&self, key: &mut Key) -> Result<()> {
        let text = self.inner.to_string(false);
        key.add(text.map_err(|error| self.error(error))?.as_bytes());
        key.add(&self.eos.map_or(-1, i64::from).to_le_bytes());
        if let Ok(template) = &self.chat {
            let (source, special_tokens) = template.identity();
            key.add(source.as_bytes());
            key.add(Value::from(special_tokens.clone()).to_string().as_bytes());
        }
        Ok(())
    }

    /// Writes `tokenizer.json`; the same tokenizer always gives the same bytes.
    ///
    /// # Errors
    /// When the file cannot be written; nothing half-written stays behind.
    pub fn save(&self, file: impl AsRef<Path>) -> Result<()> {
        let file = file.as_ref();
        let text = self
            .inner
            .to_string(true)
            .map_err(|error| self.error(error))?;
        atomic::write(file, text.as_bytes()).map_err(DataError::io(file))
    }

    fn error(&self, error: tokenizers::Error) -> DataError {
        self.problem(error.to_string())
    }

    pub(crate) fn problem(&self, problem: String) -> DataError {
        let name = self.name.clone();
        DataError::Tokenizer { name, problem }
    }
}

/// The `tokenizers` crate panics on some malformed files (a merge longer than every token):
/// that is an error here.
fn guarded(load: impl FnOnce() -> tokenizers::Result<Inner>) -> std::result::Result<Inner, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(load)) {
        Ok(loaded) => loaded.map_err(|error| error.to_string()),
        Err(_) => Err("the file contradicts itself".into()),
    }
}

/// GPT-2's two files: byte-level BPE, no space put before a text.
fn gpt2(vocab: &Path, merges: &Path) -> tokenizers::Result<Inner> {
    let vocab: HashMap<String, u32> = serde_json::from_str(&read_text(vocab)?)?;
    let merges = read_text(merges)?;
    let merges = merges.lines().filter(|line| !line.starts_with("#version"));
    let pair = |line: &str| {
        let (first, second) = line.split_once(' ').filter(|(_, b)| !b.contains(' '))?;
        Some((first.to_owned(), second.to_owned()))
    };
    let pair = |line| pair(line).ok_or_else(|| format!("merges.txt: {line:?} is no pair"));
    let merges = merges.map(pair).collect::<std::result::Result<_, _>>()?;
    let vocab: Vocab = vocab.into_iter().collect();
    let model = BPE::builder().vocab_and_merges(vocab, merges).build()?;
    let mut inner = byte_level(model);
    if inner.token_to_id(END_OF_TEXT).is_some() {
        inner.add_special_tokens([AddedToken::from(END_OF_TEXT, true)])?;
    }
    Ok(inner)
}

/// A BPE model between GPT-2's splitting into bytes and its inverse.
pub(crate) fn byte_level(model: BPE) -> Inner {
    let mut inner = Inner::new(model);
    inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    inner.with_decoder(Some(ByteLevel::new(false, true, true)));
    inner
}

/// The chat template of the files beside a tokenizer: `chat_template.jinja`, else the
/// `chat_template` of `tokenizer_config.json` (of several the one named `default`).
fn declared_chat(folder: &Path, eos: Option<String>) -> std::result::Result<ChatTemplate, String> {
    let config = read_json(&folder.join("tokenizer_config.json"))?;
    let map = read_json(&folder.join("special_tokens_map.json"))?;
    let file = folder.join("chat_template.jinja");
    let template = match (file.is_file(), &config["chat_template"]) {
        (true, _) => read_text(&file).map_err(|error| error.to_string())?,
        (false, Value::String(template)) => template.clone(),
        (false, Value::Array(named)) => {
            let default = named.iter().find(|entry| entry["name"] == "default");
            let template = default.and_then(|entry| entry["template"].as_str());
            template
                .ok_or("tokenizer_config.json names no default chat_template")?
                .into()
        }
        _ => return Err(NO_TEMPLATE.into()),
    };
    let mut special_tokens = Map::new();
    if let Some(eos) = eos {
        special_tokens.insert("eos_token".into(), eos.into());
    }
    for (name, token) in [&map, &config]
        .into_iter()
        .filter_map(Value::as_object)
        .flatten()
    {
        let token = token.get("content").unwrap_or(token);
        if name.ends_with("_token") && token.is_string() {
            special_tokens.insert(name.clone(), token.clone());
        }
    }
    ChatTemplate::new(&template, special_tokens)
}

/// The end-of-sequence token that the files beside a tokenizer name.
fn declared_eos(folder: &Path, inner: &Inner) -> std::result::Result<Option<u32>, String> {
    for file in ["tokenizer_config.json", "special_tokens_map.json"] {
        let value = read_json(&folder.join(file))?;
        let token = value
            .get("eos_token")
            .and_then(|token| token.get("content").unwrap_or(token).as_str());
        if let Some(token) = token {
            let missing = || format!("the eos_token {token:?} of {file} is not in its vocabulary");
            return inner.token_to_id(token).map(Some).ok_or_else(missing);
        }
    }
    let config = read_json(&folder.join("config.json"))?;
    let id = config.get("eos_token_id");
    let id = id
        .and_then(|id| id.get(0).unwrap_or(id).as_u64())
        .and_then(|id| u32::try_from(id).ok());
    // A config may keep GPT-2's 50256 beside a smaller vocabulary.
    Ok(id.filter(|&id| inner.id_to_token(id).is_some()))
}

/// A JSON file, or `null` when there is none.
fn read_json(path: &Path) -> std::result::Result<Value, String> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(Value::Null),
        Err(error) => return Err(error.to_string()),
    };
    serde_json::from_str(&text).map_err(|error| format!("{} is not JSON: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpe::tiny;
    use std::fs;

    /// GPT-2's own files, which are too large to ship.
    fn real_gpt2() -> Option<Tokenizer> {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../../shared/gpt2-tokenizer"
        );
        if !Path::new(folder).is_dir() {
            eprintln!("skipped: {folder} is absent");
            return None;
        }
        Some(Tokenizer::load(folder).unwrap())
    }

    #[test]
    fn gpt2_gives_the_published_ids() {
        let Some(tokenizer) = real_gpt2() else { return };
        assert_eq!(
            (tokenizer.vocab_size(), tokenizer.eos_id()),
            (50257, Some(50256))
        );
        let hello = [15496, 995];
        assert_eq!(tokenizer.encode("Hello world").unwrap(), hello);
        let fox = [464, 2068, 7586, 21831];
        assert_eq!(tokenizer.encode("The quick brown fox").unwrap(), fox);
        assert_eq!(tokenizer.encode(END_OF_TEXT).unwrap(), [50256]);
        assert_eq!(
            tokenizer.decode(&[15496, 995, 50256]).unwrap(),
            "Hello world<|endoftext|>"
        );
        for text in [
            "",
            "  two  spaces\n\n\ttab",
            "naïve café, 日本語 🦀 don't",
            "\u{0}\u{7f}",
        ] {
            assert_eq!(
                tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(),
                text
            );
        }
    }

    #[test]
    fn a_saved_tokenizer_loads_again_from_folder_and_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tokenizer.json");
        tiny().save(&file).unwrap();
        for path in [dir.path(), &file] {
            let loaded = Tokenizer::load(path).unwrap();
            assert_eq!(
                loaded.encode("the cat 日").unwrap(),
                tiny().encode("the cat 日").unwrap()
            );
            assert_eq!(loaded.eos_id(), tiny().eos_id());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = tiny()
            .save(dir.path().join("missing/tokenizer.json"))
            .unwrap_err();
        assert!(
            error.to_string().contains("missing/tokenizer.json: "),
            "{error}"
        );
    }

    #[test]
    fn vocab_and_merges_are_gpt2s_pair() {
        let dir = tempfile::tempdir().unwrap();
        let vocab = r#"{"a": 0, "b": 1, "Ġ": 2, "ab": 3, "<|endoftext|>": 4}"#;
        fs::write(dir.path().join("vocab.json"), vocab).unwrap();
        let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with("has neither tokenizer.json nor vocab.json with merges.txt"));

        fs::write(dir.path().join("merges.txt"), "#version: 0.2\na b\n").unwrap();
        for path in [dir.path().to_path_buf(), dir.path().join("vocab.json")] {
            let tokenizer = Tokenizer::load(path).unwrap();
            assert_eq!(
                tokenizer.encode("ab ba<|endoftext|>").unwrap(),
                [3, 2, 1, 0, 4]
            );
            assert_eq!(tokenizer.eos_id(), Some(4));
        }
        // A merge whose result is longer than every token: the crate below panics on it.
        let merges = dir.path().join("merges.txt");
        fs::write(&merges, "<|endoftext|> <|endoftext|>\n").unwrap();
        let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("vocab.json with merges.txt is no byte-level BPE"),
            "{error}"
        );
    }

    #[test]
    fn the_eos_token_is_what_the_files_say() {
        let dir = tempfile::tempdir().unwrap();
        tiny().save(dir.path().join("tokenizer.json")).unwrap();
        let eos = || Tokenizer::load(dir.path()).map(|tokenizer| tokenizer.eos_id());
        fs::write(
            dir.path().join("config.json"),
            r#"{"eos_token_id": [3, 4]}"#,
        )
        .unwrap();
        assert_eq!(eos().unwrap(), Some(3));
        fs::write(dir.path().join("config.json"), r#"{"eos_token_id": 50256}"#).unwrap();
        assert_eq!(eos().unwrap(), tiny().eos_id());
        let config = dir.path().join("tokenizer_config.json");
        fs::write(&config, r#"{"eos_token": {"content": "t"}}"#).unwrap();
        assert_eq!(eos().unwrap(), tiny().token_to_id("t"));
        fs::write(&config, r#"{"eos_token": "</s>"}"#).unwrap();
        let error = eos().unwrap_err().to_string();
        assert!(
            error.contains("eos_token \"</s>\" of tokenizer_config.json"),
            "{error}"
        );
    }

    #[test]
    fn missing_and_truncated_files_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("nowhere");
        let error = Tokenizer::load(&missing).unwrap_err().to_string();
        assert!(error.contains("nowhere: there is no such"), "{error}");
        let file = dir.path().join("tokenizer.json");
        fs::write(&file, "{\"version\": \"1.0\", \"mod").unwrap();
        let error = Tokenizer::load(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("tokenizer.json is no tokenizer: EOF"),
            "{error}"
        );
    }
}
