//! `peft export`.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{FloatDType, Int, Tensor, TensorData};
use burn_peft::PeftModel;
use burn_peft_models::gguf::{GgufModel, OutType};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::weights::{self, MergedWeights, Weights};
use burn_peft_models::{AutoModel, CausalLm, ModelInput, Pretrained};

use crate::common::{Lab, device, largest_difference, tree};
use crate::conformance::{all_cases, base_files, fixtures};
use crate::gguf::as_in_llama_cpp;

fn lazily(files: &ModelFiles) -> AutoModel {
    AutoModel::from_files_lazily(files, &device(), None).unwrap()
}

/// Writes the file, and returns what llama.cpp will compute differently.
fn write(weights: &MergedWeights, path: &Path, of: OutType) -> Result<Vec<String>, String> {
    let config = &weights.config();
    let keys = Vec::new();
    let model = GgufModel {
        config,
        weights,
        keys,
    };
    let written = model.write(path, path, of, &mut |_| ());
    let notes = written.map(|contents| contents.notes);
    notes.map_err(|error| error.to_string())
}

fn logits(files: &ModelFiles) -> Vec<f32> {
    let model = AutoModel::from_files(files, &device()).unwrap();
    let ids: Vec<i64> = (0..24).map(|at| 3 + (at * 29 + 7) % 90).collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [2, 12]), &device());
    let logits = model.forward(ModelInput::new(ids)).into_data();
    logits.try_to_vec().unwrap()
}

/// A model of every family is unchanged when it is read back from its file.
#[test]
fn families_are_read_back() {
    let bases = fs::read_dir(fixtures().join("families/base")).unwrap();
    let mut names: Vec<String> = bases
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut read = Vec::new();
    for name in names {
        let made_of = tempfile::tempdir().unwrap();
        as_in_llama_cpp(&name, made_of.path());
        let files = ModelFiles::folder(made_of.path());
        let Ok(model) = AutoModel::from_files_lazily(&files, &device(), None) else {
            continue;
        };
        let merged = MergedWeights::plain(weights::open(&files).unwrap(), model).unwrap();
        let path = made_of.path().join("model.gguf");
        let written = write(&merged, &path, OutType::of(FloatDType::F32));
        let notes = match written {
            Ok(notes) => notes,
            Err(error) => {
                // A key or a tensor, by its name.
                let named = [" = ", "tensor "].iter().any(|sign| error.contains(sign));
                assert!(named, "{name}: {error}");
                assert!(!path.exists(), "{name}");
                println!("{name}: {error}");
                continue;
            }
        };
        let again = ModelFiles::gguf(&path).unwrap();
        let found = weights::open(&again).unwrap();
        for weight in found.names() {
            let values = |weights: &dyn Weights| -> Vec<f32> {
                let data = weights
                    .tensor(weight)
                    .unwrap_or_else(|e| panic!("{name}: {e}"));
                data.try_to_vec().unwrap()
            };
            let off = largest_difference(&values(found.as_ref()), &values(&merged));
            // In some norms, one is added to the weights and subtracted again.
            assert!(off < 1e-6, "{name}: {weight}: {off}");
        }
        let off = largest_difference(&logits(&files), &logits(&again));
        assert!(off < 1e-5 || !notes.is_empty(), "{name}: {off}");
        read.push(name);
    }
    for (name, _) in crate::gguf::models() {
        assert!(name == "gpt2" || read.contains(&name), "{name}: {read:?}");
    }
}

/// Weights that are merged one by one equal those of a merged model.
#[test]
fn weights_are_those_of_the_merged_model() {
    let mut merged = 0;
    for case in all_cases() {
        let files = base_files(&case);
        let load = || PeftModel::from_pretrained(lazily(&files), &case, false).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let streamed = folder.path().join("streamed");
        let open = || weights::open(&files).unwrap();
        let found = MergedWeights::new(open(), &load())
            .and_then(|weights| weights.save(&streamed, FloatDType::F32));
        let expected = load().merge_and_unload(true);
        let (found, expected) = match (found, expected) {
            (Ok(()), Ok(expected)) => {
                let whole = folder.path().join("whole");
                expected.save_pretrained(&whole).unwrap();
                (streamed, whole)
            }
            (Err(found), Err(expected)) => {
                assert_eq!(found.to_string(), expected.to_string());
                assert_eq!(tree(folder.path()), Vec::<String>::new());
                continue;
            }
            (found, expected) => panic!(
                "{}: {:?}, and merged at once {:?}",
                case.display(),
                found.err(),
                expected.err().map(|error| error.to_string())
            ),
        };
        for file in ["config.json", "model.safetensors"] {
            let read = |folder: &PathBuf| fs::read(folder.join(file)).unwrap();
            let same = read(&found) == read(&expected);
            assert!(same, "{}: {file}", case.display());
        }
        merged += 1;
    }
    assert!(merged > 30, "{merged}");
}

fn lab() -> Lab {
    let lab = Lab::with_adapter();
    let rows: [i64; 10] = [5, 260, 7, 100, 9, 1, 2, 3, 4, 6];
    lab.write_integers("in.safetensors", &[("input_ids", &[2, 5], &rows)]);
    lab
}

fn forward(lab: &Lab, model: &str) -> Vec<f32> {
    lab.logits(&["--model", model]).1
}

#[test]
fn a_file_and_a_folder_are_the_merged_model() {
    let lab = lab();
    let with = ["--model", "model", "--adapter", "out"];
    lab.ok(&[&["merge", "--output", "merged"], &with[..]].concat());
    let expected = forward(&lab, "merged");
    let said = lab.ok(&[&["export", "--output", "new/a.gguf"], &with[..]].concat());
    let lines: Vec<&str> = said.lines().collect();
    let line = |start: &str| lines.iter().find(|line| line.starts_with(start)).unwrap();
    assert_eq!(
        lines[0],
        "proof: the file, read back, compared with the model"
    );
    assert!(
        line("  tokenizer ").ends_with("200 of 200 texts have the same tokens"),
        "{said}"
    );
    assert!(
        line("  logits ").contains("the same first choice at 100.0 %"),
        "{said}"
    );
    assert!(line("new/a.gguf (").contains(" tensors in F32, "), "{said}");
    assert_eq!(lab.names("new"), ["Modelfile", "a.gguf"]);
    assert!(largest_difference(&forward(&lab, "new/a.gguf"), &expected) < 1e-5);

    // From file to file, in a smaller type, and back to a folder.
    let smaller = ["export", "--model", "new/a.gguf", "--output", "b.gguf"];
    let said = lab.ok(&[&smaller[..], &["--outtype", "f16"]].concat());
    assert!(said.contains(" in F16"), "{said}");
    assert!(largest_difference(&forward(&lab, "b.gguf"), &expected) < 1e-2);
    let folder = ["--to", "safetensors", "--output", "folder"];
    lab.ok(&[&["export", "--model", "new/a.gguf"], &folder[..]].concat());
    assert!(largest_difference(&forward(&lab, "folder"), &expected) < 1e-5);
    let names = lab.names("folder");
    assert!(names.contains(&"tokenizer.json".to_string()), "{names:?}");
    let folder = ["--to", "safetensors", "--output", "merged-again"];
    lab.ok(&[&["export"], &with[..], &folder[..]].concat());
    assert_eq!(
        lab.read("merged-again/model.safetensors"),
        lab.read("merged/model.safetensors")
    );
}

/// Tensors that already have the requested type are copied bit for bit.
#[test]
fn blocks_stay_as_they_are() {
    let made_of = tempfile::tempdir().unwrap();
    as_in_llama_cpp("llama_tied", made_of.path());
    let path = |name: &str| made_of.path().join(name);
    let export = |from: &ModelFiles, to: &str, of: &str| {
        let weights = MergedWeights::plain(weights::open(from).unwrap(), lazily(from));
        write(&weights.unwrap(), &path(to), of.parse().unwrap()).unwrap();
        fs::read(path(to)).unwrap()
    };
    for of in ["q4_0", "q5_1", "q8_0", "bf16", "f32"] {
        let first = export(&ModelFiles::folder(made_of.path()), "first.gguf", of);
        let again = ModelFiles::gguf(path("first.gguf")).unwrap();
        assert!(export(&again, "second.gguf", of) == first, "{of}");
    }
}

#[test]
fn a_file_that_is_another_model_is_not_kept() {
    let lab = lab();
    // The token embeddings are so small that float16 rounds them to zero, and the last norm is so
    // large that the model is certain all the same.
    let path = lab.path("model/model.safetensors");
    let mut tensors = burn_peft::tensor_file::read_tensors(&path).unwrap();
    for (name, tensor) in &mut tensors {
        let factor = match name.rsplit_once("wte.").or(name.rsplit_once("ln_f.")) {
            Some((_, "weight")) if name.contains("wte") => 1e-9,
            Some((_, "weight")) => 1e12,
            _ => continue,
        };
        let values: Vec<f32> = tensor.iter::<f32>().map(|value| factor * value).collect();
        *tensor = TensorData::new(values, tensor.shape().clone());
    }
    burn_peft::tensor_file::write_tensors(&path, tensors.into_iter().collect()).unwrap();
    let before = tree(&lab.path(""));
    let export = [
        "export",
        "--model",
        "model",
        "--output",
        "a.gguf",
        "--outtype",
    ];
    let named = ["not the model that was trained", "--outtype"];
    let answer = lab.peft(&[&export[..], &["f16"]].concat());
    answer.failed(&named);
    assert_eq!(tree(&lab.path("")), before);
    lab.ok(&[&export[..], &["f32"]].concat());
    // The proof can be skipped, and the output says so.
    let said = lab.ok(&[&export[..], &["f16", "--force", "--no-proof"]].concat());
    assert!(said.starts_with("no proof: "), "{said}");
}

#[test]
fn a_modelfile_stays_unless_it_is_to_be_replaced() {
    let lab = lab();
    let config = "model/tokenizer_config.json";
    let template = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    lab.write(config, format!("{{\"chat_template\": \"{template}\"}}"));
    lab.write(
        "model/generation_config.json",
        "{\"temperature\": 0.6, \"top_p\": 0.95}",
    );
    let export = ["export", "--model", "model", "--output", "a.gguf"];
    let said = lab.ok(&export);
    assert!(
        said.contains("chat template  the same text of 5 chats"),
        "{said}"
    );
    let text = lab.text("Modelfile");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "FROM ./a.gguf");
    assert!(
        lines[1].starts_with("TEMPLATE \"\"\"{{- range $i, $_ := .Messages }}"),
        "{text}"
    );
    for line in [
        "PARAMETER stop \"<|im_end|>\"",
        "PARAMETER temperature 0.6",
        "PARAMETER top_p 0.95",
    ] {
        assert!(lines.contains(&line), "{text}");
    }
    lab.write("Modelfile", "FROM mine\n");
    let again = |more: &[&str]| {
        lab.ok(&[&["export", "--model", "a.gguf", "--output", "b.gguf"], more].concat())
    };
    let said = again(&[]);
    assert!(
        said.contains("Modelfile already exists and is kept"),
        "{said}"
    );
    assert_eq!(lab.read("Modelfile"), b"FROM mine\n");
    again(&["--force"]);
    let text = lab.text("Modelfile");
    assert!(text.starts_with("FROM ./b.gguf\nTEMPLATE"), "{text}");
    // A file with an adapter belongs beside the model's file.
    let lora = ["--output", "new/l.gguf", "--adapter", "out", "--lora"];
    let said = lab.ok(&[&["export", "--model", "a.gguf"], &lora[..]].concat());
    assert!(said.contains("KL divergence"), "{said}");
    let text = lab.text("new/Modelfile");
    assert!(
        text.contains("\nADAPTER ./l.gguf\n") && text.starts_with("FROM /"),
        "{text}"
    );
    // Unknown formats are not guessed.
    lab.write(
        config,
        "{\"chat_template\": \"{% for m in messages %}{{ m.content }}{% endfor %}\"}",
    );
    let said = lab.ok(&["export", "--model", "model", "--output", "other/a.gguf"]);
    assert!(
        said.contains("no Modelfile for Ollama: the chat template is not one of"),
        "{said}"
    );
    assert_eq!(lab.names("other"), ["a.gguf"]);
}

#[test]
fn nothing_is_lost_and_nothing_half_written() {
    let lab = lab();
    let export = ["export", "--model", "model", "--output"];
    let fails = |more: &[&str], named: &[&str]| {
        let before = tree(&lab.path(""));
        lab.fails(&[&export[..], more].concat(), named);
        assert_eq!(tree(&lab.path("")), before);
    };
    lab.ok(&[&export[..], &["a.gguf"]].concat());
    fails(&["a.gguf"], &["a.gguf already exists", "--force"]);
    lab.ok(&[&export[..], &["a.gguf", "--force"]].concat());
    fails(&["a.bin"], &["does not end in .gguf"]);
    fails(&[".gguf"], &[".gguf is not a name"]);
    lab.ok(&[&export[..], &["X.GGUF", "--outtype", "Q8_0"]].concat());
    fails(&["out"], &["out is a folder", "--to safetensors"]);
    lab.write("model/b.gguf", "");
    fails(&["model/b.gguf"], &["model/b.gguf already exists"]);
    fails(
        &["model", "--to", "safetensors", "--force"],
        &["model is the input itself"],
    );
    lab.ok(&[&export[..], &["model/b.gguf", "--force"]].concat());
    let unknown = lab.peft(&[&export[..], &["b.gguf", "--outtype", "q3_k"]].concat());
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.err.contains("q4_k_m, q6_k"), "{unknown:?}");
    fails(&["b.gguf", "--lora"], &["--lora", "one --adapter"]);
    let lora = ["--lora", "--adapter", "out", "--outtype", "q4_0"];
    fails(
        &[&["b.gguf"], &lora[..]].concat(),
        &["out", "q8_0", "not in q4_0"],
    );
    fails(
        &["c", "--to", "safetensors", "--outtype", "q8_0"],
        &["q8_0", "bf16"],
    );
    let itself = [
        "export", "--model", "a.gguf", "--output", "a.gguf", "--force",
    ];
    let before = lab.read("a.gguf");
    lab.fails(&itself, &["a.gguf is the input itself"]);
    assert_eq!(lab.read("a.gguf"), before);
    lab.ok(&[&export[..], &["l.gguf", "--adapter", "out", "--lora"]].concat());
    let config = "out/adapter_config.json";
    let mut adapter = lab.json(config);
    adapter["lora_alpha"] = 0.into();
    lab.write(config, adapter.to_string());
    fails(
        &["b.gguf", "--lora", "--adapter", "out"],
        &["lora_alpha = 0: "],
    );
    // The file is not a model.
    let forward = [
        "forward",
        "--input",
        "in.safetensors",
        "--output",
        "o.safetensors",
    ];
    lab.fails(
        &[&forward[..], &["--model", "l.gguf"]].concat(),
        &["l.gguf"],
    );
}
