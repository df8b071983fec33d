//! Methods at convolutions, against numbers of Python's peft (`fixtures/conv/make.py`).

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::nn::conv::{Conv1d, Conv1dConfig, Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig1d, PaddingConfig2d};
use burn::optim::GradientsParams;
use burn::tensor::activation::relu;
use burn::tensor::{Tensor, TensorData};
use burn_peft::combine::{Combination, CombinationType};
use burn_peft::{
    Adaptable, BaseModel, IA3Config, LoraAdapter, LoraConfig, PeftModel, files, get_peft_model,
    tensor_file,
};

use crate::common::device;
use crate::conformance::fixtures;

#[derive(Module, Adaptable, Debug)]
struct Image {
    conv1: LoraAdapter<Conv2d>,
    conv2: LoraAdapter<Conv2d>,
    conv3: LoraAdapter<Conv2d>,
    conv4: LoraAdapter<Conv2d>,
    fc: LoraAdapter<Linear>,
}

#[derive(Module, Adaptable, Debug)]
struct Signal {
    conv1: LoraAdapter<Conv1d>,
    conv2: LoraAdapter<Conv1d>,
    conv3: LoraAdapter<Conv1d>,
    fc: LoraAdapter<Linear>,
}

/// A network of the fixture.
trait Net: BaseModel {
    const NAME: &'static str;
    type Input: Clone;

    fn new() -> Self;
    fn input(data: TensorData) -> Self::Input;
    fn tracked(input: Self::Input) -> Self::Input;
    fn gradient(input: &Self::Input, gradients: &burn::tensor::Gradients) -> TensorData;
    fn forward(&self, input: Self::Input) -> Tensor<2>;
}

macro_rules! input {
    ($axes:literal) => {
        type Input = Tensor<$axes>;

        fn input(data: TensorData) -> Self::Input {
            Tensor::from_data(data, &device())
        }

        fn tracked(input: Self::Input) -> Self::Input {
            input.autodiff().require_grad()
        }

        fn gradient(input: &Self::Input, gradients: &burn::tensor::Gradients) -> TensorData {
            input.grad(gradients).unwrap().into_data()
        }
    };
}

impl Net for Image {
    const NAME: &'static str = "image";
    input!(4);

    fn new() -> Self {
        let device = device();
        let conv = |config: Conv2dConfig| LoraAdapter::new(config.init(&device));
        let conv1 = Conv2dConfig::new([3, 8], [3, 3]);
        let conv2 = Conv2dConfig::new([8, 12], [3, 2]).with_stride([2, 1]);
        let conv4 = Conv2dConfig::new([8, 6], [2, 3]).with_dilation([1, 2]);
        Self {
            conv1: conv(conv1.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))),
            conv2: conv(
                conv2
                    .with_padding(PaddingConfig2d::Explicit(1, 0, 1, 0))
                    .with_groups(2),
            ),
            conv3: conv(Conv2dConfig::new([12, 8], [1, 1]).with_bias(false)),
            conv4: conv(conv4),
            fc: LoraAdapter::new(LinearConfig::new(6, 4).init(&device)),
        }
    }

    fn forward(&self, mut x: Tensor<4>) -> Tensor<2> {
        for conv in [&self.conv1, &self.conv2, &self.conv3, &self.conv4] {
            x = relu(conv.forward(x));
        }
        self.fc
            .forward(x.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2))
    }
}

impl Net for Signal {
    const NAME: &'static str = "signal";
    input!(3);

    fn new() -> Self {
        let device = device();
        let conv = |config: Conv1dConfig| LoraAdapter::new(config.init(&device));
        let conv1 = Conv1dConfig::new(4, 8, 3).with_padding(PaddingConfig1d::Explicit(1, 1));
        Self {
            conv1: conv(conv1),
            conv2: conv(Conv1dConfig::new(8, 12, 4).with_stride(2).with_groups(2)),
            conv3: conv(Conv1dConfig::new(12, 6, 1).with_bias(false)),
            fc: LoraAdapter::new(LinearConfig::new(6, 4).init(&device)),
        }
    }

    fn forward(&self, mut x: Tensor<3>) -> Tensor<2> {
        for conv in [&self.conv1, &self.conv2, &self.conv3] {
            x = relu(conv.forward(x));
        }
        self.fc.forward(x.mean_dim(2).squeeze_dim(2))
    }
}

type Tensors = std::collections::HashMap<String, TensorData>;

fn folder() -> PathBuf {
    fixtures().join("conv")
}

fn read(path: &Path) -> Tensors {
    let tensors = tensor_file::read_tensors(path).unwrap();
    tensors.into_iter().collect()
}

/// The network with the fixture's weights.
fn net<N: Net>() -> N {
    let mut net = N::new();
    let weights = read(&folder().join(format!("{}.safetensors", N::NAME)));
    net.visit_slots_mut(&mut burn_peft::Path::default(), &mut |path, slot| {
        let kind = slot.kind();
        slot.visit_base_mut(&mut |name, param| {
            let data = weights[&format!("{path}.{name}")].clone();
            param.set_data(data, kind.is_transposed(name));
        });
    });
    net
}

fn inputs<N: Net>() -> (N::Input, Tensor<2>) {
    let mut tensors = read(&folder().join(format!("{}_inputs.safetensors", N::NAME)));
    let mut take = |name: &str| tensors.remove(name).unwrap();
    (
        N::input(take("x")),
        Tensor::from_data(take("target"), &device()),
    )
}

fn cases<N: Net>() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_case = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        path.is_dir() && name.starts_with(N::NAME)
    };
    let mut cases: Vec<_> = paths.filter(is_case).collect();
    cases.sort();
    assert!(cases.len() >= 8, "{cases:?}");
    cases
}

/// Equal within 1e-5 of the largest value.
fn assert_close(case: &Path, what: &str, found: &TensorData, expected: &TensorData) {
    assert_eq!(
        found.shape(),
        expected.shape(),
        "{}: {what}",
        case.display()
    );
    let values = |data: &TensorData| data.iter::<f32>().collect::<Vec<_>>();
    let (found, expected) = (values(found), values(expected));
    let largest = expected
        .iter()
        .fold(0_f32, |most, value| most.max(value.abs()));
    for (index, (a, b)) in found.iter().zip(&expected).enumerate() {
        assert!(
            (a - b).abs() <= 1e-5 * largest,
            "{}: {what}[{index}] is {a}, PEFT has {b}",
            case.display()
        );
    }
}

fn outputs_gradients_and_merged_weights<N: Net>() {
    let (x, target) = inputs::<N>();
    for case in cases::<N>() {
        let expected = read(&case.join("expected.safetensors"));
        let close = |what: &str, found: TensorData| {
            let expected = expected.get(what).expect(what);
            assert_close(&case, what, &found, expected);
        };
        let model = PeftModel::from_pretrained(net::<N>(), &case, true).unwrap();
        close("output", model.forward(x.clone()).into_data());
        if !case.ends_with("signal_lora") {
            // Its bias is trained, and stays where it is.
            let base = model.disable_adapter(|model| model.forward(x.clone()));
            close("base", base.into_data());
        }

        let model = model.train();
        let x = N::tracked(x.clone());
        // Without the dropout of training.
        let output = burn_peft::without_dropout(|| model.forward(x.clone()));
        let loss = (output - target.clone().autodiff()).square().mean();
        let gradients = loss.backward();
        close("grad.x", N::gradient(&x, &gradients));
        let mut keys: Vec<&str> = (expected.keys().map(String::as_str))
            .filter(|key| key.starts_with("grad.base"))
            .collect();
        for (key, gradient) in model.adapter_gradients("default", &gradients) {
            let key = format!("grad.{key}");
            keys.retain(|other| *other != key);
            close(&key, gradient.expect(&key));
        }
        keys.retain(|key| !key.ends_with("base_layer.bias"));
        assert!(keys.is_empty(), "{}: no {keys:?}", case.display());
        let gradients = GradientsParams::from_grads(gradients, &model);
        model.check_gradients(&gradients).unwrap();

        let mut model = model.valid();
        if case.to_str().unwrap().ends_with("groups") {
            let error = model.merge_and_unload(true).unwrap_err().to_string();
            assert!(error.contains("into conv2"), "{error}");
            continue;
        }
        let x =
            N::input(read(&folder().join(format!("{}_inputs.safetensors", N::NAME)))["x"].clone());
        model.merge_adapter(true).unwrap();
        close("merged", model.forward(x.clone()).into_data());
        model.unmerge_adapter();
        close("output", model.forward(x.clone()).into_data());
        let merged = model.merge_and_unload(true).unwrap();
        close("merged", merged.forward(x).into_data());
        merged.visit_slots(&mut burn_peft::Path::default(), &mut |path, slot| {
            let kind = slot.kind();
            slot.visit_base(&mut |name, param| {
                let data = param.to_data();
                let data = if kind.is_transposed(name) {
                    Tensor::<2>::from_data(data, &device())
                        .transpose()
                        .into_data()
                } else {
                    data
                };
                close(&format!("weight.{path}.{name}"), data);
            });
        });
    }
}

#[test]
fn images_have_the_outputs_gradients_and_merged_weights_of_peft() {
    outputs_gradients_and_merged_weights::<Image>();
}

#[test]
fn signals_have_the_outputs_gradients_and_merged_weights_of_peft() {
    outputs_gradients_and_merged_weights::<Signal>();
}

/// What is read is written as it was, bytes and all, and so Python's peft reads what is written here.
fn files_and_trees<N: Net>() {
    for case in cases::<N>() {
        let model = PeftModel::from_pretrained(net::<N>(), &case, false).unwrap();
        let written = tempfile::tempdir().unwrap();
        model.save_pretrained(written.path()).unwrap();
        for name in [files::WEIGHTS_NAME, files::CONFIG_NAME] {
            let bytes = |path: &Path| fs::read(path.join(name)).unwrap();
            let same = bytes(written.path()) == bytes(&case);
            assert!(same, "{}/{name} differs", case.display());
        }
        let expected = fs::read_to_string(case.join("tree.txt")).unwrap();
        // PyTorch prints dictionaries that hold nothing too.
        let empty =
            |line: &&str| !line.ends_with("ParameterDict()") && !line.ends_with("ModuleDict()");
        let expected: String = expected
            .lines()
            .filter(empty)
            .map(|line| format!("{line}\n"))
            .collect();
        let found = format!("{}\n", model.tree());
        assert!(
            found == expected,
            "{}:\n{found}\n{expected}",
            case.display()
        );
    }
}

#[test]
fn files_are_written_back_and_trees_printed_as_peft_does() {
    files_and_trees::<Image>();
    files_and_trees::<Signal>();
}

/// A new adapter has tensors of the same shapes, zero where PEFT's are, and others within the bounds
/// that PEFT draws from.
fn first_values<N: Net>() {
    let (x, _) = inputs::<N>();
    for case in cases::<N>() {
        let loaded = PeftModel::from_pretrained(net::<N>(), &case, false).unwrap();
        let mut config = loaded.config("default").unwrap().common().clone();
        config.inference_mode = false;
        let config = loaded.config("default").unwrap().with_common(config);
        let model = PeftModel::new(net::<N>(), "default", config).unwrap();
        let first = read(&case.join("first.safetensors"));
        let mut state = model.adapter_state_dict("default");
        state.retain(|(key, _)| !key.ends_with("base_layer.bias"));
        let count = first
            .keys()
            .filter(|key| !key.ends_with("base_layer.bias"))
            .count();
        assert_eq!(state.len(), count, "{}", case.display());
        for (key, data) in state {
            let expected = &first[&key];
            assert_eq!(data.shape(), expected.shape(), "{}: {key}", case.display());
            let largest = |data: &TensorData| {
                let values = data.iter::<f32>();
                values.fold(0_f32, |most, value| most.max(value.abs()))
            };
            let (found, expected) = (largest(&data), largest(expected));
            assert_eq!(found == 0.0, expected == 0.0, "{}: {key}", case.display());
            // Uniform values in such numbers come near their bound.
            let ratio = if found == 0.0 { 1.0 } else { found / expected };
            let is_near = data.num_elements() < 16 || (0.5..2.0).contains(&ratio);
            let case = case.display();
            assert!(is_near, "{case}: {key} up to {found}, PEFT {expected}");
        }
        if !case.ends_with("image_ia3") {
            let base = model.disable_adapter(|model| model.forward(x.clone()));
            let same = model.forward(x.clone()).all_close(base, None, Some(1e-5));
            assert!(same, "{}", case.display());
        }
    }
}

#[test]
fn new_adapters_begin_as_in_peft() {
    first_values::<Image>();
    first_values::<Signal>();
}

/// What PEFT refuses, or gets wrong, is refused with the layer and the way out.
#[test]
fn what_peft_refuses_is_refused() {
    let image = |config: LoraConfig| {
        let error = get_peft_model(net::<Image>(), config).unwrap_err();
        error.to_string()
    };
    let lora = |name: &str| LoraConfig::new().with_r(4).with_target_modules([name]);
    for (config, named) in [
        (lora("conv4"), "conv4: LoRA takes no dilated convolution"),
        (
            lora("conv2").with_r(3),
            "conv2: r = 3 is no multiple of the 2 groups",
        ),
        (lora("conv2").with_use_dora(true), "conv2: use_dora = true"),
        (
            lora("conv1").with_init_lora_weights(burn_peft::config::InitLoraWeights::Olora),
            "conv1: init_lora_weights = \"olora\" is for linear layers",
        ),
    ] {
        let error = image(config);
        assert!(error.contains(named), "{error}");
    }
    let ia3 = IA3Config::new().with_target_modules(["conv1"]);
    let ia3 = IA3Config {
        feedforward_modules: Some(burn_peft::config::TargetModules::List(vec![])),
        ..ia3
    };
    let error = get_peft_model(net::<Signal>(), ia3)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("conv1") && error.contains("Conv1d"),
        "{error}"
    );
}

#[test]
#[should_panic(expected = "takes [batch, 3, height, width]")]
fn an_image_with_other_channels_is_named() {
    net::<Image>()
        .conv1
        .forward(Tensor::zeros([1, 4, 9, 8], &device()));
}

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

/// Where dropout leaves nothing of its input, an adapter changes nothing. DoRA's part of the frozen
/// weight sees that input too.
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

/// A plain convolution's change of weight becomes LoRA's; a dilated one has none.
#[test]
fn loha_on_a_convolution_becomes_lora_unless_it_is_dilated() {
    let (x, _) = inputs::<Image>();
    let loha = |name: &str| {
        let config = burn_peft::LoHaConfig::default();
        let common = burn_peft::config::CommonConfig {
            target_modules: Some(burn_peft::config::TargetModules::List(vec![name.into()])),
            ..config.common.clone()
        };
        let config = burn_peft::LoHaConfig {
            common,
            r: 2,
            // Far enough from the base, through four layers.
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

    // cat and svd of one LoRA adapter, twice half of it: the change is the same.
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
