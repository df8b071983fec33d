//! How many rows a batch has on a device.

use burn::tensor::Device;

use crate::flex::is_gpu;

/// Returns how many rows to give this device for a batch of `rows` rows. For a GPU the number is
/// rounded up, by at most a sixteenth or seven rows: kernels are chosen and compiled by size, and
/// rounding leaves few sizes.
pub fn rows_on(device: &Device, rows: usize) -> usize {
    if is_gpu(device) { rounded(rows) } else { rows }
}

fn rounded(rows: usize) -> usize {
    let step = (rows.next_power_of_two() / 32).max(8);
    rows.next_multiple_of(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_few_and_little_is_wasted() {
        let mut sizes = std::collections::BTreeSet::new();
        for rows in 512..=1024 {
            let size = rounded(rows);
            assert!(size >= rows && (size - rows) * 16 < rows, "{rows}: {size}");
            sizes.insert(size);
        }
        assert_eq!(sizes.len(), 17);
        assert_eq!([1, 8, 9, 200, 4096].map(rounded), [8, 8, 16, 200, 4096]);
        assert_eq!(rows_on(&crate::cpu_device(), 13), 13);
    }
}
