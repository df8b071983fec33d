//! A weight in blocks in the place of a parameter.

use burn::module::ParamId;
use burn::tensor::{FloatDType, Gradients, TensorData};
use burn_peft_kernels::{BlockWeight, cpu_device};

use crate::AnyParam;

/// The weight of a layer whose own parameter was released: its identity, with the values that the
/// blocks stand for.
#[derive(Clone)]
pub(crate) struct BlockParam {
    pub(crate) id: ParamId,
    pub(crate) weight: BlockWeight,
    /// What the layer's own parameter is to hold in the place of the blocks.
    pub(crate) dense: Option<Dense>,
}

/// Values for a parameter.
#[derive(Clone)]
pub(crate) struct Dense {
    pub(crate) data: TensorData,
    pub(crate) transposed: bool,
    pub(crate) requires_grad: bool,
}

impl BlockParam {
    pub(crate) fn new(id: ParamId, weight: BlockWeight) -> Self {
        Self {
            id,
            weight,
            dense: None,
        }
    }
}

impl AnyParam for BlockParam {
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

    /// From here on the layer has the values as a parameter.
    fn set_data(&mut self, data: TensorData, transposed: bool) {
        self.dense = Some(Dense {
            data,
            transposed,
            requires_grad: false,
        });
    }

    fn requires_grad(&self) -> bool {
        false
    }

    /// Blocks are not trained: a parameter of their values is.
    fn set_requires_grad(&mut self, requires_grad: bool) {
        if requires_grad {
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

    /// The blocks stay; with `BF16` their products may round as those of such a weight do.
    fn cast(&mut self, dtype: FloatDType) {
        if dtype == FloatDType::BF16 {
            self.weight = self.weight.in_bf16();
        }
    }

    /// Does nothing: there are no dense values to release.
    fn release(&mut self) {}
}
