//! The adapter library on a user's own model: several adapters, switching, files, records.

use std::fs;
use std::sync::Arc;

use crate::common::device;
use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Distribution, Tensor};
use burn_peft::config::{Bias, InitLoraWeights};
use burn_peft::{
    Adaptable, LoraAdapter, LoraConfig, PeftModel, files, get_peft_model, tensor_file,
};
use tempfile::tempdir;

#[derive(Module, Adaptable, Debug)]
pub struct Net {
    layers: Vec<Block>,
    head: Option<LoraAdapter<Linear>>,
}

#[derive(Module, Adaptable, Debug)]
pub struct Block {
    fc: LoraAdapter<Linear>,
}

impl Net {
    pub fn new() -> Self {
        let device = device();
        let linear = |d_in, d_out| LoraAdapter::new(LinearConfig::new(d_in, d_out).init(&device));
        let net = Self {
            layers: vec![Block { fc: linear(6, 8) }, Block { fc: linear(8, 4) }],
            head: Some(linear(4, 3)),
        };
        net.forward(x());
        net
    }

    fn forward(&self, mut x: Tensor<2>) -> Tensor<2> {
        for block in &self.layers {
            x = block.fc.forward(x).tanh();
        }
        self.head.as_ref().unwrap().forward(x)
    }
}

fn x() -> Tensor<2> {
    let values: Vec<f32> = (0..12).map(|i| (i as f32 * 0.7).sin()).collect();
    Tensor::<1>::from_data(values.as_slice(), &device()).reshape([2, 6])
}

/// An adapter that changes the output even before it is trained.
fn config(r: usize) -> LoraConfig {
    LoraConfig::new()
        .with_r(r)
        .with_init_lora_weights(InitLoraWeights::False)
        .with_target_modules(["fc"])
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn out(model: &PeftModel<Net>) -> Vec<f32> {
    values(model.forward(x()))
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
}

#[test]
fn several_adapters_take_turns() {
    let net = Net::new();
    let base = values(net.forward(x()));
    let mut model = get_peft_model(net, config(2)).unwrap();
    model.add_adapter("other", Arc::new(config(3))).unwrap();
    assert_eq!(model.active_adapters(), ["default"]);
    let first = out(&model);
    model.set_adapter(&["other"]).unwrap();
    let second = out(&model);
    assert!(!close(&base, &first) && !close(&base, &second) && !close(&first, &second));
    let trained = |model: &PeftModel<Net>| -> Vec<String> {
        let all = model.named_parameters().into_iter();
        let trained = all.filter(|parameter| parameter.requires_grad);
        trained.map(|parameter| parameter.name).collect()
    };
    assert!(trained(&model).iter().all(|name| name.contains(".other.")));
    assert_eq!(trained(&model).len(), 4);

    // Both adapters at once: their LoRA changes add up within a layer.
    model.set_adapter(&["default", "other"]).unwrap();
    let both = out(&model);
    model.merge_adapter(true).unwrap();
    assert!(model.is_merged() && close(&out(&model), &both));
    model.unmerge_adapter();
    assert_eq!(out(&model), both);

    model.set_adapter(&[]).unwrap();
    assert_eq!(out(&model), base);
    model.set_adapter(&["default"]).unwrap();
    assert_eq!(model.disable_adapter(out), base);
    assert_eq!(out(&model), first);
    model.delete_adapter("default").unwrap();
    assert_eq!(model.active_adapters(), ["other"]);
    assert_eq!(out(&model), second);
    let error = model.set_adapter(&["default"]).unwrap_err().to_string();
    assert!(
        error.contains("`default`") && error.contains("other"),
        "{error}"
    );
    assert_eq!(values(model.unload().forward(x())), base);
}

#[test]
fn a_name_is_taken_once_and_never_a_path() {
    let mut model = get_peft_model(Net::new(), config(2)).unwrap();
    let parameters = model.named_parameters();
    for name in ["default", "", "a.b", "../a"] {
        let error = model.add_adapter(name, Arc::new(config(2))).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    let misses = LoraConfig::new().with_target_modules(["q_proj"]);
    let error = model.add_adapter("other", Arc::new(misses)).unwrap_err();
    assert!(error.to_string().contains("q_proj"), "{error}");
    assert_eq!(model.named_parameters(), parameters);
}

#[test]
fn a_model_with_adapters_is_not_wrapped_again() {
    let model = get_peft_model(Net::new(), config(2)).unwrap();
    let inside = model.get_base_model().clone();
    let error = get_peft_model(inside, config(2)).unwrap_err().to_string();
    assert!(
        error.contains("layers.0.fc") && error.contains("add_adapter"),
        "{error}"
    );
}

#[test]
fn every_adapter_has_a_folder() {
    let net = Net::new();
    let mut model = get_peft_model(net.clone(), config(2)).unwrap();
    model.add_adapter("other", Arc::new(config(3))).unwrap();
    let first = out(&model);
    model.set_adapter(&["other"]).unwrap();
    let second = out(&model);
    let folder = tempdir().unwrap();
    model.save_pretrained(folder.path()).unwrap();
    assert!(
        folder
            .path()
            .join("other")
            .join(files::WEIGHTS_NAME)
            .is_file()
    );

    let mut loaded = PeftModel::from_pretrained(net, folder.path(), false).unwrap();
    assert_eq!(out(&loaded), first);
    assert_eq!(loaded.get_nb_trainable_parameters().0, 0);
    loaded
        .load_adapter(folder.path().join("other"), "other", true)
        .unwrap();
    assert_eq!(out(&loaded), first, "a loaded adapter is not active yet");
    loaded.set_adapter(&["other"]).unwrap();
    assert_eq!(out(&loaded), second);

    // Under a name that exists already, the tensors are replaced (PEFT issue 2115), also if the
    // rank changes from 3 to 2.
    loaded.load_adapter(folder.path(), "other", false).unwrap();
    assert_eq!(loaded.active_adapters(), ["other"]);
    assert_eq!(out(&loaded), first);

    // If an adapter cannot be loaded, the model stays as it was.
    fs::write(folder.path().join("other").join(files::CONFIG_NAME), "{}").unwrap();
    let error = loaded.load_adapter(folder.path().join("other"), "other", true);
    assert!(error.unwrap_err().to_string().contains("peft_type"));
    assert_eq!(out(&loaded), first);
}

#[test]
fn a_copied_linear_layer_is_saved_as_torch_keeps_it() {
    let net = Net::new();
    let config = config(2).with_modules_to_save(["head"]);
    let mut model = get_peft_model(net.clone(), config).unwrap().train();
    // LoRA (2 · 14 + 2 · 12) and the copy of the head (4 · 3 + 3).
    assert_eq!(model.get_nb_trainable_parameters().0, 52 + 15);
    let mut optimizer = AdamWConfig::new().init();
    let loss = model.forward(x().autodiff()).square().sum();
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    model.check_gradients(&gradients).unwrap();
    model = optimizer.step(0.1, model, gradients);
    let model = model.valid();
    let expected = out(&model);

    let folder = tempdir().unwrap();
    model.save_pretrained(folder.path()).unwrap();
    let tensors = tensor_file::read_tensors(&folder.path().join(files::WEIGHTS_NAME)).unwrap();
    let weight = &tensors["base_model.model.head.weight"];
    assert_eq!(weight.shape().to_vec(), [3, 4]);
    let loaded = PeftModel::from_pretrained(net.clone(), folder.path(), false).unwrap();
    // The memory layout differs, and so does the order of sums.
    assert!(close(&out(&loaded), &expected));
    let base = values(net.forward(x()));
    assert_eq!(model.disable_adapter(out), base);
    assert_eq!(loaded.disable_adapter(out), base);
    let unloaded = loaded.merge_and_unload(true).unwrap();
    assert!(close(&values(unloaded.forward(x())), &expected));
}

#[test]
fn the_guard_names_what_does_not_learn() {
    let model = get_peft_model(Net::new(), config(2)).unwrap().train();
    // A loss that uses only the first layer.
    let loss = model.layers[0].fc.forward(x().autodiff()).sum();
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    let error = model.check_gradients(&gradients).unwrap_err().to_string();
    for name in ["lora_A", "lora_B"] {
        let name = format!("base_model.model.layers.1.fc.{name}.default.weight");
        assert!(error.contains(&name), "{error}");
    }
    assert!(!error.contains("layers.0"), "{error}");
    // No frozen parameter has a gradient.
    assert_eq!(gradients.len(), 2);
}

#[test]
fn only_one_adapter_trains_the_biases() {
    let biased = || config(2).with_bias(Bias::LoraOnly);
    let mut model = get_peft_model(Net::new(), biased()).unwrap();
    assert_eq!(model.get_nb_trainable_parameters().0, 52 + 8 + 4);
    let error = model.add_adapter("other", Arc::new(biased())).unwrap_err();
    assert!(error.to_string().contains("bias"), "{error}");
}

#[test]
fn base_and_adapter_are_records_apart() {
    let device = device();
    let net = Net::new();
    let model = get_peft_model(net.clone(), config(2)).unwrap();
    let expected = out(&model);
    let folder = tempdir().unwrap();
    let (base, adapter) = (
        folder.path().join("base.bpk"),
        folder.path().join("adapter.bpk"),
    );
    model.save_base_record(&base).unwrap();
    model.save_adapter_record(&adapter).unwrap();

    // Other random values in base and adapter.
    let other = Net::new();
    let noise = Tensor::<2>::random([2, 6], Distribution::Default, &device);
    assert!(!close(
        &values(other.forward(noise.clone())),
        &values(net.forward(noise))
    ));
    let fresh = get_peft_model(other, config(2)).unwrap();
    assert!(!close(&out(&fresh), &expected));
    let half = fresh.load_record_part(&adapter).unwrap();
    assert!(!close(&out(&half), &expected));
    let whole = half.load_record_part(&base).unwrap();
    assert_eq!(out(&whole), expected);
    let error = whole
        .load_record_part(folder.path().join("none.bpk"))
        .unwrap_err();
    assert!(error.to_string().contains("none.bpk"), "{error}");
}

/// Checkpoints in half precision are read exactly.
#[test]
fn f16_and_bf16_files() {
    use safetensors::tensor::{Dtype, TensorView};
    let values = [1.0f32, -0.5, 0.333_251_95, 65504.0];
    let f16: Vec<u8> = values
        .iter()
        .flat_map(|v| half::f16::from_f32(*v).to_le_bytes())
        .collect();
    let bf16: Vec<u8> = [1.0f32, -0.5, 3.0, 256.0]
        .iter()
        .flat_map(|v| half::bf16::from_f32(*v).to_le_bytes())
        .collect();
    let views = [
        ("a", TensorView::new(Dtype::F16, vec![4], &f16).unwrap()),
        ("b", TensorView::new(Dtype::BF16, vec![4], &bf16).unwrap()),
    ];
    let folder = tempdir().unwrap();
    let path = folder.path().join("half.safetensors");
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let tensors = tensor_file::read_tensors(&path).unwrap();
    assert_eq!(tensors["a"].try_to_vec::<f32>().unwrap(), values);
    assert_eq!(
        tensors["b"].try_to_vec::<f32>().unwrap(),
        [1.0, -0.5, 3.0, 256.0]
    );
}

/// An adapter on an untied head changes the loss too, not only the logits.
#[test]
fn the_loss_goes_through_an_adapted_head() {
    use burn::tensor::activation::log_softmax;
    use burn_peft_models::{CausalLm, GPT2LMHeadModel, LmBatch, ModelInput, Pretrained};

    let folder = crate::conformance::fixtures().join("nano-sort");
    let device = device();
    let base = GPT2LMHeadModel::from_pretrained(folder.to_str().unwrap(), &device).unwrap();
    let config = LoraConfig::new()
        .with_r(2)
        .with_init_lora_weights(InitLoraWeights::False)
        .with_target_modules(["lm_head"]);
    let mut model = get_peft_model(base, config).unwrap();
    let ids = [0, 2, 1, 1, 0, 2];
    let batch = LmBatch::new(&ids, &[1; 6], &ids, [1, 6], &device).unwrap();
    let expected = |model: &PeftModel<GPT2LMHeadModel>| {
        let input = Tensor::<1, burn::tensor::Int>::from_data(ids, &device).unsqueeze();
        let logits: Tensor<2> = model.forward(ModelInput::new(input)).squeeze_dim(0);
        let targets = Tensor::<1, burn::tensor::Int>::from_data(&ids[1..], &device);
        let log_probs = log_softmax(logits.narrow(0, 0, 5), 1);
        let picked = log_probs.gather(1, targets.unsqueeze_dim(1));
        -picked.sum().into_scalar::<f32>()
    };
    let loss = |model: &PeftModel<GPT2LMHeadModel>| model.loss(&batch).into_scalar::<f32>();
    let adapted = loss(&model);
    assert!((adapted - expected(&model)).abs() < 1e-4);
    let plain = model.disable_adapter(|model| loss(model));
    assert!((plain - adapted).abs() > 1e-3);
    model.merge_adapter(true).unwrap();
    assert!((loss(&model) - adapted).abs() < 1e-3);
    model.unmerge_adapter();
    let training = model.train();
    let gradients = GradientsParams::from_grads(training.loss(&batch).backward(), &training);
    training.check_gradients(&gradients).unwrap();
}
