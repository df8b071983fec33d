//! Parameters of any rank behind one object-safe trait.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{FloatDType, Gradients, Tensor, TensorData};

/// A float parameter of any rank: what files, counts and freezing need of it.
pub trait AnyParam {
    /// Burn's identity of the parameter.
    fn id(&self) -> ParamId;
    /// The shape, without initialising a lazy parameter.
    fn dims(&self) -> Vec<usize>;
    /// The values, on the host.
    fn to_data(&self) -> TensorData;
    /// Replaces the values, keeping identity, device and trainable state.
    ///
    /// With `transposed` the data hold the last two axes the other way round.
    ///
    /// # Panics
    /// If the shape differs: callers check it first, to name the tensor and the file.
    fn set_data(&mut self, data: TensorData, transposed: bool);
    /// Whether training changes the parameter.
    fn requires_grad(&self) -> bool;
    /// Sets whether training changes the parameter.
    fn set_requires_grad(&mut self, requires_grad: bool);
    /// The gradient of the last backward pass, if there is one.
    fn gradient(&self, gradients: &Gradients) -> Option<TensorData>;

    /// Keeps the values in another type, identity and trainable state as they were.
    fn cast(&mut self, dtype: FloatDType);

    /// Lets go of the values, which are kept elsewhere: the shape stays, and every value is NaN,
    /// so that whoever takes them for the values sees it.
    fn release(&mut self);

    /// The number of values.
    fn num_elements(&self) -> usize {
        self.dims().iter().product()
    }
}

impl<const D: usize> AnyParam for Param<Tensor<D>> {
    fn id(&self) -> ParamId {
        self.id
    }

    fn dims(&self) -> Vec<usize> {
        self.lazy_shape().to_vec()
    }

    fn to_data(&self) -> TensorData {
        self.val().to_data()
    }

    fn set_data(&mut self, data: TensorData, transposed: bool) {
        let device = self.lazy_device();
        let tensor = Tensor::<D>::from_data(data, &device.clone().without_autodiff());
        let tensor = if transposed {
            tensor.swap_dims(D - 2, D - 1)
        } else {
            tensor
        };
        assert_eq!(tensor.dims().to_vec(), self.dims(), "shape of a parameter");
        let tensor = if device.is_autodiff() {
            tensor.autodiff()
        } else {
            tensor
        };
        *self = if self.is_initialized() {
            let requires_grad = self.requires_grad();
            Param::initialized(self.id, tensor).set_require_grad(requires_grad)
        } else {
            // Spares the lazy initialisation of a value that nobody will see.
            self.clone().transform_for_load(tensor, self.id)
        };
    }

    fn requires_grad(&self) -> bool {
        if self.is_initialized() && self.val().is_require_grad() {
            return true;
        }
        // On a plain device Burn keeps the flag to itself until `train` puts it into effect, and
        // of a lazy parameter it tells only a stand-in: asking must not make the value.
        let probe = match self.is_initialized() {
            true => self.clone(),
            false => {
                let stand_in = Tensor::zeros([1; D], &self.lazy_device());
                self.clone().transform_for_load(stand_in, self.id)
            }
        };
        probe.train().val().is_require_grad()
    }

    fn set_requires_grad(&mut self, requires_grad: bool) {
        *self = self.clone().set_require_grad(requires_grad);
    }

    fn cast(&mut self, dtype: FloatDType) {
        *self = self.clone().map(|value| value.cast(dtype));
    }

    fn release(&mut self) {
        let (device, shape) = (self.lazy_device(), self.lazy_shape());
        let one = Tensor::<D>::full([1; D], f32::NAN, &device.clone().without_autodiff());
        // A view: one value is all the memory it takes.
        let values = one.expand(shape);
        let values = match device.is_autodiff() {
            true => values.autodiff(),
            false => values,
        };
        *self = Param::initialized(self.id, values).set_require_grad(false);
    }

    fn gradient(&self, gradients: &Gradients) -> Option<TensorData> {
        self.val()
            .grad(gradients)
            .map(|gradient| gradient.to_data())
    }
}
