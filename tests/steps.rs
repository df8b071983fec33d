//! Training steps and gradients, compared with a reference.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Gradients, Tensor, TensorData, Tolerance};
use burn_peft::PeftModel;
use burn_peft_models::{CausalLm, GPT2LMHeadModel};
use burn_peft_train::{TrainingArguments, adamw};
use std::path::Path;

use crate::conformance::{batch, without_dropout};

/// The losses of eight steps of AdamW, as the fixtures' Python takes them, and what `first` returns
/// for the model and the gradients of the first step.
pub fn eight_steps<M: Module, T>(
    mut model: M,
    loss: impl Fn(&M) -> Tensor<1>,
    first: impl Fn(&M, &Gradients) -> T,
) -> (Vec<f32>, T) {
    let arguments = TrainingArguments {
        weight_decay: 0.01,
        ..TrainingArguments::default()
    };
    let mut optimizer = adamw(&arguments);
    let (mut losses, mut of_first) = (Vec::new(), None);
    for _ in 0..8 {
        let loss = loss(&model);
        losses.push(loss.clone().inner().into_scalar::<f32>());
        let gradients = loss.backward();
        of_first.get_or_insert_with(|| first(&model, &gradients));
        let gradients = GradientsParams::from_grads(gradients, &model);
        model = optimizer.step(1e-3, model, gradients);
    }
    (losses, of_first.unwrap())
}

/// The gradients of every parameter, in the model's order.
pub fn all<M: Module>(model: &M, gradients: &GradientsParams) -> Vec<Option<TensorData>> {
    struct Read<'a>(&'a GradientsParams, Vec<Option<TensorData>>);
    impl ModuleVisitor for Read<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let gradient = self.0.get::<D>(param.id);
            self.1.push(gradient.map(Tensor::into_data));
        }
    }
    let mut read = Read(gradients, Vec::new());
    model.visit(&mut read);
    read.1
}

/// Asserts that two models of one shape have gradients for the same parameters. They have to be
/// equal within 1e-4, or within `relative` of their size.
pub fn assert_same_gradients<M: Module>(
    found: (&M, &GradientsParams),
    expected: (&M, &GradientsParams),
    relative: f32,
) {
    assert_eq!(found.1.len(), expected.1.len());
    let [found, expected] = [found, expected].map(|(model, gradients)| all(model, gradients));
    for (found, expected) in found.into_iter().zip(expected) {
        assert_eq!(found.is_some(), expected.is_some());
        if let (Some(found), Some(expected)) = (found, expected) {
            let tolerance = Tolerance::<f32>::absolute(1e-4).set_relative(relative);
            found.assert_approx_eq(&expected, tolerance);
        }
    }
}

/// Asserts that a step on a base in another form equals a step on the base's values: the trained
/// parameters, the loss, and the gradients, with gradient checkpointing too.
pub fn assert_step_of_values(
    kept: PeftModel<GPT2LMHeadModel>,
    values: PeftModel<GPT2LMHeadModel>,
    case: &Path,
) {
    let counts = |model: &PeftModel<GPT2LMHeadModel>| model.get_nb_trainable_parameters();
    assert_eq!(counts(&kept), counts(&values));
    let batch = batch(case);
    let [kept, values] = [kept, values].map(|model| without_dropout(model.train()));
    let step = |model: &PeftModel<GPT2LMHeadModel>| {
        let loss = model.loss(&batch);
        let value = loss.clone().inner().into_scalar::<f32>();
        (value, GradientsParams::from_grads(loss.backward(), model))
    };
    let ((loss, found), (expected, by_values)) = (step(&kept), step(&values));
    assert!(
        (loss - expected).abs() < 1e-4 * expected,
        "{}: {loss} {expected}",
        case.display()
    );
    // The gradients of virtual tokens are returned separately.
    let checkpointed = kept.checkpointed_backward(&batch, 1.0);
    let checkpointed = checkpointed.filter(|done| done.extra.is_empty());
    let checkpointed = checkpointed.map(|done| done.gradients);
    for found in [Some(found), checkpointed].into_iter().flatten() {
        assert_same_gradients((&kept, &found), (&values, &by_values), 1e-3);
    }
}
