//! Continuing rows of tokens from one file into another.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use burn::tensor::{Device, TensorData};
use burn_peft::tensor_file::write_tensors;
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{Continuation, generate_rows};
use serde_json::json;

use super::{Args, generation_defaults};
use crate::loading::{check_language_model, open_each};
use crate::output::{say, say_json};
use crate::token_rows::Rows;

/// Continues the rows of `input` and writes them to `output`.
pub fn run(
    args: &Args,
    files: &ModelFiles,
    input: &Path,
    output: &Path,
    device: &Device,
) -> Result<()> {
    let rows = Rows::read(input)?;
    ensure!(
        args.model.adapter.len() < 2,
        "several adapters are given, and one --output: continue the rows with one after the other"
    );
    let defaults = generation_defaults(files, None)?;
    args.options.warn(&defaults);
    // Without an adapter there is only the base.
    for (_, model) in open_each(files, &args.model, false, device)? {
        check_language_model(&model)?;
        let prompts = rows.prompts(&model)?;
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let longest = prompts.iter().map(|prompt| prompt.len()).max();
        let settings = args
            .options
            .settings(&defaults, &model, longest.unwrap_or_default());
        let start = Instant::now();
        let go_on = &mut |_, _| ControlFlow::Continue(());
        let continued = generate_rows(&model, &prompts, &settings, go_on)?;
        let seconds = start.elapsed().as_secs_f64();
        let tokens: usize = continued.iter().map(|row| row.token_ids.len()).sum();
        let sequences = sequences(continued, defaults.pad_token_id);
        let shape = sequences.shape().to_vec();
        write_tensors(output, vec![("sequences".to_string(), sequences)])?;
        let place = output.display();
        if args.json {
            say_json(&json!({
                "output": place.to_string(),
                "shape": shape,
                "tokens": tokens,
                "tokens_per_second": tokens as f64 / seconds,
            }))?;
        } else {
            say(format!("{place}: sequences {shape:?}"))?;
        }
    }
    Ok(())
}

/// The new tokens of rows and the tokens that ended them, `[batch, new]`, padded on the right.
fn sequences(rows: Vec<Continuation>, padding: Option<u32>) -> TensorData {
    let padding = padding.unwrap_or_default();
    let batch = rows.len();
    let rows: Vec<Vec<u32>> = rows
        .into_iter()
        .map(|row| row.token_ids.into_iter().chain(row.ended_by).collect())
        .collect();
    let width = rows.iter().map(Vec::len).max().unwrap_or_default();
    let padded = rows.into_iter().flat_map(|row| {
        let missing = width - row.len();
        row.into_iter().chain(std::iter::repeat_n(padding, missing))
    });
    TensorData::new(padded.map(i64::from).collect(), [batch, width])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_end_are_padded_behind_their_end() {
        let row = |token_ids: &[u32], ended_by| Continuation {
            token_ids: token_ids.to_vec(),
            ended_by,
        };
        let rows = vec![row(&[5], Some(2)), row(&[7, 8, 9], None), row(&[], Some(3))];
        let found = sequences(rows, Some(1));
        assert_eq!(found.shape().to_vec(), [3, 3]);
        assert_eq!(
            found.as_slice::<i64>().unwrap(),
            [5, 2, 1, 7, 8, 9, 3, 1, 1]
        );
    }
}
