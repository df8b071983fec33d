//! The samples of a run: how a continuation changes over time, or answers before and after training
//! side by side.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Map, Value};

use super::{Report, escape};
use crate::seeing::sample::SamplePrompt;

/// The samples of each step in the order of their prompts, which some of them name.
type ByStep<'a> = BTreeMap<u64, Vec<(Option<&'a str>, &'a str)>>;

/// The samples in the entries of `metrics.jsonl`.
pub(super) fn samples(report: &Report, page: &mut String, entries: &[Map<String, Value>]) {
    let mut steps = ByStep::new();
    for entry in entries {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let step = entry.get("step").and_then(Value::as_u64);
        if let (Some(sample), Some(step)) = (text("sample"), step) {
            steps
                .entry(step)
                .or_default()
                .push((text("prompt"), sample));
        }
    }
    match &report.prompts[..] {
        _ if steps.is_empty() => {}
        [] => {}
        [prompt] if !prompt.is_question => text(report, page, prompt, &steps),
        prompts => answers(report, page, prompts, &steps),
    }
}

/// A text with its continuation at every step.
fn text(report: &Report, page: &mut String, prompt: &SamplePrompt, steps: &ByStep<'_>) {
    let _ = write!(
        page,
        "<h2>Samples</h2>\n<p class=\"dim\">The prompt continues \
         in <span class=\"new\">the model's words</span>.</p>\n<div class=\"table\"><table>"
    );
    let is_of = |of: &Option<&str>| of.is_none_or(|text| text == prompt.text);
    let prompt = escape(&prompt.text);
    for (step, samples) in steps {
        let when = match step {
            0 => "before training".to_string(),
            step if *step == report.after_step as u64 => format!("step {step}, after training"),
            step => format!("step {step}"),
        };
        for (_, text) in samples.iter().filter(|(of, _)| is_of(of)) {
            let text = escape(text);
            let _ = write!(
                page,
                "<tr><th class=\"key\">{when}<td class=\"wide\">{prompt}<span class=\"new\">{text}</span>"
            );
        }
    }
    page.push_str("</table></div>\n");
}

/// The question, the answer in the data, and the model's answers before and after training, a row
/// for each question; the answers in between below it.
fn answers(report: &Report, page: &mut String, prompts: &[SamplePrompt], steps: &ByStep<'_>) {
    let is_asked = prompts.iter().any(|prompt| prompt.is_question);
    let is_answered = prompts.iter().any(|prompt| prompt.expected.is_some());
    let (heading, what) = if is_asked {
        ("Answers", "question")
    } else {
        ("Samples", "prompt")
    };
    let after = report.after_step as u64;
    let of = |step: u64, index: usize| {
        let samples = steps.get(&step)?;
        of_prompt(prompts, index, samples).map(escape)
    };
    let _ = write!(
        page,
        "<h2>{heading}</h2>\n<div class=\"table answers\"><table><tr><th>{what}"
    );
    if is_answered {
        page.push_str("<th>expected");
    }
    let _ = write!(page, "<th>before training<th>step {after}, after training");
    for (index, prompt) in prompts.iter().enumerate() {
        let _ = write!(page, "<tr><td>{}", escape(&prompt.text));
        if is_answered {
            let expected = prompt.expected.as_deref().map_or("–".into(), escape);
            let _ = write!(page, "<td>{expected}");
        }
        let [before, after] = [of(0, index), of(after, index)];
        let [before, after] = [before, after].map(|text| text.unwrap_or_else(|| "–".into()));
        let _ = write!(page, "<td>{before}<td class=\"new\">{after}");
    }
    page.push_str("</table></div>\n");
    let mut between = steps.keys().filter(|&&step| step != 0 && step != after);
    let Some(first) = between.next() else {
        return;
    };
    page.push_str("<details><summary>In between</summary><div class=\"table\"><table>");
    for step in std::iter::once(first).chain(between) {
        for (index, prompt) in prompts.iter().enumerate() {
            let Some(text) = of(*step, index) else {
                continue;
            };
            let prompt = escape(&prompt.text);
            let _ = write!(
                page,
                "<tr><th class=\"key\">step {step}<td class=\"wide\">{prompt}\n<span class=\"new\">{text}</span>"
            );
        }
    }
    page.push_str("</table></div></details>\n");
}

/// The sample for a prompt among those of a step. A resumed run may have had other prompts before,
/// and two prompts may be equal.
fn of_prompt<'a>(
    prompts: &[SamplePrompt],
    index: usize,
    samples: &[(Option<&'a str>, &'a str)],
) -> Option<&'a str> {
    let text = prompts[index].text.as_str();
    let same_before = prompts[..index].iter().filter(|prompt| prompt.text == text);
    let mut named = samples.iter().filter(|(prompt, _)| *prompt == Some(text));
    named.nth(same_before.count()).map(|(_, sample)| *sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seeing::assessment::Assessment;
    use crate::seeing::sample::Sample;
    use serde_json::json;

    fn question(text: &str, expected: Option<&str>) -> SamplePrompt {
        SamplePrompt {
            text: text.into(),
            is_question: true,
            expected: expected.map(Into::into),
            ..SamplePrompt::default()
        }
    }

    #[test]
    fn answers_stand_side_by_side_and_are_no_markup() {
        let evil = "<script>\u{0}";
        let said = |prompt: &str, text: &str| Sample {
            prompt: Some(prompt.into()),
            text: text.into(),
        };
        let report = Report {
            prompts: vec![
                question("a", Some("A & B")),
                question("a", None),
                question(evil, Some(evil)),
            ],
            before: Assessment {
                samples: vec![said("a", "one"), said("a", "two"), said(evil, evil)],
                ..Assessment::default()
            },
            after_step: 4,
            ..Report::default()
        };
        let entry = |step: u64, prompt: &str, sample: &str| json!({ "step": step, "prompt": prompt, "sample": sample });
        // In another order, which no run produces, and with a prompt that is no longer there.
        let entries = [
            entry(2, "a", "three"),
            entry(4, "gone", "four"),
            entry(4, evil, "five"),
            entry(4, "a", "six"),
        ];
        let entries = entries.map(|entry| entry.as_object().cloned().unwrap());
        let page = report.html(&entries);
        for part in [
            "<h2>Answers</h2>",
            "<tr><th>question<th>expected<th>before training<th>step 4, after training",
            "<tr><td>a<td>A &amp; B<td>one<td class=\"new\">six",
            "<tr><td>a<td>–<td>two<td class=\"new\">–",
            "<td>&lt;script&gt;\u{fffd}<td>&lt;script&gt;\u{fffd}<td>&lt;script&gt;\u{fffd}<td class=\"new\">five",
            "<details><summary>In between</summary>",
            "step 2<td class=\"wide\">a\n<span class=\"new\">three</span>",
        ] {
            assert!(page.contains(part), "{part:?} is not in {page}");
        }
        assert!(
            !page.contains("<script") && !page.contains("four"),
            "{page}"
        );
    }

    #[test]
    fn several_texts_are_prompts_without_expected_answers() {
        let texts = ["x", "y"].map(|text| SamplePrompt {
            text: text.into(),
            ..SamplePrompt::default()
        });
        let report = Report {
            prompts: texts.to_vec(),
            ..Report::default()
        };
        let entry = json!({ "step": 0, "prompt": "y", "sample": "z" });
        let page = report.html(&[entry.as_object().cloned().unwrap()]);
        assert!(page.contains("<h2>Samples</h2>"), "{page}");
        assert!(page.contains("<tr><th>prompt<th>before training"), "{page}");
        assert!(page.contains("<tr><td>y<td>z<td"), "{page}");
        assert!(!page.contains("<details>"), "{page}");
    }
}
