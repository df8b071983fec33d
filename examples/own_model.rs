//! The program of the README's section on your own Burn model; a test keeps the two the same.
//!
//! ```text
//! cargo run --release --example own_model
//! ```

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    optim::{AdamWConfig, GradientsParams},
    tensor::{Device, Distribution, Tensor, activation::relu},
};
use burn_peft::{Adaptable, LoraAdapter, LoraConfig, PeftModel, get_peft_model};

#[derive(Module, Adaptable, Debug)]
struct Net {
    fc1: LoraAdapter<Linear>,
    fc2: LoraAdapter<Linear>,
}

impl Net {
    fn new(device: &Device) -> Self {
        Self {
            fc1: LoraAdapter::new(LinearConfig::new(10, 20).init(device)),
            fc2: LoraAdapter::new(LinearConfig::new(20, 5).init(device)),
        }
    }

    // `forward` takes [rows, d_in]; `forward_nd` takes any number of axes before d_in.
    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        self.fc2.forward(relu(self.fc1.forward(input)))
    }
}

fn main() -> burn_peft::Result<()> {
    let device = Device::flex();
    // Its weights: from the record of a Net without slots, `Net::new(&device).load_file("net.bpk")`.
    let net = Net::new(&device);

    // Everything but the adapter is frozen.
    let config = LoraConfig::new()
        .with_r(4)
        .with_target_modules(["fc1", "fc2"]);
    let mut model = get_peft_model(net.clone(), config)?.train();
    model.print_trainable_parameters(); // trainable params: 220 || all params: 545 || …

    let input = Tensor::random([8, 10], Distribution::Default, &device);
    let target = Tensor::random([8, 5], Distribution::Default, &device);
    let mut optimizer = AdamWConfig::new().init();
    for step in 1..=50 {
        let loss = (model.forward(input.clone()) - target.clone())
            .square()
            .mean();
        if step % 10 == 0 {
            println!("step {step}: loss {:.4}", loss.clone().into_scalar::<f32>());
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.01, model, gradients);
    }

    // adapter_config.json and adapter_model.safetensors, as PEFT writes them.
    model.valid().save_pretrained("adapter")?;
    let model = PeftModel::from_pretrained(net, "adapter", false)?;
    let merged: Net = model.merge_and_unload(true)?; // a plain model again
    println!("{merged}");
    Ok(())
}
