use std::io;
use std::sync::{Arc, Mutex};

use burn::train::metric::{
    MetricAttributes, MetricDefinition, MetricEntry, MetricId, NumericEntry, SerializedEntry,
};
use indicatif::TermLike;

use super::*;

/// A terminal that records what is written to it.
#[derive(Clone, Debug, Default)]
struct Screen {
    columns: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Screen {
    fn lines(&self) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().map(|l| l.trim_end().to_string()).collect()
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        self.columns
    }

    fn move_cursor_up(&self, _n: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _n: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _n: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _n: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, line: &str) -> io::Result<()> {
        self.write_str(line)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        self.lines.lock().unwrap().push(text.to_string());
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Two steps and an evaluation with a sample, on a terminal of this many columns.
fn shown(columns: u16, of_terminal: fn() -> usize) -> Vec<String> {
    let screen = Screen {
        columns,
        ..Screen::default()
    };
    let target = ProgressDrawTarget::term_like(Box::new(screen.clone()));
    let samples = Samples::default();
    let renderer = ProgressRenderer::with(target, of_terminal, None, 2);
    let mut renderer = renderer.with_samples(samples.clone());
    let metric = |name: &str| MetricDefinition {
        metric_id: MetricId::new(Arc::new(name.to_string())),
        name: Arc::new(name.to_string()),
        description: None,
        attributes: MetricAttributes::None,
    };
    let state = |name: &str, value: f64| {
        let entry = SerializedEntry::new(String::new(), String::new());
        let entry = MetricEntry::new(metric(name).metric_id, entry);
        MetricState::Numeric(entry, Some(NumericEntry::Value(value)))
    };
    let numbers = [
        (LOSS, 3.72421),
        (LEARNING_RATE, 9.0e-3),
        (EPOCH, 0.134),
        (GRAD_NORM, 1.957),
        (TOKENS_PER_SECOND, 51_296.4),
        (PEAK_MEMORY, 0.07),
    ];
    renderer.start(1, 0, None, None);
    numbers
        .iter()
        .for_each(|(name, _)| renderer.register_metric(metric(name)));
    renderer.start_split("train", 300);
    for step in [1, 2] {
        for (name, value) in numbers {
            renderer.update_train(state(name, value));
        }
        renderer.update_split(step);
    }
    renderer.start_split("valid", 54);
    renderer.update_valid(state(LOSS, 11.5343));
    renderer.update_split(54);
    samples.push(vec!["the cat sat on the mat ".repeat(6)]);
    renderer.end_split();
    renderer.end();
    screen.lines()
}

#[test]
fn nothing_is_wider_than_the_terminal_and_the_loss_is_always_there() {
    let screens = [
        shown(40, || 40),
        shown(60, || 60),
        shown(80, || 80),
        shown(120, || 120),
    ];
    for (lines, columns) in screens.iter().zip([40, 60, 80, 120]) {
        for line in lines {
            let width = line.chars().count();
            assert!(width <= columns, "{width} > {columns}: {line}");
        }
        let logged = lines.iter().find(|line| line.starts_with("step 2/300  "));
        let logged = logged.unwrap_or_else(|| panic!("no step 2 in {lines:#?}"));
        assert!(logged.contains("loss 3.7242"), "{logged}");
        // The training loss returns after the evaluation's.
        let bar = lines.iter().rfind(|line| line.contains("2/300"));
        assert!(
            bar.is_some_and(|bar| bar.contains("loss 3.7242")),
            "{bar:?}"
        );
    }
    let all =
        "epoch 0.13  loss 3.7242  learning_rate 0.009  grad_norm 1.957  51,296 tokens/s  0.07 GB  ";
    assert!(
        screens[3].iter().any(|line| line.contains(all)),
        "{:#?}",
        screens[3]
    );
}

#[test]
fn a_terminal_is_shown_evaluations_and_samples_broken_at_words() {
    let lines = shown(80, || 80);
    let evaluation = "step 2/300  eval_loss 11.5343  eval_perplexity 102,160  in 0:00";
    let at = lines.iter().position(|line| line.starts_with(evaluation));
    let at = at.unwrap_or_else(|| panic!("no evaluation in {lines:#?}"));
    let sample: Vec<&str> = lines[at + 1..]
        .iter()
        .map(String::as_str)
        .filter(|line| line.contains("cat") || line.contains("mat"))
        .collect();
    assert!(
        sample[0].starts_with("  sample: the cat sat on the mat"),
        "{sample:?}"
    );
    let words: Vec<&str> = sample
        .iter()
        .flat_map(|line| line.split_whitespace())
        .collect();
    assert!(
        words
            .iter()
            .all(|word| "sample: the cat sat on mat".contains(word)),
        "{words:?}"
    );
}

#[test]
fn fields_go_one_after_the_other() {
    let fields = |columns| {
        let texts = [(2, "aa"), (0, "loss 1"), (1, "0:05 left"), (3, "b")];
        fitted(
            texts.map(|(turn, text)| (turn, text.to_string())).to_vec(),
            columns,
        )
    };
    assert_eq!(fields(100), "aa  loss 1  0:05 left  b");
    assert_eq!(fields(23), "aa  loss 1  0:05 left");
    assert_eq!(fields(20), "loss 1  0:05 left");
    assert_eq!(fields(3), "loss 1");
}

#[test]
fn a_run_that_is_over_or_was_stopped_has_no_time_left() {
    let mut renderer = ProgressRenderer::hidden();
    renderer.start(1, 0, None, None);
    renderer.start_split("train", 300);
    renderer.update_split(1);
    let during = renderer.numbers(usize::MAX);
    // Ctrl-C.
    TrainingProgressLogger::end(&mut renderer);
    let after = renderer.numbers(usize::MAX);
    assert!(
        during.starts_with(&after) && during != after,
        "{during} {after}"
    );
}
