//! Checking the values in the tables of objectives.

/// What is wrong with a key of a table: the key, and a text that continues a sentence beginning
/// with it.
pub type TableProblem = (&'static str, String);

/// An error unless a number is positive.
pub(super) fn more_than_zero(key: &'static str, value: f64) -> Result<(), TableProblem> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err((key, format!("is {value}; it must be more than 0")))
}

/// An error unless a number is zero or more.
pub(super) fn not_negative(key: &'static str, value: f64) -> Result<(), TableProblem> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    Err((key, format!("is {value}; it must be 0 or more")))
}

/// An error unless a number is from 0 to 1.
pub(super) fn share(key: &'static str, value: f64) -> Result<(), TableProblem> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err((key, format!("is {value}; it must be from 0 to 1")))
}

/// An error unless label smoothing is valid for `robust`, whose loss is divided by `1 - 2 ·
/// label_smoothing`.
pub(super) fn below_half(key: &'static str, value: f64) -> Result<(), TableProblem> {
    if (0.0..0.5).contains(&value) {
        return Ok(());
    }
    Err((
        key,
        format!("is {value}; it must be 0 or more, and less than 0.5"),
    ))
}

/// An error unless a length is at least one.
pub(super) fn some_length(key: &'static str, value: Option<usize>) -> Result<(), TableProblem> {
    match value {
        Some(0) => Err((key, "is 0; it must be more than 0".into())),
        _ => Ok(()),
    }
}

/// An error unless `truncation_mode` is supported: TRL is removing `keep_end`, which separates
/// prompts from their answers.
pub(super) fn keeps_start(mode: &str) -> Result<(), TableProblem> {
    if mode == "keep_start" {
        return Ok(());
    }
    let problem = format!("is \"{mode}\"; the only one is \"keep_start\"");
    Err(("truncation_mode", problem))
}
