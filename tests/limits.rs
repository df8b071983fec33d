//! GPT-2's shapes on a device with the limits that every WebGPU device has: 128 MiB per binding and
//! 65,535 workgroups per dimension. These tests need a build with `wgpu` and a Vulkan driver (such
//! as lavapipe).

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::wgpu::{WgpuSetup, wgpu};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use burn_peft::get_peft_model;
use burn_peft::methods::IA3Config;
use burn_peft_device::max_tensor_bytes;
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::weights::{SaveOptions, initial_weights, load_weights, save_model};
use burn_peft_models::{
    CausalLm, Decoder, GPT2LMHeadModel, Gpt2Config, KvCache, LmBatch, ModelConfig, Pretrained,
};
use serde_json::json;

use crate::common::largest_difference;
use crate::conformance::without_dropout;
use crate::steps::all;

/// Outside of browsers, these futures are ready at once.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

/// `None` if no driver is installed.
fn device_with_default_limits() -> Option<Device> {
    let backend = wgpu::Backend::Vulkan;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: backend.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    let adapter = wait(instance.enumerate_adapters(backend.into()))
        .into_iter()
        .next()?;
    let of_adapter = adapter.limits();
    let mappable = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;
    let descriptor = wgpu::DeviceDescriptor {
        required_features: adapter.features().difference(mappable),
        required_limits: wgpu::Limits {
            // CubeCL sizes workgroups by the limits of the adapter, not by those of the device.
            max_compute_invocations_per_workgroup: of_adapter.max_compute_invocations_per_workgroup,
            max_compute_workgroup_size_x: of_adapter.max_compute_workgroup_size_x,
            max_compute_workgroup_size_y: of_adapter.max_compute_workgroup_size_y,
            max_compute_workgroup_size_z: of_adapter.max_compute_workgroup_size_z,
            ..wgpu::Limits::default()
        },
        // SAFETY: shaders are checked as on any device. CubeCL asks for the same features.
        experimental_features: unsafe { wgpu::ExperimentalFeatures::enabled() },
        ..Default::default()
    };
    let (device, queue) = wait(adapter.request_device(&descriptor)).unwrap();
    let setup = WgpuSetup {
        instance,
        adapter,
        device,
        queue,
        backend,
    };
    Some(Device::wgpu_options().setup(setup).init().unwrap())
}

fn config(vocab_size: usize) -> Gpt2Config {
    let config = json!({
        "model_type": "gpt2", "vocab_size": vocab_size, "n_positions": 64,
        "n_embd": 768, "n_head": 12, "n_layer": 1,
    });
    Gpt2Config::from_json(&config.to_string()).unwrap()
}

fn gpt2(vocab_size: usize, device: &Device) -> GPT2LMHeadModel {
    GPT2LMHeadModel::new(&config(vocab_size), device)
}

fn batch(vocab_size: usize, device: &Device) -> LmBatch {
    let ids: Vec<i64> = (0..24).map(|i| i * 1811 % vocab_size as i64).collect();
    LmBatch::new(&ids, &[1; 24], &ids, [2, 12], device).unwrap()
}

fn shape(name: &str, vocab_size: usize) -> Vec<usize> {
    let parts: Vec<&str> = name.rsplit('.').take(3).collect();
    match parts[..] {
        ["weight", "wte", ..] => vec![vocab_size, 768],
        ["weight", "wpe", ..] => vec![64, 768],
        ["weight", "c_attn", _] => vec![768, 2304],
        ["bias", "c_attn", _] => vec![2304],
        ["weight", "c_proj", "attn"] => vec![768, 768],
        ["weight", "c_fc", _] => vec![768, 3072],
        ["bias", "c_fc", _] => vec![3072],
        ["weight", "c_proj", _] => vec![3072, 768],
        _ => vec![768],
    }
}

/// Fixed values, since a seed gives other values on another device.
fn values(shape: &[usize]) -> TensorData {
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|i| (i as f32 * 12.9898).sin() * 0.05)
        .collect();
    TensorData::new(values, shape.to_vec())
}

fn loss(device: &Device) -> f32 {
    // The largest vocabulary whose embedding fits.
    let vocab_size = (128 << 20) / (768 * 4);
    let mut model = gpt2(vocab_size, device);
    let weight = |name: &str| Ok(Some(values(&shape(name, vocab_size))));
    load_weights(&mut model, weight).unwrap();
    let batch = batch(vocab_size, device);
    (model.loss(&batch) / batch.count as f32).into_scalar::<f32>()
}

#[test]
fn what_fits_is_computed_and_what_does_not_is_named() {
    let Some(device) = device_with_default_limits() else {
        eprintln!("skipped: no Vulkan driver");
        return;
    };
    assert_eq!(max_tensor_bytes(&device), Some(128 << 20));

    // GPT-2's own embedding has 154 MB.
    let error = load_weights(&mut gpt2(50257, &device), |_| {
        Ok(Some(values(&[50257, 768])))
    });
    let error = error.unwrap_err().to_string();
    for part in [
        "transformer.wte.weight",
        "154389504",
        "134217728",
        "training.fp16 = true",
        "--dtype float16",
    ] {
        assert!(error.contains(part), "{error}");
    }

    // 131,072 workgroups of 256.
    let ones = Tensor::<2>::ones([8192, 4096], &device);
    let sums = (ones * 2.0).exp().sum_dim(1).into_data();
    let expected = 4096.0 * 2.0f32.exp();
    for sum in sums.iter::<f32>() {
        assert!((sum - expected).abs() < 1e-3 * expected, "{sum}");
    }

    let (found, expected) = (loss(&device), loss(&Device::flex()));
    assert!(
        (found - expected).abs() < 1e-3,
        "{found}, on the CPU {expected}"
    );
}

/// Loss, gradients, and the logits of the next token. The base is frozen in `dtype` if one is
/// given.
fn in_training(files: &ModelFiles, device: &Device, dtype: Option<FloatDType>) -> [Vec<f32>; 3] {
    let model = GPT2LMHeadModel::from_files_lazily(files, device, dtype).unwrap();
    let mut model = get_peft_model(model, IA3Config::default()).unwrap();
    if let Some(dtype) = dtype {
        model.cast_frozen(dtype);
    }
    let model = without_dropout(model.train());
    let batch = batch(50257, device);
    let loss = model.loss(&batch);
    let gradients = GradientsParams::from_grads(loss.backward(), &model);
    let gradients = all(&model, &gradients).into_iter().flatten();
    let gradients = gradients.flat_map(|data| data.try_into_vec::<f32>().unwrap());
    let logits = model
        .valid()
        .forward_cached(batch.input, &mut KvCache::default());
    let values = |data: TensorData| data.try_into_vec().unwrap();
    [
        values(loss.into_data()),
        gradients.collect(),
        values(logits.into_data()),
    ]
}

#[test]
fn the_vocabulary_of_gpt2_fits_in_float16() {
    let device = device_with_default_limits().filter(|device| device.supports_dtype(DType::F16));
    let Some(device) = device else {
        eprintln!("skipped: no Vulkan driver with float16");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let config = config(50257);
    save_model(
        folder.path(),
        &config.to_json(),
        initial_weights(&config, 1),
        &SaveOptions::default(),
    )
    .unwrap();
    let files = ModelFiles::folder(folder.path());
    assert!(GPT2LMHeadModel::from_files_lazily(&files, &device, None).is_err());

    let found = in_training(&files, &device, Some(FloatDType::F16));
    let expected = in_training(&files, &Device::flex(), None);
    for (found, expected) in found.iter().zip(&expected) {
        let largest = expected.iter().fold(0.0f32, |m, value| m.max(value.abs()));
        let off = largest_difference(found, expected);
        println!("{off} of {largest}, {} numbers", found.len());
        assert!(off < largest / 256.0, "{off} of {largest}");
    }
}
