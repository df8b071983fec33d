//! Adapters at convolutions are converted, combined, and used for different rows of a batch.

use burn_peft::combine::{Combination, CombinationType};
use burn_peft::config::{CommonConfig, TargetModules};
use burn_peft::{LoHaConfig, PeftModel, files, get_peft_model};

use super::{Image, Net, Signal, folder, inputs, net};

/// The change of a plain convolution's weight can be converted to LoRA. That of a dilated one
/// cannot.
#[test]
fn loha_on_a_convolution_becomes_lora_unless_it_is_dilated() {
    let (x, _) = inputs::<Image>();
    let loha = |name: &str| {
        let config = LoHaConfig::default();
        let common = CommonConfig {
            target_modules: Some(TargetModules::List(vec![name.into()])),
            ..config.common.clone()
        };
        let config = LoHaConfig {
            common,
            r: 2,
            // Large enough for a visible change after four layers.
            alpha: 400.into(),
            init_weights: false,
            ..config
        };
        get_peft_model(net::<Image>(), config).unwrap()
    };
    let model = loha("conv1");
    // A product of two changes of rank 2 has rank 4.
    let conversion = model.convert_to_lora("default", 4).unwrap();
    assert!(conversion.error < 1e-4, "{}", conversion.error);
    let folder = tempfile::tempdir().unwrap();
    files::write_adapter(folder.path(), &conversion.config, conversion.tensors).unwrap();
    let lora = PeftModel::from_pretrained(net::<Image>(), folder.path(), false).unwrap();
    let [found, expected] = [&lora, &model].map(|model| model.forward(x.clone()));
    let base = model.disable_adapter(|model| model.forward(x.clone()));
    assert!(!expected.clone().all_close(base, None, Some(1e-3)));
    assert!(found.all_close(expected, None, Some(1e-4)));

    let error = loha("conv4").convert_to_lora("default", 2).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("conv4") && error.contains("dilation = [1, 2]"),
        "{error}"
    );
}

/// Rows of a batch with different adapters, a sum of adapters, a conversion to LoRA.
#[test]
fn several_adapters_at_convolutions() {
    let (x, _) = inputs::<Image>();
    let case = |name: &str| folder().join(name);
    let mut model = PeftModel::from_pretrained(net::<Image>(), case("image_lora"), false).unwrap();
    model
        .load_adapter(case("image_loha"), "loha", false)
        .unwrap();
    let output = |model: &PeftModel<Image>, name: &str| {
        let mut model = model.clone();
        model.set_adapter(&[name]).unwrap();
        model.forward(x.clone())
    };
    let [lora, loha] = ["default", "loha"].map(|name| output(&model, name));

    // `cat` and `svd` of one adapter, taken twice with weight one half, give the same change.
    for kind in [CombinationType::Cat, CombinationType::Svd] {
        let mut sum = model.clone();
        sum.load_adapter(case("image_lora"), "again", false)
            .unwrap();
        let halves = [("default", 0.5), ("again", 0.5)];
        let mut combination = Combination::new(kind);
        if kind == CombinationType::Svd {
            combination.svd_rank = Some(4);
        }
        sum.add_weighted_adapter(&halves, "sum", &combination)
            .unwrap();
        let same = output(&sum, "sum").all_close(lora.clone(), None, Some(1e-4));
        assert!(same, "{kind:?}");
    }

    let alone = PeftModel::from_pretrained(net::<Signal>(), case("signal_loha"), false).unwrap();
    let error = alone.convert_to_lora("default", 2).unwrap_err().to_string();
    assert!(
        error.contains("conv2") && error.contains("groups"),
        "{error}"
    );

    let rows = ["loha", "default", "__base__", "loha", "default"];
    let found = model.for_rows(&rows).unwrap().forward(x.clone());
    let base = model.disable_adapter(|model| model.forward(x.clone()));
    for (row, name) in rows.iter().enumerate() {
        let expected = match *name {
            "loha" => &loha,
            "default" => &lora,
            _ => &base,
        };
        let [found, expected] = [&found, expected].map(|output| output.clone().narrow(0, row, 1));
        assert!(found.all_close(expected, None, Some(1e-5)), "{name}");
    }
}
