//! `report.html`: a run on one page, without scripts or external resources.

mod chart;
mod classes;
mod confusion;
mod samples;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use burn_peft_files::read_text;
use serde_json::{Map, Value, json};

use crate::checkpoint::files::write_atomically;
use crate::configuration::settings::{Origin, Setting, settings_toml};
use crate::error::{Result, TrainError};
use crate::objective::metric::{Measures, Metric};
use crate::seeing::assessment::Assessment;
use crate::seeing::metrics_file::METRICS_NAME;
use crate::seeing::numbers::number as number_of;
use crate::seeing::sample::SamplePrompt;
use chart::{Chart, Series};

/// The name of the file in the output folder.
pub const REPORT_NAME: &str = "report.html";

/// The contents of a report, apart from the curves, which are read from `metrics.jsonl`.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The heading.
    pub title: String,
    /// A line below it.
    pub subtitle: String,
    /// When, with which version and on which machine the run took place.
    pub made: String,
    /// Important numbers: their names, and their values as text.
    pub counts: Vec<(String, String)>,
    /// What the evaluations measure.
    pub measures: &'static Measures,
    /// What the samples continue or answer.
    pub prompts: Vec<SamplePrompt>,
    /// The model before training.
    pub before: Assessment,
    /// The model after training.
    pub after: Assessment,
    /// The step that this model belongs to: the last one, or that of the best checkpoint.
    pub after_step: usize,
    /// Every value of the run.
    pub settings: Vec<Setting>,
    /// How to use the result: in words, and the command.
    pub commands: Vec<(String, String)>,
}

impl Report {
    /// Writes the report into an output folder, with the curves of its `metrics.jsonl`.
    ///
    /// # Errors
    /// If `metrics.jsonl` cannot be read or the report cannot be written; the error names the file.
    pub fn save(&self, dir: &Path) -> Result<PathBuf> {
        let path = dir.join(REPORT_NAME);
        write_atomically(&path, self.html(&entries(dir)?).as_bytes())?;
        Ok(path)
    }

    /// The metrics of the evaluations before and after training, if known; `entries` are those of
    /// `metrics.jsonl`.
    pub(crate) fn figures(&self, entries: &[Map<String, Value>]) -> Vec<Figure> {
        let entries = self.with_ends(entries);
        let of = |step: usize, key: &str| {
            let points = points(&entries, key).into_iter();
            let mut points = points.filter(|&(at, _)| at == step as f64);
            points.next().map(|(_, value)| value)
        };
        let metrics = self.measures.metrics.iter().map(|metric| Figure {
            metric,
            before: of(0, &metric.key()),
            after: of(self.after_step, &metric.key()),
        });
        metrics.collect()
    }

    /// The page, with the entries of `metrics.jsonl`.
    fn html(&self, entries: &[Map<String, Value>]) -> String {
        let title = escape(&self.title);
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
             <style>\n{}</style>\n<h1>{title}</h1>\n<p class=\"dim\">{}</p>\n\
             <p class=\"dim\">{}</p>\n",
            include_str!("report/page.css"),
            escape(&self.subtitle),
            escape(&self.made)
        );
        let entries = self.with_ends(entries);
        self.tiles(&mut page, &entries);
        curves(&mut page, &entries, self.measures);
        samples::samples(self, &mut page, &entries);
        self.evaluations(&mut page, &entries);
        classes::classes(self, &mut page);
        self.configuration(&mut page);
        self.reproduce(&mut page);
        page
    }

    /// The entries, completed with the evaluations before and after training if they lack them.
    fn with_ends(&self, entries: &[Map<String, Value>]) -> Vec<Map<String, Value>> {
        let mut all = entries.to_vec();
        let has = |step: usize, key: &str| {
            let mut entries = entries.iter();
            entries.any(|entry| is_of(entry, step) && entry.contains_key(key))
        };
        let ends = [(0, &self.before), (self.after_step, &self.after)];
        for (step, assessment) in ends {
            let epoch = entries.iter().find(|entry| is_of(entry, step));
            let epoch = epoch.and_then(|entry| entry.get("epoch")).cloned();
            let epoch = epoch.or((step == 0).then(|| 0.0.into()));
            let mut add = |values: Value| {
                let Value::Object(mut values) = values else {
                    return;
                };
                values.insert("step".into(), step.into());
                values.extend(epoch.clone().map(|epoch| ("epoch".to_string(), epoch)));
                match step {
                    0 => all.insert(0, values),
                    _ => all.push(values),
                }
            };
            if !has(step, "sample") {
                let each = assessment.samples.iter();
                let each = each.map(|of| json!({ "prompt": of.prompt, "sample": of.text }));
                match step {
                    // It precedes all others.
                    0 => each.rev().for_each(&mut add),
                    _ => each.for_each(&mut add),
                }
            }
            if let (Some(evaluation), false) = (&assessment.evaluation, has(step, "eval_loss")) {
                let metrics = evaluation.metrics();
                let metrics = metrics.map(|(metric, value)| (metric.key(), json!(value)));
                let runtime = ("eval_runtime".to_string(), json!(assessment.runtime));
                add(metrics.chain([runtime]).collect());
            }
        }
        all
    }

    fn tiles(&self, page: &mut String, entries: &[Map<String, Value>]) {
        let mut tiles = Vec::new();
        for figure in self.figures(entries) {
            let ends = [figure.before, figure.after];
            let text = match ends.map(|value| value.map(figure.metric.short)) {
                [Some(before), Some(after)] => format!("{before} → {after}"),
                [None, Some(one)] | [Some(one), None] => one,
                [None, None] => continue,
            };
            tiles.push((figure.metric.title.to_string(), text));
        }
        tiles.extend(self.counts.iter().cloned());
        page.push_str("<div class=\"tiles\">");
        for (name, value) in tiles {
            let (name, value) = (escape(&name), escape(&value));
            let _ = write!(
                page,
                "<div class=\"tile\"><b>{value}</b><small>{name}</small></div>"
            );
        }
        page.push_str("</div>\n");
    }

    /// The evaluations during the run as a table.
    fn evaluations(&self, page: &mut String, entries: &[Map<String, Value>]) {
        let found: Vec<_> = entries
            .iter()
            .filter(|entry| entry.contains_key("eval_loss"))
            .collect();
        if found.is_empty() {
            return;
        }
        page.push_str("<h2>Evaluations</h2>\n<div class=\"table\"><table><tr>");
        // The heading of a column, with its unit, and the format of its numbers.
        type Column = (String, &'static str, fn(f64) -> String);
        let mut columns: Vec<Column> = vec![
            ("step".into(), "step", |value| value.to_string()),
            ("epoch".into(), "epoch", |value| format!("{value:.2}")),
        ];
        let metrics = self.measures.metrics.iter();
        columns.extend(metrics.map(|metric| (metric.key(), metric.heading, metric.text)));
        columns.push(("eval_runtime".into(), "time (s)", |value| {
            number_of(value, 3)
        }));
        for (_, heading, _) in &columns {
            let _ = write!(page, "<th class=\"number\">{heading}");
        }
        for entry in found {
            page.push_str("<tr>");
            for (key, _, text) in &columns {
                let value = entry.get(key).and_then(Value::as_f64);
                let value = value.map_or("–".to_string(), text);
                let _ = write!(page, "<td class=\"number\">{value}");
            }
        }
        page.push_str("</table></div>\n");
    }

    fn configuration(&self, page: &mut String) {
        if self.settings.is_empty() {
            return;
        }
        page.push_str("<h2>Configuration</h2>\n<div class=\"table\"><table>");
        let mut table = "";
        for setting in self.settings.iter().filter(|s| s.origin != Origin::Default) {
            if setting.table != table {
                table = &setting.table;
                let _ = write!(
                    page,
                    "<tr class=\"head\"><td colspan=\"3\">[{}]",
                    escape(table)
                );
            }
            let value = setting.value.as_deref().unwrap_or("not set");
            let _ = write!(
                page,
                "<tr><td class=\"key\"><code>{}</code><td class=\"wide\"><code>{}</code>\
                 <td class=\"dim\">{}",
                escape(&setting.key),
                escape(value),
                setting.origin
            );
        }
        let all = escape(&settings_toml(&self.settings));
        let _ = write!(
            page,
            "</table></div>\n<details><summary>Every value, with the defaults</summary>\
             <pre>{all}</pre></details>\n"
        );
    }

    fn reproduce(&self, page: &mut String) {
        if self.commands.is_empty() {
            return;
        }
        page.push_str("<h2>Do it again</h2>\n<pre>");
        for (index, (words, command)) in self.commands.iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n\n" };
            let (words, command) = (escape(words), escape(command));
            let _ = write!(page, "{gap}<span class=\"dim\"># {words}</span>\n{command}");
        }
        page.push_str("</pre>\n");
    }
}

/// A metric before and after training.
pub(crate) struct Figure {
    pub metric: &'static Metric,
    pub before: Option<f64>,
    pub after: Option<f64>,
}

/// The entries of an output folder's `metrics.jsonl`.
pub(crate) fn entries(dir: &Path) -> Result<Vec<Map<String, Value>>> {
    let path = dir.join(METRICS_NAME);
    let metrics = read_text(&path)?;
    let entries = metrics.lines().map(serde_json::from_str);
    let entries: std::result::Result<Vec<_>, _> = entries.collect();
    entries
        .map_err(std::io::Error::from)
        .map_err(TrainError::io(&path))
}

/// The numbers of the run over its steps, and what its steps measure besides the loss.
fn curves(page: &mut String, entries: &[Map<String, Value>], measures: &Measures) {
    let train = Series {
        name: "loss",
        class: "one",
        points: points(entries, "loss"),
    };
    let eval = Series {
        name: "eval_loss",
        class: "two",
        points: points(entries, "eval_loss"),
    };
    if train.points.is_empty() && eval.points.is_empty() {
        return;
    }
    page.push_str("<h2>Curves</h2>\n<p class=\"dim\">Over the optimizer steps.</p>\n");
    let loss = Chart {
        title: "Loss",
        series: vec![train, eval],
        size: (980.0, 300.0),
        from_zero: false,
    };
    page.push_str(&loss.render());
    page.push_str("<div class=\"charts\">\n");
    for metric in measures.metrics.iter().skip(1) {
        let train = points(entries, metric.name);
        if train.is_empty() {
            continue;
        }
        let series = [
            (metric.name, "one", train),
            ("evaluation", "two", points(entries, &metric.key())),
        ];
        let series = series.map(|(name, class, points)| Series {
            name,
            class,
            points,
        });
        let chart = Chart {
            title: metric.title,
            series: series.into(),
            size: (480.0, 190.0),
            from_zero: false,
        };
        page.push_str(&chart.render());
    }
    for (title, key) in [
        ("Learning rate", "learning_rate"),
        ("Gradient norm, before clipping", "grad_norm"),
        ("Tokens per second", "tokens_per_second"),
        ("Peak memory, bytes", "peak_memory_bytes"),
    ] {
        let series = Series {
            name: key,
            class: "one",
            points: points(entries, key),
        };
        let chart = Chart {
            title,
            series: vec![series],
            size: (480.0, 190.0),
            from_zero: true,
        };
        page.push_str(&chart.render());
    }
    page.push_str("</div>\n");
}

/// Whether an entry is of this step.
fn is_of(entry: &Map<String, Value>, step: usize) -> bool {
    entry.get("step").and_then(Value::as_u64) == Some(step as u64)
}

/// The steps that have a number under this key, with the number.
fn points(entries: &[Map<String, Value>], key: &str) -> Vec<(f64, f64)> {
    let number = |entry: &Map<String, Value>, key: &str| {
        let number = entry.get(key).and_then(Value::as_f64);
        number.filter(|number| number.is_finite())
    };
    let points = entries
        .iter()
        .filter_map(|entry| Some((number(entry, "step")?, number(entry, key)?)));
    points.collect()
}

/// Text escaped for HTML, including attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in a page; a model may write anything.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
