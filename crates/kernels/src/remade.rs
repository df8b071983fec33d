//! Outputs that are recomputed for a gradient, because that costs less than keeping them.
//!
//! A norm and an activation keep their inputs, and a linear layer after them would also keep its
//! input, for the gradients of its weight or of LoRA. It asks here first: an input that can be made
//! from tensors which are kept anyway need not be kept too. The values are the same, bit for bit.
//! Costly ones before a product in eight bits are kept after all, in bf16.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use burn::backend::Flex;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;

use crate::flex::{OnTape, values};
use crate::kept::Kept;

/// The values of an output, made when they are first asked for and then shared by all who hold it.
pub(crate) struct Remade {
    make: Box<dyn Fn() -> Vec<f32> + Send + Sync>,
    made: OnceLock<Vec<f32>>,
    /// Whether making them takes far longer than reading them.
    is_costly: bool,
    /// The values, if somebody kept them.
    kept: OnceLock<Kept>,
}

impl Remade {
    /// `make` makes the values, row after row, as the forward pass did.
    pub(crate) fn new(make: impl Fn() -> Vec<f32> + Send + Sync + 'static) -> Arc<Self> {
        Self::with_cost(make, false)
    }

    /// The same for values that take long to make.
    pub(crate) fn costly(make: impl Fn() -> Vec<f32> + Send + Sync + 'static) -> Arc<Self> {
        Self::with_cost(make, true)
    }

    fn with_cost(
        make: impl Fn() -> Vec<f32> + Send + Sync + 'static,
        is_costly: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            make: Box::new(make),
            made: OnceLock::new(),
            is_costly,
            kept: OnceLock::new(),
        })
    }

    /// Keeps costly values in bf16 after all. This is for a product that rounds them anyway.
    pub(crate) fn keep_if_costly(&self, values: &FloatTensor<Flex>) {
        if self.is_costly {
            self.kept.get_or_init(|| Kept::new(values.clone(), true));
        }
    }

    pub(crate) fn values(&self) -> &[f32] {
        self.made.get_or_init(|| match self.kept.get() {
            Some(kept) => kept.wide().into_owned(),
            None => (self.make)(),
        })
    }
}

impl fmt::Debug for Remade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remade").finish_non_exhaustive()
    }
}

/// A tensor whose values a gradient needs: kept row after row, or recomputed.
#[derive(Clone, Debug)]
pub(crate) enum Needed {
    Kept(FloatTensor<Flex>),
    Remade(Arc<Remade>),
}

impl Needed {
    pub(crate) fn values(&self) -> &[f32] {
        match self {
            Self::Kept(tensor) => values(tensor),
            Self::Remade(remade) => remade.values(),
        }
    }
}

thread_local! {
    /// Outputs whose operations may still run their backward passes.
    static KNOWN: RefCell<HashMap<NodeId, Weak<Remade>>> = RefCell::default();
}

/// Records how an output is recomputed. The caller holds `remade` until its own backward pass.
pub(crate) fn can_remake<C: CheckpointStrategy>(output: &OnTape<C>, remade: &Arc<Remade>) {
    KNOWN.with_borrow_mut(|known| {
        known.retain(|_, remade| remade.strong_count() > 0);
        known.insert(output.id(), Arc::downgrade(remade));
    });
}

/// How a tensor is recomputed, if it is known.
pub(crate) fn remade<C: CheckpointStrategy>(tensor: &OnTape<C>) -> Option<Arc<Remade>> {
    KNOWN.with_borrow(|known| known.get(&tensor.id())?.upgrade())
}

#[cfg(test)]
mod tests {
    use burn::backend::TensorMetadata;
    use burn::tensor::{DType, Tensor};

    use crate::cpu::ActivationKind::{GeluTanh, Silu};
    use crate::testing::random;
    use crate::{AttentionOptions, Pairing, Span, Texts, attention, rope};
    use crate::{Lora, activate, glu, layer_norm, linear, rms_norm};

    const SHAPE: [usize; 2] = [30, 20];

    fn on_tape(tensor: &Tensor<2>) -> Tensor<2> {
        tensor.clone().autodiff().require_grad()
    }

    fn outputs(x: &Tensor<2>, y: &Tensor<2>) -> [Tensor<2>; 4] {
        let weight = random([1, SHAPE[1]], 1.0).squeeze_dim::<1>(0);
        let [x, y] = [on_tape(x), on_tape(y)];
        [
            layer_norm(x.clone(), weight.clone(), None, 1e-5),
            rms_norm(x.clone(), weight, 1e-5, 1.0),
            activate(x.clone(), GeluTanh, DType::F32),
            glu(x, y, Silu, DType::F32),
        ]
    }

    fn layer(x: Tensor<2>, a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
        let lora = Lora {
            a: a.clone(),
            b: b.clone(),
            scaling: 1.0,
            dropout: 0.0,
        };
        let weight = Tensor::ones([SHAPE[1], 10], &x.device());
        linear(x, weight, None, None, Some(lora))
    }

    /// Queries are recomputed through norm and rotation, and so is attention's output; the
    /// gradients are the same, bit for bit.
    #[test]
    fn attention_keeps_neither_queries_nor_its_output() {
        let [heads, head_dim, tokens] = [2, 10, SHAPE[0]];
        let weight = random([1, head_dim], 1.0).squeeze_dim::<1>(0);
        let [cos, sin] = [(); 2].map(|()| random([tokens, head_dim / 2], 1.0));
        let span = Span {
            start: 0,
            queries: tokens,
            keys: tokens,
        };
        let texts = Texts::new(vec![span]);
        let options = AttentionOptions::new(heads, 1, head_dim);
        let x = random(SHAPE, 1.0);
        let [k, v] = [(); 2].map(|()| random([tokens, head_dim], 1.0));
        let (a, b) = (random([4, SHAPE[1]], 1.0), random([10, 4], 1.0));
        let run = |pass: &dyn Fn(Tensor<2>) -> Tensor<2>| {
            let [x, a, b] = [&x, &a, &b].map(on_tape);
            let normed = pass(rms_norm(x.clone(), weight.clone(), 1e-5, 0.0));
            let q = rope(normed, cos.clone(), sin.clone(), heads, Pairing::Halves);
            let q = pass(q);
            let qkv = [q.clone(), k.clone(), v.clone()];
            let attended = pass(attention(qkv, &texts, options, 0.0));
            let result = layer(attended.clone(), &a, &b);
            let free = [q, attended].map(|tensor| tensor.into_dispatch().can_mut());
            let gradients = result.sum().backward();
            let gradients = [&x, &a].map(|input| input.grad(&gradients).unwrap().into_data());
            (free, gradients)
        };
        let (free, found) = run(&|tensor| tensor);
        // How it is made is lost on the way.
        let (kept, wanted) = run(&|tensor| tensor.mul_scalar(1.0));
        assert_eq!([free, kept], [[true; 2], [false; 2]]);
        for (found, wanted) in found.iter().zip(&wanted) {
            found.assert_eq(wanted, true);
        }
    }

    /// Nobody keeps the output, and the gradients are those of a layer that keeps it, bit for bit.
    #[test]
    fn is_not_kept_and_gives_the_same_gradients() {
        let (x, y) = (random(SHAPE, 1.0), random(SHAPE, 1.0));
        let (a, b) = (random([4, SHAPE[1]], 1.0), random([10, 4], 1.0));
        for output in outputs(&x, &y) {
            let [a, b] = [on_tape(&a), on_tape(&b)];
            let kept = on_tape(&output.clone().inner().mul_scalar(1.0));
            let gradient = |x: Tensor<2>| {
                let gradients = layer(x, &a, &b).sum().backward();
                a.grad(&gradients).unwrap().into_data()
            };
            let wanted = gradient(kept.clone());
            let result = layer(output.clone(), &a, &b);
            assert!(output.into_dispatch().can_mut());
            let gradients = result.sum().backward();
            let found = a.grad(&gradients).unwrap().into_data();
            found.assert_eq(&wanted, true);
            // What cannot be recomputed is kept.
            let result = layer(kept.clone(), &a, &b);
            assert!(!kept.into_dispatch().can_mut());
            drop(result);
        }
    }
}
