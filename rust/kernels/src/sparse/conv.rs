//! Convolutions on planes: geometry only, the kernels are those of linear maps.
//!
//! A kernel tap is an offset into a plane with a border of zeros. The lanes of a row of outputs follow each other; those
//! of the inputs under a tap follow each other too, or with a stride of 2 leave out every second pixel, which costs
//! nothing because a register holds rows of the batch, not pixels.
//!
//! The backward pass goes by input pixels. With a stride of 2 a pixel meets only the taps of its own parity (its phase),
//! and each phase has a list of its own.

use super::pattern::{Pattern, Shape};
use super::plan::{Layout, Plan, Run, check_tile};
use super::tiles::{CONV_TILE, Plane};
use crate::conv::Geometry;

/// The sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Input channels.
    pub inputs: usize,
    /// Output channels.
    pub outputs: usize,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Step between outputs, in both directions: 1 or 2.
    pub stride: usize,
    /// Zeros added above and below, and on both sides.
    pub padding: [usize; 2],
}

impl Conv {
    /// The convolution of this geometry, or what about it is not supported, as "expected … but found …".
    ///
    /// # Panics
    /// If the geometry is not sound ([`Geometry::check`]).
    pub fn new(g: &Geometry) -> Result<Conv, String> {
        assert!(g.check().is_ok(), "a sound geometry, not {g:?}");
        let [rows, columns] = g.stride;
        if rows != columns || rows > 2 {
            return Err(format!("expected a stride of 1×1 or 2×2 for sparse weights but found {rows}×{columns}"));
        }
        if g.groups != 1 {
            return Err(format!("expected 1 group of channels for sparse weights but found {}", g.groups));
        }
        let Geometry { inputs, outputs, kernel, padding, .. } = *g;
        let conv = Conv { inputs, outputs, size: [g.height, g.width], kernel, stride: rows, padding };
        let positions = conv.input_plane().positions().max(conv.output_plane().positions());
        check_tile(inputs.max(outputs), positions, CONV_TILE)?;
        Ok(conv)
    }

    /// What its weights connect.
    pub fn shape(self) -> Shape {
        let Conv { inputs, outputs, kernel, stride, .. } = self;
        Shape { inputs, outputs, kernel, stride }
    }

    /// Height and width of the output.
    ///
    /// # Panics
    /// If the kernel is larger than the padded input.
    pub fn output_size(self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let padded = self.size[axis] + 2 * self.padding[axis];
            let steps = padded.checked_sub(self.kernel[axis]).expect("a kernel no larger than the padded input");
            steps / self.stride + 1
        })
    }

    /// The input with the border that the forward pass reads.
    pub fn input_plane(self) -> Plane {
        let output = self.output_size();
        let [rows, columns] = [0, 1].map(|axis| {
            let end = (output[axis] - 1) * self.stride + self.kernel[axis];
            (self.padding[axis], end.saturating_sub(self.padding[axis] + self.size[axis]))
        });
        bordered(self.size, rows, columns)
    }

    /// The output with the border that the backward pass reads.
    pub fn output_plane(self) -> Plane {
        let output = self.output_size();
        let [rows, columns] = [0, 1].map(|axis| {
            // Padded input pixels and the taps that meet them.
            let (first, last) = (self.padding[axis] as isize, (self.padding[axis] + self.size[axis] - 1) as isize);
            let (stride, taps) = (self.stride as isize, 0..self.kernel[axis] as isize);
            let lowest = taps.clone().map(|tap| (first - tap + stride - 1).div_euclid(stride)).min().unwrap_or(0);
            let highest = taps.map(|tap| (last - tap).div_euclid(stride)).max().unwrap_or(0);
            ((-lowest).max(0) as usize, (highest - output[axis] as isize + 1).max(0) as usize)
        });
        bordered(output, rows, columns)
    }

    /// A convolution between planes that cover [`Conv::input_plane`] and [`Conv::output_plane`], on tiles of 16 rows.
    ///
    /// # Panics
    /// If the pattern or a plane does not fit.
    pub fn plan(self, pattern: &Pattern, input: Plane, output: Plane) -> Plan {
        assert_eq!(pattern.shape(), self.shape(), "a pattern of this convolution");
        assert!(input.covers(self.input_plane()), "{input:?} is narrower than {:?}", self.input_plane());
        assert!(output.covers(self.output_plane()), "{output:?} is narrower than {:?}", self.output_plane());
        let (forward_runs, backward_runs) = (self.forward_runs(input, output), self.backward_runs(input, output));
        Plan::new(pattern, Layout { lanes: CONV_TILE, x: input, out: output, forward_runs, backward_runs })
    }

    /// Rows of outputs.
    fn forward_runs(self, input: Plane, output: Plane) -> Vec<Run> {
        let padding = self.padding.map(|zeros| zeros as isize);
        let rows = (0..output.height).map(|row| Run {
            x: element(input.at((row * self.stride) as isize - padding[0], -padding[1])),
            out: element(output.at(row as isize, 0)),
            lanes: output.width * CONV_TILE,
            phase: 0,
        });
        self.merged(rows)
    }

    /// Rows of inputs, each cut by phase.
    fn backward_runs(self, input: Plane, output: Plane) -> Vec<Run> {
        let (stride, padding) = (self.stride, self.padding);
        let last = self.kernel.map(|taps| ((taps - 1) / stride) as isize);
        let rows = (padding[0]..padding[0] + input.height).flat_map(|row| {
            (0..stride).filter_map(move |phase| {
                let first = padding[1] + (phase + stride - padding[1] % stride) % stride;
                let pixels = (padding[1] + input.width).checked_sub(first).filter(|left| *left > 0)?.div_ceil(stride);
                Some(Run {
                    x: element(input.at((row - padding[0]) as isize, (first - padding[1]) as isize)),
                    out: element(output.at((row / stride) as isize - last[0], (first / stride) as isize - last[1])),
                    lanes: pixels * CONV_TILE,
                    phase: row % stride * stride + phase,
                })
            })
        });
        self.merged(rows)
    }

    /// Joins rows that follow each other without a border on both sides.
    fn merged(self, rows: impl Iterator<Item = Run>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for run in rows {
            match runs.last_mut() {
                Some(before)
                    if self.stride == 1
                        && before.x + before.lanes as isize == run.x
                        && before.out + before.lanes as isize == run.out =>
                {
                    before.lanes += run.lanes;
                }
                Some(_) | None => runs.push(run),
            }
        }
        runs
    }
}

fn bordered(size: [usize; 2], rows: (usize, usize), columns: (usize, usize)) -> Plane {
    Plane { height: size[0], width: size[1], above: rows.0, below: rows.1, beside: columns.0.max(columns.1) }
}

/// The first lane of a position.
fn element(position: isize) -> isize {
    position * CONV_TILE as isize
}

#[cfg(test)]
mod tests {
    use super::super::backward::{Below, backward_for, bias_gradient_for};
    use super::super::forward::forward_for;
    use super::*;
    use crate::activation::Activation;
    use crate::real::Real;
    use crate::sparse::testing::{close, dense, isas, mask, numbers, wide};
    use crate::sparse::{Lanes, Tiles};
    use crate::team::in_crew;
    use proptest::prelude::*;

    /// The definition of a convolution and its gradients, pixel by pixel: calls `visit(x, w, y)` with indices in
    /// batch × height × width × channels and kernel × inputs × outputs.
    fn each_product(c: Conv, batch: usize, mut visit: impl FnMut(usize, usize, usize)) {
        let ([h, w], [oh, ow], [kh, kw]) = (c.size, c.output_size(), c.kernel);
        for (b, oy, ox, i, j) in (0..batch).flat_map(|b| {
            (0..oh * ow * kh * kw).map(move |n| (b, n / kw / kh / ow, n / kw / kh % ow, n / kw % kh, n % kw))
        }) {
            let (y, x) =
                ((oy * c.stride + i).wrapping_sub(c.padding[0]), (ox * c.stride + j).wrapping_sub(c.padding[1]));
            if y >= h || x >= w {
                continue;
            }
            for (output, input) in (0..c.outputs * c.inputs).map(|n| (n / c.inputs, n % c.inputs)) {
                let from = ((b * h + y) * w + x) * c.inputs + input;
                let to = ((b * oh + oy) * ow + ox) * c.outputs + output;
                visit(from, ((i * kw + j) * c.inputs + input) * c.outputs + output, to);
            }
        }
    }

    /// Forward pass and all gradients on every set, against the definition.
    fn check<T: Real + Lanes>(c: Conv, batch: usize, sparsity: f64, extra: usize) {
        let pattern = Pattern::from_mask(c.shape(), &mask(c.shape().dense_len(), sparsity, 5)).unwrap();
        let grow = |plane: Plane| Plane { above: plane.above + extra, beside: plane.beside + extra, ..plane };
        let plan = c.plan(&pattern, grow(c.input_plane()), grow(c.output_plane()));
        let (x_tiles, y_tiles): (Tiles, Tiles) = (plan.input_tiles(batch), plan.output_tiles(batch));
        let (x, g): (Vec<T>, Vec<T>) = (numbers(x_tiles.rows_len(), 1), numbers(y_tiles.rows_len(), 2));
        let (values, bias): (Vec<T>, Vec<T>) = (numbers(pattern.len(), 3), numbers(c.outputs, 4));

        let (w, xw, gw) = (dense(&pattern, &values), wide(&x), wide(&g));
        let mut y: Vec<f64> = (0..y_tiles.rows_len()).map(|i| bias[i % c.outputs].wide()).collect();
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
        each_product(c, batch, |from, weight, to| {
            y[to] += xw[from] * w[weight];
            dx[from] += gw[to] * w[weight];
            dw[weight] += gw[to] * xw[from];
        });
        y.iter_mut().for_each(|v| *v = if *v < 0.0 { 0.25 * *v } else { *v });
        dx.iter_mut().zip(&xw).for_each(|(g, x)| *g = if *x > 0.0 { *g } else { 0.0 });
        let mut kept = vec![0.0; pattern.len()];
        pattern.gather(&dw, &mut kept);

        for isa in isas() {
            let run = |threads: usize| {
                in_crew(threads, |par| {
                    let zeros = |n: usize| vec![T::zero(); n];
                    let (mut xt, mut gt, mut yt) = (zeros(x_tiles.len()), zeros(y_tiles.len()), zeros(y_tiles.len()));
                    x_tiles.pack(par, &x, &mut xt);
                    y_tiles.pack(par, &g, &mut gt);
                    let leaky = Activation::LeakyRelu(T::of(0.25));
                    forward_for(isa, par, &plan, &xt, &values, Some(&bias), leaky, &mut yt);
                    let mut dxt = zeros(xt.len());
                    let [mut dw, mut dw_alone] = [0; 2].map(|_| vec![T::of(9.0); pattern.len()]);
                    let below = Below { values: &values, activation: Activation::Relu, dx: &mut dxt };
                    backward_for(isa, par, &plan, &xt, &gt, Some(below), &mut dw);
                    backward_for(isa, par, &plan, &xt, &gt, None, &mut dw_alone);
                    assert!(dw == dw_alone, "the weight gradient alone has the same bits");
                    let mut db = vec![T::of(9.0); c.outputs];
                    bias_gradient_for(isa, par, &plan, &gt, &mut db);
                    let border = |tiles: Tiles, values: &[T]| {
                        let mut cleared = values.to_vec();
                        tiles.clear_border(&mut cleared);
                        assert!(cleared == values, "kernels leave the border alone");
                    };
                    border(y_tiles, &yt);
                    border(x_tiles, &dxt);
                    let (mut y, mut dx) = (zeros(y_tiles.rows_len()), zeros(x.len()));
                    y_tiles.unpack(par, &yt, &mut y);
                    x_tiles.unpack(par, &dxt, &mut dx);
                    (y, dx, dw, db)
                })
            };
            let found = run(1);
            let name = |what: &str| format!("{what} of {c:?} batch {batch} {} {}", T::NAME, isa.name());
            close(&name("y"), &found.0, &y, 100.0);
            close(&name("dx"), &found.1, &dx, 100.0);
            close(&name("dw"), &found.2, &kept, 400.0);
            let mut db = vec![0.0; c.outputs];
            gw.iter().enumerate().for_each(|(i, g)| db[i % c.outputs] += g);
            close(&name("db"), &found.3, &db, 400.0);
            for threads in [2, 3] {
                assert!(run(threads) == found, "{} with {threads} threads", name("everything"));
            }
        }
    }

    #[test]
    fn kernels_strides_and_paddings_follow_the_definition() {
        for kernel in [[1, 1], [3, 3], [5, 5], [2, 4]] {
            for stride in [1, 2] {
                for padding in 0..=2 {
                    for size in [[7, 7], [6, 9], [5, 4]] {
                        let c = Conv { inputs: 3, outputs: 5, size, kernel, stride, padding: [padding; 2] };
                        if kernel[0] <= size[0] + 2 * padding && kernel[1] <= size[1] + 2 * padding {
                            check::<f32>(c, 5, 0.5, 0);
                            check::<f64>(c, 17, 0.8, 1);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn large_convolutions_are_cut_into_blocks_and_shared_between_threads() {
        let c = Conv { inputs: 40, outputs: 72, size: [13, 17], kernel: [3, 3], stride: 1, padding: [1, 1] };
        check::<f32>(c, 20, 0.3, 0);
        check::<f32>(Conv { stride: 2, inputs: 72, ..c }, 33, 0.6, 0);
        // Wide enough for several blocks of outputs in the backward pass.
        check::<f32>(Conv { inputs: 4, outputs: 600, size: [6, 8], ..c }, 16, 0.5, 0);
    }

    #[test]
    fn what_sparse_convolutions_cannot_do_is_refused() {
        let g = Geometry {
            height: 9,
            width: 7,
            inputs: 4,
            outputs: 2,
            kernel: [3, 1],
            stride: [2, 2],
            padding: [1, 0],
            groups: 1,
        };
        let c = Conv { inputs: 4, outputs: 2, size: [9, 7], kernel: [3, 1], stride: 2, padding: [1, 0] };
        assert_eq!(Conv::new(&g), Ok(c));
        assert_eq!(c.output_size(), [g.out_height(), g.out_width()]);
        let refused = |g: Geometry| Conv::new(&g).unwrap_err();
        assert_eq!(
            refused(Geometry { stride: [1, 2], ..g }),
            "expected a stride of 1×1 or 2×2 for sparse weights but found 1×2"
        );
        let large = refused(Geometry { height: 2048, width: 2048, inputs: 64, ..g });
        assert!(large.starts_with("expected less than 2³¹ numbers in 16 rows of a batch"), "{large}");
        refused(Geometry { height: 1 << 24, width: 1 << 24, inputs: 1 << 24, ..g });
        assert!(refused(Geometry { stride: [3, 3], ..g }).contains("but found 3×3"));
        assert_eq!(refused(Geometry { groups: 2, ..g }), "expected 1 group of channels for sparse weights but found 2");
    }

    /// With stride 2 it has one phase of four.
    #[test]
    fn an_image_of_one_pixel_follows_the_definition() {
        let c = Conv { inputs: 1, outputs: 1, size: [1, 1], kernel: [3, 3], stride: 2, padding: [1, 1] };
        check::<f32>(c, 3, 0.0, 0);
        check::<f64>(c, 3, 0.5, 0);
    }

    #[test]
    fn borders_are_as_narrow_as_can_be() {
        let c = Conv { inputs: 1, outputs: 1, size: [8, 8], kernel: [3, 3], stride: 1, padding: [1, 1] };
        let plane =
            |size: [usize; 2], above, below, beside| Plane { above, below, beside, ..Plane::bare(size[0], size[1]) };
        assert_eq!((c.input_plane(), c.output_plane()), (plane([8, 8], 1, 1, 1), plane([8, 8], 1, 1, 1)));
        let strided = Conv { stride: 2, ..c };
        assert_eq!((strided.input_plane(), strided.output_plane()), (plane([8, 8], 1, 0, 1), plane([4, 4], 0, 1, 1)));
        let point = Conv { kernel: [1, 1], padding: [0, 0], ..c };
        assert_eq!((point.input_plane(), point.output_plane()), (Plane::bare(8, 8), Plane::bare(8, 8)));
        assert_eq!(point.forward_runs(point.input_plane(), point.output_plane()).len(), 1, "one run without a border");
        let valid = Conv { padding: [0, 0], ..c };
        assert_eq!((valid.input_plane(), valid.output_plane()), (Plane::bare(8, 8), plane([6, 6], 2, 2, 2)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn random_convolutions_follow_the_definition(
            inputs in 1_usize..7, outputs in 1_usize..7, batch in 1_usize..36, sparsity in 0_u32..=4,
            size in (1_usize..9, 1_usize..9), kernel in (1_usize..6, 1_usize..6), stride in 1_usize..=2,
            padding in (0_usize..3, 0_usize..3),
        ) {
            let (size, kernel, padding) = ([size.0, size.1], [kernel.0, kernel.1], [padding.0, padding.1]);
            prop_assume!((0..2).all(|axis| kernel[axis] <= size[axis] + 2 * padding[axis]));
            let c = Conv { inputs, outputs, size, kernel, stride, padding };
            check::<f32>(c, batch, f64::from(sparsity) * 0.25, 0);
        }
    }
}
