//! Which values of the tables of objectives cannot be.

/// What is wrong with a key of a table: the key, and what is to be read after it.
pub type TableProblem = (&'static str, String);

/// Nothing, or what is wrong with a number that must be more than zero.
pub(super) fn more_than_zero(key: &'static str, value: f64) -> Result<(), TableProblem> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err((key, format!("is {value}; it must be more than 0")))
}

/// Nothing, or what is wrong with a number that must be zero or more.
pub(super) fn not_negative(key: &'static str, value: f64) -> Result<(), TableProblem> {
    if value >= 0.0 && value.is_finite() {
        return Ok(());
    }
    Err((key, format!("is {value}; it must be 0 or more")))
}

/// Nothing, or what is wrong with a number that must be from 0 to 1.
pub(super) fn share(key: &'static str, value: f64) -> Result<(), TableProblem> {
    if (0.0..=1.0).contains(&value) {
        return Ok(());
    }
    Err((key, format!("is {value}; it must be from 0 to 1")))
}

/// Nothing, or what is wrong with the label smoothing of `robust`, whose loss is divided by
/// `1 - 2 · label_smoothing`.
pub(super) fn below_half(key: &'static str, value: f64) -> Result<(), TableProblem> {
    if (0.0..0.5).contains(&value) {
        return Ok(());
    }
    Err((
        key,
        format!("is {value}; it must be 0 or more, and less than 0.5"),
    ))
}

/// Nothing, or what is wrong with a length that must be one.
pub(super) fn some_length(key: &'static str, value: Option<usize>) -> Result<(), TableProblem> {
    match value {
        Some(0) => Err((key, "is 0; it must be more than 0".into())),
        _ => Ok(()),
    }
}

/// Nothing, or what is wrong with `truncation_mode`: TRL's `keep_end` is going, and takes prompts
/// away from their answers.
pub(super) fn keeps_start(mode: &str) -> Result<(), TableProblem> {
    if mode == "keep_start" {
        return Ok(());
    }
    let problem = format!("is \"{mode}\"; the one there is is \"keep_start\"");
    Err(("truncation_mode", problem))
}
