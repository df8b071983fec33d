//! Texts with a common beginning, which is computed once.

use burn_peft_models::{IGNORE_INDEX, Ragged};

use super::*;

/// Log-probabilities and gradients equal those of the separate texts: with windows, caps, grouped
/// heads, norms of queries, learnt positions and rotary ones.
#[test]
fn shared_beginnings_change_nothing() {
    each(|case| {
        let model = without_dropout(case.adapted().train());
        let (ids, [_, seq]) = ints(&case.folder, "input_ids");
        let row = |row: usize, columns: std::ops::Range<usize>| ids[row * seq..][columns].to_vec();
        let begin = row(0, 0..seq - 3);
        let texts = [row(0, seq - 3..seq), row(1, 0..3), row(2, 0..5)];
        let texts = texts.map(|own| [begin.clone(), own].concat());
        let (mut input_ids, mut labels, mut spans) = (Vec::new(), Vec::new(), Vec::new());
        for (number, text) in texts.iter().enumerate() {
            let start = input_ids.len();
            input_ids.extend(text);
            // For the first text, the common tokens are predicted too.
            let kept = if number == 0 { 0 } else { begin.len() };
            labels.extend(vec![IGNORE_INDEX; kept]);
            labels.extend(&text[kept..]);
            spans.push(start..input_ids.len());
        }
        let ragged = Ragged {
            input_ids: &input_ids,
            labels: &labels,
            texts: &spans,
            packed: None,
            width: seq + 2,
            pad_id: 0,
        };
        // The first two texts share their beginning. The third could, but is in a group of its own.
        let sharing = LmBatch::sharing(&ragged, &[0..2, 2..3], &device());
        assert_eq!(
            sharing.input.input_ids.dims(),
            [1, input_ids.len() - begin.len()]
        );
        let run = |batch: &LmBatch| {
            let found = model.token_log_probs(batch, true);
            assert_eq!(found.log_probs.dims(), [batch.count]);
            let weights = Tensor::<1, Int>::arange(0..batch.count as i64, &device()).float();
            let loss = (found.log_probs.clone() * (weights - 3.0)).sum();
            let gradients = model.adapter_gradients("default", &loss.backward());
            let gradients = gradients
                .into_iter()
                .flat_map(|(key, gradient)| gradient.expect(&key).try_to_vec::<f32>().unwrap());
            (numbers(found.log_probs), gradients.collect::<Vec<_>>())
        };
        let expected = run(&LmBatch::ragged(&ragged, &device()));
        for (name, batch) in [("shared", &sharing), ("as a matrix", sharing.as_matrix())] {
            let found = run(batch);
            close(name, &found.0, &expected.0)?;
            close(&format!("gradients, {name}"), &found.1, &expected.1)?;
        }
        Ok(())
    });
}
