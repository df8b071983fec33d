//! xIELU, an activation with learnt parameters.

use burn::module::{Initializer, Module, Param};
use burn::tensor::activation::softplus;
use burn::tensor::{Device, Tensor};
use burn_peft::{AnyParam, BaseLayer, LayerKind, Tree};

/// `a x² + β x` above zero and `b (exp(min(x, ε)) - 1 - x) + β x` below, with
/// `a = softplus(alpha_p)` and `b = β + softplus(alpha_n)` (arXiv 2411.13010).
#[derive(Module, Debug)]
pub struct Xielu {
    /// The curve above zero, `[1]`.
    pub alpha_p: Param<Tensor<1>>,
    /// The curve below zero, `[1]`.
    pub alpha_n: Param<Tensor<1>>,
    width: usize,
    /// The slope at zero, β.
    pub beta: f64,
    /// Where the exponential begins, ε.
    pub eps: f64,
}

impl Xielu {
    /// A new activation of `width` values, with transformers' initial values.
    pub fn new(width: usize, device: &Device) -> Self {
        let start = |value| Initializer::Constant { value }.init([1], device);
        Self {
            alpha_p: start(Self::initial("alpha_p").into()),
            alpha_n: start(Self::initial("alpha_n").into()),
            width,
            beta: 0.5,
            eps: -1e-6,
        }
    }

    /// The initial values in transformers: curves of 0.8.
    pub fn initial(name: &str) -> f32 {
        let beta: f32 = if name.ends_with("alpha_n") { 0.5 } else { 0.0 };
        (0.8 - beta).exp_m1().ln()
    }
}

impl BaseLayer for Xielu {
    type Input = Tensor<2>;

    fn kind(&self) -> LayerKind {
        LayerKind::Module
    }

    fn dims(&self) -> [usize; 2] {
        [self.width, self.width]
    }

    fn forward_base(&self, x: Tensor<2>) -> Tensor<2> {
        let above = softplus(self.alpha_p.val(), 1.0).unsqueeze();
        let below = (softplus(self.alpha_n.val(), 1.0) + self.beta).unsqueeze();
        let linear = x.clone() * self.beta;
        let exponential = x.clone().clamp_max(self.eps).exp() - 1.0 - x.clone();
        let positive = x.clone().greater_elem(0.0);
        (exponential * below).mask_where(positive, x.square() * above) + linear
    }

    fn forward_with(&self, x: Tensor<2>, _: Tensor<2>, _: Option<Tensor<1>>) -> Tensor<2> {
        self.forward_base(x)
    }

    /// It has no weight that an adapter could change.
    fn weight(&self) -> Tensor<2> {
        self.alpha_p.val().unsqueeze()
    }

    fn set_weight(&mut self, _: Tensor<2>, _: Option<Tensor<1>>) {}

    fn visit_params(&self, visit: &mut dyn FnMut(&str, &dyn AnyParam)) {
        visit("alpha_p", &self.alpha_p);
        visit("alpha_n", &self.alpha_n);
    }

    fn visit_params_mut(&mut self, visit: &mut dyn FnMut(&str, &mut dyn AnyParam)) {
        visit("alpha_p", &mut self.alpha_p);
        visit("alpha_n", &mut self.alpha_n);
    }

    fn device(&self) -> Device {
        self.alpha_p.lazy_device()
    }

    fn describe(&self) -> Tree {
        Tree::Leaf("XIELUActivation()".into())
    }
}
