//! Dropout at convolutions.

use burn::module::Module;
use burn::tensor::Tensor;
use burn_peft::{PeftModel, files};

use super::{Image, Net, folder, inputs, net};

/// The adapter of a case with other values of some keys of its configuration.
fn with_keys(case: &str, values: &[(&str, f64)]) -> PeftModel<Image> {
    let model = PeftModel::from_pretrained(net::<Image>(), folder().join(case), false).unwrap();
    let mut keys = model.config("default").unwrap().to_json();
    for (key, value) in values {
        keys.insert((*key).into(), (*value).into());
    }
    let keys = burn_peft::config::Fields::new(keys, "a test");
    let config = burn_peft::methods::config_from_fields(keys).unwrap();
    let written = tempfile::tempdir().unwrap();
    let state = model.adapter_state_dict("default");
    files::write_adapter(written.path(), config.as_ref(), state).unwrap();
    PeftModel::from_pretrained(net::<Image>(), written.path(), true).unwrap()
}

/// Dropout acts in training and not after it.
#[test]
fn dropout_acts_in_training_alone() {
    let (x, _) = inputs::<Image>();
    let is = |a: &Tensor<2>, b: &Tensor<2>| a.clone().all_close(b.clone(), None, Some(1e-6));
    for (case, key) in [
        ("image_lora", "lora_dropout"),
        ("image_dora", "lora_dropout"),
        ("image_loha", "rank_dropout"),
        ("image_lokr", "module_dropout"),
    ] {
        let model = with_keys(case, &[(key, 0.5)]);
        let expected = model.forward(x.clone());
        let model = model.train();
        let output = |seed: u64| {
            let output = burn_peft::with_seed(seed, || model.forward(x.clone().autodiff()));
            output.inner()
        };
        let outputs: Vec<_> = (1..9).map(output).collect();
        assert!(is(&output(1), &outputs[0]), "{case}");
        assert!(
            outputs.iter().any(|other| !is(other, &outputs[0])),
            "{case}"
        );
        assert!(outputs.iter().any(|other| !is(other, &expected)), "{case}");
        assert!(is(&model.valid().forward(x.clone()), &expected), "{case}");
    }
}

/// If dropout removes the whole input, an adapter changes nothing. This includes DoRA's part of the
/// frozen weight.
#[test]
fn of_an_input_that_is_all_dropped_nothing_changes() {
    let (x, _) = inputs::<Image>();
    for case in ["image_lora", "image_dora"] {
        let model = with_keys(case, &[("lora_dropout", 1.0 - 1e-9)]);
        let base = model.disable_adapter(|model| model.forward(x.clone()));
        let apart = model.forward(x.clone());
        assert!(!apart.all_close(base.clone(), None, Some(1e-3)), "{case}");
        let model = model.train();
        let output = burn_peft::with_seed(1, || model.forward(x.clone().autodiff()));
        let output = output.inner();
        assert!(output.all_close(base, None, Some(1e-5)), "{case}");
    }
}
