//! A frozen weight in the eight bits that its products are made in.

use std::fmt;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};

use crate::cpu::buffer::{filled, for_rows};
use crate::cpu::int8::{Int8Matrix, Int8View};
use crate::cpu::{Matrix, Weight};
use crate::flex::on_device;

/// A frozen weight as one byte for each value, with a scale for each square of 64 × 64 values.
///
/// Its products are made in eight bits: the other side is rounded too, by row and block of 64, and
/// whole numbers are multiplied. So one copy serves both passes, and nothing dense is made or kept.
/// Clones share the bytes. No parameter: nothing trains it, counts it or records it.
#[derive(Clone)]
pub struct Int8Weight {
    matrix: Arc<Int8Matrix>,
    is_transposed: bool,
}

impl fmt::Debug for Int8Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Int8Weight({:?})", self.dims())
    }
}

impl Int8Weight {
    /// Rounds a weight `[rows, cols]`, which is on any device.
    pub fn new(weight: &Tensor<2>) -> Self {
        let [rows, cols] = weight.dims();
        let values = weight.to_data().convert::<f32>();
        let values = values.as_slice::<f32>().expect("just converted");
        Self {
            matrix: Arc::new(Int8Matrix::quantize(Matrix::new(values, rows, cols))),
            is_transposed: false,
        }
    }

    /// The transposed weight, over the same bytes.
    pub fn transposed(&self) -> Self {
        Self {
            is_transposed: !self.is_transposed,
            ..self.clone()
        }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        let view = self.view();
        [view.rows(), view.cols()]
    }

    /// The bytes it takes, scales included.
    pub fn num_bytes(&self) -> usize {
        self.matrix.bytes()
    }

    /// Calls `visit` with all bytes that say what the values are, in pieces.
    pub fn visit_bytes(&self, visit: &mut dyn FnMut(&[u8])) {
        self.matrix.squares().for_each(&mut *visit);
        visit(bytemuck::cast_slice(self.matrix.scales()));
    }

    /// The values in 32 bits, on a device.
    pub fn dequantize(&self, device: &Device) -> Tensor<2> {
        let weight = Self {
            is_transposed: false,
            ..self.clone()
        };
        let [rows, cols] = weight.dims();
        let values = on_device(weight.rows(rows, |row| row), [rows, cols], device);
        if self.is_transposed {
            values.transpose()
        } else {
            values
        }
    }

    /// Some of the rows, `[ids]` to `[ids, cols]`, in 32 bits, on a device.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn select(&self, ids: Tensor<1, Int>, device: &Device) -> Tensor<2> {
        let ids = ids.into_data();
        let ids: Vec<usize> = ids.iter::<i64>().map(|id| id as usize).collect();
        let [_, cols] = self.dims();
        on_device(self.rows(ids.len(), |at| ids[at]), [ids.len(), cols], device)
    }

    /// The values of so many rows, of which `row` tells the number.
    fn rows(&self, count: usize, row: impl Fn(usize) -> usize + Sync) -> Vec<f32> {
        let (view, [_, cols]) = (self.view(), self.dims());
        filled(count * cols, |out| {
            for_rows(out, cols, |first, out| {
                for (at, out) in out.chunks_exact_mut(cols).enumerate() {
                    view.row(row(first + at), out);
                }
            });
        })
    }

    /// As products read it.
    pub(crate) fn weight(&self) -> Weight<'_> {
        Weight::Int8(self.view())
    }

    fn view(&self) -> Int8View<'_> {
        let view = self.matrix.view();
        if self.is_transposed {
            view.transposed()
        } else {
            view
        }
    }
}
