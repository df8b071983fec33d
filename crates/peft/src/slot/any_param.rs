//! Parameters of any rank behind one object-safe trait.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{DType, Device, FloatDType, Gradients, Tensor, TensorData};

/// What makes the values of a parameter when they are first asked for.
pub type LazyData = Box<dyn FnOnce() -> TensorData + Send + Sync>;

/// A float parameter of any rank: what files, counts and freezing need of it.
pub trait AnyParam {
    /// Burn's identity of the parameter.
    fn id(&self) -> ParamId;
    /// The shape, without initialising a lazy parameter.
    fn dims(&self) -> Vec<usize>;
    /// A copy of the parameter with the same values.
    fn share(&self) -> Box<dyn AnyParam>;
    /// The values, on the host.
    fn to_data(&self) -> TensorData;
    /// Replaces the values, keeping identity, device and trainable state.
    ///
    /// With `transposed` the data hold the last two axes the other way round.
    ///
    /// # Panics
    /// If the shape differs: callers check it first, to name the tensor and the file.
    fn set_data(&mut self, data: TensorData, transposed: bool);
    /// As [`set_data`](Self::set_data) when the values are first asked for, which may be never:
    /// until then none are held. Values that `data` makes in 16 bits stay so.
    ///
    /// # Panics
    /// When the values are first asked for, if `data` makes another shape.
    fn set_lazily(&mut self, data: LazyData, transposed: bool) {
        self.set_data(data(), transposed);
    }
    /// Whether training changes the parameter.
    fn requires_grad(&self) -> bool;
    /// Sets whether training changes the parameter.
    fn set_requires_grad(&mut self, requires_grad: bool);
    /// The gradient of the last backward pass, if there is one.
    fn gradient(&self, gradients: &Gradients) -> Option<TensorData>;

    /// Keeps the values in another type, identity and trainable state as they were.
    fn cast(&mut self, dtype: FloatDType);

    /// Releases the values, which are kept elsewhere. The shape stays, and every value is NaN, so
    /// that using them by mistake shows.
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

    fn share(&self) -> Box<dyn AnyParam> {
        Box::new(self.clone())
    }

    fn to_data(&self) -> TensorData {
        self.val().to_data()
    }

    fn set_data(&mut self, data: TensorData, transposed: bool) {
        let tensor = on_device(data, transposed, &self.lazy_device());
        assert_eq!(tensor.dims().to_vec(), self.dims(), "shape of a parameter");
        *self = if self.is_initialized() {
            let requires_grad = self.requires_grad();
            Param::initialized(self.id, tensor).set_require_grad(requires_grad)
        } else {
            // Avoids the lazy initialisation of a value that nothing uses.
            self.clone().transform_for_load(tensor, self.id)
        };
    }

    fn set_lazily(&mut self, data: LazyData, transposed: bool) {
        let (device, shape) = (self.lazy_device(), self.lazy_shape());
        let expected = shape.clone();
        let init = move |device: &Device, requires_grad: bool| {
            let tensor: Tensor<D> = on_device(data(), transposed, device);
            assert_eq!(tensor.shape(), expected, "shape of a parameter");
            tensor.set_require_grad(requires_grad)
        };
        *self = Self::uninitialized(self.id, init, device, self.requires_grad(), shape);
    }

    fn requires_grad(&self) -> bool {
        if self.is_initialized() && self.val().is_require_grad() {
            return true;
        }
        // On a plain device Burn keeps the flag to itself until `train` puts it into effect, and
        // of a lazy parameter it tells only a stand-in: asking must not make the value.
        let probe = if self.is_initialized() {
            self.clone()
        } else {
            let stand_in = Tensor::zeros([1; D], &self.lazy_device());
            self.clone().transform_for_load(stand_in, self.id)
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
        let values = if device.is_autodiff() {
            values.autodiff()
        } else {
            values
        };
        *self = Param::initialized(self.id, values).set_require_grad(false);
    }

    fn gradient(&self, gradients: &Gradients) -> Option<TensorData> {
        self.val()
            .grad(gradients)
            .map(|gradient| gradient.to_data())
    }
}

/// A tensor of these values, whose last two axes may be the other way round.
fn on_device<const D: usize>(data: TensorData, transposed: bool, device: &Device) -> Tensor<D> {
    let plain = device.clone().without_autodiff();
    let tensor = match data.dtype() {
        dtype @ (DType::F16 | DType::BF16) => Tensor::<D>::from_data(data, (&plain, dtype)),
        _ => Tensor::<D>::from_data(data, &plain),
    };
    let tensor = if transposed {
        tensor.swap_dims(D - 2, D - 1)
    } else {
        tensor
    };
    if device.is_autodiff() {
        tensor.autodiff()
    } else {
        tensor
    }
}
