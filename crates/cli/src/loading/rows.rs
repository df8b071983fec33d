//! The options for rows, and finding rows.

use std::path::PathBuf;

use burn_peft_data::{
    DataConfig, Examples, FILE_KINDS, Shape, Tokenizer, TrainOn, folder_and_split, holds_pairs,
};
use burn_peft_models::hub;
use burn_peft_train::ObjectiveName;

use super::args::at_least_one;

/// Where rows can come from, for the end of a help text.
pub fn sources_help() -> String {
    format!(
        "\
Rows come from a file ({FILE_KINDS}),
a folder with a file for each split (train.jsonl, valid.jsonl, test.jsonl), or a data set on the Hub
(organisation/name); optionally with a split (reviews:test) and a slice of the rows
(reviews.jsonl[:500])."
    )
}

/// Where rows can come from and which shapes they can have, for the end of a help text.
pub fn rows_help() -> String {
    let sources = sources_help();
    format!(
        "\
{sources}

A row has `text`; or `prompt` and `completion`; or `instruction` and `output`, and maybe `input`; or a
chat, in `messages` or `conversations`; or tokens, in `input_ids` and maybe `labels`. The answer to a
`prompt` or `instruction` may also be called `response` or `answer`. For other columns, data.text_field
(--text-field) names the column of text; or data.template (--template) writes the prompt, and
data.completion_field (--completion-field) names the answer: rows of `question` and `answer` need a
template such as --template $'{{question}}\\n'. In prompts and chats, only the answers are trained. Two
answers, `chosen` and `rejected`, are compared, and so are answers with a `label` (docs/preference.md).
docs/data.md has the exact text of each."
    )
}

/// The options for reading and batching rows, in the words of a training file.
#[derive(clap::Args)]
pub struct RowArgs {
    /// The tokenizer, if it is not with the model: a folder, a file or a Hub id
    #[arg(long, value_name = "PATH|ID")]
    pub tokenizer: Option<String>,
    /// Cut every row to this many tokens (data.max_length in a training file) [default: 2048, or
    /// the model's positions if those are fewer; with learnt positions (GPT-2) a longer row is an
    /// error]
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
    /// The prompt of a row, with {column} for a column's value (data.template in a training file)
    #[arg(long, value_name = "TEXT")]
    pub template: Option<String>,
    /// The column of the text (data.text_field in a training file)
    #[arg(long, value_name = "NAME")]
    pub text_field: Option<String>,
    /// The column of a text's label, or of the tags of words (data.label_field in a training file)
    #[arg(long, value_name = "NAME")]
    pub label_field: Option<String>,
    /// What the rows are for: sft, dpo, kto, orpo, cpo, reward, classify, tag or embed
    /// (training.objective in a training file) [default: by the model's head; without one dpo if
    /// the rows are pairs of `chosen` and `rejected`, else sft]
    #[arg(long, value_name = "NAME")]
    pub objective: Option<ObjectiveName>,
    /// Rows in a batch [default: 8; for classifiers as many as have 4,096 tokens in total]
    #[arg(long, value_name = "N", value_parser = at_least_one, allow_negative_numbers = true)]
    pub batch_size: Option<usize>,
}

impl RowArgs {
    /// The number of rows in a batch.
    pub fn batch_rows(&self) -> usize {
        self.batch_size.unwrap_or(8)
    }

    /// The objective for the rows of `data`, from the option or from their columns.
    pub fn objective(&self, data: &str, config: &DataConfig) -> ObjectiveName {
        self.objective.unwrap_or_else(|| {
            // A problem with the file is reported when it is read.
            let has_pairs = config.text_field.is_none()
                && config.completion_field.is_none()
                && holds_pairs(data, config, &find_data).unwrap_or(false);
            let pairs = has_pairs.then(|| ObjectiveName::find("dpo")).flatten();
            pairs.unwrap_or_default()
        })
    }

    /// The equivalent `[data]` table, for the rows of `data`.
    pub fn config(&self, data: &str) -> DataConfig {
        DataConfig {
            max_length: self.max_length,
            text_field: self.text_field.clone(),
            template: self.template.clone(),
            label_field: self.label_field.clone(),
            ..DataConfig::new(data)
        }
    }
}

/// The options for rows with answers to learn, beside [`RowArgs`].
#[derive(clap::Args)]
pub struct AnswerArgs {
    /// The column of the completion (data.completion_field in a training file)
    #[arg(long, value_name = "NAME")]
    pub completion_field: Option<String>,
    /// What is learnt of a row: answers, last_answer or all (data.train_on in a training file)
    /// [default: answers]
    #[arg(long, value_name = "WHAT")]
    pub train_on: Option<TrainOn>,
}

impl AnswerArgs {
    /// As [`RowArgs::config`], with these options too.
    pub fn config(&self, rows: &RowArgs, data: &str) -> DataConfig {
        DataConfig {
            completion_field: self.completion_field.clone(),
            train_on: self.train_on,
            ..rows.config(data)
        }
    }
}

/// Warns about settings that may not be what was meant.
pub fn warn_of_template(config: &DataConfig) {
    if let Some(warning) = config.template_warning() {
        tracing::warn!("{warning}");
    }
}

/// Warns if the answers of a template begin with tokens that are rare there.
pub fn warn_of_space(examples: &Examples, tokenizer: Option<&Tokenizer>) {
    let has_spaced_words = |tokenizer: &Tokenizer| {
        let last = tokenizer.encode("a a").ok()?.last().copied()?;
        Some(tokenizer.decode(&[last]).ok()? == " a")
    };
    let ends_with_space = |set: &Examples| match &set.shape {
        Shape::Template(template, Some(_)) => template.ends_with(' '),
        _ => false,
    };
    if examples.sets().iter().any(ends_with_space)
        && tokenizer.and_then(has_spaced_words) == Some(true)
    {
        tracing::warn!(
            "data.template ends with a space, and this tokenizer's words begin with theirs (\" a\"): the \
             space becomes a token of its own, which a model has rarely seen before a word; end the \
             template with a line break, or leave the space out there and begin every answer with one"
        );
    }
}

/// The files of a folder or of a data set on the Hub, as a [`burn_peft_data::Finder`].
pub fn find_data(name: &str) -> Result<Option<Vec<PathBuf>>, String> {
    let found = match folder_and_split(name) {
        Some((folder, split)) => hub::folder_dataset(folder, split).map(Some),
        None => hub::dataset(name),
    };
    found.map_err(|error| error.to_string())
}
