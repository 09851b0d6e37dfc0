//! Choosing k of m rows by their scores: the largest, or at random with probabilities that follow the scores.
//!
//! Rows are outer products whose sum is approximated, scores their norms. A choice lists rows in ascending order, so that reading
//! them streams forward, and gives each a weight in the sum. Random numbers are counter-based ([`Stream`]): the same choice for
//! any number of threads and after a resume. Time is O(m), beside sorting the k largest for [`Policy::Wta`] and k binary searches
//! for the two policies that draw with replacement.

use crate::rng::{Philox, Purpose};
use std::cmp::Ordering;

/// How rows are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The k largest scores; of equal ones the lower row. Weights 1.
    TopK,
    /// k different rows, one after the other, each with a probability proportional to its squared score among those that are left
    /// (Mem-AOP-GD, Hernandez, Rini, Duman 2021). Weights 1.
    WeightedK,
    /// k different rows, all equally likely. Weights 1.
    RandK,
    /// k draws with replacement, p proportional to the score, weight 1 / (k p) a draw: unbiased, and of the least variance of its
    /// kind (column-row sampling; Drineas, Kannan, Mahoney 2006).
    Crs,
    /// The c largest scores with weight 1, and k − c draws from the others as in [`Policy::Crs`], with the c that makes the
    /// variance least: unbiased ("winner take all"; Liu et al. 2023, WTA-CRS).
    Wta,
}

/// Where the random numbers of one choice come from.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    rng: Philox,
    counter: [u32; 2],
}

impl Stream {
    /// The stream of a run's seed for one step and one place (such as a layer) of a learning rule.
    pub fn new(seed: u64, step: u64, place: u32) -> Stream {
        Stream { rng: Philox::new(seed, Purpose::Rule), counter: [step as u32, place] }
    }

    /// Number `index` of the stream, from 0 to below 1.
    fn uniform(&self, index: usize) -> f64 {
        self.rng.uniform(index as u64, self.counter)
    }
}

/// Chosen rows, with memory for up to as many as it was made for: choosing allocates nothing.
pub struct Choice {
    rows: Vec<u32>,
    weights: Vec<f64>,
    kept: f64,
    /// Keys to order by, or running sums.
    keys: Vec<f64>,
    /// Rows in order of their keys, or how often each was drawn.
    order: Vec<u32>,
}

impl Choice {
    /// Room for choosing among up to `rows` rows.
    pub fn new(rows: usize) -> Choice {
        let (weights, keys) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        Choice { rows: Vec::with_capacity(rows), weights, kept: 0.0, keys, order: Vec::with_capacity(rows) }
    }

    /// The chosen rows, ascending, each once.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Their weights in the sum.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The share that the chosen rows have of the sum of all scores; 0 where that is 0.
    pub fn kept(&self) -> f64 {
        self.kept
    }

    /// Where nothing was chosen, chooses the first row with weight 0: for those who need a row.
    pub fn ensure_one(&mut self) {
        if self.rows.is_empty() {
            self.rows.push(0);
            self.weights.push(0.0);
        }
    }

    /// Chooses `k` (all, where there are fewer) of the rows that `scores` are given for. Scores must not be negative. Where their
    /// sum is 0 or not a number, the two policies that draw by it choose nothing.
    pub fn choose(&mut self, policy: Policy, scores: &[f64], k: usize, stream: &Stream) {
        let k = k.min(scores.len());
        self.rows.clear();
        self.weights.clear();
        match policy {
            Policy::TopK => {
                self.keys.clear();
                self.keys.extend_from_slice(scores);
                self.take_largest(k);
            }
            // Waiting times with these rates: the k that come first are the k drawn first (Efraimidis and Spirakis 2006).
            Policy::WeightedK => {
                let key = |(row, score): (usize, &f64)| libm::log(1.0 - stream.uniform(row)) / (score * score);
                self.keys.clear();
                self.keys.extend(scores.iter().enumerate().map(key));
                self.take_largest(k);
            }
            Policy::RandK => {
                self.keys.clear();
                self.keys.extend((0..scores.len()).map(|row| stream.uniform(row)));
                self.take_largest(k);
            }
            Policy::Crs => self.draw(scores, 0, k, stream),
            Policy::Wta => self.winners(scores, k, stream),
        }
        let total: f64 = scores.iter().sum();
        let kept: f64 = self.rows.iter().map(|row| scores[*row as usize]).sum();
        self.kept = if total > 0.0 { kept / total } else { 0.0 };
    }

    /// Orders all rows so that the `k` with the largest keys come first.
    fn partition(&mut self, k: usize) {
        let Choice { keys, order, .. } = self;
        order.clear();
        order.extend(0..keys.len() as u32);
        if k > 0 && k < order.len() {
            order.select_nth_unstable_by(k - 1, |a, b| before(keys, *a, *b));
        }
    }

    /// Chooses the `k` rows with the largest keys.
    fn take_largest(&mut self, k: usize) {
        if k == 0 {
            return;
        }
        self.partition(k);
        let last = self.order[k - 1];
        let keys = &self.keys;
        let chosen = |row: &u32| k == keys.len() || before(keys, *row, last) != Ordering::Greater;
        self.rows.extend((0..keys.len() as u32).filter(chosen));
        self.weights.resize(self.rows.len(), 1.0);
    }

    /// Chooses the first `sure` rows of `order` with weight 1, and makes `draws` draws from the others.
    fn draw(&mut self, scores: &[f64], sure: usize, draws: usize, stream: &Stream) {
        const SURE: u32 = u32::MAX;
        let Choice { rows, weights, keys, order, .. } = self;
        // The running sums go over the rows that are left; a sure one adds nothing, so that no draw can meet it.
        keys.clear();
        keys.extend_from_slice(scores);
        for row in &order[..sure] {
            keys[*row as usize] = -1.0;
        }
        order.clear();
        let mut sum = 0.0;
        for key in keys.iter_mut() {
            order.push(if *key < 0.0 { SURE } else { 0 });
            sum += key.max(0.0);
            *key = sum;
        }
        if sum <= 0.0 || !sum.is_finite() {
            if sure == 0 {
                return;
            }
        } else {
            for index in 0..draws {
                let at = stream.uniform(index) * sum;
                // Rounding up to the sum itself would lead past the last row.
                let row = keys.partition_point(|running| *running <= at).min(keys.len() - 1);
                if order[row] != SURE {
                    order[row] += 1;
                }
            }
        }
        for (row, count) in order.iter().enumerate().filter(|(_, count)| **count > 0) {
            rows.push(row as u32);
            let drawn = || f64::from(*count) * sum / (draws as f64 * scores[row]);
            weights.push(if *count == SURE { 1.0 } else { drawn() });
        }
    }

    fn winners(&mut self, scores: &[f64], k: usize, stream: &Stream) {
        self.keys.clear();
        self.keys.extend_from_slice(scores);
        if k == scores.len() {
            return self.take_largest(k);
        }
        self.partition(k);
        let keys = &self.keys;
        self.order[..k].sort_unstable_by(|a, b| before(keys, *a, *b));
        let mut tail: f64 = scores.iter().sum();
        let (mut sure, mut least) = (0, f64::INFINITY);
        for (count, row) in self.order[..k].iter().enumerate() {
            // The variance of the draws grows with the square of what is left to them over their number.
            let spread = tail / (k - count) as f64;
            if spread <= least {
                (sure, least) = (count, spread);
            }
            tail -= scores[*row as usize];
        }
        self.draw(scores, sure, k - sure, stream);
    }
}

/// Larger keys first, of equal ones the lower row.
fn before(keys: &[f64], a: u32, b: u32) -> Ordering {
    keys[b as usize].total_cmp(&keys[a as usize]).then(a.cmp(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHOUT_REPLACEMENT: [Policy; 3] = [Policy::TopK, Policy::WeightedK, Policy::RandK];
    const ALL: [Policy; 5] = [Policy::TopK, Policy::WeightedK, Policy::RandK, Policy::Crs, Policy::Wta];

    fn scores(count: usize, seed: u64) -> Vec<f64> {
        let rng = Philox::new(seed, Purpose::Initialise);
        (0..count).map(|i| rng.uniform(i as u64, [3, 0]).powi(3)).collect()
    }

    fn choose(policy: Policy, scores: &[f64], k: usize, step: u64) -> Choice {
        let mut choice = Choice::new(scores.len());
        choice.choose(policy, scores, k, &Stream::new(5, step, 2));
        choice
    }

    #[test]
    fn policies_without_replacement_choose_k_different_rows_in_order() {
        for policy in WITHOUT_REPLACEMENT {
            for count in [1, 2, 7, 64, 300] {
                let scores = scores(count, 1);
                for k in [0, 1, count / 3, count - 1, count, count + 5] {
                    let choice = choose(policy, &scores, k, 0);
                    assert_eq!(choice.rows().len(), k.min(count), "{policy:?} {k} of {count}");
                    assert!(choice.rows().windows(2).all(|pair| pair[0] < pair[1]));
                    assert!(choice.weights().iter().all(|weight| *weight == 1.0));
                }
            }
        }
    }

    #[test]
    fn top_k_equals_sorting_and_breaks_ties_by_the_lower_row() {
        for seed in 0..20 {
            let scores: Vec<f64> = scores(97, seed).iter().map(|score| (score * 10.0).floor()).collect();
            let mut sorted: Vec<u32> = (0..97).collect();
            sorted.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]).then(a.cmp(b)));
            for k in [1, 10, 50, 96] {
                let mut expected = sorted[..k].to_vec();
                expected.sort_unstable();
                assert_eq!(choose(Policy::TopK, &scores, k, 0).rows(), expected);
            }
        }
        assert_eq!(choose(Policy::TopK, &[0.0; 9], 3, 0).rows(), [0, 1, 2]);
    }

    #[test]
    fn weighted_k_draws_one_after_the_other_by_squared_scores() {
        // P(pair) = p₁ p₂ / (1 − p₁) + p₂ p₁ / (1 − p₂) with p proportional to the squares.
        let scores = [1.0, 2.0, 0.5, 1.5];
        let sum: f64 = scores.iter().map(|s| s * s).sum();
        let p = scores.map(|s| s * s / sum);
        let draws = 40_000;
        let mut counts = [[0.0; 4]; 4];
        for step in 0..draws {
            let choice = choose(Policy::WeightedK, &scores, 2, step);
            counts[choice.rows()[0] as usize][choice.rows()[1] as usize] += 1.0 / draws as f64;
        }
        for a in 0..4 {
            for b in a + 1..4 {
                let expected = p[a] * p[b] / (1.0 - p[a]) + p[b] * p[a] / (1.0 - p[b]);
                assert!((counts[a][b] - expected).abs() < 0.01, "{a} {b}: {} against {expected}", counts[a][b]);
            }
        }
    }

    #[test]
    fn rand_k_is_uniform_and_changes_with_step_and_place() {
        let scores = scores(20, 1);
        let mut counts = [0.0f64; 20];
        for step in 0..4000 {
            choose(Policy::RandK, &scores, 5, step).rows().iter().for_each(|row| counts[*row as usize] += 1.0 / 1000.0);
        }
        assert!(counts.iter().all(|count| (count - 1.0).abs() < 0.2), "{counts:?}");
        let at = |step, place| {
            let mut choice = Choice::new(20);
            choice.choose(Policy::RandK, &scores, 5, &Stream::new(5, step, place));
            choice.rows().to_vec()
        };
        assert_eq!(at(1, 1), at(1, 1));
        assert_ne!(at(1, 1), at(2, 1));
        assert_ne!(at(1, 1), at(1, 2));
    }

    #[test]
    fn crs_and_wta_are_unbiased_and_wta_varies_less() {
        let scores = scores(40, 3);
        let variance = |policy| {
            let (mut mean, mut square) = ([0.0; 40], 0.0);
            let draws = 20_000;
            for step in 0..draws {
                let choice = choose(policy, &scores, 10, step);
                assert!(choice.rows().len() <= 10);
                let mut sum = 0.0;
                for (row, weight) in choice.rows().iter().zip(choice.weights()) {
                    mean[*row as usize] += weight / draws as f64;
                    // Values that differ from the scores: their weighted sum would not vary at all.
                    sum += weight * scores[*row as usize] * f64::from(row % 3);
                }
                square += sum * sum / draws as f64;
            }
            for (row, mean) in mean.iter().enumerate() {
                let deviation = (1.0 / (draws as f64 * 10.0 * (scores[row] / scores.iter().sum::<f64>()))).sqrt();
                assert!((mean - 1.0).abs() < 5.0 * deviation + 1e-9, "{policy:?} row {row}: mean weight {mean}");
            }
            let exact: f64 = scores.iter().enumerate().map(|(row, score)| score * (row % 3) as f64).sum();
            square - exact * exact
        };
        let (crs, wta) = (variance(Policy::Crs), variance(Policy::Wta));
        assert!(wta < crs, "{wta} against {crs}");
    }

    #[test]
    fn all_rows_with_weight_1_where_k_is_their_number() {
        for policy in [Policy::TopK, Policy::WeightedK, Policy::RandK, Policy::Wta] {
            let choice = choose(policy, &scores(33, 4), 33, 0);
            assert_eq!(choice.rows(), (0..33).collect::<Vec<_>>());
            assert!(choice.weights().iter().all(|weight| *weight == 1.0));
            assert_eq!(choice.kept(), 1.0);
        }
    }

    #[test]
    fn scores_without_a_sum_choose_something_harmless() {
        for scores in [vec![0.0; 8], vec![]] {
            for policy in ALL {
                let choice = choose(policy, &scores, 3, 1);
                assert!(choice.rows().iter().all(|row| (*row as usize) < scores.len()));
                assert!(choice.weights().iter().all(|weight| weight.is_finite()));
            }
        }
        // One row has it all.
        assert_eq!(choose(Policy::Crs, &[0.0, 2.0, 0.0], 2, 1).rows(), [1]);
        let sure = choose(Policy::Wta, &[0.0, 2.0, 0.0], 2, 1);
        assert!(sure.rows().contains(&1) && sure.weights().iter().all(|weight| *weight == 1.0));
    }
}
