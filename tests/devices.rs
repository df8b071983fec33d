//! `--device` and `peft devices`.

use serde_json::Value;

use crate::common::{Answer, Lab, PEFT};

#[test]
fn the_devices_are_listed_with_what_this_build_lacks() {
    let lab = Lab::new();
    let listed: Value = serde_json::from_str(&lab.ok(&["devices", "--json"])).unwrap();
    let cpu = &listed["devices"][0];
    assert_eq!(cpu["device"], "cpu");
    assert!(
        cpu["memory"].as_u64().is_none_or(|bytes| bytes > 1 << 28),
        "{cpu}"
    );
    assert_eq!(cpu["dtypes"][0], "float32");
    let table = lab.ok(&["devices"]);
    for missing in listed["not_in_this_build"].as_array().unwrap() {
        let line = format!("--features {}", missing.as_str().unwrap());
        assert!(table.contains(&line), "{table}");
    }
}

#[test]
fn with_plain_kernels_nothing_is_computed_in_eight_bits() {
    let lab = Lab::new();
    let plain = |args: &[&str]| -> Answer {
        let mut command = lab.command(PEFT);
        command.env("BURN_PEFT_KERNELS", "plain");
        command.arg("devices").args(args).output().unwrap().into()
    };
    let listed: Value = serde_json::from_str(&plain(&["--json"]).out).unwrap();
    assert_eq!(listed["int8_compute"], Value::Null);
    let text = plain(&[]).out;
    let said = "int8_compute on cpu: none: the plain kernels multiply in 32 bits";
    assert!(text.contains(said), "{text}");
}

#[test]
fn a_device_that_is_not_there_is_an_error_with_the_way_out() {
    let lab = Lab::new();
    for (device, code, parts) in [
        ("gpu", 2, ["\"gpu\"", "wgpu"]),
        ("cpu:3", 2, ["\"cpu:3\"", "cuda:1"]),
        ("cuda:7", 1, ["cuda", "cuda:7"]),
        ("webgpu", 1, ["webgpu", "--device webgpu"]),
    ] {
        let answer = lab.peft(&["inspect", "--model", "model", "--device", device]);
        assert_eq!(answer.code, Some(code), "{answer:?}");
        for part in parts {
            assert!(answer.err.contains(part), "{answer:?}");
        }
    }
    // The CPU is always there.
    lab.ok(&["inspect", "--model", "model", "--device", "auto"]);
}

/// WGSL has no bfloat16.
#[cfg(feature = "wgpu")]
#[test]
fn a_type_that_a_device_cannot_compute_in_is_an_error() {
    let lab = Lab::new();
    let listed = lab.ok(&["devices"]);
    if !listed.contains("wgpu:cpu") {
        eprintln!("skipped: no software device");
        return;
    }
    let answer = lab.peft(&[
        "train",
        "train.toml",
        "--device",
        "wgpu:cpu",
        "--set",
        "training.bf16=true",
    ]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    for part in [
        "training.bf16 = true",
        "bfloat16",
        "float32",
        "peft devices",
    ] {
        assert!(answer.err.contains(part), "{answer:?}");
    }
    assert!(!lab.path("out").exists(), "nothing was begun");
}

/// The values of all tensors of a file, by name.
#[cfg(feature = "wgpu")]
fn all_values(lab: &Lab, file: &str) -> Vec<f32> {
    let bytes = lab.read(file);
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<_> = tensors.names().into_iter().collect();
    names.sort();
    let values = names.into_iter().map(|name| lab.floats(file, name).1);
    values.flatten().collect()
}

/// A run (AdamW with clipping, parameter groups and checkpoints) makes the same steps on a GPU as
/// on the CPU, and a run that began on one of them can be resumed on the other.
#[cfg(feature = "wgpu")]
#[test]
fn a_run_is_the_same_on_a_gpu_and_goes_from_one_device_to_another() {
    let lab = Lab::new();
    let listed = lab.ok(&["devices"]);
    let Some(gpu) = ["wgpu:cpu", "wgpu"]
        .into_iter()
        .find(|name| listed.contains(name))
    else {
        eprintln!("skipped: there is no device but the CPU");
        return;
    };
    let settings = [
        "training.max_steps=4",
        "training.save_steps=2",
        "training.weight_decay=0.1",
        "training.loraplus_lr_ratio=4",
        "training.max_grad_norm=0.05",
        "training.gradient_accumulation_steps=2",
    ];
    let run = |device: &str, output: &str, resume: Option<&str>| {
        let output = format!("training.output_dir={output}");
        let mut args = vec!["train", "train.toml", "--device", device, "--set", &output];
        for setting in &settings {
            args.extend(["--set", setting]);
        }
        args.extend(resume.iter().flat_map(|from| ["--resume", from]));
        let mut command = lab.command(crate::common::PEFT);
        // A software device needs half a second to compile a kernel, so only a few of each kind are
        // tried.
        command.env("CUBECL_AUTOTUNE_LEVEL", "minimal").args(args);
        let answer: crate::common::Answer = command.output().unwrap().into();
        assert_eq!(answer.code, Some(0), "{answer:?}");
    };
    let near = |found: &str, expected: &str| {
        let file = |dir: &str| format!("{dir}/adapter_model.safetensors");
        let (found, expected) = (
            all_values(&lab, &file(found)),
            all_values(&lab, &file(expected)),
        );
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            // AdamW divides a gradient by its own magnitude, so a gradient near zero makes a step
            // whose direction is rounding.
            assert!((found - expected).abs() < 5e-4, "{found} {expected}");
        }
    };
    run("cpu", "cpu", None);
    run(gpu, "gpu", None);
    near("gpu/checkpoint-2", "cpu/checkpoint-2");
    near("gpu", "cpu");
    let lengths =
        ["cpu", "gpu"].map(|dir| lab.read(&format!("{dir}/checkpoint-4/optimizer.bpk")).len());
    assert_eq!(lengths[0], lengths[1], "the same names, shapes and numbers");

    run("cpu", "gpu-cpu", Some("gpu/checkpoint-2"));
    near("gpu-cpu", "cpu");
    run(gpu, "cpu-gpu", Some("cpu/checkpoint-2"));
    near("cpu-gpu", "cpu");
    // Not to the last bit: two whole runs on Mesa's software device differ by up to 1.2e-4.
    run(gpu, "gpu-gpu", Some("gpu/checkpoint-2"));
    near("gpu-gpu", "gpu");
}
