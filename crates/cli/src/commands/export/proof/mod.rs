//! Reading the written file back and comparing it with the trained model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use burn::tensor::Device;
use burn_peft_data::{DataError, Tokenizer, TokenizerProblem};
use burn_peft_models::LanguageModel;
use burn_peft_models::gguf::{self, OutType};
use burn_peft_models::hub::ModelFiles;

use crate::loading::{find_tokenizer, load_adapter, load_frozen};
use crate::output::{counted, say};

mod logits;
mod texts;

use self::logits::{Agreement, Logits};
use super::source::Source;

/// A written file, and what it was made from.
pub struct Proof<'a> {
    /// The file, under its current name.
    pub file: &'a Path,
    /// Whether it contains only the adapters.
    pub is_adapter: bool,
    /// The model without adapters: its name and its files.
    pub model: &'a str,
    pub files: &'a ModelFiles,
    /// The adapters, all of which are in the file.
    pub adapters: &'a [PathBuf],
    /// The requested type.
    pub out_type: OutType,
    /// The tokenizer given instead of the model's.
    pub tokenizer: Option<&'a str>,
    pub device: &'a Device,
}

/// How far a file of some type may deviate from the model: the smallest share of equal predictions
/// where the model is certain, and the largest median of the KL divergence. Both bounds are far
/// from what rounding does to a model, even one with random weights, and from what wrong weights do
/// to a trained one.
const BOUNDS: &[(&str, f64, f64)] = &[
    ("f32", 0.99, 1e-6),
    ("f16", 0.95, 1e-3),
    ("bf16", 0.9, 1e-2),
    ("q8_0", 0.9, 2e-2),
    ("q6_k", 0.8, 0.2),
];
/// The same for fewer bits.
const COARSE: (f64, f64) = (0.3, 1.5);

/// The bounds of a type.
fn bounds(out_type: OutType) -> (f64, f64) {
    let name = out_type.to_string();
    let found = BOUNDS.iter().find(|(of, ..)| *of == name);
    found.map_or(COARSE, |&(_, least, most)| (least, most))
}

impl Proof<'_> {
    /// Reads the file back, prints how close it is to the trained model, and fails if that is not
    /// close enough.
    ///
    /// One of the two models is in memory at a time.
    pub fn run(&self) -> Result<()> {
        let source = find_tokenizer(self.files, self.tokenizer)?;
        say("proof: the file, read back, compared with the model")?;
        let texts = texts::probes();
        let written = if self.is_adapter {
            None
        } else {
            Some(self.read_back(source.as_ref(), &texts)?)
        };
        let model = Source::open(self.model, self.adapters, self.device)?.into_model();
        let rows = logits::rows(source.as_ref(), &texts, &model)?;
        let expected = Logits::of(&model, &rows, self.device)?;
        drop(model);
        let model = match written {
            Some(written) => load_frozen(&written, self.device, None)?.no_grad().into(),
            None => self.with_adapter()?,
        };
        let found = Logits::of(&model, &rows, self.device)?;
        self.judge(&expected.compare(&found))
    }

    /// The files of the written model, of which everything but the weights is compared.
    fn read_back(&self, source: Option<&Tokenizer>, texts: &[String]) -> Result<ModelFiles> {
        let written = ModelFiles::gguf(self.file).context("what was written cannot be read")?;
        if let Some(source) = source {
            let read = find_tokenizer(&written, None)?;
            let read = read.context("what was written has no tokenizer")?;
            same_tokens(source, &read, texts)?;
            same_chats(source, &read)?;
        }
        Ok(written)
    }

    /// The model with the adapter that was written.
    fn with_adapter(&self) -> Result<LanguageModel> {
        let base = load_frozen(self.files, self.device, None)?.no_grad();
        let folder = gguf::own_folder()?;
        gguf::read_adapter(self.file, &base, folder.path())
            .context("what was written cannot be read")?;
        Ok(load_adapter(base, folder.path(), false)?.into())
    }

    fn judge(&self, agreement: &Agreement) -> Result<()> {
        let (least, most) = bounds(self.out_type);
        let Agreement {
            positions,
            same,
            sure,
            sure_same,
            divergence,
            median,
        } = *agreement;
        let share = |of: usize, all: usize| of as f64 / all.max(1) as f64;
        let where_sure = match sure {
            0 => String::new(),
            _ => format!(
                " (of the {sure} where the model is sure: {:.1} %)",
                100.0 * share(sure_same, sure)
            ),
        };
        say(format!(
            "  logits         {}: the same first choice at {:.1} %{where_sure}, KL divergence \
             {divergence:.1e}, in the median {median:.1e}\n  bound          {:.0} % where it is sure, a \
             median of {most:.0e}, as {}",
            counted(positions, "position"),
            100.0 * share(same, positions),
            100.0 * least,
            self.out_type,
        ))?;
        let agrees = sure == 0 || share(sure_same, sure) >= least;
        ensure!(
            agrees && median <= most,
            "the file is not the model that was trained: nothing is left of it. If the model is sound \
             (`peft eval`), another --outtype may hold it better"
        );
        Ok(())
    }
}

/// Checks that texts have the same tokens with both tokenizers.
fn same_tokens(source: &Tokenizer, read: &Tokenizer, texts: &[String]) -> Result<()> {
    for text in texts {
        let (expected, found) = (source.encode(text)?, read.encode(text)?);
        ensure!(
            expected == found,
            "the tokenizer that was written differs: {text:?} has the tokens {found:?} instead of \
             {expected:?}"
        );
    }
    let count = texts.len();
    say(format!(
        "  tokenizer      {count} of {count} texts have the same tokens"
    ))
}

/// Checks that chats render to the same text, with the same tokens.
fn same_chats(source: &Tokenizer, read: &Tokenizer) -> Result<()> {
    let (mut count, mut refused, mut after_marks) = (0, 0, 0);
    for messages in texts::chats() {
        let expected = match source.apply_chat_template(&messages, true) {
            Ok(text) => text,
            Err(DataError::Tokenizer {
                problem: TokenizerProblem::NoTemplate,
                ..
            }) => return say("  chat template  none"),
            Err(_) => {
                refused += 1;
                continue;
            }
        };
        let found = read.apply_chat_template(&messages, true)?;
        ensure!(
            expected == found,
            "the chat template that was written differs: {found:?} instead of {expected:?}"
        );
        let same = source.encode_continuation(&expected)? == read.encode_continuation(&found)?;
        ensure!(
            same || begins_with_space(source)?,
            "the tokenizer that was written differs for chats: {expected:?} has other tokens"
        );
        after_marks += usize::from(!same);
        count += 1;
    }
    let refused = match refused {
        0 => String::new(),
        refused => format!(", {refused} refused by the template"),
    };
    let after_marks = match after_marks {
        0 => String::new(),
        _ => "; after special tokens the file's tokenizer puts no space (▁), as llama.cpp's may"
            .into(),
    };
    say(format!(
        "  chat template  the same text of {}{refused}{after_marks}",
        counted(count, "chat")
    ))
}

/// Whether a tokenizer puts a space before a text. For what it does after a special token within a
/// text, GGUF files have no key.
fn begins_with_space(tokenizer: &Tokenizer) -> Result<bool> {
    let ids = tokenizer.encode_continuation("a")?;
    let first = ids.first().and_then(|&id| tokenizer.id_to_token(id));
    Ok(first.is_some_and(|first| first.starts_with('▁')))
}
