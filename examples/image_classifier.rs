//! LoRA, IA3, LoHa or LoKr on the convolutions of a small ResNet.
//!
//! The images are drawn here: circles, squares, crosses and triangles, 16 by 16 pixels. The network
//! learns them light on dark, with all its weights. Then they are dark on a bright background that
//! is brighter on one side, which it has never seen, and an adapter on its convolutions learns
//! these.
//!
//! ```text
//! cargo run --release --example image_classifier [-- FOLDER --method lora|ia3|loha|lokr]
//! python examples/load_in_peft.py FOLDER       # Python's peft loads it and agrees
//! ```

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_peft::{Adaptable, DEFAULT_ADAPTER, LoraAdapter, PeftModel, Result};
use clap::Parser;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod arguments;
mod for_python;
mod training;

use arguments::Arguments;
use training::train;

const SIDE: usize = 16;
const SHAPES: usize = 4;

/// `LoraAdapter<Conv2d>` instead of `Conv2d` is the only change that a model needs.
#[derive(Module, Adaptable, Debug)]
struct Block {
    conv1: LoraAdapter<Conv2d>,
    norm1: GroupNorm,
    conv2: LoraAdapter<Conv2d>,
    norm2: GroupNorm,
    /// Projects the input to the shape of the output.
    shortcut: LoraAdapter<Conv2d>,
}

#[derive(Module, Adaptable, Debug)]
struct ResNet {
    stem: LoraAdapter<Conv2d>,
    blocks: Vec<Block>,
    fc: LoraAdapter<Linear>,
}

fn conv(channels: [usize; 2], side: usize, stride: usize, device: &Device) -> LoraAdapter<Conv2d> {
    let pad = side / 2;
    let config = Conv2dConfig::new(channels, [side, side])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false);
    LoraAdapter::new(config.init(device))
}

impl Block {
    fn new(channels: [usize; 2], device: &Device) -> Self {
        let [_, out] = channels;
        let norm = || GroupNormConfig::new(4, out).init(device);
        Self {
            conv1: conv(channels, 3, 2, device),
            norm1: norm(),
            conv2: conv([out, out], 3, 1, device),
            norm2: norm(),
            shortcut: conv(channels, 1, 2, device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = relu(self.norm1.forward(self.conv1.forward(x.clone())));
        let hidden = self.norm2.forward(self.conv2.forward(hidden));
        relu(hidden + self.shortcut.forward(x))
    }
}

impl ResNet {
    fn new(device: &Device) -> Self {
        Self {
            stem: conv([1, 8], 3, 1, device),
            blocks: vec![Block::new([8, 16], device), Block::new([16, 32], device)],
            fc: LoraAdapter::new(LinearConfig::new(32, SHAPES).init(device)),
        }
    }

    /// Maps `[batch, 1, side, side]` to `[batch, shapes]`.
    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let mut x = relu(self.stem.forward(images));
        for block in &self.blocks {
            x = block.forward(x);
        }
        let features = x.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2);
        self.fc.forward(features)
    }
}

/// Images and their classes.
struct Images {
    pixels: Tensor<4>,
    shapes: Tensor<1, Int>,
}

impl Images {
    fn draw(count: usize, is_dark: bool, random: &mut ChaCha8Rng, device: &Device) -> Self {
        let (mut pixels, mut shapes) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let shape = random.random_range(0..SHAPES);
            let middle = [(); 2].map(|()| random.random_range(6.0..10.0_f32));
            let size = random.random_range(3.0..5.0_f32);
            for place in 0..SIDE * SIDE {
                let (row, column) = (place / SIDE, place % SIDE);
                let (y, x) = (row as f32 - middle[0], column as f32 - middle[1]);
                let is_inside = match shape {
                    0 => x * x + y * y < size * size,
                    1 => x.abs().max(y.abs()) < size * 0.85,
                    2 => x.abs().min(y.abs()) < 1.2 && x.abs().max(y.abs()) < size,
                    _ => y < size * 0.7 && y > 1.8 * x.abs() - size,
                };
                let noise = random.random_range(-0.2..0.2_f32);
                pixels.push(match (is_dark, is_inside) {
                    (false, is_inside) => f32::from(is_inside) + noise,
                    (true, true) => noise,
                    (true, false) => 0.6 + column as f32 / SIDE as f32 + noise,
                });
            }
            shapes.push(shape as i64);
        }
        let pixels = TensorData::new(pixels, [count, 1, SIDE, SIDE]);
        Self {
            pixels: Tensor::from_data(pixels, device),
            shapes: Tensor::from_data(shapes.as_slice(), device),
        }
    }

    /// As a batch to train on.
    fn batch(self) -> (Tensor<4>, Tensor<1, Int>) {
        (self.pixels.autodiff(), self.shapes)
    }
}

/// The share of images that `forward` classifies correctly.
fn accuracy(images: &Images, forward: impl Fn(Tensor<4>) -> Tensor<2>) -> f32 {
    let found = forward(images.pixels.clone()).argmax(1).squeeze_dim::<1>(1);
    let right = found.equal(images.shapes.clone()).float();
    right.mean().into_scalar::<f32>()
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let folder = arguments.folder("burn-peft-image-classifier");
    let device = Device::flex();
    device.seed(42);
    let mut random = ChaCha8Rng::seed_from_u64(42);
    let light = Images::draw(200, false, &mut random, &device);
    let dark = Images::draw(200, true, &mut random, &device);

    println!("all weights, on light shapes:");
    let draw = || Images::draw(32, false, &mut random, &device).batch();
    let base = train(ResNet::new(&device), 300, 5e-3, draw, ResNet::forward);
    println!("light: {:.2}", accuracy(&light, |x| base.forward(x)));

    // A string is a pattern for whole paths: all convolutions.
    let config = arguments.method.config(r"stem|.*conv\d|.*shortcut", "fc");
    let model = PeftModel::new(base.clone(), DEFAULT_ADAPTER, config)?;
    model.print_trainable_parameters();
    let before = accuracy(&dark, |x| model.forward(x));

    println!("the adapter, on dark shapes:");
    let draw = || Images::draw(32, true, &mut random, &device).batch();
    let model = train(model, 200, 1e-2, draw, |model, x| model.forward(x));
    let after = accuracy(&dark, |x| model.forward(x));
    println!("dark: {before:.2} before, {after:.2} after");
    println!("learnt: {}", after > before + 0.2);
    let without = model.disable_adapter(|model| accuracy(&light, |x| model.forward(x)));
    println!("light, without the adapter: {without:.2}");

    model.save_pretrained(folder.join("adapter"))?;
    let pixels = dark.pixels.clone().narrow(0, 0, 8);
    let output = model.forward(pixels.clone());
    let shown = vec![
        ("input".to_string(), pixels.clone().into_data()),
        ("output".to_string(), output.clone().into_data()),
    ];
    for_python::write(&folder.join("image.safetensors"), &base, shown)?;

    // In another process.
    let loaded = PeftModel::from_pretrained(base, folder.join("adapter"), false)?;
    let merged = loaded.merge_and_unload(true)?;
    let same = merged.forward(pixels).all_close(output, None, Some(1e-3));
    println!("the merged model is the trained one: {same}");
    println!("python examples/load_in_peft.py {}", folder.display());
    Ok(())
}
