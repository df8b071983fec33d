//! The norm of all gradients of a step, and clipping to a norm.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{FloatDType, Tensor};
use burn_peft::{GpuTensor, norm_of_all};

/// The norm of all gradients as one vector, `[1]`, still on the device; `None` without gradients.
pub fn global_norm<M: Module>(model: &M, gradients: &GradientsParams) -> Option<Tensor<1>> {
    let mut on_gpu = OnGpu {
        gradients,
        found: Some(Vec::new()),
    };
    model.visit(&mut on_gpu);
    if let Some(found) = on_gpu.found.filter(|found| !found.is_empty()) {
        return Some(norm_of_all(found));
    }
    let mut squares = SumOfSquares {
        gradients,
        found: Vec::new(),
    };
    model.visit(&mut squares);
    if squares.found.is_empty() {
        None
    } else {
        Some(Tensor::cat(squares.found, 0).sum().sqrt())
    }
}

/// The factor for gradients of this norm, as in `torch.nn.utils.clip_grad_norm_`:
/// `max_norm / (norm + 1e-6)`, at most 1. A `max_norm` of 0 leaves the gradients as they are.
pub fn clip_coefficient(norm: f64, max_norm: f64) -> f64 {
    if max_norm > 0.0 {
        (max_norm / (norm + 1e-6)).min(1.0)
    } else {
        1.0
    }
}

/// Multiplies every gradient by `factor`.
pub fn scale<M: Module>(model: &M, gradients: &mut GradientsParams, factor: f64) {
    model.visit(&mut Scale { gradients, factor });
}

/// As [`scale`] with [`clip_coefficient`], but the `norm`, `[1]`, stays on the device.
pub fn clip<M: Module>(model: &M, gradients: &mut GradientsParams, norm: Tensor<1>, max_norm: f64) {
    if max_norm > 0.0 {
        let factor = (norm + 1e-6).recip().mul_scalar(max_norm).clamp_max(1.0);
        model.visit(&mut Clip { gradients, factor });
    }
}

struct Clip<'a> {
    gradients: &'a mut GradientsParams,
    factor: Tensor<1>,
}

impl ModuleVisitor for Clip<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            let factor = self.factor.clone().cast(gradient.dtype()).reshape([1; D]);
            self.gradients.register(param.id, gradient * factor);
        }
    }
}

/// All gradients; `None` if one is not in 32 bits on a GPU.
struct OnGpu<'a> {
    gradients: &'a GradientsParams,
    found: Option<Vec<GpuTensor>>,
}

impl ModuleVisitor for OnGpu<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(found) = &mut self.found else { return };
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            match GpuTensor::of(&gradient) {
                Some(gradient) => found.push(gradient),
                None => self.found = None,
            }
        }
    }
}

struct SumOfSquares<'a> {
    gradients: &'a GradientsParams,
    found: Vec<Tensor<1>>,
}

impl ModuleVisitor for SumOfSquares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            // In half precision the squares would overflow.
            self.found
                .push(gradient.cast(FloatDType::F32).square().sum());
        }
    }
}

struct Scale<'a> {
    gradients: &'a mut GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients
                .register(param.id, gradient.mul_scalar(self.factor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Two {
        a: Param<Tensor<2>>,
        b: Param<Tensor<1>>,
        frozen: Param<Tensor<1>>,
    }

    #[test]
    fn the_norm_is_over_all_gradients_and_clipping_keeps_their_direction() {
        let device = Device::flex().autodiff();
        let model = Two {
            a: Param::from_data([[1.0, 1.0]], &device),
            b: Param::from_data([1.0], &device),
            frozen: Param::<Tensor<1>>::from_data([1.0], &device).set_require_grad(false),
        };
        // Gradients 2, 3 and 6: a norm of 7.
        let weights = Tensor::<2>::from_data([[2.0, 3.0]], &device);
        let gradients = || {
            let loss =
                (model.a.val() * weights.clone()).sum() + model.b.val() * 6.0 * model.frozen.val();
            GradientsParams::from_grads(loss.backward(), &model)
        };
        let mut on_device = gradients();
        let mut gradients = gradients();

        let norm = global_norm(&model, &gradients)
            .unwrap()
            .into_scalar::<f64>();
        assert!((norm - 7.0).abs() < 1e-6, "{norm}");
        assert!((clip_coefficient(norm, 0.7) - 0.1).abs() < 1e-6);
        assert_eq!(clip_coefficient(norm, 7.5), 1.0);
        assert_eq!(clip_coefficient(norm, 0.0), 1.0);
        assert_eq!(clip_coefficient(0.0, 1.0), 1.0);

        for most in [0.7, 7.5] {
            let before = global_norm(&model, &on_device).unwrap();
            clip(&model, &mut on_device, before, most);
            let after = global_norm(&model, &on_device)
                .unwrap()
                .into_scalar::<f64>();
            assert!((after - 0.7).abs() < 1e-6, "{after}");
        }

        scale(&model, &mut gradients, clip_coefficient(norm, 0.7));
        let a: Vec<f32> = gradients
            .get::<2>(model.a.id)
            .unwrap()
            .into_data()
            .iter()
            .collect();
        assert!(
            (a[0] - 0.2).abs() < 1e-6 && (a[1] - 0.3).abs() < 1e-6,
            "{a:?}"
        );
        let norm = global_norm(&model, &gradients)
            .unwrap()
            .into_scalar::<f64>();
        assert!((norm - 0.7).abs() < 1e-6, "{norm}");
        assert!(global_norm(&model, &GradientsParams::new()).is_none());
    }
}
