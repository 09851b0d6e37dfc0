//! Every algorithm against the definition of a convolution, in plain loops.

use super::*;
use crate::isa::{ISA_VARIABLE, Isa};
use crate::rng::{Philox, Purpose};
use crate::team::in_crew;
use proptest::prelude::*;

fn numbers<T: Real>(n: usize, seed: u64) -> Vec<T> {
    let rng = Philox::new(seed, Purpose::Initialise);
    // Values that f32 holds exactly, so that both types see the same problem.
    (0..n).map(|i| T::of(f64::from((rng.uniform(i as u64, [0, 0]) - 0.5) as f32))).collect()
}

/// Calls `body(index in x, index in w, index in y)` for every product of the definition.
fn definition(g: &Geometry, images: usize, mut body: impl FnMut(usize, usize, usize)) {
    let (channels, of_group) = (g.inputs / g.groups, g.outputs / g.groups);
    for image in 0..images {
        for (i, j) in (0..g.out_height()).flat_map(|i| (0..g.out_width()).map(move |j| (i, j))) {
            for (r, c) in (0..g.kernel[0]).flat_map(|r| (0..g.kernel[1]).map(move |c| (r, c))) {
                let (y, x) = (i * g.stride[0] + r, j * g.stride[1] + c);
                let inside = |at, padding, size| at >= padding && at < size + padding;
                if !inside(y, g.padding[0], g.height) || !inside(x, g.padding[1], g.width) {
                    continue;
                }
                let from = ((image * g.height + y - g.padding[0]) * g.width + x - g.padding[1]) * g.inputs;
                let to = ((image * g.out_height() + i) * g.out_width() + j) * g.outputs;
                for group in 0..g.groups {
                    for channel in 0..channels {
                        let row = group * g.patch() + (r * g.kernel[1] + c) * channels + channel;
                        for output in 0..of_group {
                            let w = row * of_group + output;
                            body(from + group * channels + channel, w, to + group * of_group + output);
                        }
                    }
                }
            }
        }
    }
}

/// Inputs of one problem and what the definition makes of them.
struct Problem<T> {
    g: Geometry,
    images: usize,
    x: Vec<T>,
    w: Vec<T>,
    bias: Vec<T>,
    gradient: Vec<T>,
}

impl<T: Real + Lanes> Problem<T> {
    fn new(g: Geometry, images: usize) -> Self {
        assert_eq!(g.check(), Ok(()));
        Problem {
            g,
            images,
            x: numbers(images * g.height * g.width * g.inputs, 1),
            w: numbers(g.weights(), 2),
            bias: numbers(g.outputs, 3),
            gradient: numbers(images * g.positions() * g.outputs, 4),
        }
    }

    /// relu(conv + bias), the input gradient behind a relu, and the weight gradient added to 0.25.
    fn run(&self, par: Par, algorithm: Algorithm) -> [Vec<T>; 3] {
        let Problem { g, images, .. } = self;
        // Scratch memory holds what an earlier call left: here something that would be seen.
        let scratch = |pass| vec![T::nan(); scratch_elements_with::<T>(algorithm, pass, par, g, *images)];
        let mut y = vec![T::nan(); self.gradient.len()];
        let (bias, relu) = (Some(&self.bias[..]), Activation::Relu);
        let (x, w, gradient) = (&self.x[..], &self.w[..], &self.gradient[..]);
        forward_with(algorithm, par, g, *images, x, w, bias, relu, &mut y, &mut scratch(Pass::Forward));
        let mut dx = vec![T::nan(); x.len()];
        let below = Some((relu, x));
        let mut memory = scratch(Pass::InputGradient);
        input_gradient_with(algorithm, par, g, *images, gradient, w, below, &mut dx, &mut memory);
        let mut dw = vec![T::of(0.25); w.len()];
        let mut memory = scratch(Pass::WeightGradient);
        weight_gradient_with(algorithm, par, g, *images, x, gradient, true, &mut dw, &mut memory);
        let mut again = vec![T::nan(); w.len()];
        memory.fill(T::nan());
        weight_gradient_with(algorithm, par, g, *images, x, gradient, false, &mut again, &mut memory);
        for (sum, one) in dw.iter().zip(&again) {
            assert!((*sum - *one - T::of(0.25)).abs() < T::of(1e-3), "{sum} is not {one} and a quarter");
        }
        [y, dx, dw]
    }
}

impl Problem<f64> {
    fn expected(&self) -> [Vec<f64>; 3] {
        let mut y = vec![0.0; self.gradient.len()];
        let (mut dx, mut dw) = (vec![0.0; self.x.len()], vec![0.25; self.w.len()]);
        definition(&self.g, self.images, |x, w, out| {
            y[out] += self.x[x] * self.w[w];
            dx[x] += self.gradient[out] * self.w[w];
            dw[w] += self.gradient[out] * self.x[x];
        });
        y.iter_mut().enumerate().for_each(|(i, y)| *y = (*y + self.bias[i % self.g.outputs]).max(0.0));
        dx.iter_mut().zip(&self.x).for_each(|(dx, x)| *dx = if *x > 0.0 { *dx } else { 0.0 });
        [y, dx, dw]
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, v| v.abs().max(most))
}

/// The largest difference, relative to the largest value; at least to 1, because small problems may cancel.
fn difference<T: Real>(found: &[T], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().all(|v| v.is_finite()), "not a number where one was expected");
    let pairs = found.iter().zip(expected);
    pairs.fold(0.0f64, |most, (f, e)| most.max((f.wide() - e).abs())) / largest(expected).max(1.0)
}

fn check(g: Geometry, images: usize) {
    let (wide, narrow) = (Problem::<f64>::new(g, images), Problem::<f32>::new(g, images));
    let expected = wide.expected();
    for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| algorithm.supports(&g)) {
        let found = in_crew(2, |par| wide.run(par, algorithm));
        for (pass, (found, expected)) in Pass::ALL.into_iter().zip(found.iter().zip(&expected)) {
            let difference = difference(found, expected);
            assert!(difference < 1e-12, "{algorithm:?} {pass:?} of {images} × {g:?}: {difference}");
        }
        let found = in_crew(2, |par| narrow.run(par, algorithm));
        for (pass, (found, expected)) in Pass::ALL.into_iter().zip(found.iter().zip(&expected)) {
            let difference = difference(found, expected);
            assert!(difference < 5e-6, "{algorithm:?} {pass:?} of {images} × {g:?} in f32: {difference}");
        }
    }
}

fn shape(
    size: [usize; 2],
    channels: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
) -> Geometry {
    let ([height, width], [inputs, outputs]) = (size, channels);
    Geometry { height, width, inputs, outputs, kernel, stride, padding, groups: 1 }
}

#[test]
fn every_algorithm_follows_the_definition_at_odd_shapes() {
    for (g, images) in [
        // One pixel, one channel.
        (shape([1, 1], [1, 1], [1, 1], [1, 1], [0, 0]), 1),
        // A kernel larger than what a stride leaves over.
        (shape([7, 8], [3, 5], [4, 3], [3, 2], [0, 0]), 2),
        // Stride 2 over odd sizes.
        (shape([9, 5], [2, 4], [3, 3], [2, 2], [1, 1]), 3),
        // Padding beyond half the kernel, up to windows that see nothing but padding.
        (shape([4, 3], [2, 3], [3, 3], [1, 1], [2, 2]), 2),
        (shape([2, 3], [2, 3], [2, 3], [2, 1], [3, 5]), 2),
        // A kernel larger than the image.
        (shape([2, 2], [3, 3], [3, 3], [1, 1], [1, 1]), 1),
        // Tiles that end outside the image; channels beside the vector length.
        (shape([11, 13], [17, 33], [3, 3], [1, 1], [1, 0]), 2),
        (shape([5, 6], [16, 16], [3, 3], [1, 1], [0, 2]), 1),
        // A linear map of pixels, and the same at a stride.
        (shape([6, 5], [7, 20], [1, 1], [1, 1], [0, 0]), 3),
        (shape([6, 5], [7, 20], [1, 1], [2, 2], [0, 0]), 3),
        // Several blocks of patches and of images; several partial sums.
        (shape([28, 28], [1, 6], [3, 3], [1, 1], [0, 0]), 5),
        (shape([23, 21], [1, 6], [4, 5], [2, 1], [2, 3]), 5),
        (shape([16, 15], [20, 8], [5, 5], [1, 1], [2, 2]), 7),
        // Groups, depthwise, and depthwise with two filters for each channel.
        (Geometry { groups: 2, ..shape([6, 7], [4, 6], [3, 2], [1, 2], [1, 1]) }, 2),
        (Geometry { groups: 37, ..shape([6, 7], [37, 37], [3, 3], [1, 1], [1, 1]) }, 10),
        (Geometry { groups: 5, ..shape([7, 7], [5, 5], [3, 4], [2, 3], [2, 1]) }, 3),
        (Geometry { groups: 3, ..shape([5, 5], [3, 6], [3, 3], [1, 1], [1, 1]) }, 2),
    ] {
        check(g, images);
    }
}

#[test]
fn winograd_follows_the_definition_when_threads_share_a_block() {
    check(shape([6, 6], [100, 104], [3, 3], [1, 1], [1, 1]), 20);
    // Several blocks; and weights so large that they are transformed by panels.
    check(shape([9, 9], [100, 104], [3, 3], [1, 1], [1, 1]), 30);
    check(shape([4, 4], [312, 290], [3, 3], [1, 1], [1, 1]), 3);
}

/// The way that layers call: one scratch memory, sized for the largest batch, whatever the choice for this one.
#[test]
fn the_chosen_algorithms_fit_the_scratch_memory_of_a_larger_batch() {
    let mut chosen = Vec::new();
    for channels in [[16, 24], [256, 256], [8, 8], [3, 64]] {
        let g = shape([8, 7], channels, [3, 3], [1, 1], [1, 1]);
        let mut scratch = vec![f32::NAN; scratch_elements::<f32>(Par::SEQUENTIAL, &g, 5)];
        for images in 1..=5 {
            let Problem { x, w, bias, gradient, .. } = Problem::<f32>::new(g, images);
            let (mut y, mut dx, mut dw) = (gradient.clone(), x.clone(), w.clone());
            let par = Par::SEQUENTIAL;
            forward(par, &g, images, &x, &w, Some(&bias), Activation::Identity, &mut y, &mut scratch);
            input_gradient(par, &g, images, &gradient, &w, None, &mut dx, &mut scratch);
            weight_gradient(par, &g, images, &x, &gradient, false, &mut dw, &mut scratch);
            // <conv(x), g> = <x, dx> = <w, dw>
            let inner = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a.wide() * b.wide()).sum::<f64>();
            let plain: Vec<f32> = y.iter().enumerate().map(|(i, y)| y - bias[i % g.outputs]).collect();
            let (of_y, of_x, of_w) = (inner(&plain, &gradient), inner(&x, &dx), inner(&w, &dw));
            let tolerance = 1e-4 * inner(&plain, &plain).sqrt() * inner(&gradient, &gradient).sqrt();
            assert!((of_y - of_x).abs() < tolerance && (of_y - of_w).abs() < tolerance, "{of_y}, {of_x}, {of_w}");
            chosen.extend(Pass::ALL.map(|pass| Algorithm::choose::<f32>(pass, &g, images)));
        }
    }
    assert!(chosen.contains(&Algorithm::Winograd) && chosen.contains(&Algorithm::Patches));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn every_algorithm_follows_the_definition(
        size in [1usize..9, 1..9], channels in [1usize..4, 1..4], kernel in [1usize..5, 1..5],
        stride in [1usize..4, 1..4], padding in [0usize..4, 0..4], groups in 1usize..4, images in 1usize..4,
        square: bool,
    ) {
        let (kernel, stride) = if square { ([3, 3], [1, 1]) } else { (kernel, stride) };
        let channels = [channels[0] * groups, channels[1] * groups];
        let g = Geometry { groups, ..shape(size, channels, kernel, stride, padding) };
        prop_assume!(g.check().is_ok());
        check(g, images);
    }
}

#[test]
fn passes_give_the_same_bits_for_any_number_of_threads() {
    for (g, images) in [
        (shape([28, 28], [1, 32], [3, 3], [1, 1], [0, 0]), 9),
        (shape([16, 16], [24, 40], [3, 3], [1, 1], [1, 1]), 9),
        (shape([8, 8], [128, 112], [3, 3], [1, 1], [1, 1]), 9),
        (shape([4, 4], [312, 290], [3, 3], [1, 1], [1, 1]), 3),
        (shape([17, 17], [24, 40], [3, 3], [2, 2], [1, 1]), 9),
        (Geometry { groups: 4, ..shape([17, 17], [16, 16], [5, 5], [1, 1], [2, 2]) }, 9),
        (Geometry { groups: 96, ..shape([17, 17], [96, 96], [5, 5], [1, 1], [2, 2]) }, 9),
    ] {
        let problem = Problem::<f32>::new(g, images);
        assert!(g.operations(images) > 3_000_000, "{g:?} would stay on one thread");
        for algorithm in Algorithm::ALL.into_iter().filter(|algorithm| algorithm.supports(&g)) {
            let one = in_crew(1, |par| problem.run(par, algorithm));
            for threads in [2, 3] {
                let many = in_crew(threads, |par| problem.run(par, algorithm));
                assert!(many == one, "{algorithm:?} of {g:?} with {threads} threads");
            }
        }
    }
}

/// The error of F(4×4) is the price of its speed: this is the bound that the documentation may quote.
#[test]
fn winograd_in_f32_stays_near_f64_at_depth() {
    for (channels, images) in [(64, 2), (256, 1)] {
        let g = shape([8, 8], [channels, channels], [3, 3], [1, 1], [1, 1]);
        let (wide, narrow) = (Problem::<f64>::new(g, images), Problem::<f32>::new(g, images));
        let exact = in_crew(2, |par| wide.run(par, Algorithm::Patches));
        for (algorithm, bound) in [(Algorithm::Patches, 1e-6), (Algorithm::Winograd, 3e-6)] {
            let found = in_crew(2, |par| narrow.run(par, algorithm));
            for (pass, (found, exact)) in Pass::ALL.into_iter().zip(found.iter().zip(&exact)) {
                let difference = difference(found, exact);
                println!("{algorithm:?} {pass:?} {channels} channels: {difference:.2e}");
                assert!(difference < bound, "{algorithm:?} {pass:?} with {channels} channels: {difference}");
            }
        }
    }
}

#[test]
fn gather_takes_any_rows_and_scatter_add_is_its_adjoint() {
    for groups in [1, 2] {
        let g = Geometry { groups, ..shape([5, 4], [4, 2], [3, 3], [2, 1], [1, 2]) };
        let images = 3;
        let rows = images * g.positions();
        let x: Vec<f64> = numbers(images * g.height * g.width * g.inputs, 1);
        let mut adjoint = vec![0.0; x.len()];
        let mut inner = 0.0;
        for group in 0..groups {
            let mut all = vec![f64::NAN; rows * g.patch()];
            gather(&g, &x, 0..rows, group, 0..g.patch(), &mut all);
            let some = [7, 0, rows - 1, 7];
            let columns = 2..g.patch() - 3;
            let mut picked = vec![f64::NAN; some.len() * columns.len()];
            gather(&g, &x, some, group, columns.clone(), &mut picked);
            for (row, picked) in some.into_iter().zip(picked.chunks_exact(columns.len())) {
                assert_eq!(picked, &all[row * g.patch()..][columns.clone()]);
            }
            let patches: Vec<f64> = numbers(all.len(), 5 + group as u64);
            scatter_add(&g, &patches, 0..rows, group, &mut adjoint);
            inner += all.iter().zip(&patches).map(|(a, b)| a * b).sum::<f64>();
        }
        let other = x.iter().zip(&adjoint).map(|(a, b)| a * b).sum::<f64>();
        assert!((inner - other).abs() < 1e-11, "{inner} against {other}");
    }
}

#[test]
fn bias_gradient_adds_columns_with_the_same_bits_for_any_number_of_threads() {
    let (rows, columns) = (200_000, 17);
    let g: Vec<f32> = numbers(rows * columns, 1);
    let run = |threads| {
        let (mut db, mut scratch) = (vec![0.5; columns], vec![f32::NAN; bias_scratch_elements(columns)]);
        in_crew(threads, |par| bias_gradient(par, &g, true, &mut db, &mut scratch));
        db
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(3));
    for (column, found) in one.iter().enumerate() {
        let exact = 0.5 + g.iter().skip(column).step_by(columns).map(|v| f64::from(*v)).sum::<f64>();
        assert!((f64::from(*found) - exact).abs() < 0.05, "column {column}: {found} against {exact}");
    }
}

/// The instruction set is chosen once in a process, so each further one takes a process of its own.
#[test]
fn every_instruction_set_passes_these_tests() {
    let tests = [
        "conv::tests::every_algorithm_follows_the_definition_at_odd_shapes",
        "conv::tests::winograd_follows_the_definition_when_threads_share_a_block",
        "conv::tests::passes_give_the_same_bits_for_any_number_of_threads",
        "conv::tests::winograd_in_f32_stays_near_f64_at_depth",
        "batch_norm::tests::train_and_eval_follow_the_definition",
        "group_norm::tests::group_norm_follows_the_definition_and_finite_differences",
        "pool::tests::pooling_follows_the_definition",
        "dropout::tests::dropout_follows_the_generator_element_by_element",
    ];
    for isa in Isa::ALL.into_iter().filter(|other| other.available() && *other != crate::isa::isa()) {
        let program = std::env::current_exe().expect("the test program");
        let mut command = std::process::Command::new(program);
        let output =
            command.env(ISA_VARIABLE, isa.name()).arg("--exact").args(tests).output().expect("a second process");
        let report = String::from_utf8_lossy(&output.stdout);
        let passed = format!("test result: ok. {} passed", tests.len());
        assert!(output.status.success() && report.contains(&passed), "with {}:\n{report}", isa.name());
    }
}
