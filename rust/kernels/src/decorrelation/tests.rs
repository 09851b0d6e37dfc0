//! The rule's laws, in f64, against plain loops.

use super::*;
use crate::rng::{Philox, Purpose};

fn random(seed: u64, count: usize) -> Vec<f64> {
    let rng = Philox::new(seed, Purpose::Initialise);
    (0..count).map(|index| rng.normal(index as u64, [0, 0])).collect()
}

/// Rows with correlations: mixtures of independent numbers.
fn rows(seed: u64, count: usize, size: usize) -> Vec<f64> {
    let (raw, mix) = (random(seed, count * size), random(seed + 1, size * size));
    let mut x = vec![0.0; count * size];
    for (x, raw) in x.chunks_exact_mut(size).zip(raw.chunks_exact(size)) {
        for (j, x) in x.iter_mut().enumerate() {
            *x = raw[j] + 0.4 * (0..size).map(|i| raw[i] * mix[i * size + j]).sum::<f64>() / (size as f64).sqrt();
        }
    }
    x
}

const RULE: Rule = Rule { rate: 0.01, kappa: 0.3, limit: None, cap: 1e9, explicit: false };

fn whole(size: usize) -> Blocks {
    Blocks { size, block: size }
}

fn z_of(b: Blocks, x: &[f64], s: &[f64]) -> Vec<f64> {
    let mut z = vec![0.0; x.len()];
    apply(Par::SEQUENTIAL, b, x.len() / b.size, x, s, None, &mut z);
    z
}

fn step(b: Blocks, z: &[f64], s: &mut [f64], rule: &Rule) -> Outcome {
    let rows = z.len() / b.size;
    let mut scratch = vec![0.0; scratch_elements(b, rows, rule.explicit)];
    update(Par::SEQUENTIAL, b, rows, z, s, rule, &mut scratch)
}

fn near(a: &[f64], b: &[f64], limit: f64) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= limit * (1.0 + b.abs()), "{a} against {b}");
    }
}

/// zᵀ z / n by plain loops.
fn moments(z: &[f64], size: usize) -> Vec<f64> {
    let rows = z.len() / size;
    let mut c = vec![0.0; size * size];
    for z in z.chunks_exact(size) {
        for i in 0..size {
            for j in 0..size {
                c[i * size + j] += z[i] * z[j] / rows as f64;
            }
        }
    }
    c
}

fn times(a: &[f64], b: &[f64], size: usize) -> Vec<f64> {
    let mut c = vec![0.0; size * size];
    crate::gemm::gemm(1.0, Matrix::new(a, size, size), Matrix::new(b, size, size), false, &mut c);
    c
}

fn start(b: Blocks) -> Vec<f64> {
    let mut s = vec![0.0; b.elements()];
    b.identity(&mut s);
    s.iter_mut().zip(random(9, b.elements())).for_each(|(s, noise)| *s += 0.1 * noise);
    s
}

/// S − η S ((1 − κ) C_off + κ diag v), by its definition.
fn by_definition(z: &[f64], s: &[f64], size: usize, rule: &Rule) -> Vec<f64> {
    let mut m = moments(z, size);
    for i in 0..size {
        for j in 0..size {
            let value = &mut m[i * size + j];
            *value = if i == j { rule.kappa * (*value - 1.0) } else { (1.0 - rule.kappa) * *value };
        }
    }
    s.iter().zip(times(s, &m, size)).map(|(s, sm)| s - rule.rate * sm).collect()
}

#[test]
fn the_low_rank_form_and_the_explicit_one_are_the_definition() {
    for (count, size) in [(5, 12), (12, 12), (40, 12), (3, 1), (120, 200)] {
        let b = whole(size);
        let (x, s) = (rows(1, count, size), start(b));
        let z = z_of(b, &x, &s);
        for explicit in [false, true] {
            let rule = Rule { explicit, ..RULE };
            let mut found = s.clone();
            step(b, &z, &mut found, &rule);
            near(&found, &by_definition(&z, &s, size, &rule), 1e-13);
        }
    }
}

#[test]
fn blocks_are_matrices_of_their_own() {
    let (b, count) = (Blocks { size: 11, block: 4 }, 6);
    let (x, s) = (rows(2, count, 11), start(b));
    let z = z_of(b, &x, &s);
    let mut found = s.clone();
    step(b, &z, &mut found, &RULE);
    for index in 0..b.count() {
        let of = b.range(index);
        let part = |from: &[f64]| from.chunks_exact(11).flat_map(|row| row[of.clone()].to_vec()).collect::<Vec<_>>();
        let own = whole(of.len());
        near(&part(&z), &z_of(own, &part(&x), &s[b.place(index)]), 1e-14);
        let mut expected = s[b.place(index)].to_vec();
        step(own, &part(&z), &mut expected, &RULE);
        near(&found[b.place(index)], &expected, 1e-13);
    }
}

#[test]
fn the_products_agree_with_each_other() {
    let (b, count, outputs) = (Blocks { size: 10, block: 4 }, 7, 3);
    let (x, s, w) = (random(3, count * 10), start(b), random(4, 10 * outputs));
    let mut product = vec![0.0; w.len()];
    multiply(Par::SEQUENTIAL, b, outputs, &s, false, &w, &mut product);
    let through = |x: &[f64], w: &[f64]| {
        let mut y = vec![0.0; count * outputs];
        crate::gemm::gemm(1.0, Matrix::new(x, count, 10), Matrix::new(w, 10, outputs), false, &mut y);
        y
    };
    near(&through(&z_of(b, &x, &s), &w), &through(&x, &product), 1e-13);
    // ⟨u, x S⟩ = ⟨u Sᵀ, x⟩ and ⟨a, S w⟩ = ⟨Sᵀ a, w⟩.
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (u, a) = (random(5, x.len()), random(6, w.len()));
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    apply_transposed(Par::SEQUENTIAL, b, count, &u, &s, None, &mut dx);
    multiply(Par::SEQUENTIAL, b, outputs, &s, true, &a, &mut dw);
    near(&[dot(&u, &z_of(b, &x, &s)), dot(&a, &product)], &[dot(&dx, &x), dot(&dw, &w)], 1e-13);
}

#[test]
fn half_kappa_and_rate_one_is_a_newton_schulz_step() {
    let (size, count) = (8, 50);
    let b = whole(size);
    let (x, s) = (rows(7, count, size), start(b));
    let z = z_of(b, &x, &s);
    let c = moments(&z, size);
    let mut found = s.clone();
    // v may be cut where variances are far above 1.
    let scaled: Vec<f64> = z.iter().map(|z| z * 0.5).collect();
    let quarter: Vec<f64> = c.iter().map(|c| c * 0.25).collect();
    step(b, &scaled, &mut found, &Rule { rate: 1.0, kappa: 0.5, ..RULE });
    let expected: Vec<f64> = s.iter().zip(times(&s, &quarter, size)).map(|(s, sc)| (3.0 * s - sc) / 2.0).collect();
    near(&found, &expected, 1e-13);
}

fn log_det(matrix: &[f64], size: usize) -> f64 {
    let mut a = matrix.to_vec();
    let mut sum = 0.0;
    for k in 0..size {
        let pivot = (k..size).max_by(|i, j| a[i * size + k].abs().total_cmp(&a[j * size + k].abs())).unwrap();
        (0..size).for_each(|j| a.swap(k * size + j, pivot * size + j));
        sum += a[k * size + k].abs().ln();
        for i in k + 1..size {
            let factor = a[i * size + k] / a[k * size + k];
            (k..size).for_each(|j| a[i * size + j] -= factor * a[k * size + j]);
        }
    }
    sum
}

#[test]
fn without_kappa_the_determinant_stays_to_first_order() {
    let (size, count, rate) = (8, 60, 1e-3);
    let b = whole(size);
    let (x, s) = (rows(8, count, size), start(b));
    let z = z_of(b, &x, &s);
    let c = moments(&z, size);
    let off: f64 = (0..size * size).filter(|at| at / size != at % size).map(|at| c[at] * c[at]).sum();
    let mut found = s.clone();
    step(b, &z, &mut found, &Rule { rate, kappa: 0.0, ..RULE });
    let change = log_det(&found, size) - log_det(&s, size);
    let expected = -rate * rate * off / 2.0;
    assert!((change - expected).abs() < 0.05 * expected.abs(), "{change} against {expected}");
}

#[test]
fn short_steps_bring_the_loss_to_none_on_fixed_rows_and_the_limit_keeps_long_ones_from_diverging() {
    let (size, count) = (10, 400);
    let b = whole(size);
    let x = rows(10, count, size);
    for (kappa, rate) in [(0.5, 0.05), (0.1, 0.05), (0.5, 1e6), (0.1, 1e6)] {
        let rule = Rule { rate, kappa, limit: Some(0.5), ..RULE };
        let mut s = vec![0.0; b.elements()];
        b.identity(&mut s);
        let (mut first, mut before) = (None, f64::INFINITY);
        for _ in 0..4000 {
            let outcome = step(b, &z_of(b, &x, &s), &mut s, &rule);
            let first = *first.get_or_insert(outcome.loss);
            // Steps as long as the limit allows may overshoot, but come back; short ones fall. Below the slack the loss is rounding.
            let most = if rate < 1.0 { before * (1.0 + 1e-9) + 1e-14 } else { 10.0 * first };
            assert!(outcome.loss <= most, "κ {kappa}, rate {rate}: {} after {before}", outcome.loss);
            before = outcome.loss;
        }
        if rate > 1.0 {
            continue;
        }
        assert!(before < 1e-4, "κ {kappa}, rate {rate}: {before}");
        let c = moments(&z_of(b, &x, &s), size);
        let mut identity = vec![0.0; size * size];
        b.identity(&mut identity);
        near(&c, &identity, 0.1);
    }
    // Without a limit a rate beyond 2 / λ diverges, and is caught.
    let mut s = vec![0.0; b.elements()];
    b.identity(&mut s);
    let rule = Rule { rate: 1e150, ..RULE };
    let resets = (0..4).map(|_| step(b, &z_of(b, &x, &s), &mut s, &rule).resets).sum::<usize>();
    assert!(resets > 0 && s.iter().all(|value| value.is_finite()));
}

#[test]
fn dead_inputs_stay_and_long_rows_are_cut() {
    let (size, count) = (4, 30);
    let b = whole(size);
    let mut x = rows(11, count, size);
    x.chunks_exact_mut(size).for_each(|row| (row[1], row[2]) = (0.0, row[2] * 1e-2));
    let mut s = vec![0.0; b.elements()];
    b.identity(&mut s);
    let rule = Rule { rate: 0.5, kappa: 0.5, limit: Some(0.5), cap: 5.0, explicit: false };
    for _ in 0..500 {
        step(b, &z_of(b, &x, &s), &mut s, &rule);
    }
    assert_eq!(s[size + 1], 1.0);
    for column in 0..size {
        let norm = (0..size).map(|row| s[row * size + column].powi(2)).sum::<f64>().sqrt();
        assert!(norm <= 5.0 * (1.0 + 1e-12), "column {column}: {norm}");
    }
}

#[test]
fn the_inverse_root_is_one() {
    for size in [1, 7, 30] {
        let b = whole(size);
        let c = moments(&rows(12, 3 * size + 5, size), size);
        let (mut s, mut scratch) = (vec![0.0; size * size], vec![0.0; root_scratch(size)]);
        inverse_root(Par::SEQUENTIAL, &c, size, &mut s, &mut scratch);
        let mut identity = vec![0.0; size * size];
        b.identity(&mut identity);
        near(&times(&times(&s, &c, size), &s, size), &identity, 1e-10);
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (count, b) in [(128, Blocks { size: 700, block: 700 }), (600, Blocks { size: 400, block: 300 })] {
        let x: Vec<f32> = random(13, count * b.size).iter().map(|x| *x as f32).collect();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let par = Par::new(threads);
                let mut s = vec![0.0f32; b.elements()];
                b.identity(&mut s);
                let (mut z, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
                let mut scratch = vec![0.0; scratch_elements(b, count, false)];
                let rule = Rule { limit: Some(0.5), ..RULE };
                for _ in 0..2 {
                    apply(par, b, count, &x, &s, None, &mut z);
                    update(par, b, count, &z, &mut s, &rule, &mut scratch);
                }
                apply_transposed(par, b, count, &x, &s, None, &mut dx);
                let mut product = vec![0.0; x.len()];
                multiply(par, b, count, &s, true, &x, &mut product);
                [s, z, dx, product].concat().iter().map(|value| value.to_bits()).collect::<Vec<_>>()
            })
        };
        let expected = run(1);
        assert_eq!(run(2), expected);
        assert_eq!(run(3), expected);
    }
}
