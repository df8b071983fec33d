//! Gradient checkpointing: keeps the activations of one block at a time (arXiv 1604.06174).

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Gradients, Tensor};
use burn_peft::Extra;
use burn_peft_kernels::{TokenLogProbs, draw_seed, set_seed, with_seed};

use crate::decoder::{Decoder, DecoderBlock, Pass};
use crate::{CausalLm, Checkpointed, KvCache, LmBatch};

/// A model on one batch, as a chain of blocks that map `[tokens, d]` to the same shape.
struct Chain<'a, D> {
    model: D,
    batch: LmBatch,
    pass: &'a Pass,
}

impl<D: Decoder> Chain<'_, D> {
    /// The input of the first block, `[tokens, d]`.
    fn start(&self) -> Tensor<2> {
        let input = &self.batch.input;
        self.model.start(input, input.extra.prefix_positions())
    }

    /// The output of block `index`.
    fn block(&self, index: usize, input: Tensor<2>) -> Tensor<2> {
        let [rows, _] = self.batch.input.input_ids.dims();
        let prefix = &self.batch.input.extra.keys_and_values;
        // The only layer of a cache of its own.
        let mut cache = KvCache::default();
        let cache = prefix.get(index).map(|of_layer| {
            cache.begin(std::slice::from_ref(of_layer), rows);
            (&mut cache, 0)
        });
        let block = &self.model.blocks()[index];
        block.forward(input, self.pass, cache)
    }

    /// The loss, `[1]`, of the output of the last block.
    fn finish(&self, output: Tensor<2>, loss: &LossOf<'_>) -> Tensor<1> {
        let hidden = self.model.final_norm(output);
        match loss {
            LossOf::Tokens { weight } => self.model.loss_of(hidden, &self.batch) * *weight,
            LossOf::LogProbs { statistics, loss } => {
                loss(self.model.log_probs_of(hidden, &self.batch, *statistics))
            }
            LossOf::LogitsAt { places, loss } => {
                loss(self.model.logits_of(hidden, &self.batch, places))
            }
        }
    }
}

/// What is computed from the hidden states after the last block.
pub(crate) enum LossOf<'a> {
    /// This many times the cross-entropy.
    Tokens { weight: f64 },
    /// A loss computed from the log-probabilities, possibly with statistics.
    LogProbs {
        statistics: bool,
        loss: &'a dyn Fn(TokenLogProbs) -> Tensor<1>,
    },
    /// A loss computed from the logits at some places.
    LogitsAt {
        places: &'a [usize],
        loss: &'a dyn Fn(Tensor<2>) -> Tensor<1>,
    },
}

/// One forward and backward pass: the loss and its gradients.
///
/// The forward pass keeps only the input of every block. The backward pass goes through the blocks
/// from last to first and recomputes each one's activations, starting every block with the random
/// numbers that it started with the first time.
///
/// What is prepended to the texts comes from outside the chain, so its gradients are returned: the
/// chain sees leaves with the same values.
pub(crate) fn backward<D: Decoder>(model: &D, batch: &LmBatch, loss: &LossOf<'_>) -> Checkpointed {
    let (extra, device) = (&batch.input.extra, &model.device());
    let past = extra.prefix_positions();
    let pass = model.pass(&batch.input, past, past > 0);
    let chain = |model, extra| {
        let mut batch = batch.clone();
        batch.input.extra = extra;
        Chain {
            model,
            batch,
            pass: &pass,
        }
    };
    let leaves = map(extra, leaf, leaf);
    let recorded = chain(model.clone(), leaves.clone());
    let detached = map(extra, Tensor::detach, Tensor::detach);
    let forgetful = chain(model.clone().no_grad(), detached);
    let seed = draw_seed(device);
    let part = |number: usize, make: &dyn Fn() -> Tensor<2>| {
        let seed = seed.wrapping_add(number as u64);
        // Also seeds Burn's own dropout and random tensors, in case a method uses them.
        set_seed(seed, device);
        with_seed(seed, make)
    };

    let mut inputs = vec![part(0, &|| forgetful.start()).without_autodiff()];
    for index in 0..forgetful.model.blocks().len() {
        let input = inputs[index].clone().autodiff();
        let output = part(index + 1, &|| forgetful.block(index, input.clone()));
        inputs.push(output.without_autodiff());
    }
    let mut collected = GradientsAccumulator::new();
    let mut collect = |gradients: Gradients| {
        collected.accumulate(model, GradientsParams::from_grads(gradients, model));
    };

    let last = recorded.model.blocks().len();
    let output = inputs.remove(last).autodiff().require_grad();
    let loss = recorded.finish(output.clone(), loss);
    let mut of_extra = map(extra, |t| zeros(&t), |t| zeros(&t));
    if !loss.is_tracked() {
        return Checkpointed {
            loss: loss.without_autodiff(),
            gradients: collected.grads(),
            extra: of_extra,
        };
    }
    let value = loss.clone().without_autodiff();
    let mut gradients = loss.backward();
    let mut flowing = output.grad_remove(&mut gradients);
    collect(gradients);

    // A block's input needs a gradient if something before it is trained.
    let start = part(0, &|| recorded.start());
    let mut trained: Vec<bool> = recorded.model.blocks().iter().map(is_trained).collect();
    for (trained, (key, value)) in trained.iter_mut().zip(&leaves.keys_and_values) {
        *trained |= key.is_tracked() || value.is_tracked();
    }
    for index in (0..last).rev() {
        let Some(gradient) = flowing.take() else {
            break;
        };
        let before = start.is_tracked() || trained[..index].contains(&true);
        if !before && !trained[index] {
            break;
        }
        let input = inputs.remove(index).autodiff().set_require_grad(before);
        let output = part(index + 1, &|| recorded.block(index, input.clone()));
        let mut gradients = (output * gradient.autodiff()).sum().backward();
        flowing = input.grad_remove(&mut gradients);
        if let Some((key, value)) = leaves.keys_and_values.get(index) {
            let of_layer = &mut of_extra.keys_and_values[index];
            take(key, &mut gradients, &mut of_layer.0);
            take(value, &mut gradients, &mut of_layer.1);
        }
        collect(gradients);
    }
    if let Some(gradient) = flowing.filter(|_| start.is_tracked()) {
        let mut gradients = (start * gradient.autodiff()).sum().backward();
        if let (Some(leaf), Some(place)) = (&leaves.embeddings, &mut of_extra.embeddings) {
            take(leaf, &mut gradients, place);
        }
        collect(gradients);
    }
    Checkpointed {
        loss: value,
        gradients: collected.grads(),
        extra: of_extra,
    }
}

/// The same with every tensor transformed.
fn map(
    extra: &Extra,
    two: impl Fn(Tensor<2>) -> Tensor<2>,
    three: impl Fn(Tensor<3>) -> Tensor<3>,
) -> Extra {
    let layers = extra.keys_and_values.iter().cloned();
    Extra {
        embeddings: extra.embeddings.clone().map(two),
        keys_and_values: layers.map(|(k, v)| (three(k), three(v))).collect(),
    }
}

/// A leaf with the same values, which needs a gradient if the tensor does.
fn leaf<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    let is_tracked = tensor.is_tracked();
    tensor.detach().set_require_grad(is_tracked)
}

fn zeros<const D: usize>(tensor: &Tensor<D>) -> Tensor<D> {
    Tensor::zeros(tensor.dims(), &tensor.device().without_autodiff())
}

/// Moves the gradient of a leaf to its place, if there is one.
fn take<const D: usize>(leaf: &Tensor<D>, gradients: &mut Gradients, place: &mut Tensor<D>) {
    if let Some(gradient) = leaf.grad_remove(gradients) {
        *place = gradient;
    }
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
