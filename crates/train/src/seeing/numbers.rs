//! Formatting numbers and texts for people.

use std::time::Duration;

use burn_peft::parameters::thousands;

/// A duration as a clock shows it: `1:02:03`, `2:03` below an hour, `0:00.25` below a second.
pub fn clock(time: Duration) -> String {
    if (1..995).contains(&time.as_millis()) {
        return format!("0:{:05.2}", time.as_secs_f64());
    }
    let seconds = time.as_secs_f64().round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

/// The remaining time, in whole seconds: `0:05 left`.
pub fn time_left(time: Duration) -> String {
    let seconds = time.as_secs_f64().ceil() as u64;
    format!("{} left", clock(Duration::from_secs(seconds)))
}

/// A perplexity, which can be anything from 1 up: `24.83`, `102,160`, `3.1e12`.
pub fn perplexity(value: f64) -> String {
    match value {
        value if value < 1e3 => format!("{value:.2}"),
        value if value < 1e9 => thousands(value.round() as usize),
        value if value.is_finite() => format!("{value:.1e}"),
        value => value.to_string(),
    }
}

/// Tokens per second.
pub fn speed(tokens_per_second: f64) -> String {
    let text = match tokens_per_second {
        value if value < 10.0 => format!("{value:.1}"),
        value => thousands(value.round() as usize),
    };
    format!("{text} tokens/s")
}

/// A number with this many significant digits: `0.0123`, `2e-5`, `12k`.
pub fn number(value: f64, digits: usize) -> String {
    let size = value.abs();
    if size == 0.0 {
        return "0".into();
    }
    if !(1e-3..1e12).contains(&size) {
        let text = format!("{value:.*e}", digits.saturating_sub(1));
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", short(mantissa));
    }
    let (value, unit) = match size {
        size if size >= 1e9 => (value / 1e9, "G"),
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let before = value.abs().log10().floor() as i32 + 1;
    let decimals = (digits as i32 - before).max(0) as usize;
    format!("{}{unit}", short(&format!("{value:.decimals$}")))
}

/// Removes the zeros at the end of a fraction.
fn short(number: &str) -> &str {
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}

/// A labelled text whose further lines are indented: wrapped at words for a terminal of this many
/// columns, or else only at the text's own line breaks.
pub fn paragraph(label: &str, text: &str, columns: Option<usize>) -> String {
    const INDENT: &str = "    ";
    let text = format!("{label}{text}");
    let Some(columns) = columns else {
        return text.replace('\n', &format!("\n{INDENT}"));
    };
    // Line by line: otherwise only the first would be wrapped to the right width.
    let lines = text.split('\n').enumerate().map(|(index, line)| {
        let options = textwrap::Options::new(columns)
            .initial_indent(if index == 0 { "" } else { INDENT })
            .subsequent_indent(INDENT)
            .word_splitter(textwrap::WordSplitter::NoHyphenation);
        textwrap::fill(line, options)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_like_a_clock() {
        let clock = |seconds| clock(Duration::from_secs_f64(seconds));
        assert_eq!(
            [5.2, 75.0, 3723.0, 0.04, 0.999, 59.7].map(clock),
            ["0:05", "1:15", "1:02:03", "0:00.04", "0:01", "1:00"]
        );
    }

    #[test]
    fn numbers_are_as_long_as_they_have_to_be() {
        assert_eq!(
            [1.0, 24.831, 102_160.27, 3.14e12, f64::INFINITY, f64::NAN].map(perplexity),
            ["1.00", "24.83", "102,160", "3.1e12", "inf", "NaN"]
        );
        assert_eq!(
            [0.31, 51_296.4].map(speed),
            ["0.3 tokens/s", "51,296 tokens/s"]
        );
        let rates = [0.0, 0.009, 9.69e-3, 2e-5, 1.0].map(|rate| number(rate, 3));
        assert_eq!(rates, ["0", "0.009", "0.00969", "2e-5", "1"]);
    }

    #[test]
    fn a_text_is_broken_at_words_for_a_terminal_and_left_alone_elsewhere() {
        let text = "the cat sat on\nthe mat, and the dog";
        assert_eq!(
            paragraph("  sample: ", text, Some(20)),
            "  sample: the cat\n    sat on\n    the mat, and the\n    dog"
        );
        assert_eq!(
            paragraph("  sample: ", text, None),
            "  sample: the cat sat on\n    the mat, and the dog"
        );
    }
}
