//! Several adapters: rows of one batch, hot swapping, conversion, and the commands that take more
//! than one.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use burn_peft::combine::{Combination, CombinationType};
use burn_peft::config::InitLoraWeights;
use burn_peft::methods::PromptTuningConfig;
use burn_peft::{BASE_ROW, LoraConfig, PeftModel, files, get_peft_model, tensor_file};
use burn_peft_models::{CausalLm, GPT2LMHeadModel, ModelInput, forward_rows};

use crate::common::Lab;
use crate::common::device;
use crate::conformance::{base, fixtures, logits};
use crate::linear_methods;

/// A LoRA adapter that changes the output even before it is trained.
fn lora(r: usize, targets: &[&str]) -> LoraConfig {
    LoraConfig::new()
        .with_r(r)
        .with_lora_alpha(3.0)
        .with_init_lora_weights(InitLoraWeights::False)
        .with_target_modules(targets)
}

/// Two adapters on different layers, one with a copied norm.
fn two() -> PeftModel<GPT2LMHeadModel> {
    device().seed(9);
    let first = lora(4, &["c_attn", "wte", "wpe"]).with_modules_to_save(["ln_f"]);
    let mut model = get_peft_model(base(), first).unwrap();
    model
        .add_adapter("b", Arc::new(lora(2, &["c_attn", "c_fc"])))
        .unwrap();
    model
}

fn input(rows: usize) -> ModelInput {
    let ids: Vec<i64> = (0..rows as i64 * 5).map(|i| (i * 37) % 199).collect();
    let ids = Tensor::<1, Int>::from_data(ids.as_slice(), &device());
    ModelInput::new(ids.reshape([rows, 5]))
}

fn largest<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> f32 {
    (a - b).abs().max().into_scalar()
}

#[test]
fn rows_of_a_batch_go_through_different_adapters() {
    let mut model = two();
    // This adapter changes the output layer too, which is tied to the embedding.
    let tokens = fixtures().join("conformance/cases/gpt2_lora_trainable_tokens");
    model.load_adapter(tokens, "tokens", false).unwrap();
    let batch = input(5);
    let names = ["b", BASE_ROW, "default", "tokens", BASE_ROW];
    let together = forward_rows(&model, batch.clone(), &names).unwrap();
    for (row, name) in names.into_iter().enumerate() {
        let active: &[&str] = if name == BASE_ROW { &[] } else { &[name] };
        model.set_adapter(active).unwrap();
        let alone = model.forward(batch.clone()).narrow(0, row, 1);
        let found = together.clone().narrow(0, row, 1);
        assert!(largest(found, alone) < 1e-4, "row {row} through {name}");
    }
    model.set_adapter(&["b"]).unwrap();
    let error = |model: &PeftModel<_>, names: &[&str]| {
        let result = forward_rows(model, input(2), names);
        result.unwrap_err().to_string()
    };
    let message = error(&model, &["b"]);
    assert!(message.contains("1 adapter names for 2 rows"), "{message}");
    let message = error(&model, &["b", "c"]);
    assert!(message.contains("`c`"), "{message}");
    model.merge_adapter(true).unwrap();
    assert!(error(&model, &["b", "b"]).contains("merged"));
    model.unmerge_adapter();
    model
        .add_adapter("prompt", Arc::new(PromptTuningConfig::new(2)))
        .unwrap();
    let message = error(&model, &["b", "prompt"]);
    assert!(message.contains("PROMPT_TUNING"), "{message}");
}

#[test]
fn hot_swapping_keeps_parameters_and_brings_values_and_scaling() {
    let folder = tempfile::tempdir().unwrap();
    let mut other = get_peft_model(base(), lora(4, &["c_attn"]).with_lora_alpha(7.0)).unwrap();
    let expected = other.forward(input(2));
    other.save_pretrained(folder.path()).unwrap();

    let mut model = get_peft_model(base(), lora(4, &["c_attn"])).unwrap();
    assert!(largest(model.forward(input(2)), expected.clone()) > 1e-3);
    let before = model.named_parameters();
    model.hotswap_adapter(folder.path(), "default").unwrap();
    assert!(largest(model.forward(input(2)), expected.clone()) < 1e-5);
    assert_eq!(
        model.named_parameters(),
        before,
        "ids, shapes, what is trained"
    );
    let again = tempfile::tempdir().unwrap();
    model.save_pretrained(again.path()).unwrap();
    for name in [files::CONFIG_NAME, files::WEIGHTS_NAME] {
        let read = |folder: &tempfile::TempDir| std::fs::read(folder.path().join(name)).unwrap();
        assert!(read(&folder) == read(&again), "{name}");
    }

    // Another rank or another method is an error, and nothing is changed.
    let mut narrow = get_peft_model(base(), lora(2, &["c_attn"])).unwrap();
    let kept = narrow.forward(input(2));
    let error = narrow
        .hotswap_adapter(folder.path(), "default")
        .unwrap_err();
    assert!(error.to_string().contains("does not fit"), "{error}");
    assert_eq!(narrow.forward(input(2)).to_data(), kept.to_data());
    let mut prompt = get_peft_model(base(), PromptTuningConfig::new(2)).unwrap();
    let error = prompt
        .hotswap_adapter(folder.path(), "default")
        .unwrap_err();
    assert!(error.to_string().contains("load_adapter"), "{error}");
    other.merge_adapter(true).unwrap();
    let error = other.hotswap_adapter(folder.path(), "default").unwrap_err();
    assert!(error.to_string().contains("merged"), "{error}");
    // Adapters of methods that act at the model can be swapped too.
    let saved = tempfile::tempdir().unwrap();
    let source = get_peft_model(base(), PromptTuningConfig::new(2)).unwrap();
    source.save_pretrained(saved.path()).unwrap();
    prompt.hotswap_adapter(saved.path(), "default").unwrap();
    assert!(largest(prompt.forward(input(2)), source.forward(input(2))) < 1e-6);
}

#[test]
fn a_combination_in_the_model_is_the_sum_of_its_adapters() {
    let mut model = two();
    model.delete_adapter("default").unwrap();
    model
        .add_adapter("c", Arc::new(lora(3, &["c_attn", "wte"])))
        .unwrap();
    // Two active adapters with weight 1 equal the result of `cat`, and that of `svd` with the full
    // rank.
    model.set_adapter(&["b", "c"]).unwrap();
    let expected = model.forward(input(3));
    for kind in [CombinationType::Cat, CombinationType::Svd] {
        let name = kind.to_string();
        let combination = Combination {
            svd_rank: (kind == CombinationType::Svd).then_some(5),
            ..Combination::new(kind)
        };
        let adapters = [("b", 1.0), ("c", 1.0)];
        model
            .add_weighted_adapter(&adapters, &name, &combination)
            .unwrap();
        model.set_adapter(&[&name]).unwrap();
        assert!(
            largest(model.forward(input(3)), expected.clone()) < 1e-3,
            "{name}"
        );
    }
    let error = model.add_weighted_adapter(
        &[("b", 1.0), ("d", 1.0)],
        "e",
        &Combination::new(CombinationType::Cat),
    );
    assert!(error.unwrap_err().to_string().contains("`d`"));
    assert!(!model.peft_config().contains_key("e"));
}

#[test]
fn a_conversion_is_the_nearest_of_its_rank() {
    let case = fixtures().join("conformance/cases/gpt2_lora");
    let model = PeftModel::from_pretrained(base(), &case, false).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let full = model.convert_to_lora("default", 8).unwrap();
    assert!(full.error < 1e-3, "{}", full.error);
    files::write_adapter(folder.path(), &full.config, full.tensors).unwrap();
    let converted = PeftModel::from_pretrained(base(), folder.path(), false).unwrap();
    let (a, b) = (logits(&model, &case), logits(&converted, &case));
    let change = a
        .iter()
        .zip(&b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(change < 1e-3, "{change}");

    // The error is the share of the change that is missing. It is measured on the weights.
    let narrow = model.convert_to_lora("default", 1).unwrap();
    let path = &narrow.layers[0].0;
    let tensor = |name: &str| {
        let key = format!("base_model.model.{path}.{name}.weight");
        let found = narrow.tensors.iter().find(|(other, _)| *other == key);
        Tensor::<2>::from_data(found.unwrap().1.clone(), &device())
    };
    let near = tensor("lora_B").matmul(tensor("lora_A")).transpose();
    let mut merged = model.clone();
    merged.merge_adapter(true).unwrap();
    let weight = |model: &PeftModel<GPT2LMHeadModel>| {
        let layer = &model.transformer.h[0].attn.c_attn;
        layer.active_weight()
    };
    let change = weight(&merged) - weight(&model);
    let norm = |tensor: Tensor<2>| tensor.square().sum().sqrt().into_scalar::<f64>();
    let share = norm(change.clone() - near) / norm(change);
    assert!(path.ends_with("h.0.attn.c_attn"), "{path}");
    assert!((share - narrow.layers[0].1).abs() < 1e-3 && share > 0.1);

    let error = |r: usize| model.convert_to_lora("default", r).unwrap_err().to_string();
    assert!(error(0).contains("r = 0"));
    assert!(error(65).contains("64 singular values"), "{}", error(65));
    let prompt = get_peft_model(base(), PromptTuningConfig::new(2)).unwrap();
    let message = prompt.convert_to_lora("default", 2).unwrap_err();
    assert!(
        message.to_string().contains("changes no weight"),
        "{message}"
    );
}

/// The reported error is that of the weights, for any method.
#[test]
fn other_methods_are_converted_too() {
    let weights = |model: &PeftModel<linear_methods::Net>| {
        let all = [model.fc1.active_weight(), model.fc2.active_weight()];
        Tensor::cat(all.map(|weight| weight.flatten::<1>(0, 1)).to_vec(), 0)
    };
    for (method, exact) in [
        ("loha", false),
        ("lokr", false),
        ("hira", true),
        ("oft", false),
    ] {
        let case = fixtures().join("linear").join(method);
        let mut model = PeftModel::from_pretrained(linear_methods::net(), &case, false).unwrap();
        let r = if exact { 8 } else { 3 };
        let conversion = model.convert_to_lora("default", r).unwrap();
        let folder = tempfile::tempdir().unwrap();
        files::write_adapter(folder.path(), &conversion.config, conversion.tensors).unwrap();
        let net = linear_methods::net();
        let mut converted = PeftModel::from_pretrained(net, folder.path(), false).unwrap();
        let before = weights(&model);
        model.merge_adapter(true).unwrap();
        converted.merge_adapter(true).unwrap();
        let norm = |tensor: Tensor<1>| tensor.square().sum().sqrt().into_scalar::<f64>();
        let lost = norm(weights(&model) - weights(&converted));
        let share = lost / norm(weights(&model) - before);
        let told = conversion.error;
        assert!((share - told).abs() < 1e-4, "{method}: {share} and {told}");
        assert!(share < 1.0, "{method}: {share}");
    }
    // IA3 scales biases too.
    let case = fixtures().join("linear/ia3");
    let model = PeftModel::from_pretrained(linear_methods::net(), &case, false).unwrap();
    let error = model.convert_to_lora("default", 2).unwrap_err().to_string();
    assert!(error.contains("IA3") && error.contains("bias"), "{error}");
}

/// PEFT's mixed model (`fixtures/mixed`), in which a later adapter acts on the output of the
/// earlier ones.
#[test]
fn adapters_of_different_methods_act_together() {
    let folder = fixtures().join("mixed");
    let net = linear_methods::net();
    let mut model = PeftModel::from_pretrained(net, folder.join("lora"), false).unwrap();
    for method in ["loha", "lokr", "oft"] {
        let case = fixtures().join("linear").join(method);
        model.load_adapter(case, method, false).unwrap();
    }
    let expected = tensor_file::read_tensors(&folder.join("expected.safetensors")).unwrap();
    assert_eq!(expected.len(), 5);
    let (x, _) = linear_methods::inputs();
    for (names, expected) in expected {
        let active = names.split('+');
        let active = active.map(|name| if name == "lora" { "default" } else { name });
        model.set_adapter(&active.collect::<Vec<_>>()).unwrap();
        let expected = Tensor::<2>::from_data(expected, &device());
        let found = model.forward(x.clone());
        assert!(largest(found, expected.clone()) < 1e-4, "{names}");
        model.merge_adapter(true).unwrap();
        assert!(
            largest(model.forward(x.clone()), expected) < 1e-4,
            "{names} merged"
        );
    }
}

/// If an error occurs inside, the adapters are switched on again.
#[test]
fn disabling_ends_with_its_scope() {
    let model = two();
    let with = model.forward(input(2));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        model.disable_adapter(|_| panic!("inside"));
    }));
    assert!(panicked.is_err());
    assert_eq!(model.forward(input(2)).to_data(), with.to_data());
    let without = model.disable_adapter(|model| model.forward(input(2)));
    assert_eq!(without.to_data(), base().forward(input(2)).to_data());
}

/// Training one adapter leaves the others as they are.
#[test]
fn requires_grad_is_set_by_adapter() {
    let mut model = two();
    let trained = |model: &PeftModel<GPT2LMHeadModel>| {
        let all = model.named_parameters().into_iter();
        all.filter(|p| p.requires_grad)
            .map(|p| p.numel())
            .sum::<usize>()
    };
    let first = trained(&model);
    model.set_requires_grad("b", true);
    let both = trained(&model);
    model.set_requires_grad("default", false);
    assert_eq!(trained(&model), both - first);
    model.set_adapter(&["default", "b"]).unwrap();
    assert_eq!(trained(&model), both);
    assert_eq!(model.train().get_nb_trainable_parameters().0, both);
}

/// Two adapters trained with the command are compared, combined, converted, and used for different
/// rows.
#[test]
fn the_commands_take_several() {
    let lab = Lab::new();
    for (name, seed) in [("a", "1"), ("b", "2")] {
        let dir = format!("training.output_dir={name}");
        let seed = format!("training.seed={seed}");
        lab.ok(&["train", "train.toml", "--set", &dir, "--set", &seed]);
    }
    let both = ["--model", "model", "--adapter", "a", "--adapter", "b"];
    let call =
        |command: &'static str, more: &[&'static str]| [&[command], &both[..], more].concat();

    let table = lab.ok(&call("eval", &["--data", "train.jsonl"]));
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|l| l.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["adapter", "loss", "perplexity", "tokens"]);
    let names: Vec<&str> = lines[1..].iter().map(|line| line[0]).collect();
    assert_eq!(names, ["a", "b", "base"]);
    let json = lab.ok_json(&call("eval", &["--data", "train.jsonl", "--json"]));
    for (index, name) in ["a", "b"].into_iter().enumerate() {
        let alone = [
            "eval",
            "--model",
            "model",
            "--adapter",
            name,
            "--data",
            "train.jsonl",
            "--json",
        ];
        let alone = lab.ok_json(&alone);
        assert_eq!(json["adapters"][index]["loss"], alone["loss"]);
        assert_eq!(json["adapters"][index]["adapter"], name);
        let loss = format!("{:.4}", alone["loss"].as_f64().unwrap());
        assert_eq!(lines[index + 1][..2], [name, &loss]);
    }

    let texts = lab.ok_json(&call("generate", &["--prompt", "the cat", "--json"]));
    let shown = lab.ok(&call("generate", &["--prompt", "the cat"]));
    for (index, name) in ["a", "b"].into_iter().enumerate() {
        let alone = [
            "generate",
            "--model",
            "model",
            "--adapter",
            name,
            "--prompt",
            "the cat",
            "--json",
        ];
        assert_eq!(texts[index]["text"], lab.ok_json(&alone)["text"]);
        let first = texts[index]["text"].as_str().unwrap().lines().next();
        let line = format!("{name}  {}", first.unwrap_or_default());
        assert!(shown.contains(line.trim_end()), "{line} is not in {shown}");
    }

    // `cat` of the same adapter with the weights 1 and -1 gives the base.
    let combine = |more: &[&str]| {
        let args = [&["combine", "--adapter", "a:1", "--adapter", "a:-1"], more].concat();
        lab.peft(&args)
    };
    let nothing = combine(&["--method", "cat", "--output", "nothing"]);
    assert!(
        nothing
            .out
            .starts_with("cat of 2 adapters: rank 8, 2 layers"),
        "{nothing:?}"
    );
    let on_model = ["--model", "model"];
    let loss = |adapter: &[&str]| lab.loss("train.jsonl", &[&on_model, adapter].concat());
    let (plain, combined) = (loss(&[]), loss(&["--adapter", "nothing"]));
    assert!((plain - combined).abs() < 1e-6);
    assert_eq!(
        lab.names("nothing"),
        ["adapter_config.json", "adapter_model.safetensors"]
    );
    combine(&["--method", "ties", "--output", "new"]).failed(&["ties needs a density"]);
    combine(&["--method", "cat", "--output", "nothing"]).failed(&["nothing is not empty"]);
    combine(&["--method", "cat", "--output", "a", "--force"]).failed(&["another --output"]);
    let usage = combine(&["--method", "tie", "--output", "new"]);
    assert!(
        usage.code == Some(2) && usage.err.contains("dare_ties_svd"),
        "{usage:?}"
    );
    assert_eq!(lab.names("new"), Vec::<String>::new());
    let ties = [
        "combine",
        "--adapter",
        "a:0.7",
        "--adapter",
        "b:0.3",
        "--method",
        "ties",
    ];
    lab.ok(&[&ties[..], &["--density", "0.2", "--output", "ties"]].concat());
    assert!(loss(&["--adapter", "ties"]).is_finite());

    let convert = |rank: &str, output: &str| {
        let args = [
            "convert",
            "--model",
            "model",
            "--adapter",
            "a",
            "--output",
            output,
            "--rank",
            rank,
        ];
        lab.peft(&args)
    };
    let exact = convert("4", "converted");
    assert!(
        exact
            .out
            .contains("rank 4 for 2 layers: 0.00 % of the changes are lost"),
        "{exact:?}"
    );
    let (a, b) = (loss(&["--adapter", "a"]), loss(&["--adapter", "converted"]));
    assert!((a - b).abs() < 1e-4);
    convert("17", "none").failed(&["r = 17", "16 singular values"]);

    // The rows of a batch use different adapters.
    lab.write_integers(
        "in.safetensors",
        &[("input_ids", &[3, 2], &[5, 6, 5, 6, 5, 6])],
    );
    let files = ["--input", "in.safetensors", "--output", "out.safetensors"];
    let names = ["--adapter-names", "b,__base__,a"];
    lab.ok(&[&call("forward", &names)[..], &files].concat());
    let (shape, rows) = lab.floats("out.safetensors", "logits");
    for (row, adapter) in [Some("b"), None, Some("a")].into_iter().enumerate() {
        let mut args = vec!["forward", "--model", "model"];
        args.extend(adapter.into_iter().flat_map(|name| ["--adapter", name]));
        args.extend(files);
        lab.ok(&args);
        let (_, alone) = lab.floats("out.safetensors", "logits");
        let range = row * shape[1] * shape[2]..(row + 1) * shape[1] * shape[2];
        let difference = crate::common::largest_difference(&alone[range.clone()], &rows[range]);
        assert!(difference < 1e-4, "row {row}: {difference}");
    }
    lab.fails(
        &[&call("forward", &[])[..], &files].concat(),
        &["--adapter-names"],
    );
    let wrong = ["--adapter-names", "b,c,a"];
    lab.fails(&[&call("forward", &wrong)[..], &files].concat(), &["\"c\""]);
}
