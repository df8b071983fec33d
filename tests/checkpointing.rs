//! Gradient checkpointing changes what is kept in memory, but no result.

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn_peft::PeftModel;
use burn_peft_kernels::with_seed;
use burn_peft_models::{CausalLm, GPT2LMHeadModel, LmBatch, Pretrained};

use crate::common::device;
use crate::conformance::{batch, fixtures, without_dropout};
use crate::steps::{all, assert_same_gradients};

fn base() -> GPT2LMHeadModel {
    let folder = fixtures().join("conformance/base-gpt2");
    GPT2LMHeadModel::from_pretrained(folder.to_str().unwrap(), &device()).unwrap()
}

fn adapted(case: &str) -> PeftModel<GPT2LMHeadModel> {
    let case = fixtures().join("conformance/cases").join(case);
    PeftModel::from_pretrained(base(), &case, true).unwrap()
}

fn a_batch() -> LmBatch {
    batch(&fixtures().join("conformance/cases/gpt2_lora"))
}

fn assert_same<M: CausalLm>(model: M) {
    let (model, batch) = (without_dropout(model.train()), a_batch());
    let loss = model.loss(&batch) * 0.5;
    let expected = GradientsParams::from_grads(loss.backward(), &model);
    let result = model.checkpointed_backward(&batch, 0.5).unwrap();
    let (value, found) = (result.loss, result.gradients);
    let loss = loss.inner().into_scalar::<f32>();
    assert!((value.into_scalar::<f32>() - loss).abs() < 1e-5 * loss);
    assert_same_gradients((&model, &found), (&model, &expected), 1e-4);
}

#[test]
fn gradients_are_the_same() {
    assert_same(adapted("gpt2_lora"));
    assert_same(adapted("gpt2_lora_layers"));
    assert_same(adapted("gpt2_lora_embedding"));
    assert_same(adapted("gpt2_lora_bias_all"));
    assert_same(adapted("gpt2_vblora"));
    let around = fixtures().join("bottleneck/parallel_parts");
    assert_same(PeftModel::from_pretrained(base(), &around, true).unwrap());
    assert_same(base());
}

/// What comes before the texts is computed outside the blocks, and still gets its gradients.
#[test]
fn extra_positions_get_their_gradients() {
    for case in [
        "conformance/cases/gpt2_prompt_tuning",
        "conformance/cases/gpt2_prefix_tuning",
        "prompt/p_tuning_mlp",
        "prompt/prefix_projection",
    ] {
        let model = PeftModel::from_pretrained(base(), fixtures().join(case), true).unwrap();
        assert!(model.extra_positions() > 0);
        assert_same(model);
    }
    // The base model returns the gradients of the tensors that it was given.
    let model = without_dropout(adapted("gpt2_prefix_tuning").train());
    let mut with_extra = a_batch();
    with_extra.input.extra = model.extra();
    let base = model.get_base_model();
    let result = base.checkpointed_backward(&with_extra, 1.0).unwrap();
    let (key, _) = &result.extra.keys_and_values[0];
    assert!(key.clone().abs().sum().into_scalar::<f32>() > 0.0);
}

/// With dropout, the blocks are recomputed with the same masks. So the loss changes after a small
/// step as the gradient predicts.
#[test]
fn dropout_is_repeated() {
    struct Step<'a>(&'a GradientsParams, f64);
    impl ModuleMapper for Step<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            match self.0.get::<D>(param.id) {
                Some(gradient) => param.map(|value| {
                    let step = gradient.mul_scalar(self.1);
                    (value.inner() + step).autodiff().require_grad()
                }),
                None => param,
            }
        }
    }
    let (model, batch) = (adapted("gpt2_lora").train(), a_batch());
    let run = |model: &PeftModel<GPT2LMHeadModel>| {
        with_seed(9, || model.checkpointed_backward(&batch, 1.0).unwrap())
    };
    let gradients = run(&model).gradients;
    let squares = all(&model, &gradients).into_iter().flatten();
    let squares: f64 = squares
        .flat_map(|data| data.iter::<f64>().map(|g| g * g).collect::<Vec<_>>())
        .sum();
    let length = 2e-3;
    let loss = |sign: f64| {
        let moved = model
            .clone()
            .map(&mut Step(&gradients, sign * length / squares.sqrt()));
        f64::from(run(&moved).loss.into_scalar::<f32>())
    };
    let slope = (loss(1.0) - loss(-1.0)) / (2.0 * length);
    let expected = squares.sqrt();
    assert!(
        (slope - expected).abs() < 0.02 * expected,
        "{slope} is not {expected}"
    );
    // The masks matter: another seed gives another loss.
    let first = run(&model).loss.into_scalar::<f32>();
    let other = with_seed(10, || {
        model.checkpointed_backward(&batch, 1.0).unwrap().loss
    });
    assert!((other.into_scalar::<f32>() - first).abs() > 1e-4);
}
