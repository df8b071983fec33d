//! Tests of the page.

use super::*;
use crate::objective::lm;
use crate::objective::metric::Sums;
use crate::run::evaluate::Evaluation;
use crate::seeing::sample::Sample;

fn prompt(text: &str) -> SamplePrompt {
    SamplePrompt {
        text: text.into(),
        ..SamplePrompt::default()
    }
}

fn said(text: &str) -> Sample {
    Sample {
        text: text.into(),
        ..Sample::default()
    }
}

#[test]
fn a_page_has_the_curves_and_no_text_of_others_as_markup() {
    let dir = tempfile::tempdir().unwrap();
    let lines = [
        json!({ "step": 1, "loss": 3.0, "learning_rate": 1e-4, "grad_norm": 2.0,
                "tokens_per_second": 50.0, "peak_memory_bytes": null }),
        json!({ "step": 1, "eval_loss": 2.5, "eval_perplexity": 12.18 }),
        json!({ "step": 1, "sample": "</td><script>x\u{0}" }),
        json!({ "step": 2, "loss": 2.0, "learning_rate": 5e-5, "grad_norm": null,
                "tokens_per_second": 51.0 }),
    ];
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(dir.path().join(METRICS_NAME), text).unwrap();
    let evil = "<b onload='a'>&\"".to_string();
    let evaluation = |loss: f64| {
        let sums = Sums {
            loss: 9.0 * loss,
            count: 9,
            sums: Vec::new(),
            ..Sums::default()
        };
        let measures = &lm::MEASURES;
        Some(Evaluation { measures, sums })
    };
    let report = Report {
        title: evil.clone(),
        subtitle: evil.clone(),
        made: evil.clone(),
        after_step: 2,
        counts: vec![(evil.clone(), evil.clone())],
        measures: &lm::MEASURES,
        prompts: vec![prompt(&evil)],
        before: Assessment {
            runtime: Some(0.25),
            evaluation: evaluation(4.0),
            samples: vec![said(&evil)],
            ..Assessment::default()
        },
        after: Assessment {
            evaluation: evaluation(2.0),
            samples: vec![said(&evil)],
            ..Assessment::default()
        },
        settings: vec![Setting {
            table: "data".into(),
            key: evil.clone(),
            value: Some(evil.clone()),
            origin: Origin::File,
        }],
        commands: vec![(evil.clone(), evil.clone())],
    };
    let path = report.save(dir.path()).unwrap();
    let page = std::fs::read_to_string(path).unwrap();
    for bad in ["<b ", "<script", "http:", "https:", "src=", "url(", "\u{0}"] {
        assert!(!page.contains(bad), "{bad} in {page}");
    }
    for part in [
        "4 → 2",
        "54.60 → 7.39",
        "aria-label=\"Loss: loss 3 to 2; eval_loss 4 to 2\"",
        "<th class=\"number\">time (s)",
        "<tr><td class=\"number\">0<td class=\"number\">0.00<td class=\"number\">4.0000",
        "<td class=\"number\">54.60<td class=\"number\">0.25",
        "<th class=\"key\">before training<td",
        "<th class=\"key\">step 2, after training<td",
        "aria-label=\"Learning rate: learning_rate 1e-4 to 5e-5\"",
        "aria-label=\"Tokens per second: ",
        "step 1<td class=\"wide\">&lt;b onload=&#39;a&#39;&gt;&amp;&quot;<span class=\"new\">&lt;/td&gt;",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(
        !page.contains("Peak memory"),
        "no curve of what is not known"
    );
}

#[test]
fn a_sample_and_an_evaluation_of_the_last_step_are_shown_once() {
    let entries = [
        json!({ "step": 0, "epoch": 0.0, "eval_loss": 4.0, "eval_perplexity": 54.6 }),
        json!({ "step": 0, "epoch": 0.0, "sample": "first" }),
        json!({ "step": 2, "epoch": 1.0, "loss": 2.0 }),
        json!({ "step": 2, "epoch": 1.0, "eval_loss": 2.0, "eval_perplexity": 7.39 }),
        json!({ "step": 2, "epoch": 1.0, "sample": "last" }),
    ];
    let entries = entries.map(|entry| entry.as_object().cloned().unwrap());
    let report = Report {
        prompts: vec![prompt("The")],
        after: Assessment {
            samples: vec![said("last")],
            ..Assessment::default()
        },
        after_step: 2,
        // The beginning of a resumed run is only in `metrics.jsonl`.
        ..Report::default()
    };
    let page = report.html(&entries);
    assert_eq!(page.matches(">last<").count(), 1, "{page}");
    assert_eq!(page.matches("<th class=\"key\">").count(), 2, "{page}");
    assert!(page.contains("<b>4 → 2</b>"), "{page}");
}

#[test]
fn a_run_without_anything_has_a_page_without_headings() {
    let page = Report::default().html(&[]);
    assert!(!page.contains("<h2>") && !page.contains("<svg"));
}
