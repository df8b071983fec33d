//! LoRA, IA3, LoHa or LoKr on Burn's transformer encoder, which classifies rows of tokens.
//!
//! A row belongs to the first class if token 1 comes before token 2 in it. The encoder learns this
//! with all its weights. Then the rule is changed to tokens 3 and 4 in the opposite order, and an
//! adapter on its attention and feed-forward layers learns that.
//!
//! ```text
//! cargo run --release --example encoder [-- FOLDER --method lora|ia3|loha|lokr]
//! python examples/load_in_peft.py FOLDER       # Python's peft loads it and agrees
//! ```

use burn::module::Module;
use burn::nn::transformer::TransformerEncoderConfig;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_peft::nn::{TransformerEncoder, TransformerEncoderInput};
use burn_peft::{Adaptable, DEFAULT_ADAPTER, LoraAdapter, PeftModel, Result};
use clap::Parser;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod arguments;
mod for_python;
mod training;

use arguments::Arguments;
use training::train;

const TOKENS: usize = 12;
const LENGTH: usize = 8;
const WIDTH: usize = 32;

/// `TransformerEncoder` is burn_peft's, which has slots where Burn's has plain layers.
#[derive(Module, Adaptable, Debug)]
struct Classifier {
    tokens: LoraAdapter<Embedding>,
    positions: LoraAdapter<Embedding>,
    encoder: TransformerEncoder,
    head: LoraAdapter<Linear>,
}

impl Classifier {
    fn new(device: &Device) -> Self {
        let embedding = |rows| LoraAdapter::new(EmbeddingConfig::new(rows, WIDTH).init(device));
        let encoder = TransformerEncoderConfig::new(WIDTH, 2 * WIDTH, 4, 2).with_dropout(0.0);
        Self {
            tokens: embedding(TOKENS),
            positions: embedding(LENGTH),
            // Burn's encoder is converted to the one with slots.
            encoder: encoder.init(device).into(),
            head: LoraAdapter::new(LinearConfig::new(WIDTH, 2).init(device)),
        }
    }

    /// Maps `[batch, length]` to `[batch, 2]`.
    fn forward(&self, ids: Tensor<2, Int>) -> Tensor<2> {
        let [batch, length] = ids.dims();
        let places = Tensor::arange(0..length as i64, &ids.device());
        let positions = self.positions.forward(places).unsqueeze::<3>();
        let input = self.tokens.forward_2d(ids) + positions.expand([batch, length, WIDTH]);
        let hidden = self.encoder.forward(TransformerEncoderInput::new(input));
        self.head.forward(hidden.mean_dim(1).squeeze_dim(1))
    }
}

/// Rows of tokens, and for each whether `first` comes before `second`.
fn rows(
    count: usize,
    [first, second]: [i64; 2],
    random: &mut ChaCha8Rng,
    device: &Device,
) -> (Tensor<2, Int>, Tensor<1, Int>) {
    let (mut ids, mut kinds) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let mut row = vec![first, second];
        row.resize_with(LENGTH, || random.random_range(5..TOKENS as i64));
        row.shuffle(random);
        let place = |token| row.iter().position(|other| *other == token);
        kinds.push(i64::from(place(first) > place(second)));
        ids.extend(row);
    }
    let ids = TensorData::new(ids, [count, LENGTH]);
    (
        Tensor::from_data(ids, device),
        Tensor::from_data(kinds.as_slice(), device),
    )
}

fn accuracy(output: Tensor<2>, kinds: Tensor<1, Int>) -> f32 {
    let found = output.argmax(1).squeeze_dim::<1>(1);
    found.equal(kinds).float().mean().into_scalar::<f32>()
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = arguments.folder("burn-peft-encoder");
    let device = Device::flex();
    device.seed(42);
    let mut random = ChaCha8Rng::seed_from_u64(42);
    let known = rows(256, [1, 2], &mut random, &device);
    let new = rows(256, [4, 3], &mut random, &device);

    println!("all weights, 1 before 2:");
    let draw = || rows(32, [1, 2], &mut random, &device);
    let base = Classifier::new(&device);
    let base = train(base, 150, 3e-3, draw, |base, ids| {
        base.forward(ids.autodiff())
    });
    let right = accuracy(base.forward(known.0), known.1);
    println!("1 before 2: {right:.2}");

    let layers = ["query", "value", "linear_inner", "linear_outer"];
    let config = arguments.method.config(layers, "head");
    let model = PeftModel::new(base.clone(), DEFAULT_ADAPTER, config)?;
    model.print_trainable_parameters();
    let before = accuracy(model.forward(new.0.clone()), new.1.clone());

    println!("the adapter, 4 before 3:");
    let draw = || rows(32, [4, 3], &mut random, &device);
    let model = train(model, 150, 1e-2, draw, |model, ids| {
        model.forward(ids.autodiff())
    });
    let output = model.forward(new.0.clone());
    let after = accuracy(output.clone(), new.1);
    println!("4 before 3: {before:.2} before, {after:.2} after");
    println!("learnt: {}", after > before + 0.2);

    model.save_pretrained(folder.join("adapter"))?;
    let shown = vec![
        ("input".to_string(), new.0.clone().float().into_data()),
        ("output".to_string(), output.clone().into_data()),
    ];
    for_python::write(&folder.join("encoder.safetensors"), &base, shown)?;

    // In another process.
    let loaded = PeftModel::from_pretrained(base, folder.join("adapter"), false)?;
    let merged = loaded.merge_and_unload(true)?;
    let same = merged.forward(new.0).all_close(output, None, Some(1e-3));
    println!("the merged model is the trained one: {same}");
    println!("python examples/load_in_peft.py {}", folder.display());
    Ok(())
}
