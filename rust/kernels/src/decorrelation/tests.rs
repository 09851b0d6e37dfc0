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
fn on_fixed_rows_steps_inside_the_limit_never_raise_the_loss_and_bring_it_to_none() {
    let size = 10;
    let b = whole(size);
    // Whatever the rate: 1e6 stands for steps as long as the limit allows, from its default to the most that is proven.
    for (count, scale) in [(400, 1.0), (400, 1.6), (7, 1.0)] {
        let x: Vec<f64> = rows(10, count, size).iter().map(|x| x * scale).collect();
        for (kappa, rate, limit) in [
            (0.5, 0.05, 0.5),
            (0.1, 0.05, 0.5),
            (0.5, 1e6, 0.5),
            (0.1, 1e6, 0.5),
            (0.9, 1e6, 0.5),
            (0.5, 1e6, 1.4),
            (0.0, 1e6, 1.4),
        ] {
            let rule = Rule { rate, kappa, limit: Some(limit), ..RULE };
            let mut s = vec![0.0; b.elements()];
            b.identity(&mut s);
            let mut before = f64::INFINITY;
            // With fewer rows than columns R grows without end where no row reaches, until rounding shows.
            for index in 0..if count > size { 4000 } else { 60 } {
                let outcome = step(b, &z_of(b, &x, &s), &mut s, &rule);
                // Below the slack the loss is rounding.
                let name = format!("κ {kappa}, rate {rate}, limit {limit}, {count} rows, step {index}");
                assert!(outcome.loss <= before * (1.0 + 1e-9) + 1e-14, "{name}: {} after {before}", outcome.loss);
                before = outcome.loss;
            }
            if count > size && kappa > 0.0 {
                assert!(before < 1e-4, "κ {kappa}, rate {rate}: {before}");
                near(&moments(&z_of(b, &x, &s), size), &start_of(b), 0.1);
            }
        }
    }
    // Without a limit a rate beyond 2 / λ diverges, and is caught.
    let x = rows(10, 400, size);
    let mut s = start_of(b);
    let rule = Rule { rate: 1e150, ..RULE };
    let resets = (0..4).map(|_| step(b, &z_of(b, &x, &s), &mut s, &rule).resets).sum::<usize>();
    assert!(resets > 0 && s.iter().all(|value| value.is_finite()));
}

/// The identity.
fn start_of(b: Blocks) -> Vec<f64> {
    let mut s = vec![0.0; b.elements()];
    b.identity(&mut s);
    s
}

fn transposed(a: &[f64], size: usize) -> Vec<f64> {
    (0..size * size).map(|at| a[at % size * size + at / size]).collect()
}

#[test]
fn factors_multiply_to_the_matrix_and_inverses_to_the_identity() {
    for size in [1, 7, 48, 50, 131] {
        let a = moments(&rows(20, 3 * size + 5, size), size);
        let (mut l, mut x, mut scratch) = (a.clone(), vec![1.0; size * size], vec![0.0; factor::scratch(size)]);
        assert!(factor::cholesky(Par::SEQUENTIAL, &mut l, size, &mut scratch));
        factor::invert_lower(Par::SEQUENTIAL, &l, size, &mut x, &mut scratch);
        (0..size * size).filter(|at| at % size > at / size).for_each(|at| l[at] = 0.0);
        near(&times(&l, &transposed(&l, size), size), &a, 1e-12);
        near(&times(&l, &x, size), &start_of(whole(size)), 1e-11);
        for (at, bad) in [(0, -1.0), (size * size - 1, -1e9), (size / 2 * (size + 1), f64::NAN)] {
            let mut a = a.clone();
            a[at] = bad;
            assert!(!factor::cholesky(Par::SEQUENTIAL, &mut a, size, &mut scratch), "{bad} at {at} of {size}");
        }
    }
}

/// One change of S beside weights with one column for each unit; gives S, the weights and the outcome.
fn followed(
    b: Blocks,
    form: Form,
    ridge: f64,
    covariance: &[f64],
    s: &[f64],
    w: &[f64],
) -> (Vec<f64>, Vec<f64>, Outcome) {
    let zeros = || vec![0.0; b.elements()];
    let (mut s, mut first, mut second, mut scratch) = (s.to_vec(), zeros(), zeros(), vec![0.0; averaged_scratch(b)]);
    let outcome = follow(Par::SEQUENTIAL, b, form, ridge, covariance, &mut s, (&mut first, &mut second), &mut scratch);
    let (outputs, mut half, mut whole) = (w.len() / b.size, w.to_vec(), w.to_vec());
    multiply(Par::SEQUENTIAL, b, outputs, &first, false, w, &mut half);
    multiply(Par::SEQUENTIAL, b, outputs, &second, false, &half, &mut whole);
    (s, whole, outcome)
}

fn averaged(b: Blocks, x: &[f64]) -> Vec<f64> {
    let (mut covariance, mut scratch) = (vec![0.0; b.elements()], vec![0.0; averaged_scratch(b)]);
    average(Par::SEQUENTIAL, b, x.len() / b.size, x, 1.0, &mut covariance, &mut scratch);
    covariance
}

#[test]
fn what_follows_a_covariance_whitens_it_and_the_weights_keep_the_function() {
    for b in [whole(9), whole(70), Blocks { size: 11, block: 4 }] {
        let x = rows(21, 4 * b.size, b.size);
        let (covariance, outputs) = (averaged(b, &x), 3);
        let function = |s: &[f64], w: &[f64]| {
            let mut a = vec![0.0; w.len()];
            multiply(Par::SEQUENTIAL, b, outputs, s, false, w, &mut a);
            a
        };
        for (form, steps) in [(Form::NewtonSchulz, 60), (Form::Cholesky, 1)] {
            let (mut s, mut w) = (start_of(b), random(22, b.size * outputs));
            let before = function(&s, &w);
            let mut last = f64::INFINITY;
            for _ in 0..steps {
                let outcome;
                (s, w, outcome) = followed(b, form, 0.0, &covariance, &s, &w);
                assert_eq!(outcome.resets, 0);
                assert!(outcome.loss <= last + 1e-12, "{} after {last}", outcome.loss);
                last = outcome.loss;
                near(&function(&s, &w), &before, 1e-9);
            }
            for index in 0..b.count() {
                let (size, place) = (b.range(index).len(), b.place(index));
                let (s, covariance) = (&s[place.clone()], &covariance[place]);
                let c = times(&transposed(s, size), &times(covariance, s, size), size);
                near(&c, &start_of(whole(size)), 1e-9);
                // One is the symmetric root, the other one triangular.
                let other = if form == Form::Cholesky { vec![0.0; size * size] } else { transposed(s, size) };
                for (at, (s, other)) in s.iter().zip(&other).enumerate().filter(|(at, _)| at / size > at % size) {
                    assert!((s - other).abs() < 1e-9, "{at}: {s} against {other}");
                }
            }
        }
    }
}

#[test]
fn newton_schulz_on_the_covariance_of_a_batch_is_the_local_rule_with_half_kappa_and_rate_one() {
    let (size, count) = (8, 600);
    let b = whole(size);
    // Independent numbers: C is near enough to the identity that no step is shortened.
    let x = random(23, count * size);
    let s = start_of(b);
    let (found, _, outcome) = followed(b, Form::NewtonSchulz, 0.0, &averaged(b, &x), &s, &random(24, size));
    assert_eq!(outcome.rate, 1.0);
    let mut expected = s.clone();
    let local = step(b, &z_of(b, &x, &s), &mut expected, &Rule { rate: 1.0, kappa: 0.5, ..RULE });
    near(&found, &expected, 1e-13);
    near(&[outcome.loss], &[local.loss], 1e-13);
}

#[test]
fn averages_forget_by_their_gain_and_a_ridge_bounds_what_is_blown_up() {
    let (size, count, ridge) = (5, 40, 0.25);
    let b = whole(size);
    let mut x = rows(25, count, size);
    x.chunks_exact_mut(size).for_each(|row| row[2] = 0.0);
    let mut covariance = averaged(b, &x);
    near(&covariance, &moments(&x, size), 1e-13);
    let mean = covariance.iter().step_by(size + 1).sum::<f64>() / size as f64;
    let (s, _, _) = followed(b, Form::Cholesky, ridge, &covariance, &start_of(b), &random(26, size));
    assert!((s[2 * size + 2] - (ridge * mean).powf(-0.5)).abs() < 1e-12);
    let (other, mut scratch) = (rows(29, count, size), vec![0.0; averaged_scratch(b)]);
    average(Par::SEQUENTIAL, b, count, &other, 0.25, &mut covariance, &mut scratch);
    let both = moments(&x, size).into_iter().zip(moments(&other, size));
    near(&covariance, &both.map(|(x, other)| 0.75 * x + 0.25 * other).collect::<Vec<_>>(), 1e-13);
    // Rows that are not finite leave it as it is.
    let before = covariance.clone();
    average(Par::SEQUENTIAL, b, 1, &[f64::INFINITY; 5], 0.25, &mut covariance, &mut scratch);
    assert_eq!(covariance, before);
}

#[test]
fn what_has_no_factor_becomes_the_identity_and_the_weights_keep_the_function() {
    let b = Blocks { size: 7, block: 4 };
    let (s, w) = (start(b), random(27, 7 * 2));
    let good = averaged(b, &rows(28, 40, 7));
    let mut function = w.clone();
    multiply(Par::SEQUENTIAL, b, 2, &s, false, &w, &mut function);
    for form in [Form::NewtonSchulz, Form::Cholesky] {
        for (bad, resets) in [(f64::NAN, 1), (f64::INFINITY, 1), (0.0, 0)] {
            let mut covariance = good.clone();
            covariance[b.place(1)].fill(bad);
            let (found, weights, outcome) = followed(b, form, 0.1, &covariance, &s, &w);
            assert_eq!(outcome.resets, resets, "{form:?} {bad}");
            assert_eq!(found[b.place(1)], start_of(b)[b.place(1)]);
            let mut after = w.clone();
            multiply(Par::SEQUENTIAL, b, 2, &found, false, &weights, &mut after);
            near(&after, &function, 1e-10);
        }
    }
    // Not positive definite, though finite.
    let mut covariance = good.clone();
    covariance[1] = 1e3;
    covariance[4] = 1e3;
    let (found, _, outcome) = followed(b, Form::Cholesky, 0.1, &covariance, &s, &w);
    assert_eq!((outcome.resets, &found[b.place(0)]), (1, &start_of(b)[b.place(0)]));
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
fn principal_axes_are_uncorrelated_at_any_stretch() {
    for (size, power) in [(1, 0.5), (7, 0.0), (30, 0.25), (30, 1.0)] {
        let mut x = rows(21, 3 * size + 5, size);
        // One input never changes, one is another's double.
        if size > 1 {
            x.chunks_exact_mut(size).for_each(|row| (row[1], row[2]) = (0.0, 2.0 * row[0]));
        }
        let c = moments(&x, size);
        let mut s = vec![0.0; size * size];
        principal_axes(&c, size, power, &mut s);
        let after = moments(&z_of(whole(size), &x, &s), size);
        let (before, variances) = (
            (0..size).map(|i| c[i * size + i]).sum::<f64>(),
            (0..size).map(|i| after[i * size + i]).collect::<Vec<_>>(),
        );
        for (i, row) in after.chunks_exact(size).enumerate() {
            for (j, value) in row.iter().enumerate().filter(|(j, _)| *j != i) {
                assert!(value.abs() < 1e-10 * before, "{i}, {j} at power {power}: {value}");
            }
        }
        near(&[variances.iter().sum()], &[before], 1e-10);
        // A variance λ becomes a multiple of λ^(1 + 2 power).
        let mut axes = vec![0.0; size * size];
        principal_axes(&c, size, 0.0, &mut axes);
        let plain = moments(&z_of(whole(size), &x, &axes), size);
        let factor =
            variances.iter().sum::<f64>() / (0..size).map(|i| plain[i * size + i].powf(1.0 + 2.0 * power)).sum::<f64>();
        for (i, variance) in variances.iter().enumerate() {
            let expected = factor * plain[i * size + i].powf(1.0 + 2.0 * power);
            assert!((variance - expected).abs() < 1e-6 * before, "{i} at power {power}: {variance} against {expected}");
        }
    }
    for bad in [[0.0; 4], [1.0, 0.0, 0.0, f64::INFINITY]] {
        let mut s = [5.0; 4];
        principal_axes(&bad, 2, 0.25, &mut s);
        assert_eq!(s, [1.0, 0.0, 0.0, 1.0]);
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for (count, b) in [(128, Blocks { size: 700, block: 700 }), (600, Blocks { size: 400, block: 300 })] {
        let x: Vec<f32> = random(13, count * b.size).iter().map(|x| *x as f32).collect();
        let run = |threads: usize| {
            crate::team::in_crew(threads, |par| {
                let mut s = vec![0.0f32; b.elements()];
                b.identity(&mut s);
                let (mut z, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
                let mut scratch = vec![0.0; scratch_elements(b, count, false)];
                let rule = Rule { limit: Some(0.5), ..RULE };
                for _ in 0..2 {
                    apply(par, b, count, &x, &s, None, &mut z);
                    update(par, b, count, &z, &mut s, &rule, &mut scratch);
                }
                let mut scratch = vec![0.0; averaged_scratch(b)];
                let mut squares = [0; 3].map(|_| vec![0.0; b.elements()]);
                let [covariance, first, second] = &mut squares;
                average(par, b, count, &x, 0.5, covariance, &mut scratch);
                for form in [Form::NewtonSchulz, Form::Cholesky, Form::NewtonSchulz] {
                    let outcome = follow(par, b, form, 0.1, covariance, &mut s, (first, second), &mut scratch);
                    assert_eq!(outcome.resets, 0);
                }
                apply_transposed(par, b, count, &x, &s, None, &mut dx);
                let mut product = vec![0.0; x.len()];
                multiply(par, b, count, &s, true, &x, &mut product);
                [s, z, dx, product, squares.concat()].concat().iter().map(|value| value.to_bits()).collect::<Vec<_>>()
            })
        };
        let expected = run(1);
        assert_eq!(run(2), expected);
        assert_eq!(run(3), expected);
    }
}
