//! Prints which parameters are trained before and after an adapter is attached.
//!
//! ```text
//! cargo run --release --example requires_grad
//! ```

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, activation::relu};
use burn_peft::parameters::{NamedParameter, count, named_parameters, trainable_parameters_line};
use burn_peft::{Adaptable, LoraAdapter, LoraConfig, get_peft_model};

/// 10 → 20 → 5. Its layers are in slots, which is all that an adapter needs.
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

    /// Maps `[batch, 10]` to `[batch, 5]`.
    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        self.fc2.forward(relu(self.fc1.forward(input)))
    }
}

fn print(title: &str, parameters: &[NamedParameter]) {
    println!("{title}");
    for parameter in parameters {
        let name = format!("{} {:?}", parameter.name, parameter.shape);
        println!("  {name:<55} requires_grad={}", parameter.requires_grad);
    }
    let (trainable, all) = count(parameters);
    println!("  {}\n", trainable_parameters_line(trainable, all));
}

fn main() -> anyhow::Result<()> {
    let device = Device::flex();
    let net = Net::new(&device);
    print("before", &named_parameters(&net));

    let config = LoraConfig::new()
        .with_r(4)
        .with_target_modules(["fc1", "fc2"]);
    let model = get_peft_model(net, config)?;
    print("after get_peft_model", &model.named_parameters());

    let output = model.forward(Tensor::ones([2, 10], &device));
    println!("output {:?}", output.dims());
    Ok(())
}
