//! Building a tokenizer as transformers 5 does: from `tokenizer.json` or GPT-2's two files, and
//! from the settings in the files beside them.

use super::declared::{Declared, GPT2};
use super::{END_OF_TEXT, byte_level};
use crate::error::TokenizerProblem;
use burn_peft_files::read_text;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, ModelWrapper, PostProcessorWrapper, Tokenizer as Inner};

type Result<T> = std::result::Result<T, TokenizerProblem>;

/// Classes other than [`GPT2`] for which transformers lets `add_prefix_space` override
/// `tokenizer.json`.
const SPACED: [&str; 8] = [
    "GPTNeoXTokenizer",
    "CodeGenTokenizer",
    "CohereTokenizer",
    "Qwen2Tokenizer",
    "BartTokenizer",
    "RobertaTokenizer",
    "LEDTokenizer",
    "BlenderbotTokenizer",
];

/// The tokenizer of `tokenizer.json`.
pub(super) fn from_json(file: &Path, said: &mut Declared) -> Result<Inner> {
    let text = read_text(file).map_err(|error| TokenizerProblem::Unreadable(error.to_string()))?;
    let inner = guarded(|| Inner::from_bytes(text));
    let inner = inner.map_err(|error| TokenizerProblem::NoTokenizer {
        file: file.to_path_buf(),
        error,
    })?;
    let inner = without_dropout(inner, said);
    let prefix_space = prefix_space(&inner);
    let inner = match (prefix_space, said.is_gpt2(), inner.get_model()) {
        (Some(_), true, ModelWrapper::BPE(model)) => {
            let mut again = byte_level(model.clone(), said.add_prefix_space.unwrap_or(false));
            again.with_post_processor(inner.get_post_processor().cloned());
            if !said.added_are_all {
                let mut added: Vec<_> = inner.get_added_tokens_decoder().into_iter().collect();
                added.sort_unstable_by_key(|(id, _)| *id);
                said.added.extend(added);
            }
            again
        }
        _ => inner,
    };
    if said.add_prefix_space == Some(true)
        && prefix_space != Some(true)
        && let Some(class) = said.class.as_deref()
        && SPACED.contains(&class)
    {
        return Err(TokenizerProblem::PrefixSpace(class.into()));
    }
    let inner = added(inner, said)?;
    said.compare_with(&inner, prefix_space);
    Ok(inner)
}

/// The same text always gives the same tokens.
fn without_dropout(mut inner: Inner, said: &mut Declared) -> Inner {
    if let ModelWrapper::BPE(model) = inner.get_model()
        && let Some(dropout) = model.dropout
    {
        let mut model = model.clone();
        model.dropout = None;
        inner.with_model(model);
        if dropout > 0.0 {
            said.disagreements.push(format!(
                "dropout is {dropout} in tokenizer.json, which would split a text at random: it is \
                 left out"
            ));
        }
    }
    inner
}

/// The tokenizer of GPT-2's two files.
pub(super) fn from_pair(vocab: &Path, merges: &Path, said: &mut Declared) -> Result<Inner> {
    if let Some(class) = said.class.as_deref().filter(|&class| class != GPT2) {
        return Err(TokenizerProblem::ClassOfPair(class.into()));
    }
    let bad = TokenizerProblem::NoPair;
    let build = || {
        let model = bpe(vocab, merges)?;
        Ok(byte_level(model, said.add_prefix_space.unwrap_or(false)))
    };
    let mut inner = guarded(build).map_err(bad)?;
    if inner.token_to_id(END_OF_TEXT).is_some() {
        let end = AddedToken::from(END_OF_TEXT, true);
        inner
            .add_special_tokens([end])
            .map_err(|error| bad(error.to_string()))?;
    }
    let mut inner = added(inner, said)?;
    let around = |wanted: Option<bool>, name| {
        let token = wanted
            .unwrap_or(false)
            .then(|| said.special_token(name).unwrap_or(END_OF_TEXT));
        token.and_then(|token| Some((token.to_string(), inner.token_to_id(token)?)))
    };
    let (bos, eos) = (
        around(said.add_bos_token, "bos_token"),
        around(said.add_eos_token, "eos_token"),
    );
    if bos.is_some() || eos.is_some() {
        inner.with_post_processor(Some(processor(bos, eos)?));
    }
    Ok(inner)
}

/// Whether no other file says that a `vocab.txt` belongs to a tokenizer other than BERT's.
pub(super) fn is_word_piece(said: &Declared) -> bool {
    let class = said.class.as_deref();
    class.is_none_or(|class| ["BertTokenizer", "DistilBertTokenizer"].contains(&class))
}

/// The tokenizer of BERT's `vocab.txt`, as transformers' `BertTokenizer` makes it: lower-cased
/// unless `tokenizer_config.json` says otherwise, with words cut into the longest known pieces.
pub(super) fn from_words(file: &Path, folder: &Path) -> Result<Inner> {
    let bad = |error: String| TokenizerProblem::NoTokenizer {
        file: file.to_path_buf(),
        error,
    };
    let text = read_text(file).map_err(|error| TokenizerProblem::Unreadable(error.to_string()))?;
    let vocab: Map<String, Value> = (0..)
        .zip(text.lines())
        .map(|(id, token)| (token.trim_end_matches('\r').to_string(), json!(id)))
        .collect();
    let said = read_text(folder.join("tokenizer_config.json"));
    let said = said
        .ok()
        .and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let said = said.unwrap_or_default();
    let flag = |key: &str, usual: bool| said.get(key).and_then(Value::as_bool).unwrap_or(usual);
    let name = |key: &str, usual: &str| {
        let token = said.get(key).filter(|token| !token.is_null());
        let content = token.and_then(|token| token.get("content").unwrap_or(token).as_str());
        content.unwrap_or(usual).to_string()
    };
    let [cls, sep, unk] = [
        name("cls_token", "[CLS]"),
        name("sep_token", "[SEP]"),
        name("unk_token", "[UNK]"),
    ];
    let named = [
        &cls,
        &sep,
        &unk,
        &name("pad_token", "[PAD]"),
        &name("mask_token", "[MASK]"),
    ];
    let special = |token: &String| {
        let id = vocab.get(token)?;
        Some(json!({
            "id": id, "content": token, "special": true, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false,
        }))
    };
    let mut added: Vec<Value> = named.into_iter().filter_map(special).collect();
    added.sort_by_key(|token| token["id"].as_u64());
    added.dedup();
    let around = |token: &String| -> Result<Value> {
        let id = vocab
            .get(token)
            .ok_or_else(|| bad(format!("it has no {token}")))?;
        Ok(json!({"id": token, "ids": [id], "tokens": [token]}))
    };
    let (of_cls, of_sep) = (around(&cls)?, around(&sep)?);
    around(&unk)?;
    let mark =
        |token: &String, type_id: u32| json!({"SpecialToken": {"id": token, "type_id": type_id}});
    let text = |id: &str, type_id: u32| json!({"Sequence": {"id": id, "type_id": type_id}});
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": flag("tokenize_chinese_chars", true),
            "strip_accents": said.get("strip_accents").and_then(Value::as_bool),
            "lowercase": flag("do_lower_case", true),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [mark(&cls, 0), text("A", 0), mark(&sep, 0)],
            "pair": [mark(&cls, 0), text("A", 0), mark(&sep, 0), text("B", 1), mark(&sep, 1)],
            "special_tokens": {cls.clone(): of_cls, sep.clone(): of_sep},
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": unk, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    });
    guarded(|| Inner::from_bytes(tokenizer.to_string())).map_err(bad)
}

/// The model of GPT-2's two files.
fn bpe(vocab: &Path, merges: &Path) -> tokenizers::Result<BPE> {
    let vocab: HashMap<String, u32> = serde_json::from_str(&read_text(vocab)?)?;
    let merges = read_text(merges)?;
    if merges.trim().is_empty() {
        return Err("merges.txt is empty, so that every text would fall into single bytes".into());
    }
    let merges = merges.lines().filter(|line| !line.starts_with("#version"));
    let pair = |line: &str| {
        let (first, second) = line.split_once(' ').filter(|(_, b)| !b.contains(' '))?;
        Some((first.to_owned(), second.to_owned()))
    };
    let pair = |line| pair(line).ok_or_else(|| format!("merges.txt: {line:?} is not a pair"));
    let merges = merges.map(pair).collect::<std::result::Result<_, _>>()?;
    let vocab: Vocab = vocab.into_iter().collect();
    BPE::builder().vocab_and_merges(vocab, merges).build()
}

/// Adds the tokens that the files add, in transformers' order, which determines their ids.
fn added(mut inner: Inner, said: &mut Declared) -> Result<Inner> {
    let known = inner.get_added_tokens_decoder();
    let mut tokens: Vec<AddedToken> = said.added.values().cloned().collect();
    tokens.retain(|token| !known.values().any(|known| known == token));
    for (name, token) in &said.named {
        let is_known = known
            .values()
            .chain(&tokens)
            .any(|known| known.content == token.content);
        if !is_known {
            if inner.token_to_id(&token.content).is_none() {
                said.disagreements.push(format!(
                    "{name} is {:?}, which is not in the vocabulary: it is added as a new token, as \
                     in transformers",
                    token.content
                ));
            }
            tokens.push(token.clone());
        }
    }
    for token in &said.extra {
        let is_known = known
            .values()
            .chain(&tokens)
            .any(|known| known.content == token.content);
        if !is_known {
            tokens.push(token.clone());
        }
    }
    inner
        .add_tokens(tokens)
        .map_err(|error| TokenizerProblem::Library(error.to_string()))?;
    inner.set_encode_special_tokens(said.split_special_tokens);
    for (id, token) in &said.added {
        let found = inner.token_to_id(&token.content);
        if found.is_some_and(|found| found != *id) {
            said.disagreements.push(format!(
                "the added token {:?} has the id {id} in its file and gets {}, as in transformers: \
                 added tokens have no ids but those after the vocabulary",
                token.content,
                found.unwrap_or_default()
            ));
        }
    }
    Ok(inner)
}

impl Declared {
    /// Notes the settings that `tokenizer.json` contradicts.
    fn compare_with(&mut self, inner: &Inner, prefix_space_of_file: Option<bool>) {
        let mut settings = Vec::new();
        if let (Some(now), Some(of_file)) = (prefix_space(inner), prefix_space_of_file) {
            settings.push(("add_prefix_space", self.add_prefix_space, now, of_file));
        }
        // A text that the tokenizer cannot encode gets no special tokens either.
        if let Ok(text) = inner.encode("a", true) {
            let is = |id: Option<&u32>, name| {
                let token = self.special_token(name);
                token.is_some_and(|token| inner.token_to_id(token).as_ref() == id)
            };
            let bos = is(text.get_ids().first(), "bos_token");
            let eos = is(text.get_ids().last(), "eos_token");
            settings.push(("add_bos_token", self.add_bos_token, bos, bos));
            settings.push(("add_eos_token", self.add_eos_token, eos, eos));
        }
        for (key, said, now, of_file) in settings {
            if said.is_some_and(|said| said != of_file) || now != of_file {
                let said = said.map_or("not set".into(), |said| said.to_string());
                self.disagreements.push(format!(
                    "{key} is {said} in tokenizer_config.json and {of_file} in tokenizer.json: \
                     {now} counts, as in transformers; make both say the same"
                ));
            }
        }
    }
}

/// Whether a byte-level tokenizer puts a space before a text.
fn prefix_space(inner: &Inner) -> Option<bool> {
    match inner.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::ByteLevel(ByteLevel {
            add_prefix_space, ..
        })) => Some(*add_prefix_space),
        _ => None,
    }
}

/// Puts special tokens around a text. Written in `tokenizer.json`'s own format, because the name of
/// a token may contain any character.
fn processor(
    bos: Option<(String, u32)>,
    eos: Option<(String, u32)>,
) -> Result<PostProcessorWrapper> {
    let piece = |token: &Option<(String, u32)>| {
        let (id, _) = token.as_ref()?;
        Some(json!({"SpecialToken": {"id": id, "type_id": 0}}))
    };
    let text = json!({"Sequence": {"id": "A", "type_id": 0}});
    let pieces: Vec<Value> = piece(&bos)
        .into_iter()
        .chain([text])
        .chain(piece(&eos))
        .collect();
    let tokens = bos.iter().chain(&eos).map(|(token, id)| {
        (
            token.clone(),
            json!({"id": token, "ids": [id], "tokens": [token]}),
        )
    });
    let processor = json!({
        "type": "TemplateProcessing",
        "single": pieces,
        // Nothing here encodes two texts at once.
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": Value::Object(tokens.collect()),
    });
    let processor = serde_json::from_value(processor);
    processor.map_err(|error| TokenizerProblem::Library(error.to_string()))
}

/// Turns a panic into an error: the `tokenizers` crate panics on some malformed files (a merge
/// longer than every token).
fn guarded(load: impl FnOnce() -> tokenizers::Result<Inner>) -> std::result::Result<Inner, String> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(load)) {
        Ok(loaded) => loaded.map_err(|error| error.to_string()),
        Err(_) => Err("the file contradicts itself".into()),
    }
}
