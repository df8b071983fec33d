//! The operations of `burn-peft-kernels`, forward and backward, compared with their plain bodies:
//! `cargo bench -p burn-peft-cli --bench operations [NAME]`.
//!
//! The shapes are those of GPT-2 small with 4 texts of 256 tokens; attention is also measured with
//! those of SmolLM2-135M. Both bodies take turns. The benchmark prints the medians of their times
//! and of the ratios of neighbouring runs.

mod pairs;

use burn::tensor::{DType, Device, Distribution, FloatDType, Int, Tensor};
use burn_peft_kernels::{
    ActivationKind, AttentionOptions, Lora, Span, Texts, attend_cached, attention,
};
use burn_peft_kernels::{activate, dropout, layer_norm, linear, vocabulary_loss};
use pairs::compare;

const TOKENS: usize = 1024;
const D: usize = 768;

fn random(shape: [usize; 2]) -> Tensor<2> {
    Tensor::random(shape, Distribution::Normal(0.0, 0.5), &Device::flex())
}

/// A tensor that gradients flow through, like activations in training.
fn on_tape(tensor: &Tensor<2>) -> Tensor<2> {
    tensor.clone().autodiff().require_grad()
}

fn lora(d_in: usize, d_out: usize) -> Lora {
    Lora {
        a: on_tape(&random([8, d_in])),
        b: on_tape(&random([d_out, 8])),
        scaling: 2.0,
        dropout: 0.0,
    }
}

fn main() {
    let name = std::env::args().skip(1).find(|name| !name.starts_with('-'));
    let run = |what: &str, rounds: usize, body: &dyn Fn()| {
        if name
            .as_ref()
            .is_none_or(|name| what.contains(name.as_str()))
        {
            println!("{}", compare(what, rounds, body));
        }
    };
    let x = random([TOKENS, D]);

    for (d_in, d_out) in [(D, 3 * D), (D, D), (D, 4 * D), (4 * D, D)] {
        let (x, weight) = (random([TOKENS, d_in]), random([d_in, d_out]));
        let factors = lora(d_in, d_out);
        run(&format!("linear with LoRA, {d_in} to {d_out}"), 7, &|| {
            let lora = Some(factors.clone());
            linear(on_tape(&x), weight.clone(), None, None, lora)
                .sum()
                .backward();
        });
    }
    let narrow = random([D, 3 * D]).cast(FloatDType::BF16);
    run("linear in bf16, 768 to 2304", 7, &|| {
        linear(on_tape(&x), narrow.clone(), None, None, None)
            .sum()
            .backward();
    });

    // The products of generation.
    for rows in [1, 8] {
        let (x, wide) = (random([rows, D]), random([D, 4 * D]));
        let narrow = wide.clone().cast(FloatDType::BF16);
        for (name, weight) in [("", wide), (" in bf16", narrow)] {
            run(&format!("linear{name}, {rows} rows"), 99, &|| {
                linear(x.clone(), weight.clone(), None, None, None);
            });
        }
    }

    let gamma = Tensor::<1>::ones([D], &Device::flex());
    run("layer norm", 9, &|| {
        let beta = Some(gamma.clone());
        layer_norm(on_tape(&x), gamma.clone(), beta, 1e-5)
            .sum()
            .backward();
    });
    let wide = random([TOKENS, 4 * D]);
    run("GELU", 9, &|| {
        activate(on_tape(&wide), ActivationKind::GeluTanh, DType::F32)
            .sum()
            .backward();
    });
    run("dropout", 9, &|| {
        dropout(on_tape(&x), 0.1).sum().backward();
    });

    let gpt2 = AttentionOptions::new(12, 12, 64);
    let smollm2 = AttentionOptions::new(9, 3, 64);
    let windowed = AttentionOptions {
        window: Some(512),
        ..smollm2
    };
    for (name, heads, texts, length, rounds) in [
        ("attention", gpt2, 4, 256, 7),
        ("attention", gpt2, 4, 1024, 3),
        ("attention", gpt2, 40, 25, 9),
        ("attention of SmolLM2", smollm2, 4, 256, 7),
        ("attention of SmolLM2", smollm2, 1, 2048, 3),
        ("attention, window 512", windowed, 1, 2048, 3),
    ] {
        let tokens = texts * length;
        let qkv = [heads.heads, heads.kv_heads, heads.kv_heads]
            .map(|count| random([tokens, count * heads.head_dim]));
        let spans = (0..texts).map(|text| Span {
            start: text * length,
            queries: length,
            keys: length,
        });
        let all = Texts::new(spans.collect());
        run(&format!("{name}, {texts} x {length}"), rounds, &|| {
            let qkv = qkv.each_ref().map(on_tape);
            attention(qkv, &all, heads, 0.0).sum().backward();
        });
    }
    for (name, heads) in [("decoding", gpt2), ("decoding of SmolLM2", smollm2)] {
        let shape = [1, heads.kv_heads, 512, 64];
        let cache = Tensor::<4>::random(shape, Distribution::Default, &Device::flex());
        let query = random([1, heads.heads * 64]);
        run(&format!("{name} over 512 positions"), 21, &|| {
            attend_cached(query.clone(), cache.clone(), cache.clone(), None, heads);
        });
    }

    let words = random([50_257, D]);
    let targets = Tensor::<1, Int>::from_data([7; TOKENS], &Device::flex());
    run("vocabulary loss", 3, &|| {
        vocabulary_loss(on_tape(&x), words.clone(), targets.clone()).backward();
    });
}
