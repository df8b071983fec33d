//! AdamW for many tensors at once, in one launch.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{MOST_UNITS, empty, view};
use super::many::{Buffers, Lazy, Place, buffer, cubes, place_at, register, size, value_at};
use crate::adamw::{AdamW, Rate, starts};

/// The tensors after the step, then both moments.
pub(crate) fn adamw(
    parameters: Vec<Lazy>,
    gradients: Vec<Lazy>,
    norm: Option<Lazy>,
    moments: Option<[Lazy; 2]>,
    step: AdamW,
    rates: Vec<Rate>,
) -> Vec<Lazy> {
    let count = parameters.len();
    let mut shapes: Vec<Shape> = parameters.iter().map(|lazy| lazy.shape.clone()).collect();
    let lengths = shapes.iter().map(Shape::num_elements);
    let (starts, length) = starts(lengths);
    for (gradient, shape) in gradients.iter().zip(&shapes) {
        assert_eq!(&gradient.shape, shape, "a gradient and its tensor");
    }
    if let Some(norm) = &norm {
        assert_eq!(norm.shape, Shape::from([1]), "the norm");
    }
    for moment in moments.iter().flatten() {
        assert_eq!(moment.shape, Shape::from([length]), "a moment");
    }
    let mut all = parameters.iter().chain(&gradients).chain(&norm);
    let mut moments_of = moments.iter().flatten();
    let is_wide = |lazy: &Lazy| lazy.dtype == DType::F32;
    assert!(all.all(is_wide) && moments_of.all(is_wide), "32-bit floats");
    shapes.extend([Shape::from([length]), Shape::from([length])]);
    let (has_norm, has_moments) = (norm.is_some(), moments.is_some());
    let mut inputs = parameters;
    inputs.extend(gradients);
    inputs.extend(norm);
    inputs.extend(moments.into_iter().flatten());
    register("adamw", inputs, shapes, move |inputs| {
        let mut inputs = inputs.into_iter();
        let parameters = inputs.by_ref().take(count).collect();
        let gradients = inputs.by_ref().take(count).collect();
        let norm = inputs.by_ref().take(usize::from(has_norm)).next();
        let moments: Vec<CubeTensor> = inputs.collect();
        debug_assert_eq!(moments.len(), 2 * usize::from(has_moments));
        launch(
            (parameters, gradients),
            norm,
            moments,
            (&starts, length),
            &step,
            &rates,
        )
    })
}

fn launch(
    (parameters, gradients): (Vec<CubeTensor>, Vec<CubeTensor>),
    norm: Option<CubeTensor>,
    moments: Vec<CubeTensor>,
    (starts, length): (&[usize], usize),
    step: &AdamW,
    rates: &[Rate],
) -> Vec<CubeTensor> {
    let client = parameters[0].client.clone();
    let like = parameters[0].clone();
    let empty = |length: usize| empty(&like, [length], DType::F32);
    let is_first = moments.is_empty();
    let mut moments = moments.into_iter();
    // Written in place, if nobody else looks at them.
    let mut moment = || match moments.next() {
        None => empty(length),
        Some(moment) if moment.can_mut() => moment,
        Some(moment) => moment.copy(),
    };
    let (first, second) = (moment(), moment());
    let updated = empty(length);
    let clips = norm.is_some() && step.max_norm > 0.0;
    let norm = norm.unwrap_or_else(|| empty(1));
    let views = parameters.iter().zip(starts);
    let views = views.map(|(tensor, start)| view(&updated, *start, tensor.shape()));
    let outputs: Vec<_> = views.collect();

    // Besides norm, moments, what is updated, and what CubeCL tells the kernel.
    let most = client.properties().hardware.max_bindings as usize - 5;
    let tensors = parameters.iter().zip(&gradients);
    let mut tensors = tensors.zip(starts.iter().zip(rates)).peekable();
    while tensors.peek().is_some() {
        let (mut buffers, mut changes) = (Buffers::default(), SequenceArg::new());
        let (mut of_parameters, mut of_gradients) = (SequenceArg::new(), SequenceArg::new());
        let mut longest = 0;
        while let Some(next) = tensors.next_if(|_| buffers.len() + 1 < most) {
            let ((parameter, gradient), (start, rate)) = next;
            of_parameters.push(buffers.place(parameter));
            of_gradients.push(buffers.place(gradient));
            longest = longest.max(size(parameter));
            let kept = (1.0 - rate.learning_rate * rate.weight_decay) as f32;
            changes.push(ChangeLaunch::new(*start, rate.learning_rate as f32, kept));
        }
        let cubes = cubes(longest, 4, 1024);
        // SAFETY: no unit reads or writes beyond a tensor.
        unsafe {
            adamw_kernel::launch_unchecked(
                &client,
                CubeCount::Static(cubes, changes.values.len() as u32, 1),
                CubeDim::new_1d(MOST_UNITS),
                buffers.argument(),
                of_parameters,
                of_gradients,
                changes,
                buffer(norm.clone()),
                buffer(updated.clone()),
                buffer(first.clone()),
                buffer(second.clone()),
                step.beta_1,
                step.beta_2,
                step.epsilon,
                1.0 - step.beta_1.powi(step.time as i32),
                1.0 - step.beta_2.powi(step.time as i32),
                step.max_norm as f32,
                cubes,
                MOST_UNITS,
                clips,
                is_first,
            );
        }
    }
    outputs.into_iter().chain([first, second]).collect()
}

/// What a step does to a tensor.
#[derive(CubeType, CubeLaunch)]
struct Change {
    /// Where it begins among all tensors.
    start: usize,
    learning_rate: f32,
    /// What weight decay leaves of a value.
    kept: f32,
}

/// Every row of cubes takes one tensor.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
fn adamw_kernel(
    buffers: &Sequence<Box<[f32]>>,
    parameters: &Sequence<Place>,
    gradients: &Sequence<Place>,
    changes: &Sequence<Change>,
    norm: &[f32],
    updated: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    beta_1: f32,
    beta_2: f32,
    epsilon: f32,
    correction_1: f32,
    correction_2: f32,
    max_norm: f32,
    cubes: u32,
    #[comptime] units: u32,
    #[comptime] clips: bool,
    #[comptime] is_first: bool,
) {
    let row = CUBE_POS_Y as usize;
    let mut factor = 1.0f32;
    if clips {
        let share = max_norm / (norm[0] + 1e-6f32);
        if share < 1.0f32 {
            factor = share;
        }
    }
    let parameters = place_at(parameters, row);
    let gradients = place_at(gradients, row);
    let mut start = 0usize;
    let mut learning_rate = 0.0f32;
    let mut kept = 0.0f32;
    #[unroll]
    for i in 0..changes.len() {
        if row == i {
            let change = &changes[i];
            start = change.start;
            learning_rate = change.learning_rate;
            kept = change.kept;
        }
    }
    let mut at = CUBE_POS_X as usize * units as usize + UNIT_POS as usize;
    while at < parameters.length {
        let parameter = value_at(buffers, &parameters, at);
        let gradient = value_at(buffers, &gradients, at) * factor;
        let place = start + at;
        let mut moment_1 = gradient * (1.0f32 - beta_1);
        let mut moment_2 = gradient * gradient * (1.0f32 - beta_2);
        if !is_first {
            moment_1 += first[place] * beta_1;
            moment_2 += second[place] * beta_2;
        }
        first[place] = moment_1;
        second[place] = moment_2;
        let root = (moment_2 / correction_2).sqrt();
        let delta = moment_1 / correction_1 / (root + epsilon);
        updated[place] = parameter * kept - delta * learning_rate;
        at += cubes as usize * units as usize;
    }
}

#[cfg(all(test, feature = "wgpu"))]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    use super::*;
    use crate::testing::{device, on_gpu};
    use crate::{GpuTensor, Moments, norm_of_all};

    /// A matrix, a matrix whose values lie column after column, a vector and one of three dimensions.
    struct Tensors(Vec<f32>);

    impl Tensors {
        const LENGTHS: [usize; 4] = [6, 35, 300, 24];

        fn on(&self, device: &Device) -> Vec<GpuTensor> {
            let mut at = 0;
            let mut take = |length: usize| {
                at += length;
                self.0[at - length..at].to_vec()
            };
            let matrix = TensorData::new(take(6), [2, 3]);
            let matrix = Tensor::<2>::from_data(matrix, device);
            let columns: Tensor<2> = Tensor::from_data(TensorData::new(take(35), [5, 7]), device);
            // As it is, with strides of another order.
            let columns = (columns.transpose() + 0.0).transpose();
            let vector = Tensor::<1>::from_data(TensorData::new(take(300), [300]), device);
            let three = Tensor::<3>::from_data(TensorData::new(take(24), [2, 3, 4]), device);
            let all = [
                GpuTensor::of(&matrix),
                GpuTensor::of(&columns),
                GpuTensor::of(&vector),
                GpuTensor::of(&three),
            ];
            all.into_iter().map(|tensor| tensor.unwrap()).collect()
        }

        fn read(tensors: Vec<GpuTensor>) -> Vec<f32> {
            let [a, b, c, d] = tensors.try_into().ok().unwrap();
            let data = [
                a.into_tensor::<2>().into_data(),
                b.into_tensor::<2>().into_data(),
                c.into_tensor::<1>().into_data(),
                d.into_tensor::<3>().into_data(),
            ];
            data.iter().flat_map(|data| data.iter::<f32>()).collect()
        }
    }

    fn values(seed: usize) -> Tensors {
        let value = |i: usize| (((i * 37 + seed * 11) % 101) as f32 - 50.0) / 40.0;
        Tensors((0..Tensors::LENGTHS.iter().sum()).map(value).collect())
    }

    /// Against the algorithm of PyTorch's documentation (torch.optim.AdamW) in double precision, with
    /// gradients clipped as `clip_grad_norm_` does it.
    #[test]
    fn steps_are_pytorchs_whatever_the_shapes() {
        on_gpu(|| {
            let rates = [(1e-2, 0.1), (2e-2, 0.0), (1e-2, 0.0), (1e-3, 0.1)];
            let start = values(0);
            let mut expected: Vec<f64> = start.0.iter().map(|&x| f64::from(x)).collect();
            let (mut m, mut v) = (vec![0.0f64; 365], vec![0.0f64; 365]);
            let mut parameters = start.on(&device());
            let mut moments: Option<Moments> = None;
            for time in 1..=3 {
                let gradients = values(time);
                let max_norm = 3.0;
                let squares = gradients.0.iter().map(|&g| f64::from(g).powi(2));
                let expected_norm = squares.sum::<f64>().sqrt();
                let factor = (max_norm / (expected_norm + 1e-6)).min(1.0);
                assert!(factor < 1.0);
                for i in 0..365 {
                    let ends = [6, 41, 341, 365];
                    let tensor = ends.iter().position(|end| i < *end).unwrap();
                    let (rate, decay) = rates[tensor];
                    let gradient = f64::from(gradients.0[i]) * factor;
                    m[i] = 0.9 * m[i] + 0.1 * gradient;
                    v[i] = 0.999 * v[i] + 0.001 * gradient * gradient;
                    let m_hat = m[i] / (1.0 - 0.9f64.powi(time as i32));
                    let v_hat = v[i] / (1.0 - 0.999f64.powi(time as i32));
                    expected[i] =
                        expected[i] * (1.0 - rate * decay) - rate * m_hat / (v_hat.sqrt() + 1e-8);
                }
                let norm = norm_of_all(gradients.on(&device()));
                let found = norm.clone().into_scalar::<f64>();
                assert!(
                    (found - expected_norm).abs() < 1e-5,
                    "{found} {expected_norm}"
                );
                let step = AdamW {
                    beta_1: 0.9,
                    beta_2: 0.999,
                    epsilon: 1e-8,
                    time,
                    max_norm,
                };
                let rate = |(learning_rate, weight_decay)| Rate {
                    learning_rate,
                    weight_decay,
                };
                let (after, then) = step.step(
                    parameters,
                    gradients.on(&device()),
                    Some(norm),
                    moments,
                    rates.map(rate).to_vec(),
                );
                (parameters, moments) = (after, Some(then));
            }
            let found = Tensors::read(parameters);
            for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                let found = f64::from(*found);
                assert!((found - expected).abs() < 1e-6, "{i}: {found} {expected}");
            }
        });
    }
}
