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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::flex();
    let net = Net::new(&device);
    // An adapter is of no use without its base, which is not saved with it.
    net.clone().save_file("net.bpk")?;

    // Everything but the adapter is frozen; without `.train()` Burn keeps no gradients.
    let config = LoraConfig::new()
        .with_r(4)
        .with_lora_alpha(8)
        .with_target_modules(["fc1", "fc2"]);
    let mut model = get_peft_model(net, config)?.train();
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
    let trained = model.valid();
    trained.save_pretrained("adapter")?;

    // In the next process: the base from its record, the adapter from its folder.
    let net = Net::new(&device).try_load_file("net.bpk")?;
    let loaded = PeftModel::from_pretrained(net, "adapter", false)?; // is_trainable
    let outputs = [trained.forward(input.clone()), loaded.forward(input)];
    let [trained, again] = outputs.map(|output| output.into_data());
    println!("the loaded model is the trained one: {}", trained == again);

    let merged: Net = loaded.merge_and_unload(true)?; // safe_merge; a plain model again
    println!("{merged}");
    Ok(())
}
