//! Parameter-efficient fine-tuning for Burn: LoRA and its relatives, in Hugging Face PEFT's
//! file format.
//!
//! - A model holds its adaptable layers in slots, [`LoraAdapter<M>`], and derives [`Adaptable`].
//! - [`get_peft_model`] wraps it with the adapter that a configuration describes
//!   ([`LoraConfig`], [`IA3Config`], or any other [`Method`]); everything else is frozen.
//! - [`PeftModel`] counts, prints, switches, merges, saves and loads adapters.
//!
//! ```text
//! your model                        PeftModel<your model>
//! ├── conv: LoraAdapter<Conv2d>     ├── the model; in each slot that the configuration names,
//! ├── norm: GroupNorm               │   beside the frozen layer: A, B, … of each adapter
//! └── fc: LoraAdapter<Linear>       └── the configuration of each adapter
//!                                       │
//!     adapter_config.json  ←────────────┤ save_pretrained, from_pretrained
//!     adapter_model.safetensors  ←──────┘ (Python's peft reads and writes the same)
//! ```
//!
//! LoRA on a model of your own, with training:
//!
//! ```
//! use burn::module::Module;
//! use burn::nn::{Linear, LinearConfig};
//! use burn::optim::{AdamWConfig, GradientsParams};
//! use burn::tensor::{Device, Tensor};
//! use burn_peft::{Adaptable, LoraAdapter, LoraConfig, PeftModel, get_peft_model};
//!
//! #[derive(Module, Adaptable, Debug)]
//! struct Net {
//!     fc: LoraAdapter<Linear>, // in the place of `Linear`; without an adapter it is one
//! }
//!
//! let device = Device::flex();
//! let base = Net { fc: LoraAdapter::new(LinearConfig::new(4, 2).init(&device)) };
//! let config = LoraConfig::new().with_r(2).with_target_modules(["fc"]);
//! let mut model = get_peft_model(base.clone(), config)?.train();
//! model.print_trainable_parameters(); // trainable params: 12 || all params: 22 || …
//! let mut optimizer = AdamWConfig::new().init();
//! for _ in 0..10 {
//!     let output = model.fc.forward(Tensor::<2>::ones([1, 4], &device).autodiff());
//!     let gradients = (output - 1.0).square().mean().backward();
//!     let gradients = GradientsParams::from_grads(gradients, &model);
//!     model = optimizer.step(0.1, model, gradients);
//! }
//! # let folder = std::env::temp_dir().join(format!("burn-peft-front-{}", std::process::id()));
//! let trained = model.valid();
//! trained.save_pretrained(&folder)?;
//! let merged = PeftModel::from_pretrained(base, &folder, false)?.merge_and_unload(true)?;
//! let input = Tensor::<2>::ones([1, 4], &device);
//! let [trained, merged] = [trained.fc.forward(input.clone()), merged.fc.forward(input)];
//! assert!(merged.all_close(trained, None, Some(1e-3)));
//! # std::fs::remove_dir_all(folder).unwrap();
//! # Ok::<(), burn_peft::PeftError>(())
//! ```
//!
//! A method of your own is one file: see `examples/custom_method.rs` and docs/adding-a-method.md.
//!
//! Where to find what:
//!
//! | folder | what is in it |
//! | --- | --- |
//! | `slot` | a layer with adapters beside it: [`LoraAdapter`], [`Adapter`], [`Slot`] |
//! | `layers` | the kinds of layers, a file for each: [`BaseLayer`] |
//! | `method` | the interface of a method: [`Method`], [`LayerMethod`], and traits that only a few methods have |
//! | `methods` | the methods, a file for each (three have a folder), and the registry; `shared` has what several use |
//! | `model` | [`PeftModel`]: attaching, switching, merging, saving, loading, tying, steps |
//! | `nn` | Burn's attention and encoder, with slots in them |
//! | `config` | the keys that methods share, how `adapter_config.json` is read and written |
//! | `target` | which layers names and patterns choose |
//! | `files` | PEFT's folders, safetensors files, the keys of a state dict |
//! | `combine` | several adapters as one |
//! | `maths` | decompositions, and PyTorch's random numbers |

extern crate self as burn_peft;

mod adaptable;
pub mod combine;
pub mod config;
mod error;
pub mod files;
mod layers;
mod maths;
mod method;
pub mod methods;
mod model;
pub mod nn;
mod slot;
pub mod target;
mod tree;

pub use adaptable::{Adaptable, BaseModel, Path};
pub use burn_peft_derive::Adaptable;
pub use burn_peft_kernels::{
    AdamW, BlockCounts, BlockWeight, GpuTensor, HeadWeight, Int8Weight, Lora, Moments, QuantType,
    Quantization, QuantizedWeight, Rate, among_threads, cpu_device, int8_body, is_gpu, norm_of_all,
    set_seed, starts, take_block_counts, with_first_row, with_seed, without_dropout,
};
pub use config::LoraConfig;
pub use error::{PeftError, Result};
pub use files::tensor_file;
pub use layers::{
    BaseLayer, Conv1D, ConvInfo, LayerInfo, LayerInput, LayerKind, LayerNorm, LayerOutput,
    OutputOf, RmsNorm,
};
pub use method::{
    AS_THE_LAYER, AtEmbeddings, AtModel, Base, Extra, Frozen, Init, LayerMethod, Method, ModelInfo,
    ModelMethod, Split, StateDict, StepGradients, StepLayer, Steps, TakesWeight, TensorSpec,
};
pub use methods::{
    AdaLoraConfig, BOFTConfig, BottleneckConfig, C3AConfig, DeloraConfig, FourierFTConfig,
    GraloraConfig, HRAConfig, HiraConfig, IA3Config, LNTuningConfig, LoHaConfig, LoKrConfig,
    LoraFa, MissConfig, OFTConfig, PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig,
    RandLoraConfig, RoadConfig, ShiraConfig, TrainableTokensConfig, VBLoRAConfig, VeraConfig,
    WaveFTConfig,
};
pub use model::{
    Conversion, DEFAULT_ADAPTER, FrozenForm, PeftModel, cast_frozen, check_gradients,
    get_peft_model, layers, parameters, quantize_frozen, quantize_frozen_except, untie_merged,
};
pub use slot::{
    Adapter, AdapterParam, AdapterTensor, AnyParam, BASE_ROW, LazyData, LoraAdapter, Part,
    PartInput, SharedParam, Slot, SlotState, Tensors,
};
pub use tree::Tree;

// Its program is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/adding-a-method.md")]
struct AddingAMethodPage;

// What the macros write names it.
#[doc(hidden)]
pub use serde_json;
