//! `--device` and `peft devices`.

use serde_json::Value;

use crate::common::Lab;

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
    // There is always the CPU.
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
