//! Gradient checkpointing: the activations of one block at a time (arXiv 1604.06174).

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Gradients, Tensor};
use burn_peft_kernels::{draw_seed, with_seed};

/// A model as a chain: what comes first, blocks that map `[tokens, d]` to the same shape, and the
/// loss at the end.
pub(crate) trait Chain {
    /// The part of the model that a block is.
    type Block: Module;

    /// The input of the first block, `[tokens, d]`.
    fn start(&self) -> Tensor<2>;

    /// The blocks.
    fn blocks(&self) -> &[Self::Block];

    /// One block.
    fn block(&self, block: &Self::Block, input: Tensor<2>) -> Tensor<2>;

    /// The loss, `[1]`, of the output of the last block.
    fn finish(&self, output: Tensor<2>) -> Tensor<1>;
}

/// One pass forward and one back: `weight` times the loss, and its gradients.
///
/// The forward pass keeps the input of every block and nothing else; the backward pass goes
/// through the blocks from the last to the first, and makes each one's activations again. Every
/// block begins with the random numbers it began with the first time.
pub(crate) fn backward<C: Chain, M: Module>(
    model: &M,
    device: &Device,
    weight: f64,
    chain: impl Fn(M) -> C,
) -> (Tensor<1>, GradientsParams) {
    let recorded = chain(model.clone());
    let forgetful = chain(model.clone().no_grad());
    let seed = draw_seed(device);
    let part = |number: usize, make: &dyn Fn() -> Tensor<2>| {
        let seed = seed.wrapping_add(number as u64);
        // For Burn's own dropout too.
        device.seed(seed);
        with_seed(seed, make)
    };

    let mut inputs = vec![part(0, &|| forgetful.start()).without_autodiff()];
    for (index, block) in forgetful.blocks().iter().enumerate() {
        let input = inputs[index].clone().autodiff();
        let output = part(index + 1, &|| forgetful.block(block, input.clone()));
        inputs.push(output.without_autodiff());
    }
    let mut collected = GradientsAccumulator::new();
    let mut collect = |gradients: Gradients| {
        collected.accumulate(model, GradientsParams::from_grads(gradients, model));
    };

    let last = recorded.blocks().len();
    let output = inputs.remove(last).autodiff().require_grad();
    let loss = recorded.finish(output.clone()) * weight;
    if !loss.is_tracked() {
        return (loss.without_autodiff(), collected.grads());
    }
    let value = loss.clone().without_autodiff();
    let mut gradients = loss.backward();
    let mut flowing = output.grad_remove(&mut gradients);
    collect(gradients);

    // A block's input needs a gradient if something before it is trained.
    let start = part(0, &|| recorded.start());
    let trained: Vec<bool> = recorded.blocks().iter().map(is_trained).collect();
    for (index, block) in recorded.blocks().iter().enumerate().rev() {
        let Some(gradient) = flowing.take() else {
            break;
        };
        let before = start.is_tracked() || trained[..index].contains(&true);
        if !before && !trained[index] {
            break;
        }
        let input = inputs.remove(index).autodiff().set_require_grad(before);
        let output = part(index + 1, &|| recorded.block(block, input.clone()));
        let mut gradients = (output * gradient.autodiff()).sum().backward();
        flowing = input.grad_remove(&mut gradients);
        collect(gradients);
    }
    if let Some(gradient) = flowing.filter(|_| start.is_tracked()) {
        collect((start * gradient.autodiff()).sum().backward());
    }
    (value, collected.grads())
}

/// Whether a module has a parameter that is trained.
fn is_trained(module: &impl Module) -> bool {
    struct Find(bool);
    impl ModuleVisitor for Find {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0 |= param.is_require_grad();
        }
    }
    let mut find = Find(false);
    module.visit(&mut find);
    find.0
}
