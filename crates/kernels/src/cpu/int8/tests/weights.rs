//! Weights as they are rounded and arranged.

use half::f16;

use super::{SHAPES, bits, limit, numbers, sum_and_bound, times};
use crate::cpu::int8::body::Body;
use crate::cpu::int8::{Int8Matrix, Limit};
use crate::cpu::{BlockMatrix, BlockType, Matrix, Onto};

#[test]
fn a_weight_is_rounded_to_the_nearest() {
    for [_, rows, cols] in SHAPES {
        let values = numbers(rows * cols, 5);
        let dense = Matrix::new(&values, rows, cols);
        let matrix = Int8Matrix::quantize(dense);
        let by_columns: Vec<f32> = (0..rows * cols)
            .map(|at| values[at % rows * cols + at / rows])
            .collect();
        let same = Int8Matrix::quantize(Matrix::new(&by_columns, cols, rows).transposed());
        assert!(matrix.squares().eq(same.squares()) && matrix.scales().eq(same.scales()));
        let squares = rows.div_ceil(64) * cols.div_ceil(64);
        let factors = cols.next_multiple_of(64);
        assert_eq!(matrix.bytes(), squares * (4096 + 256) + 4 * factors);
        let scales: Vec<&[u16]> = matrix.scales().collect();
        let view = matrix.view();
        let found = view.dequantize();
        for (at, (found, value)) in found.iter().zip(&values).enumerate() {
            let (row, col) = (at / cols, at % cols);
            let scale = scales[col / 64 * rows.div_ceil(64) + row / 64];
            let scale = f16::from_bits(scale[row % 64 / 32 * 64 + col % 64]);
            let scale = scale.to_f32() * matrix.column_factors()[col];
            // Half a step, and f32's rounding. The scale in 16 bits may be too small by 2⁻¹¹; the
            // largest value is then 127 · 2⁻¹¹ = 0.06 steps beyond the last one: less than half a
            // step.
            assert!((found - value).abs() <= 0.501 * scale, "{found}, {value}");
            assert_eq!(*found, view.at(row, col));
            assert_eq!(*found, view.transposed().at(col, row));
        }
        for first in (0..rows).step_by(64) {
            let last = rows.min(first + 70);
            let some = view.some_rows(first..last).dequantize();
            assert!(some == found[first * cols..last * cols]);
        }
        for first in (0..cols).step_by(64) {
            let some = view.transposed().some_rows(first..cols).transposed();
            let wanted = found.chunks(cols).flat_map(|row| &row[first..]);
            assert!(some.dequantize().iter().eq(wanted));
        }
    }
}

/// The scale is searched: plain numbers lose a fifth less by it than by that of the largest value, and
/// values that 4 bits stood for nearly nothing. What was rounded once stays as it is.
#[test]
fn a_scale_fits_the_values_of_its_block() {
    let (rows, cols) = (128, 64);
    let plain = numbers(rows * cols, 5);
    // As Q4_1 has them: sixteen steps from a least value.
    let least = numbers(rows / 32 * cols, 6);
    let coarse = plain.iter().enumerate().map(|(at, x)| {
        let block = at / cols / 32 * cols + at % cols;
        (x * 8.0).floor() * 0.125 + least[block] * 0.0625
    });
    let coarse: Vec<f32> = coarse.collect();
    for (values, share) in [(plain, 0.85), (coarse, 0.25)] {
        let matrix = Int8Matrix::quantize(Matrix::new(&values, rows, cols));
        let found = matrix.view().dequantize();
        let (mut off, mut plain_off) = (0.0, 0.0);
        for col in 0..cols {
            for first in (0..rows).step_by(32) {
                let places = || (first..first + 32).map(|row| row * cols + col);
                let largest = places().fold(0f32, |most, at| values[at].abs().max(most));
                let scale = largest / 127.0;
                for at in places() {
                    off += f64::from(found[at] - values[at]).powi(2);
                    let nearest = (values[at] / scale).round() * scale;
                    plain_off += f64::from(nearest - values[at]).powi(2);
                }
            }
        }
        assert!(off < share * plain_off, "{off}, {plain_off}");
        let again = Int8Matrix::quantize(Matrix::new(&found, rows, cols));
        assert_eq!(bits(&again.view().dequantize()), bits(&found));
    }
}

/// Each value is as exact as its column allows, however far that is from its neighbours.
#[test]
fn columns_of_all_sizes_are_exact() {
    let (rows, cols) = (130, 200);
    let size = |at: usize| [1.0, 1e-3, 30.0, 0.2f32][at % cols % 4];
    let values = numbers(rows * cols, 5);
    let sized = values
        .iter()
        .enumerate()
        .map(|(at, value)| value * size(at));
    let sized: Vec<f32> = sized.collect();
    let found = Int8Matrix::quantize(Matrix::new(&sized, rows, cols));
    let found = found.view().dequantize();
    let largest = values
        .iter()
        .fold(0f32, |most, value| value.abs().max(most));
    for col in 0..cols {
        let offs = (0..rows).map(|row| row * cols + col);
        let offs: Vec<f32> = offs
            .map(|at| (found[at] - sized[at]).abs() / size(at))
            .collect();
        // Half of the largest step: some scale up to a 64th may lose less in all.
        let most = offs.iter().fold(0f32, |most, off| off.max(most));
        assert!(most < 0.008 * largest, "{most} of {largest}");
        // Over the whole column no more is lost than by steps of a 127th.
        let squares = offs.iter().map(|off| off * off).sum::<f32>() / rows as f32;
        let of_steps = (0.004 * largest).powi(2) / 3.0;
        assert!(squares < of_steps, "{squares}, {of_steps}");
    }
}

#[test]
fn a_block_that_is_not_finite_is_nan() {
    let mut values = numbers(100 * 100, 5);
    values[70 * 100 + 3] = f32::INFINITY;
    let found = Int8Matrix::quantize(Matrix::new(&values, 100, 100))
        .view()
        .dequantize();
    for (at, value) in found.iter().enumerate() {
        assert_eq!(
            value.is_nan(),
            (64..96).contains(&(at / 100)) && at % 100 == 3
        );
    }
}

/// Blocks of a file are taken as they are, so the values are the same to the bit.
#[test]
fn q8_0_is_only_arranged_anew() {
    for [rows, cols] in [[32, 1], [96, 70], [160, 129]] {
        let codes = numbers(rows * cols, 5)
            .into_iter()
            .map(|x| (x * 128.0).floor() as i8);
        let codes: Vec<i8> = codes.collect();
        let scale = |block: usize| f16::from_f32([0.01, -3e-6, 0.0, 7.0][block % 4]);
        let mut bytes = Vec::new();
        for (block, codes) in codes.chunks(32).enumerate() {
            bytes.extend(scale(block).to_le_bytes());
            bytes.extend(codes.iter().map(|code| *code as u8));
        }
        let matrix = Int8Matrix::from_q8_0(&bytes, rows, cols);
        assert!(codes.contains(&-128) || cols == 1);
        let found = matrix.view().transposed().dequantize();
        let wanted = BlockMatrix::new(BlockType::Q8_0, &bytes, cols, rows);
        for (col, found) in found.chunks(rows).enumerate() {
            let mut line = vec![0.0; rows];
            wanted.line(col, &mut line);
            assert_eq!(bits(found), bits(&line));
        }
        let x = numbers(3 * rows, 6);
        let dense = matrix.view().dequantize();
        for body in Body::all() {
            let found = times(body, Matrix::new(&x, 3, rows), matrix.view(), Onto::Zero);
            for (at, found) in found.iter().enumerate() {
                let (row, col) = (&x[at / cols * rows..][..rows], at % cols);
                let column = |p: usize| dense[p * cols + col];
                let limit = limit(row, Limit::Relative);
                let (sum, off) = sum_and_bound(row, &column, 0.0, limit, false);
                let error = (f64::from(*found) - sum).abs();
                assert!(error <= off, "{found}, {sum} ± {off}");
            }
        }
    }
}
