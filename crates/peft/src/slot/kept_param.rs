//! A stored weight that appears as a parameter.

use burn::module::ParamId;
use burn::tensor::{FloatDType, Gradients, Tensor, TensorData};
use burn_peft_kernels::cpu_device;

use super::kept::Kept;
use crate::AnyParam;

/// The weight of a layer whose own parameter was released: its identity, with the values that are
/// stored elsewhere.
#[derive(Clone)]
pub(crate) struct KeptParam {
    pub(crate) id: ParamId,
    pub(crate) weight: Kept,
    /// The values that the layer's own parameter is to hold instead.
    pub(crate) dense: Option<Dense>,
}

/// Values for a parameter.
#[derive(Clone)]
pub(crate) struct Dense {
    pub(crate) data: TensorData,
    pub(crate) transposed: bool,
    pub(crate) requires_grad: bool,
}

impl KeptParam {
    pub(crate) fn new(id: ParamId, weight: Kept) -> Self {
        Self {
            id,
            weight,
            dense: None,
        }
    }
}

impl AnyParam for KeptParam {
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
        self.weight.dequantize(&cpu_device()).into_data()
    }

    /// A rounded weight is rounded again; for blocks, the layer gets the values as a parameter from
    /// now on.
    fn set_data(&mut self, data: TensorData, transposed: bool) {
        if let Kept::Blocks(_) = self.weight {
            self.dense = Some(Dense {
                data,
                transposed,
                requires_grad: false,
            });
            return;
        }
        let weight = Tensor::<2>::from_data(data, &self.weight.device());
        let weight = if transposed {
            weight.transpose()
        } else {
            weight
        };
        assert_eq!(weight.dims(), self.weight.dims(), "shape of a parameter");
        if let Some(weight) = self.weight.requantized(weight) {
            self.weight = weight;
        }
    }

    fn requires_grad(&self) -> bool {
        false
    }

    /// Blocks cannot be trained: the layer gets a parameter with their values. Does nothing for
    /// other forms.
    fn set_requires_grad(&mut self, requires_grad: bool) {
        if requires_grad && let Kept::Blocks(_) = self.weight {
            self.dense = Some(Dense {
                data: self.to_data(),
                transposed: false,
                requires_grad,
            });
        }
    }

    fn gradient(&self, _gradients: &Gradients) -> Option<TensorData> {
        None
    }

    /// Changes nothing that is stored; with `BF16`, products with blocks may round as products with
    /// a bf16 weight do.
    fn cast(&mut self, dtype: FloatDType) {
        if let Kept::Blocks(weight) = &mut self.weight
            && dtype == FloatDType::BF16
        {
            *weight = weight.in_bf16();
        }
    }

    /// Does nothing: there are no dense values to release.
    fn release(&mut self) {}
}
