//! A quantised weight in the place of a parameter.

use burn::module::ParamId;
use burn::tensor::{FloatDType, Gradients, Tensor, TensorData};
use burn_peft_kernels::QuantizedWeight;

use crate::AnyParam;

/// The weight of a layer whose own parameter was released: its identity, with the values that the
/// codes stand for.
#[derive(Clone)]
pub(crate) struct QuantizedParam {
    pub(crate) id: ParamId,
    pub(crate) weight: QuantizedWeight,
}

impl AnyParam for QuantizedParam {
    fn id(&self) -> ParamId {
        self.id
    }

    fn dims(&self) -> Vec<usize> {
        self.weight.dims().to_vec()
    }

    fn share(&self) -> Box<dyn AnyParam> {
        Box::new(self.clone())
    }

    fn to_data(&self) -> TensorData {
        self.weight.dequantize().into_data()
    }

    fn set_data(&mut self, data: TensorData, transposed: bool) {
        let device = self.weight.absmax().device().without_autodiff();
        let weight = Tensor::<2>::from_data(data, &device);
        let weight = if transposed {
            weight.transpose()
        } else {
            weight
        };
        assert_eq!(weight.dims(), self.weight.dims(), "shape of a parameter");
        self.weight = self.weight.requantized(weight);
    }

    fn requires_grad(&self) -> bool {
        false
    }

    /// Does nothing: codes are not trained.
    fn set_requires_grad(&mut self, _requires_grad: bool) {}

    fn gradient(&self, _gradients: &Gradients) -> Option<TensorData> {
        None
    }

    /// Does nothing: the weight is kept as codes.
    fn cast(&mut self, _dtype: FloatDType) {}

    /// Does nothing: there are no dense values to release.
    fn release(&mut self) {}
}
