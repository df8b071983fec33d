//! PyTorch's random numbers on the CPU, for methods whose files hold a seed instead of values.

use std::collections::HashMap;

/// `torch.Generator().manual_seed(seed)`: the Mersenne twister MT19937 (Matsumoto and Nishimura
/// 1998), 32 bits at a time.
pub(crate) struct TorchRandom {
    state: [u32; N],
    next: usize,
}

const N: usize = 624;
const M: usize = 397;

impl TorchRandom {
    pub fn new(seed: u64) -> Self {
        let mut state = [0; N];
        // Torch too seeds with the lower half only.
        state[0] = seed as u32;
        for index in 1..N {
            let last: u32 = state[index - 1];
            let mixed = (last ^ (last >> 30)).wrapping_mul(1_812_433_253);
            state[index] = mixed.wrapping_add(index as u32);
        }
        Self { state, next: N }
    }

    fn refill(&mut self) {
        for index in 0..N {
            let upper = self.state[index] & 0x8000_0000;
            let lower = self.state[(index + 1) % N] & 0x7fff_ffff;
            let mixed = upper | lower;
            let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[index] = self.state[(index + M) % N] ^ (mixed >> 1) ^ odd;
        }
        self.next = 0;
    }

    pub fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.refill();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn next_u64(&mut self) -> u64 {
        let upper = u64::from(self.next_u32());
        upper << 32 | u64::from(self.next_u32())
    }

    /// `tensor.uniform_(from, to, generator=…)` for a tensor of `count` 32-bit floats.
    pub fn uniform(&mut self, count: usize, from: f32, to: f32) -> Vec<f32> {
        const BITS: u32 = f32::MANTISSA_DIGITS;
        let value = |word: u32| {
            let unit = (word & ((1 << BITS) - 1)) as f32 / (1_u32 << BITS) as f32;
            // Torch's compilers fuse the multiplication and the addition.
            unit.mul_add(to - from, from)
        };
        (0..count).map(|_| value(self.next_u32())).collect()
    }

    /// The first `count` numbers of `torch.randperm(size, generator=…)`, with memory for `count`
    /// numbers only.
    pub fn permutation(&mut self, size: usize, count: usize) -> Vec<usize> {
        let count = count.min(size);
        let mut numbers = Vec::with_capacity(count);
        // Among the numbers not drawn yet, those that have been moved.
        let mut moved = HashMap::new();
        for index in 0..count.min(size.saturating_sub(1)) {
            // Small permutations draw 32 bits for each number, large ones 64.
            let drawn = if size < u32::MAX as usize / 20 {
                u64::from(self.next_u32())
            } else {
                self.next_u64()
            };
            let other = index + (drawn % (size - index) as u64) as usize;
            let here = moved.remove(&index).unwrap_or(index);
            numbers.push(if other == index {
                here
            } else {
                moved.insert(other, here).unwrap_or(other)
            });
        }
        // Nothing is drawn for the last number.
        if numbers.len() < count {
            let last = size - 1;
            numbers.push(moved.remove(&last).unwrap_or(last));
        }
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch 2.15: `torch.randperm(20, generator=torch.Generator().manual_seed(777))` and
    /// `torch.empty(4).uniform_(-2, 3, generator=torch.Generator().manual_seed(5))`.
    #[test]
    fn draws_what_torch_draws() {
        for count in [0, 8, 19, 20] {
            let numbers = TorchRandom::new(777).permutation(20, count);
            assert_eq!(numbers, PERMUTATION[..count]);
        }
        let values = TorchRandom::new(5).uniform(4, -2.0, 3.0);
        assert_eq!(values, UNIFORM);
    }

    const PERMUTATION: [usize; 20] = [
        15, 0, 9, 11, 3, 7, 5, 1, 19, 13, 4, 6, 18, 14, 12, 2, 10, 17, 16, 8,
    ];
    const UNIFORM: [f32; 4] = [2.1512594, -1.3694454, 2.5373485, 2.0996351];
}
