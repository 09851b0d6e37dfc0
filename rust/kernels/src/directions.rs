//! Random directions for tangent lanes: signs, and orthogonal sets. A number is a function of (seed, step, layer, lane, row,
//! element), so nothing is stored and no number of threads can change it.

use crate::isa::vectorize;
use crate::par::Par;
use crate::real::Real;
use crate::rng::Philox;

/// Signs that one block of the generator gives.
const SIGNS: usize = 128;

/// Blocks that are drawn together in long rows.
const TOGETHER: usize = 8;

/// The lane number whose stream holds the signs that all lanes of an orthogonal set share.
const COMMON: u32 = 0xffff;

/// Rough cost of one element.
const OPERATIONS: usize = 8;

/// Which directions are wanted.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The stream of the run's seed for [`crate::rng::Purpose::Lanes`].
    pub rng: Philox,
    /// The step.
    pub step: u64,
    /// The layer, below 65,536.
    pub layer: u32,
}

impl Place {
    /// The words of `N` blocks of a row, from `first` on.
    #[inline(always)]
    fn words<const N: usize>(&self, first: usize, lane: u32, row: u32) -> [[u32; 4]; N] {
        self.rng.blocks(first as u32, [self.step as u32, (self.layer << 16) | lane, row])
    }
}

/// The signs of one block, as ± `magnitude`.
#[inline(always)]
fn signs_of<T: Real>(words: [u32; 4], magnitude: T) -> [T; SIGNS] {
    let mut out = [magnitude; SIGNS];
    for (bits, out) in words.into_iter().zip(out.chunks_exact_mut(32)) {
        for (bit, value) in out.iter_mut().enumerate() {
            *value = if (bits >> bit) & 1 == 0 { magnitude } else { -magnitude };
        }
    }
    out
}

/// Elements of one long row that one task draws.
const CHUNK: usize = 16_384;

/// Independent signs: every element of every row of `out` (rows × `size`) becomes +1 or −1. Their mean is 0 and their
/// covariance the identity.
pub fn signs<T: Real>(par: Par, place: Place, lane: usize, size: usize, out: &mut [T]) {
    par.for_work(out.len() * OPERATIONS).chunks_mut(out, size, |start, out| {
        walk(place, (lane as u32, (start / size) as u32), T::one(), 0, out, |_, _| {});
    });
}

/// The elements from `first` on of the first row that [`signs`] gives.
pub fn signs_from<T: Real>(par: Par, place: Place, lane: usize, first: usize, out: &mut [T]) {
    par.for_work(out.len() * OPERATIONS).chunks_mut(out, CHUNK, |start, out| {
        walk(place, (lane as u32, 0), T::one(), first + start, out, |_, _| {});
    });
}

/// Writes a row's elements from `first` on: ± `magnitude`, after `change(first of them, signs)`.
#[inline(always)]
fn walk<T: Real>(
    place: Place,
    (lane, row): (u32, u32),
    magnitude: T,
    first: usize,
    out: &mut [T],
    mut change: impl FnMut(usize, &mut [T]),
) {
    vectorize(
        #[inline(always)]
        || {
            let mut done = 0;
            while done < out.len() {
                let (block, skipped) = ((first + done) / SIGNS, (first + done) % SIGNS);
                if skipped == 0 && out.len() - done >= TOGETHER * SIGNS {
                    for words in place.words::<TOGETHER>(block, lane, row) {
                        let mut signs = signs_of(words, magnitude);
                        change(first + done, &mut signs);
                        out[done..done + SIGNS].copy_from_slice(&signs);
                        done += SIGNS;
                    }
                    continue;
                }
                let [words] = place.words(block, lane, row);
                let mut signs = signs_of(words, magnitude);
                let count = (SIGNS - skipped).min(out.len() - done);
                let signs = &mut signs[skipped..skipped + count];
                change(first + done, signs);
                out[done..done + count].copy_from_slice(signs);
                done += count;
            }
        },
    );
}

/// Orthonormal sets of `lanes` directions in `size` dimensions: the vectors of the discrete cosine transform, with random signs
/// that all lanes of a row share and frequencies that begin at a random one. For each lane the mean of u uᵀ is the
/// identity over `size`, whatever `size` is.
pub struct Orthogonal<T> {
    lanes: usize,
    size: usize,
    /// √(2 / size) cos(π i / 2 size) for a whole turn; empty for one lane, for which the signs alone do.
    turn: Vec<T>,
}

impl<T: Real> Orthogonal<T> {
    /// Sets of `lanes` directions.
    ///
    /// # Panics
    /// With more lanes than dimensions.
    pub fn new(lanes: usize, size: usize) -> Self {
        assert!(lanes <= size, "{lanes} orthogonal directions in {size} dimensions");
        let scale = (2.0 / size as f64).sqrt();
        let angle = |i: usize| std::f64::consts::FRAC_PI_2 * i as f64 / size as f64;
        let turn =
            if lanes == 1 { vec![] } else { (0..4 * size).map(|i| T::of(scale * libm::cos(angle(i)))).collect() };
        Orthogonal { lanes, size, turn }
    }

    /// Lane `lane` of all rows of `out`.
    pub fn fill(&self, par: Par, place: Place, lane: usize, out: &mut [T]) {
        par.for_work(out.len() * OPERATIONS).chunks_mut(out, self.size, |start, out| {
            self.part(place, lane, (start / self.size, 0), out);
        });
    }

    /// The elements from `first` on of the first row that [`Orthogonal::fill`] gives.
    pub fn fill_from(&self, par: Par, place: Place, lane: usize, first: usize, out: &mut [T]) {
        par.for_work(out.len() * OPERATIONS).chunks_mut(out, CHUNK, |start, out| {
            self.part(place, lane, (0, first + start), out);
        });
    }

    #[inline(always)]
    fn part(&self, place: Place, lane: usize, (row, first): (usize, usize), out: &mut [T]) {
        let (size, turn) = (self.size, self.turn.len());
        let [[word, ..]] = place.words(u32::MAX as usize, COMMON, row as u32);
        let begin = ((u64::from(word) * size as u64) >> 32) as usize;
        let frequency = if self.lanes == 1 { 0 } else { (begin + lane) % size };
        let stream = (COMMON, row as u32);
        if frequency == 0 {
            walk(place, stream, T::of((1.0 / size as f64).sqrt()), first, out, |_, _| {});
            return;
        }
        walk(
            place,
            stream,
            T::one(),
            first,
            out,
            #[inline(always)]
            |first, signs| {
                // cos(π (2 j + 1) frequency / 2 size) walks round the turn in even steps.
                let mut at = (frequency as u64 * (2 * first as u64 + 1) % turn as u64) as usize;
                for sign in signs {
                    *sign *= self.turn[at];
                    at += 2 * frequency;
                    at = if at >= turn { at - turn } else { at };
                }
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    fn place(step: u64, layer: u32) -> Place {
        Place { rng: Philox::new(3, Purpose::Lanes), step, layer }
    }

    #[test]
    fn signs_are_signs_with_mean_zero_that_differ_by_step_layer_lane_and_row() {
        let mut one = vec![0.0f32; 4 * 1000];
        signs(Par::SEQUENTIAL, place(1, 2), 0, 1000, &mut one);
        assert!(one.iter().all(|v| v.abs() == 1.0));
        assert!(one.iter().sum::<f32>().abs() < 4.0 * 64.0);
        assert_ne!(one[..1000], one[1000..2000]);
        for (place, lane) in [(place(2, 2), 0), (place(1, 3), 0), (place(1, 2), 1)] {
            let mut other = vec![0.0f32; 4 * 1000];
            signs(Par::SEQUENTIAL, place, lane, 1000, &mut other);
            let agreement: f32 = one.iter().zip(&other).map(|(a, b)| a * b).sum();
            assert!(agreement.abs() < 4.0 * 64.0, "{agreement}");
        }
    }

    #[test]
    fn orthogonal_sets_are_orthonormal_and_isotropic() {
        for (lanes, size) in [(1, 7), (2, 2), (3, 7), (7, 7), (8, 129)] {
            let set = Orthogonal::<f64>::new(lanes, size);
            let rows = 4000;
            let all: Vec<Vec<f64>> = (0..lanes)
                .map(|lane| {
                    let mut out = vec![0.0; rows * size];
                    set.fill(Par::SEQUENTIAL, place(5, 1), lane, &mut out);
                    out
                })
                .collect();
            for row in 0..20 {
                for a in 0..lanes {
                    for b in 0..lanes {
                        let at = row * size..(row + 1) * size;
                        let dot: f64 = all[a][at.clone()].iter().zip(&all[b][at]).map(|(a, b)| a * b).sum();
                        let expected = if a == b { 1.0 } else { 0.0 };
                        assert!((dot - expected).abs() < 1e-12, "{lanes} in {size}: {a}·{b} = {dot}");
                    }
                }
            }
            // Mean of u uᵀ: 1 / size on the diagonal, 0 elsewhere; six standard deviations of the mean.
            let limit = 6.0 * 1.5 / size as f64 / (rows as f64).sqrt();
            for (i, j) in [(0, 0), (0, 1), (1, 1), (size - 1, size - 1), (size - 1, 0)] {
                let mean = all[0].chunks_exact(size).map(|u| u[i] * u[j]).sum::<f64>() / rows as f64;
                let expected = if i == j { 1.0 / size as f64 } else { 0.0 };
                assert!((mean - expected).abs() < limit, "{lanes} in {size}: ({i}, {j}) is {mean}");
            }
        }
    }

    #[test]
    fn parts_of_a_row_are_parts_of_the_whole() {
        let (size, place) = (40_000, place(4, 1));
        for lanes in [1, 3] {
            let set = Orthogonal::<f64>::new(lanes, size);
            let (mut whole, mut signed) = (vec![0.0; size], vec![0.0; size]);
            set.fill(Par::SEQUENTIAL, place, lanes - 1, &mut whole);
            signs(Par::SEQUENTIAL, place, 1, size, &mut signed);
            for (first, count) in [(0, 5), (127, 2), (300, 20_000), (39_999, 1)] {
                let (mut part, mut of_signs) = (vec![0.0; count], vec![0.0; count]);
                set.fill_from(Par::SEQUENTIAL, place, lanes - 1, first, &mut part);
                signs_from(Par::SEQUENTIAL, place, 1, first, &mut of_signs);
                assert!(part == whole[first..first + count] && of_signs == signed[first..first + count]);
            }
        }
    }

    #[test]
    fn directions_give_the_same_bits_for_any_number_of_threads() {
        let set = Orthogonal::<f32>::new(3, 3000);
        let run = |threads: usize| {
            let (mut out, mut other) = (vec![0.0f32; 600 * 3000], vec![0.0f32; 600 * 3000]);
            crate::team::in_crew(threads, |par| {
                signs(par, place(1, 1), 2, 3000, &mut out);
                set.fill(par, place(1, 1), 1, &mut other);
            });
            [out, other]
        };
        let one = run(1);
        assert!(run(2) == one && run(3) == one);
    }
}
