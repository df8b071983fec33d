//! Parameters of any rank behind an object-safe trait.

use std::cell::Cell;

use burn::module::{Module, Param, ParamId};
use burn::tensor::{DType, Device, FloatDType, Gradients, Tensor, TensorData};

/// Makes the values of a parameter when they are first needed. If they are about to be
/// [cast](AnyParam::cast), it gets the target type and may make them in it directly.
pub type LazyData = Box<dyn FnOnce(Option<FloatDType>) -> TensorData + Send + Sync>;

thread_local! {
    /// The type that a parameter is being cast to.
    static CAST_TO: Cell<Option<FloatDType>> = const { Cell::new(None) };
}

/// Runs `body`, during which values are read in order to be cast to `dtype`.
fn casting_to<R>(dtype: FloatDType, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<FloatDType>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CAST_TO.set(self.0);
        }
    }
    let _restore = Restore(CAST_TO.replace(Some(dtype)));
    body()
}

/// A float parameter of any rank, as files, counts and freezing see it.
pub trait AnyParam {
    /// Burn's identity of the parameter.
    fn id(&self) -> ParamId;
    /// The shape, without initialising a lazy parameter.
    fn dims(&self) -> Vec<usize>;
    /// A copy of the parameter with the same values.
    fn share(&self) -> Box<dyn AnyParam>;
    /// The values, read to the host.
    fn to_data(&self) -> TensorData;
    /// Replaces the values, keeping identity, device and trainable state.
    ///
    /// With `transposed`, the last two axes of the data are swapped.
    ///
    /// # Panics
    /// If the shape differs; callers check it first, to name the tensor and the file.
    fn set_data(&mut self, data: TensorData, transposed: bool);
    /// Like [`set_data`](Self::set_data), but `data` runs only when the values are first needed,
    /// which may be never; until then none are stored. Values that `data` returns in 16 bits stay
    /// in 16 bits.
    ///
    /// # Panics
    /// When the values are first needed, if `data` returns another shape.
    fn set_lazily(&mut self, data: LazyData, transposed: bool) {
        self.set_data(data(None), transposed);
    }
    /// Whether training changes the parameter.
    fn requires_grad(&self) -> bool;
    /// Sets whether training changes the parameter.
    fn set_requires_grad(&mut self, requires_grad: bool);
    /// Stores the values of a trained parameter in the order of its axes, as a step leaves them. A
    /// transposed view uses a different product, whose last bits may differ.
    fn lay_in_order(&mut self) {
        if self.requires_grad() {
            self.set_data(self.to_data(), false);
        }
    }
    /// The gradient of the last backward pass, if there is one.
    fn gradient(&self, gradients: &Gradients) -> Option<TensorData>;

    /// Stores the values in another type, keeping identity and trainable state. Lazy values, also
    /// those of clones, may never exist in 32 bits.
    fn cast(&mut self, dtype: FloatDType);

    /// Releases the values, which are stored elsewhere. The shape stays, and every value is NaN, so
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
            // Avoids initialising a lazy value that nothing uses.
            self.clone().transform_for_load(tensor, self.id)
        };
    }

    fn set_lazily(&mut self, data: LazyData, transposed: bool) {
        let (device, shape) = (self.lazy_device(), self.lazy_shape());
        let expected = shape.clone();
        let init = move |device: &Device, requires_grad: bool| {
            let tensor: Tensor<D> = on_device(data(CAST_TO.get()), transposed, device);
            assert_eq!(tensor.shape(), expected, "shape of a parameter");
            tensor.set_require_grad(requires_grad)
        };
        *self = Self::uninitialized(self.id, init, device, self.requires_grad(), shape);
    }

    fn requires_grad(&self) -> bool {
        if self.is_initialized() && self.val().is_require_grad() {
            return true;
        }
        // On a plain device Burn stores the flag until `train` applies it; for a lazy parameter it
        // uses a placeholder: asking must not initialise the value.
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
        casting_to(dtype, || drop(self.val()));
        *self = self.clone().map(|value| value.cast(dtype));
    }

    fn release(&mut self) {
        let (device, shape) = (self.lazy_device(), self.lazy_shape());
        let one = Tensor::<D>::full([1; D], f32::NAN, &device.clone().without_autodiff());
        // A view: it takes the memory of a single value.
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

/// A tensor with these values, whose last two axes may be swapped.
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// Only values that are read in order to be cast are read in the target type.
    #[test]
    fn what_is_read_is_told_the_type_it_is_cast_to() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let param = || {
            let told = Arc::clone(&told);
            let mut param = Param::from_tensor(Tensor::<1>::zeros([2], &Device::flex()));
            let data = move |dtype: Option<FloatDType>| {
                told.lock().unwrap().push(dtype);
                let data = TensorData::from([1.0f32, 2.0]);
                dtype.map_or(data.clone(), |dtype| data.convert_dtype(dtype.into()))
            };
            param.set_lazily(Box::new(data), false);
            param
        };
        let (mut cast, kept) = (param(), param());
        assert!(told.lock().unwrap().is_empty());
        cast.cast(FloatDType::BF16);
        assert_eq!(kept.val().dtype(), DType::F32);
        assert_eq!(cast.val().dtype(), DType::BF16);
        assert_eq!(*told.lock().unwrap(), [Some(FloatDType::BF16), None]);
        assert_eq!(cast.to_data().convert::<f32>(), kept.to_data());
    }
}
