//! All trained weights as one vector, in the order of the model.

use std::collections::HashSet;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use burn_peft::parameters::NamedParameter;

use crate::error::{Result, TrainError};

/// The parameters that are trained.
#[derive(Clone, Debug)]
pub(crate) struct Trained(HashSet<ParamId>);

impl Trained {
    /// Those of `parameters` that are trained.
    pub fn new(parameters: &[NamedParameter]) -> Self {
        let trained = parameters
            .iter()
            .filter(|parameter| parameter.requires_grad);
        Self(trained.map(|parameter| parameter.id).collect())
    }

    /// Reads their values, one parameter after the other.
    ///
    /// # Errors
    /// If the device fails.
    pub fn read<M: Module>(&self, model: &M) -> Result<Vec<f32>> {
        let mut reader = Reader {
            trained: self,
            values: Ok(Vec::new()),
        };
        model.visit(&mut reader);
        reader.values
    }

    /// The model with other values.
    pub fn write<M: Module>(&self, model: M, values: &[f32]) -> M {
        model.map(&mut Writer {
            trained: self,
            values,
        })
    }
}

struct Reader<'a> {
    trained: &'a Trained,
    values: Result<Vec<f32>>,
}

impl ModuleVisitor for Reader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Ok(values) = &mut self.values else { return };
        if !self.trained.0.contains(&param.id) {
            return;
        }
        match param.val().try_into_data() {
            Ok(data) => values.extend(data.iter::<f32>()),
            Err(error) => self.values = Err(TrainError::Device(error.to_string())),
        }
    }
}

struct Writer<'a> {
    trained: &'a Trained,
    /// The values that are not yet written.
    values: &'a [f32],
}

impl ModuleMapper for Writer<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if !self.trained.0.contains(&param.id) {
            return param;
        }
        let param = param.map(|tensor| {
            let shape = tensor.shape();
            let (own, rest) = self.values.split_at(shape.num_elements());
            self.values = rest;
            let data = TensorData::new(own.to_vec(), shape).convert_dtype(tensor.dtype());
            Tensor::from_data(data, &tensor.device())
        });
        param.set_require_grad(true)
    }
}
