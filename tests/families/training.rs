//! Gradients and losses.

use super::*;
use crate::steps::eight_steps;

#[test]
fn gradients_and_eight_training_losses() {
    each(|case| {
        let model = without_dropout(case.adapted().train());
        let batch = batch(&case.folder);
        let (losses, found) = eight_steps(
            model,
            |model| model.loss(&batch) / batch.count as f32,
            |model, gradients| model.adapter_gradients("default", gradients),
        );
        assert!(!found.is_empty());
        for (key, gradient) in found {
            let expected = case.expected(&format!("grad.{key}"));
            let found: Vec<f32> = gradient.expect(&key).try_to_vec().unwrap();
            close(&key, &found, &expected)?;
        }
        close("train_losses", &losses, &case.expected("train_losses"))
    });
}

#[test]
fn gradients_with_checkpoints_and_of_packed_rows() {
    each(|case| {
        let model = without_dropout(case.adapted().train());
        let batch = batch(&case.folder);
        let of = |gradients: GradientsParams| {
            let mut found = Vec::new();
            for parameter in model.named_parameters().iter().filter(|p| p.requires_grad) {
                let gradient = gradients.get::<2>(parameter.id);
                found.extend(gradient.into_iter().flat_map(numbers));
            }
            found
        };
        let loss = model.loss(&batch);
        let expected = of(GradientsParams::from_grads(loss.clone().backward(), &model));
        let checkpointed = model.checkpointed_backward(&batch, 1.0).unwrap();
        close("loss", &numbers(checkpointed.loss), &numbers(loss.clone()))?;
        close("gradients", &of(checkpointed.gradients), &expected)?;

        // The rows, one after the other in a single row.
        let (ids, [_, seq]) = ints(&case.folder, "input_ids");
        let (mask, _) = ints(&case.folder, "attention_mask");
        let (labels, _) = ints(&case.folder, "labels");
        let kept: Vec<usize> = (0..ids.len()).filter(|&at| mask[at] != 0).collect();
        let pick = |values: &[i64]| kept.iter().map(|&at| values[at]).collect::<Vec<_>>();
        let texts: Vec<i64> = kept.iter().map(|at| (at / seq + 1) as i64).collect();
        let shape = [1, kept.len()];
        let packed = LmBatch::packed(&pick(&ids), &texts, &pick(&labels), shape, &device());
        let packed = model.loss(&packed.unwrap());
        close("packed", &numbers(packed), &numbers(loss))
    });
}

/// A prefix has the positions before the first position of each text, whether the text is padded or
/// alone.
#[test]
fn a_prefix_before_padded_rows() {
    each(|case| {
        let config = PrefixTuningConfig::new(2);
        let model = PeftModel::new(case.model(), "default", Arc::new(config)).unwrap();
        let model = without_dropout(model.train());
        let [(ids, [rows, seq]), (mask, _), (labels, _)] =
            ["input_ids", "attention_mask", "labels"].map(|name| ints(&case.folder, name));
        let batch = |rows: std::ops::Range<usize>, seq_kept: usize| {
            let cut = |values: &[i64]| {
                let rows = values.chunks(seq).skip(rows.start).take(rows.len());
                rows.flat_map(|row| row[..seq_kept].to_vec())
                    .collect::<Vec<_>>()
            };
            let shape = [rows.len(), seq_kept];
            LmBatch::new(&cut(&ids), &cut(&mask), &cut(&labels), shape, &device()).unwrap()
        };
        let together = model.loss(&batch(0..rows, seq));
        let gradients = model.adapter_gradients("default", &together.clone().backward());
        for (key, gradient) in gradients {
            let gradient: Vec<f32> = gradient.expect(&key).try_to_vec().unwrap();
            if let Some(value) = gradient.iter().find(|value| !value.is_finite()) {
                return Err(format!("the gradient of {key} has {value}"));
            }
        }
        let alone = (0..rows).map(|row| {
            let length = mask[row * seq..(row + 1) * seq].iter().sum::<i64>();
            numbers(model.loss(&batch(row..row + 1, length as usize)))[0]
        });
        // With these, the longest row of a batch determines the frequencies of all.
        if ["dynamic", "longrope"].contains(&case.rope_type().as_str()) {
            return Ok(());
        }
        close("loss", &numbers(together), &[alone.sum()])
    });
}
