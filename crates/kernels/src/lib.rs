//! The operations that a training step spends its time in, each with its own backward pass.
//!
//! Every operation has a *plain* body, made of Burn's tensor operations, which runs on any device
//! and says what the operation computes. On the CPU, and on GPUs for most operations, it also has a
//! specialised body with its own backward pass, which keeps little and makes one pass where the
//! plain body makes many. All bodies give the same result up to rounding.
//! `BURN_PEFT_KERNELS=plain` switches the specialised bodies off.
//!
//! The operations know tensors, not adapters: nearly all inputs and outputs are `[tokens, d]`.
//!
//! ```text
//! linear(input, weight, bias, residual, lora)      what models and slots call
//!   ├── plain body: Burn's operations              every device; the gradients are Burn's
//!   ├── trait #[backend_extension(Flex, Autodiff)]
//!   │     └── cpu: a body on slices, and its backward pass
//!   └── gpu: kernels in CubeCL, and their backward pass (with a GPU's feature)
//! ```
//!
//! | part | operations |
//! | --- | --- |
//! | linear layers | [`linear`], [`quantized_linear`], [`block_linear`], [`int8_linear`] |
//! | frozen weights | [`QuantizedWeight`], [`BlockWeight`], [`Int8Weight`], [`HeadWeight`] |
//! | attention | [`attention()`], [`append_cached`], [`attend_cached`], [`attend_masked`], [`rope()`] |
//! | norms, activations | [`layer_norm()`], [`rms_norm()`], [`activate`], [`glu()`], [`feed_forward()`] |
//! | dropout | [`dropout()`], [`apply_dropout`], [`without_dropout`] |
//! | losses | [`vocabulary_loss()`], [`token_log_probs()`] |
//! | optimizer | [`AdamW`], [`norm_of_all`] |
//! | randomness | [`with_seed`], [`set_seed`], [`random`] |
//!
//! Call an operation as you call any function on tensors. Here it is `x · weight + bias`, and the
//! gradient of `x`:
//!
//! ```
//! use burn::tensor::{Device, Tensor, TensorData};
//! use burn_peft_kernels::linear;
//!
//! let device = Device::flex();
//! let x = Tensor::<2>::from_data([[1.0, 2.0]], &device).autodiff().require_grad();
//! let weight = Tensor::<2>::from_data([[1.0, 0.0, 3.0], [0.0, 1.0, 1.0]], &device).autodiff();
//! let bias = Tensor::<1>::from_data([0.5, 0.5, 0.5], &device).autodiff();
//! let output = linear(x.clone(), weight, Some(bias), None, None);
//! let gradients = output.clone().sum().backward();
//!
//! let expected = TensorData::from([[1.5f32, 2.5, 5.5]]);
//! output.inner().into_data().assert_eq(&expected, true);
//! let expected = TensorData::from([[4.0f32, 2.0]]);
//! x.grad(&gradients).unwrap().into_data().assert_eq(&expected, true);
//! ```

mod activation;
mod adamw;
mod append;
mod attention;
mod block_weight;
pub mod cpu;
mod decode;
mod dropout;
mod feed_forward;
mod flex;
mod glu;
#[cfg(feature = "gpu")]
mod gpu;
mod head_weight;
mod int8_weight;
mod kept;
mod layer_norm;
mod linear;
mod one_copy;
mod product;
mod quantized;
mod remade;
mod rms_norm;
mod rope;
mod rows;
mod seed;
mod sizes;
mod stored;
#[cfg(test)]
mod testing;
mod threads;
mod token_log_probs;
mod vocabulary_loss;

pub use activation::activate;
pub use adamw::{AdamW, GpuTensor, Moments, Rate, norm_of_all, starts};
pub use append::append_cached;
pub use attention::{
    AttentionOptions, HiddenKeys, Qkv, Span, Texts, attend_masked, attention, attention_scores,
    mean_of_values,
};
pub use block_weight::BlockWeight;
pub use cpu::int8::{BlockCounts, body_name as int8_body, take_block_counts};
pub use cpu::{ActivationKind, BlockType, Pairing, QuantType};
pub use decode::{FirstKeys, attend_cached};
pub use dropout::{apply_dropout, dropout, dropout_probability, without_dropout};
pub use feed_forward::{FeedForward, Projection, feed_forward};
pub use flex::{cpu_device, is_gpu, is_specialised, with_plain_bodies};
pub use glu::{glu, packed_glu};
pub use head_weight::HeadWeight;
pub use int8_weight::Int8Weight;
pub use layer_norm::layer_norm;
pub use linear::{
    LinearLayer, LinearWeight, Lora, block_linear, int8_linear, linear, linears, quantized_linear,
};
pub use one_copy::in_one_copy;
pub use quantized::{Quantization, QuantizedWeight};
pub use rms_norm::rms_norm;
pub use rope::rope;
pub use rows::MovedRows;
pub use seed::{draw_seed, random, set_seed, with_first_row, with_seed};
pub use sizes::rows_on;
pub use threads::{among_awake_threads, among_threads};
pub use token_log_probs::{TokenLogProbs, TokenStatistics, token_log_probs, token_log_probs_of};
pub use vocabulary_loss::{NO_TARGET, pieces_of_rows, takes_no_target, vocabulary_loss};
