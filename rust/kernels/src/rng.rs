//! Counter-based random numbers: Philox 4×32-10 (Salmon, Moraes, Dror, Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3").
//!
//! A number is a function of (seed, stream, counter); nothing is stored, so results cannot depend on threads or on
//! where a run was interrupted.

/// What random numbers are for: keeps streams of one seed apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Initial parameters; counter: (tensor, element).
    Initialise = 1,
    /// Order of rows in an epoch; counter: (epoch, position).
    Shuffle = 2,
    /// Dropout masks; counter: (epoch, sample, layer, element).
    Dropout = 3,
    /// Image augmentation; counter: (epoch, sample).
    Augment = 4,
    /// Choices of a learning rule; counter: (step, layer, row).
    Rule = 5,
    /// Directions of tangent lanes; counter: (element, step, layer and lane, row).
    Lanes = 6,
    /// Rows that decorrelation learns from; counter: (position, step, layer).
    Decorrelate = 7,
}

/// A stream of random numbers addressed by counters.
#[derive(Clone, Copy, Debug)]
pub struct Philox {
    key: [u32; 2],
}

impl Philox {
    /// The stream of `seed` for one purpose.
    pub fn new(seed: u64, purpose: Purpose) -> Philox {
        // The purpose is mixed into the key through one round with a fixed counter, so that seeds 1 and 2 for
        // different purposes cannot meet.
        let base = Philox { key: [seed as u32, (seed >> 32) as u32] };
        let block = base.block([purpose as u32, 0x6c65_616e, 0x7072_6f70, 0]);
        Philox { key: [block[0], block[1]] }
    }

    /// Four independent 32-bit numbers for a counter.
    #[inline(always)]
    pub fn block(&self, [first, a, b, c]: [u32; 4]) -> [u32; 4] {
        let [block] = self.blocks(first, [a, b, c]);
        block
    }

    /// [`Philox::block`] of the counters [first, a, b, c], [first + 1, a, b, c] and so on, all in one pass of vector instructions.
    #[inline(always)]
    pub fn blocks<const N: usize>(&self, first: u32, [a, b, c]: [u32; 3]) -> [[u32; 4]; N] {
        let counters: [u32; N] = std::array::from_fn(|index| first.wrapping_add(index as u32));
        let (mut c0, mut c1, mut c2, mut c3) = (counters, [a; N], [b; N], [c; N]);
        let mut k = self.key;
        for _ in 0..10 {
            for index in 0..N {
                let p0 = u64::from(c0[index]) * 0xd251_1f53;
                let p1 = u64::from(c2[index]) * 0xcd9e_8d57;
                c0[index] = (p1 >> 32) as u32 ^ c1[index] ^ k[0];
                c1[index] = p1 as u32;
                c2[index] = (p0 >> 32) as u32 ^ c3[index] ^ k[1];
                c3[index] = p0 as u32;
            }
            k = [k[0].wrapping_add(0x9e37_79b9), k[1].wrapping_add(0xbb67_ae85)];
        }
        std::array::from_fn(|index| [c0[index], c1[index], c2[index], c3[index]])
    }

    /// One 32-bit number: element `index` of the stream (a, b, c).
    #[inline(always)]
    pub fn word(&self, index: u32, [a, b, c]: [u32; 3]) -> u32 {
        self.block([index >> 2, a, b, c])[(index & 3) as usize]
    }

    /// A number in [0, 1) with 53 random bits: element `index` of the stream (a, b).
    #[inline]
    pub fn uniform(&self, index: u64, [a, b]: [u32; 2]) -> f64 {
        let block = self.block([index as u32, (index >> 32) as u32, a, b]);
        unit(block[0], block[1])
    }

    /// A standard normal number (Box and Muller): element `index` of the stream (a, b).
    pub fn normal(&self, index: u64, [a, b]: [u32; 2]) -> f64 {
        let block = self.block([index as u32, (index >> 32) as u32, a, b]);
        let (u, v) = (1.0 - unit(block[0], block[1]), unit(block[2], block[3]));
        (-2.0 * libm::log(u)).sqrt() * libm::cos(std::f64::consts::TAU * v)
    }

    /// A whole number below `bound`, without bias that matters (multiply-shift of 64 bits).
    #[inline]
    pub fn below(&self, bound: u32, index: u64, [a, b]: [u32; 2]) -> u32 {
        let block = self.block([index as u32, (index >> 32) as u32, a, b]);
        let wide = u64::from(block[0]) << 32 | u64::from(block[1]);
        ((u128::from(wide) * u128::from(bound)) >> 64) as u32
    }

    /// Puts `items` into a random order, the same for a stream (Fisher and Yates).
    pub fn shuffle<T>(&self, items: &mut [T], stream: u32) {
        for i in (1..items.len()).rev() {
            let j = self.below(i as u32 + 1, i as u64, [stream, 0]);
            items.swap(i, j as usize);
        }
    }
}

#[inline(always)]
fn unit(high: u32, low: u32) -> f64 {
    let bits = (u64::from(high) << 32 | u64::from(low)) >> 11;
    bits as f64 * (1.0 / (1u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the Random123 library for philox4x32-10.
    #[test]
    fn block_gives_the_published_answers() {
        let zero = Philox { key: [0, 0] };
        assert_eq!(zero.block([0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = Philox { key: [u32::MAX; 2] };
        assert_eq!(ones.block([u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    }

    #[test]
    fn blocks_are_block_of_each_counter() {
        let rng = Philox::new(5, Purpose::Lanes);
        let blocks: [[u32; 4]; 8] = rng.blocks(u32::MAX - 3, [1, 2, 3]);
        for (index, block) in blocks.into_iter().enumerate() {
            assert_eq!(block, rng.block([(u32::MAX - 3).wrapping_add(index as u32), 1, 2, 3]));
        }
    }

    #[test]
    fn uniform_and_normal_have_their_moments() {
        let rng = Philox::new(7, Purpose::Initialise);
        let n = 100_000;
        let mean = |f: &dyn Fn(u64) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
        assert!((mean(&|i| rng.uniform(i, [0, 0])) - 0.5).abs() < 0.004);
        assert!(mean(&|i| rng.normal(i, [0, 0])).abs() < 0.01);
        assert!((mean(&|i| rng.normal(i, [0, 0]).powi(2)) - 1.0).abs() < 0.02);
    }

    #[test]
    fn shuffle_is_a_permutation_that_depends_on_the_stream() {
        let rng = Philox::new(1, Purpose::Shuffle);
        let order = |stream| {
            let mut items: Vec<u32> = (0..100).collect();
            rng.shuffle(&mut items, stream);
            items
        };
        let (first, second) = (order(0), order(1));
        assert_ne!(first, second);
        assert_eq!(first, order(0));
        let mut sorted = second;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
    }
}
