//! Keys and values of new positions, written into the buffers of a cache.

use burn::tensor::Tensor;

/// Returns the `buffers` of keys and of values, `[batch, kv_heads, capacity, head_dim]`, with those of
/// new positions, `[batch, kv_heads, count, head_dim]`, from position `past` on.
///
/// Buffers that nothing else holds are written in place, on GPUs both in one launch.
///
/// # Panics
/// If the new positions do not fit into the buffers.
pub fn append_cached(buffers: [Tensor<4>; 2], new: [Tensor<4>; 2], past: usize) -> [Tensor<4>; 2] {
    let [batch, heads, count, head_dim] = new[0].dims();
    for (buffer, new) in buffers.iter().zip(&new) {
        let capacity = buffer.dims()[2];
        assert!(past + count <= capacity, "{past} + {count} of {capacity}");
        assert_eq!(new.dims(), [batch, heads, count, head_dim], "new positions");
        assert_eq!(buffer.dims(), [batch, heads, capacity, head_dim], "buffers");
    }
    #[cfg(feature = "gpu")]
    if crate::gpu::attention::takes_append(&buffers, &new) {
        return crate::gpu::attention::append(buffers, new, past);
    }
    let room = [0..batch, 0..heads, past..past + count, 0..head_dim];
    let [keys, values] = buffers;
    let [key, value] = new;
    [
        keys.slice_assign(room.clone(), key),
        values.slice_assign(room, value),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{device, random};

    const BATCH: usize = 3;
    const HEADS: usize = 2;
    const CAPACITY: usize = 9;
    const HEAD_DIM: usize = 5;

    fn host(tensor: &Tensor<4>) -> Vec<f32> {
        tensor.clone().try_into_vec_as::<f32>().unwrap()
    }

    /// New positions stand in tokens with the heads side by side, as projections give them, and each
    /// value comes to its place; all others stay.
    #[test]
    fn each_value_comes_to_its_place() {
        for (past, count) in [(0, CAPACITY), (4, 1), (2, 3), (CAPACITY - 1, 1)] {
            let buffer = |shape| random([BATCH * HEADS * CAPACITY, HEAD_DIM], 1.0).reshape(shape);
            let buffers = [(); 2].map(|()| buffer([BATCH, HEADS, CAPACITY, HEAD_DIM]));
            let packed = random([BATCH * count, 2 * HEADS * HEAD_DIM], 1.0);
            let new = [0, 1].map(|part| {
                let width = HEADS * HEAD_DIM;
                let part = packed
                    .clone()
                    .slice_dim(1, part * width..(part + 1) * width);
                let heads: Tensor<4> = part.reshape([BATCH, count, HEADS, HEAD_DIM]);
                heads.swap_dims(1, 2)
            });
            let before = buffers.each_ref().map(host);
            let appended = new.each_ref().map(host);
            let kept = buffers.clone();
            let found = append_cached(buffers, new, past);
            assert_eq!(found[0].device(), device());
            assert_eq!(kept.each_ref().map(host), before, "buffers that are held");
            for (found, (before, new)) in found.iter().zip(before.iter().zip(&appended)) {
                let mut expected = before.clone();
                for of_head in 0..BATCH * HEADS {
                    let to = (of_head * CAPACITY + past) * HEAD_DIM;
                    let from = of_head * count * HEAD_DIM;
                    let length = count * HEAD_DIM;
                    expected[to..to + length].copy_from_slice(&new[from..from + length]);
                }
                assert_eq!(host(found), expected, "{count} from {past} on");
            }
        }
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn each_value_comes_to_its_place_on_a_gpu() {
        crate::testing::on_gpu(each_value_comes_to_its_place);
        crate::testing::on_gpu_in_16_bits(each_value_comes_to_its_place);
    }
}
