//! Adds up what the ranks have found in a step (gradients, losses, counts), in one buffer.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{FloatDType, Tensor, TensorData};
use burn_peft::parameters::NamedParameter;

use crate::error::{Result, TrainError};
use crate::exchange::Exchange;
use crate::optimizer::trained::Trained;
use crate::run::target::TrainTarget;

/// What one rank has found in a step, or all ranks together.
pub(crate) struct Found {
    /// The gradients of the mean loss.
    pub gradients: GradientsParams,
    /// The mean loss.
    pub loss: f64,
    /// What the sum of the losses was divided by; 0 where the sum itself was taken.
    pub denominator: f64,
    /// The sum of the batches' `Objective::count`.
    pub count: usize,
    /// What was measured besides the loss.
    pub sums: Vec<f64>,
    /// The number of tokens.
    pub tokens: usize,
    /// Whether the rank was told to stop.
    pub told_to_stop: bool,
}

impl Found {
    /// Adds up what all ranks have found, in one exchange. Every rank measures at most `sums` sums.
    ///
    /// A parameter has a gradient if any rank has found one. Counts are exact up to 2^24. Without
    /// `with_gradients`, the gradients stay this rank's own.
    pub fn of_all<M: Module>(
        self,
        exchange: &dyn Exchange,
        model: &M,
        sums: usize,
        with_gradients: bool,
    ) -> Result<Self> {
        let mut flat = Flat {
            gradients: &self.gradients,
            found: Vec::new(),
            is_there: Vec::new(),
        };
        if with_gradients {
            model.visit(&mut flat);
        }
        let of_means = |denominator: f64| if denominator > 0.0 { denominator } else { 1.0 };
        let denominator = of_means(self.denominator);
        let mut buffer = Vec::new();
        if !flat.found.is_empty() {
            let all = Tensor::cat(flat.found, 0) * denominator;
            let data = all.try_into_data();
            let data = data.map_err(|error| TrainError::Device(error.to_string()))?;
            buffer.extend(data.iter::<f32>());
        }
        let (values, flags) = (buffer.len(), buffer.len() + flat.is_there.len());
        buffer.extend(flat.is_there);
        let flag = |is: bool| f64::from(u8::from(is));
        let numbers = [
            self.denominator,
            self.loss * denominator,
            self.count as f64,
            self.tokens as f64,
            flag(self.told_to_stop),
            flag(!self.sums.is_empty()),
        ];
        buffer.extend(numbers.iter().map(|&number| number as f32));
        buffer.extend(self.sums.iter().map(|&sum| sum as f32));
        buffer.resize(flags + numbers.len() + sums, 0.0);

        exchange.sum(&mut buffer)?;

        let (gradients, of_all) = buffer.split_at(flags);
        let of_all: Vec<f64> = of_all.iter().map(|&number| f64::from(number)).collect();
        let [of_denominator, loss, count, tokens, told, measured] = numbers_of(&of_all);
        let denominator = of_means(of_denominator);
        let factor = (1.0 / denominator) as f32;
        let gradients = if with_gradients {
            let mut back = Back {
                values: gradients[..values].iter().map(|value| value * factor),
                is_there: gradients[values..].iter(),
                gradients: GradientsParams::new(),
            };
            model.visit(&mut back);
            back.gradients
        } else {
            self.gradients
        };
        let sums = if measured > 0.0 {
            of_all[numbers.len()..].to_vec()
        } else {
            Vec::new()
        };
        Ok(Self {
            gradients,
            loss: loss / denominator,
            denominator: of_denominator,
            count: count as usize,
            sums,
            tokens: tokens as usize,
            told_to_stop: told > 0.0,
        })
    }
}

/// The first `N` numbers of `all`.
fn numbers_of<const N: usize>(all: &[f64]) -> [f64; N] {
    std::array::from_fn(|index| all.get(index).copied().unwrap_or_default())
}

/// The gradients of all trained parameters, one after the other; zeros where there is none.
struct Flat<'a> {
    gradients: &'a GradientsParams,
    found: Vec<Tensor<1>>,
    /// 1 for each parameter with a gradient, 0 for the others.
    is_there: Vec<f32>,
}

impl ModuleVisitor for Flat<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let gradient = self.gradients.get::<D>(param.id);
        self.is_there.push(match gradient {
            Some(_) => 1.0,
            None => 0.0,
        });
        let gradient = gradient.unwrap_or_else(|| {
            let value = param.val().inner();
            Tensor::zeros(value.shape(), &value.device())
        });
        let size = gradient.shape().num_elements();
        let gradient = gradient.cast(FloatDType::F32).reshape([size]);
        self.found.push(gradient);
    }
}

/// Turns the values back into gradients.
struct Back<I, J> {
    values: I,
    is_there: J,
    gradients: GradientsParams,
}

impl<'a, I: Iterator<Item = f32>, J: Iterator<Item = &'a f32>> ModuleVisitor for Back<I, J> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let value = param.val().inner();
        let shape = value.shape();
        let values: Vec<f32> = self.values.by_ref().take(shape.num_elements()).collect();
        if self.is_there.next().is_some_and(|&ranks| ranks > 0.0) {
            let data = TensorData::new(values, shape);
            let gradient = Tensor::<D>::from_data(data, &value.device()).cast(value.dtype());
            self.gradients.register(param.id, gradient);
        }
    }
}

/// Gives every rank the first rank's values of all trained parameters.
pub(crate) fn hand_out<M: TrainTarget>(
    exchange: &dyn Exchange,
    model: M,
    parameters: &[NamedParameter],
) -> Result<M> {
    if exchange.size() == 1 {
        return Ok(model);
    }
    let trained = Trained::new(parameters);
    let own = trained.read(&model)?;
    let mut bytes: Vec<u8> = own.iter().flat_map(|value| value.to_le_bytes()).collect();
    let expected = bytes.len();
    exchange.broadcast(0, &mut bytes)?;
    if bytes.len() != expected {
        return Err(TrainError::Exchange(format!(
            "{} trains {expected} bytes of weights and rank 0 {}: give all ranks the same files",
            exchange.name(),
            bytes.len()
        )));
    }
    let (values, _) = bytes.as_chunks::<4>();
    let values: Vec<f32> = values
        .iter()
        .map(|value| f32::from_le_bytes(*value))
        .collect();
    Ok(trained.write(model, &values))
}
