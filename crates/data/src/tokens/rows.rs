//! How many rows were cut or dropped, and by what.

use serde::{Deserialize, Serialize};

/// Why a row gives no example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// By a weight of 0, or `label` false.
    Masked,
    /// Fewer than 2 tokens.
    Short,
    /// No token of it is to be learnt.
    Unlearnt,
    /// All that is to be learnt lies behind `max_length`.
    Cut,
}

/// How many rows there were, and what became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RowCounts {
    pub total: usize,
    pub truncated: usize,
    masked: usize,
    short: usize,
    unlearnt: usize,
    cut: usize,
}

impl RowCounts {
    pub fn add(&mut self, dropped: Option<Dropped>, truncated: bool) {
        self.total += 1;
        self.truncated += usize::from(truncated);
        match dropped {
            None => {}
            Some(Dropped::Masked) => self.masked += 1,
            Some(Dropped::Short) => self.short += 1,
            Some(Dropped::Unlearnt) => self.unlearnt += 1,
            Some(Dropped::Cut) => self.cut += 1,
        }
    }

    /// Rows that gave no example.
    pub fn skipped(&self) -> usize {
        self.masked + self.short + self.unlearnt + self.cut
    }

    /// What was left out, in words, each with the setting that did it.
    /// `default_length` is what rows are cut to where no setting does it.
    pub fn describe(
        &self,
        max_length: Option<usize>,
        default_length: usize,
        max_samples: Option<usize>,
    ) -> Vec<String> {
        let cut_by = match max_length {
            Some(max) => format!(" = {max}"),
            None => format!(" = {default_length}, its default here"),
        };
        let lines = [
            (self.truncated, format!("cut to data.max_length{cut_by}")),
            (
                self.cut,
                format!("dropped: what is learnt of them lies behind data.max_length{cut_by}"),
            ),
            (self.short, "dropped: fewer than 2 tokens".into()),
            (
                self.unlearnt,
                "dropped: nothing to learn in them, as data.completion_only_loss and the rows' own \
                 labels and weights have it"
                    .into(),
            ),
            (self.masked, "dropped: their weight is 0 or their label false".into()),
        ];
        let lines = lines.into_iter().filter(|(count, _)| *count > 0);
        let mut lines: Vec<String> = lines
            .map(|(count, what)| format!("{count} of {} rows {what}", self.total))
            .collect();
        if let Some(max) = max_samples.filter(|max| *max == self.total) {
            lines.push(format!(
                "no more than {max} rows are read: data.max_samples = {max}"
            ));
        }
        lines
    }
}
