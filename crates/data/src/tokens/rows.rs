//! How many rows were cut or dropped, and why.

use crate::error::{DataError, RowProblem, TemplateProblem};
use crate::format::{Chat, Content};
use crate::tokens::train_on::TrainOn;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Why a row has no example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Dropped {
    /// Everything to be learnt lies beyond `max_length`.
    Cut,
    /// It has fewer than 2 tokens.
    Short,
    /// A chat in which the assistant says nothing.
    NoAnswer,
    /// A chat whose answers all exclude themselves.
    Weights,
    /// Tokens whose labels and masks leave nothing to learn.
    Labels,
    /// An answer calls a tool, which the chat template cannot express.
    Calls,
    /// The chat template does not show what the assistant says.
    Rewritten,
    /// The chat template leaves out the text of an answer.
    Unsaid,
    /// None of its tokens is to be learnt.
    Unlearnt,
    /// None of its words has a tag.
    Untagged,
    /// A text to classify has no tokens.
    NoText,
    /// A weight of 0, or `label` false, excludes it.
    Masked,
    /// Both answers are the same.
    Equal,
    /// An answer has no text.
    EmptyAnswer,
    /// The prompt alone is as long as a row may be.
    LongPrompt,
}

impl Dropped {
    /// Why a row with this error is left out; `None` if the error is to be reported.
    pub fn by(error: &DataError) -> Option<Self> {
        let DataError::Row { problem, .. } = error else {
            return None;
        };
        match problem {
            RowProblem::Template(TemplateProblem::MessageChangesOthers(_)) => Some(Self::Rewritten),
            RowProblem::Template(TemplateProblem::LeavesOut(_)) => Some(Self::Unsaid),
            RowProblem::EqualAnswers => Some(Self::Equal),
            RowProblem::EmptyAnswer => Some(Self::EmptyAnswer),
            _ => None,
        }
    }

    /// Why a row with enough tokens has nothing to learn.
    pub fn unlearnt(content: &Content, train_on: TrainOn) -> Self {
        match content {
            Content::Chat(chat) if train_on != TrainOn::All => {
                let mut answers = chat.answers().peekable();
                if answers.peek().is_none() {
                    Self::NoAnswer
                } else if answers.all(|(_, answer)| Chat::is_masked(answer)) {
                    Self::Weights
                } else {
                    Self::Unlearnt
                }
            }
            Content::Tokens { .. } => Self::Labels,
            Content::Tagged { .. } => Self::Untagged,
            Content::Labelled { .. } => Self::NoText,
            _ => Self::Unlearnt,
        }
    }

    /// The same in words; `cut_by` is the name of the length that rows are cut to.
    pub fn describe(self, cut_by: &str) -> String {
        match self {
            Self::Cut => format!("what is learnt of them lies beyond data.max_length{cut_by}"),
            Self::Short => "fewer than 2 tokens".into(),
            Self::NoAnswer => {
                "no message that is to be learnt is the assistant's; data.train_on = \
                               \"all\" learns every message"
                    .into()
            }
            Self::Weights => {
                "the weight of every answer is 0, or its train, training, … false".into()
            }
            Self::Labels => "all their labels are -100, or their masks 0".into(),
            Self::Calls => {
                "their answers call tools, and the chat template leaves out `tool_calls`; use the \
                            tokenizer of a model that calls tools"
                    .into()
            }
            Self::Rewritten => {
                "their chat template writes a message differently once more follow, so it \
                 is unclear what the assistant said: mark that in the template with \
                 {% generation %}, or learn all with data.train_on = \"all\""
                    .into()
            }
            Self::Unsaid => {
                "their chat template leaves out the text of an answer, as it does if it wants \
                 `content` as a list of parts; use the tokenizer of a model for text alone"
                    .into()
            }
            Self::Unlearnt => "nothing to learn in them: what answers is empty".into(),
            Self::Untagged => "no word of them has a tag that is learnt".into(),
            Self::NoText => "they have no tokens, and so nothing to judge".into(),
            Self::Masked => "their weight is 0 or their label false".into(),
            Self::Equal => "chosen and rejected are the same".into(),
            Self::EmptyAnswer => "an answer without any text".into(),
            Self::LongPrompt => format!("the prompt alone fills data.max_length{cut_by}"),
        }
    }
}

/// How many rows there were, and what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RowCounts {
    pub total: usize,
    pub truncated: usize,
    /// Words with a tag that were cut off.
    #[serde(default)]
    pub tags_cut: usize,
    dropped: BTreeMap<Dropped, usize>,
    /// For each, the number of the first such row, if known.
    #[serde(default)]
    first: BTreeMap<Dropped, usize>,
}

impl RowCounts {
    pub fn add(&mut self, row: usize, dropped: Option<Dropped>, truncated: bool) {
        self.total += 1;
        self.truncated += usize::from(truncated);
        if let Some(why) = dropped {
            *self.dropped.entry(why).or_default() += 1;
            if matches!(
                why,
                Dropped::Equal | Dropped::EmptyAnswer | Dropped::LongPrompt
            ) {
                self.first.entry(why).or_insert(row);
            }
        }
    }

    /// Rows without an example.
    pub fn skipped(&self) -> usize {
        self.dropped.values().sum()
    }

    /// What was left out, in words, with the setting that caused it. `cut_by` is the name of the
    /// length that rows are cut to; see [`cut_by`].
    pub fn describe(&self, cut_by: &str, max_samples: Option<usize>) -> Vec<String> {
        let total = self.total;
        let mut lines = Vec::new();
        if self.truncated > 0 {
            let cut = self.truncated;
            lines.push(format!(
                "{cut} of {total} rows cut to data.max_length{cut_by}"
            ));
        }
        if self.tags_cut > 0 {
            let cut = self.tags_cut;
            lines.push(format!(
                "words with a tag beyond data.max_length{cut_by}, neither learnt nor counted: {cut}"
            ));
        }
        lines.extend(self.describe_dropped(cut_by));
        if let Some(max) = max_samples.filter(|max| *max == total) {
            lines.push(format!(
                "no more than {max} rows are read: data.max_samples = {max}"
            ));
        }
        lines
    }

    fn describe_dropped(&self, cut_by: &str) -> Vec<String> {
        let dropped = self.dropped.iter();
        let line = |(why, count): (&Dropped, &usize)| {
            let first = self.first.get(why);
            let first = first.map_or_else(String::new, |row| format!(", the first is row {row}"));
            let why = why.describe(cut_by);
            format!("{count} of {} rows dropped{first}: {why}", self.total)
        };
        dropped.map(line).collect()
    }

    /// The warning if more than a tenth of the rows is dropped.
    pub fn warning(&self, cut_by: &str) -> Option<String> {
        let skipped = self.skipped();
        (10 * skipped > self.total).then(|| {
            let dropped = self.describe_dropped(cut_by).join("; ");
            format!(
                "nothing is learnt of {skipped} of {} rows, more than a tenth: {dropped}",
                self.total
            )
        })
    }
}

/// The name of the length that rows are cut to: the setting, or what it is without one.
pub(crate) fn cut_by(max_length: Option<usize>, default_length: usize) -> String {
    match max_length {
        Some(max) => format!(" = {max}"),
        None => format!(" = {default_length}, its default here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_a_tenth_is_a_warning() {
        let mut rows = RowCounts::default();
        (1..19).for_each(|row| rows.add(row, None, false));
        rows.add(19, Some(Dropped::Weights), false);
        rows.add(20, Some(Dropped::Cut), false);
        assert_eq!(rows.warning(" = 8"), None);
        rows.add(21, Some(Dropped::Cut), false);
        assert_eq!(
            rows.warning(" = 8").unwrap(),
            "nothing is learnt of 3 of 21 rows, more than a tenth: 2 of 21 rows dropped: what is \
             learnt of them lies beyond data.max_length = 8; 1 of 21 rows dropped: the weight of \
             every answer is 0, or its train, training, … false"
        );
        let kept = serde_json::to_string(&rows).unwrap();
        assert_eq!(serde_json::from_str::<RowCounts>(&kept).unwrap(), rows);
    }
}
