//! The operations of a Llama block other than attention, forward and backward, compared with their
//! plain bodies: `cargo bench -p burn-peft-cli --bench llama [NAME]`.
//!
//! The shapes are those of SmolLM2-135M with 4 texts of 256 tokens; see `operations.rs`.

mod pairs;

use burn::tensor::{DType, Device, Distribution, FloatDType, Tensor};
use burn_peft_kernels::{ActivationKind, FeedForward, Pairing, Projection};
use burn_peft_kernels::{activate, feed_forward, glu, packed_glu, rms_norm, rope};
use pairs::compare;

const TOKENS: usize = 1024;
const D: usize = 576;
const INNER: usize = 1536;
const HEADS: usize = 9;
const HEAD_DIM: usize = 64;

fn random(shape: [usize; 2]) -> Tensor<2> {
    Tensor::random(shape, Distribution::Normal(0.0, 0.5), &Device::flex())
}

/// A tensor that gradients flow through, like activations in training.
fn on_tape(tensor: &Tensor<2>) -> Tensor<2> {
    tensor.clone().autodiff().require_grad()
}

fn main() {
    let name = std::env::args().skip(1).find(|name| !name.starts_with('-'));
    let run = |what: &str, body: &dyn Fn() -> Tensor<2>| {
        if name
            .as_ref()
            .is_none_or(|name| what.contains(name.as_str()))
        {
            let step = || {
                body().sum().backward();
            };
            println!("{}", compare(what, 15, &step));
        }
    };

    for (what, rows, d) in [
        ("RMS norm", TOKENS, D),
        ("RMS norm of each head", TOKENS * HEADS, HEAD_DIM),
    ] {
        let (x, weight) = (random([rows, d]), Tensor::ones([d], &Device::flex()));
        run(what, &|| rms_norm(on_tape(&x), weight.clone(), 1e-5, 0.0));
    }

    let (x, angles) = (random([TOKENS, D]), random([TOKENS, HEAD_DIM / 2]));
    let (cos, sin) = (angles.clone().cos(), angles.sin());
    for (what, pairing) in [
        ("RoPE", Pairing::Halves),
        ("RoPE, interleaved", Pairing::Interleaved),
    ] {
        run(what, &|| {
            rope(on_tape(&x), cos.clone(), sin.clone(), HEADS, pairing)
        });
    }

    let (gate, up) = (random([TOKENS, INNER]), random([TOKENS, INNER]));
    let both = random([TOKENS, 2 * INNER]);
    for kind in [
        ActivationKind::Silu,
        ActivationKind::Gelu,
        ActivationKind::GeluTanh,
        ActivationKind::ReluSquared,
    ] {
        run(&format!("{kind:?}"), &|| {
            activate(on_tape(&gate), kind, DType::F32)
        });
        run(&format!("{kind:?}, gated"), &|| {
            glu(on_tape(&gate), on_tape(&up), kind, DType::F32)
        });
    }
    run("Silu, gated, kept in bf16", &|| {
        let (gate, up) = (on_tape(&gate), on_tape(&up));
        glu(gate, up, ActivationKind::Silu, DType::BF16)
    });
    run("Silu, gated, side by side", &|| {
        packed_glu(on_tape(&both), ActivationKind::Silu, DType::F32)
    });

    let narrow = |d_in, d_out| Projection {
        weight: random([d_in, d_out]).cast(FloatDType::BF16),
        bias: None,
    };
    let network = FeedForward {
        gate: Some(narrow(D, INNER)),
        up: narrow(D, INNER),
        down: narrow(INNER, D),
        activation: ActivationKind::Silu,
    };
    run("frozen SwiGLU network in bf16", &|| {
        feed_forward(on_tape(&x), network.clone(), Some(x.clone()))
    });
}
