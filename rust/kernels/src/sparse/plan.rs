//! A pattern made ready for tiles: where the lanes of each weight lie, in the orders of the two passes.
//!
//! A plan is rebuilt when the mask, the tile or a plane changes (counting sorts, linear in the non-zeros); it does not
//! depend on the size of the batch.

use super::pattern::{Pattern, counting_sort};
use super::tiles::{Plane, Tiles};
use std::ops::Range;

/// Bytes of inputs that one block of the forward pass reads again and again: they should stay in the first-level cache,
/// beside the weights.
const FORWARD_BLOCK: usize = 24 << 10;

/// Fewer weights of an output per block than this, and starting on an output costs more than the cache gives.
const FORWARD_FILL: usize = 12;

/// Bytes of output gradients that one block of the backward pass reads: they should stay in the second-level cache.
const BACKWARD_BLOCK: usize = 512 << 10;

/// As [`FORWARD_FILL`], for the weights of an input per block of outputs.
const BACKWARD_FILL: usize = 8;

/// Pixels that a kernel takes at a time, at most: for estimates of what it reads.
const PIXELS: usize = 8;

/// Elements that a tile must stay below: half of what the offsets of a plan reach, as a neighbour may widen the border of a plane.
const LARGEST_TILE: usize = 1 << 31;

/// Whether a plan can take tiles of so many channels, pixels and rows, or what is wrong with them, as "expected … but found …".
pub fn check_tile(channels: usize, positions: usize, lanes: usize) -> Result<(), String> {
    let elements = channels.checked_mul(positions).and_then(|size| size.checked_mul(lanes));
    if elements.is_some_and(|size| size < LARGEST_TILE) {
        return Ok(());
    }
    Err(format!(
        "expected less than 2³¹ numbers in {lanes} rows of a batch for sparse weights but found {channels} × {positions} each"
    ))
}

/// A stretch of lanes that follow each other in both activations.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// First element in a tile of the inputs, for the channel and offset 0.
    pub x: isize,
    /// First element in a tile of the outputs, for the channel and offset 0.
    pub out: isize,
    /// Lanes of the stretch.
    pub lanes: usize,
    /// The list of each input that meets these lanes (backward pass).
    pub phase: usize,
}

/// The weights in the order of one pass. Lists are cut into blocks of the opposite side.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    /// Blocks per list.
    pub blocks: usize,
    /// First weight of each stretch, and the end of the last. Forward: block after block, output after output.
    /// Backward: list after list, block after block.
    pub starts: Vec<u32>,
    /// Element of a weight's lanes in a tile, from the first element of a run.
    pub offsets: Vec<u32>,
    /// Where lanes are.
    pub runs: Vec<Run>,
}

/// A pattern with offsets into tiles of given layouts.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) lanes: usize,
    x: Plane,
    out: Plane,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) phases: usize,
    /// Whether neighbouring outputs are two pixels apart in the inputs.
    pub(super) spread: bool,
    /// Elements from one channel to the next.
    pub(super) x_channel: usize,
    pub(super) out_channel: usize,
    pub(super) forward: Pass,
    pub(super) backward: Pass,
    /// The master slot of each weight in forward order.
    pub(super) slots: Vec<u32>,
    /// Weights of the outputs before each output: for shares of equal work.
    before: Vec<u32>,
}

/// What the two passes need to know beyond the pattern.
pub(super) struct Layout {
    pub lanes: usize,
    pub x: Plane,
    pub out: Plane,
    pub forward_runs: Vec<Run>,
    pub backward_runs: Vec<Run>,
}

impl Plan {
    /// A linear map on tiles of `lanes` rows: 16, 32 or 64 (see [`super::batch_tile`]).
    ///
    /// # Panics
    /// For a pattern of a convolution, or another tile.
    pub fn linear(pattern: &Pattern, lanes: usize) -> Plan {
        assert_eq!(pattern.shape().taps(), 1, "a pattern of a linear map");
        assert!([16, 32, 64].contains(&lanes), "a tile of 16, 32 or 64 rows, not {lanes}");
        let run = || vec![Run { x: 0, out: 0, lanes, phase: 0 }];
        let layout = Layout { lanes, x: Plane::POINT, out: Plane::POINT, forward_runs: run(), backward_runs: run() };
        Plan::new(pattern, layout)
    }

    pub(super) fn new(pattern: &Pattern, layout: Layout) -> Plan {
        let shape = pattern.shape();
        let Layout { lanes, x, out, forward_runs, backward_runs } = layout;
        let (inputs, outputs, phases, stride) = (shape.inputs, shape.outputs, shape.phases(), shape.stride);
        let [x_channel, out_channel] = [x, out].map(|plane| plane.positions() * lanes);
        let largest = inputs.max(outputs).checked_mul(x_channel.max(out_channel));
        assert!(largest.is_some_and(|size| size <= u32::MAX as usize), "a tile of 2³² elements or more");

        let [height, width] = shape.kernel;
        // Sized for f32: f64 is there for exactness.
        let bytes = |rows: usize, columns: usize| rows * columns * lanes * 4;
        let across = out.width.min(PIXELS);
        let x_bytes = bytes(height, (across - 1) * stride + width);
        let out_bytes = bytes(height.div_ceil(stride), across + width.div_ceil(stride) - 1);
        let blocks = |count: usize, bytes: usize, size: usize, lists: usize, fill: usize| {
            (count * bytes).div_ceil(size).min(pattern.len() / (lists * fill)).max(1)
        };
        let forward_blocks = blocks(inputs, x_bytes, FORWARD_BLOCK, outputs, FORWARD_FILL);
        let backward_blocks = blocks(outputs, out_bytes, BACKWARD_BLOCK, inputs * phases, BACKWARD_FILL);

        let places = Places { pattern, taps: shape.taps(), width, stride, lanes };
        let last = [(height - 1) / stride, (width - 1) / stride];
        let per_block = inputs.div_ceil(forward_blocks);
        // By block and output; inputs stay in order.
        let forward_blocks = inputs.div_ceil(per_block);
        let (starts, slots) = counting_sort(
            forward_blocks * outputs,
            || (0..).zip(places.each()),
            |(_, weight)| weight.input(phases) / per_block * outputs + weight.output,
            |(slot, _)| slot,
        );
        let firsts = || starts.iter().step_by(outputs).take(forward_blocks);
        let before = (0..=outputs).map(|output| {
            firsts().zip(starts[output..].iter().step_by(outputs)).map(|(first, start)| start - first).sum()
        });
        let before = before.collect();
        let master: Vec<u32> =
            places.each().map(|w| (w.input(phases) * x_channel + w.forward(x.pitch())) as u32).collect();
        let offsets = slots.iter().map(|slot| master[*slot as usize]).collect();
        let forward = Pass { blocks: forward_blocks, starts, offsets, runs: forward_runs };
        let offsets = places.each().map(|w| (w.output * out_channel + w.backward(last, out.pitch())) as u32).collect();
        let (blocks, starts) = cut_lists(&places, outputs, outputs.div_ceil(backward_blocks));
        let backward = Pass { blocks, starts, offsets, runs: backward_runs };
        let spread = stride == 2;
        let plan = Plan {
            lanes,
            x,
            out,
            inputs,
            outputs,
            phases,
            spread,
            x_channel,
            out_channel,
            forward,
            backward,
            slots,
            before,
        };
        plan.check_bounds();
        plan
    }

    /// Asserts what the kernels rely on: every lane of every run, at every offset it meets, lies inside a tile.
    fn check_bounds(&self) {
        // A kernel never reads past the last pixel of a run, whether pixels follow each other or not.
        let x_lanes = |run: &Run| if self.spread { 2 * run.lanes - self.lanes } else { run.lanes };
        let inputs = |runs: &mut dyn Iterator<Item = &Run>| span(runs.map(|run| (run.x, x_lanes(run))));
        let outputs = |runs: &mut dyn Iterator<Item = &Run>| span(runs.map(|run| (run.out, run.lanes)));
        let inside = |span: &Range<isize>, offsets: &[u32], length: usize| {
            let (low, high) = (offsets.iter().min(), offsets.iter().max());
            let fits =
                |low: u32, high: u32| span.start + low as isize >= 0 && span.end + high as isize <= length as isize;
            // Where there are no runs, such as in a phase that a small image does not have, nothing is read.
            assert!(
                span.is_empty() || low.zip(high).is_none_or(|(low, high)| fits(*low, *high)),
                "lanes outside a tile of {length}"
            );
        };
        let (x_tile, out_tile) = (self.inputs * self.x_channel, self.outputs * self.out_channel);
        inside(&outputs(&mut self.forward.runs.iter()), &[0], self.out_channel);
        inside(&inputs(&mut self.forward.runs.iter()), &self.forward.offsets, x_tile);
        for phase in 0..self.phases {
            let runs = || self.backward.runs.iter().filter(|run| run.phase == phase);
            inside(&inputs(&mut runs()), &[0], self.x_channel);
            let outputs = outputs(&mut runs());
            for input in 0..self.inputs {
                let start = |list: usize| self.backward.starts[list * self.backward.blocks] as usize;
                let list = input * self.phases + phase;
                inside(&outputs, &self.backward.offsets[start(list)..start(list + 1)], out_tile);
            }
        }
    }

    /// The number of weights.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are no weights.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Bytes of memory for the plan, without values.
    pub fn bytes(&self) -> usize {
        let numbers = [&self.forward.starts, &self.forward.offsets, &self.backward.starts, &self.backward.offsets];
        let numbers: usize = numbers.into_iter().chain([&self.slots, &self.before]).map(Vec::len).sum();
        size_of::<u32>() * numbers + size_of::<Run>() * (self.forward.runs.len() + self.backward.runs.len())
    }

    /// Floating-point operations of one product of `tiles` tiles.
    pub(super) fn operations(&self, tiles: usize) -> usize {
        let lanes: usize = self.forward.runs.iter().map(|run| run.lanes).sum();
        2 * self.len() * lanes * tiles
    }

    /// The number of tiles in slices of inputs and outputs, which must agree.
    pub(super) fn tiles(&self, inputs: usize, outputs: usize) -> usize {
        let (x, out) = (self.inputs * self.x_channel, self.outputs * self.out_channel);
        assert!(inputs.is_multiple_of(x), "inputs of {inputs} elements are no whole tiles of {x}");
        assert_eq!(outputs, inputs / x * out, "outputs of {} tiles of {out} elements", inputs / x);
        inputs / x
    }

    /// The layout of the inputs of a batch.
    pub fn input_tiles(&self, batch: usize) -> Tiles {
        Tiles { batch, lanes: self.lanes, channels: self.inputs, plane: self.x }
    }

    /// The layout of the outputs of a batch.
    pub fn output_tiles(&self, batch: usize) -> Tiles {
        Tiles { batch, lanes: self.lanes, channels: self.outputs, plane: self.out }
    }

    /// One of `shares` ranges of outputs with about equal work.
    pub(super) fn share_of_outputs(&self, share: usize, shares: usize) -> Range<usize> {
        share_of(self.outputs, share, shares, |output| self.before[output] as usize)
    }

    /// One of `shares` ranges of inputs with about equal work.
    pub(super) fn share_of_inputs(&self, share: usize, shares: usize) -> Range<usize> {
        let stretches = self.phases * self.backward.blocks;
        share_of(self.inputs, share, shares, |input| self.backward.starts[input * stretches] as usize)
    }

    /// The weights of a range of inputs, in master order.
    pub(super) fn weights_of(&self, inputs: &Range<usize>) -> Range<usize> {
        let stretches = self.phases * self.backward.blocks;
        let at = |input: usize| self.backward.starts[input * stretches] as usize;
        at(inputs.start)..at(inputs.end)
    }
}

/// From the first to the last element of some stretches; nothing for none.
fn span(stretches: impl Iterator<Item = (isize, usize)>) -> Range<isize> {
    let join = |a: Range<isize>, b: Range<isize>| a.start.min(b.start)..a.end.max(b.end);
    stretches.map(|(first, lanes)| first..first + lanes as isize).reduce(join).unwrap_or(0..0)
}

/// Cuts `0..count` where the work before an item passes a share of the whole.
fn share_of(count: usize, share: usize, shares: usize, before: impl Fn(usize) -> usize) -> Range<usize> {
    // An item without weights still has to be written: about as much work as four weights.
    let work = |item: usize| before(item) + 4 * item;
    let cut = |share: usize| {
        let (target, mut low, mut high) = (work(count) * share, 0, count);
        while low < high {
            let middle = (low + high) / 2;
            if work(middle) * shares < target {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    };
    cut(share)..cut(share + 1)
}

/// The weights of a pattern with their taps taken apart.
struct Places<'a> {
    pattern: &'a Pattern,
    taps: usize,
    /// Width of the kernel.
    width: usize,
    stride: usize,
    lanes: usize,
}

#[derive(Clone, Copy)]
struct Weight<'a> {
    places: &'a Places<'a>,
    list: usize,
    output: usize,
    row: usize,
    column: usize,
}

impl Places<'_> {
    fn lists(&self) -> impl Iterator<Item = Range<usize>> {
        self.pattern.starts().windows(2).map(|pair| pair[0] as usize..pair[1] as usize)
    }

    /// The weights in master order.
    fn each(&self) -> impl Iterator<Item = Weight<'_>> {
        self.lists().enumerate().flat_map(move |(list, slots)| {
            self.pattern.places()[slots].iter().map(move |place| {
                let (output, tap) = (*place as usize / self.taps, *place as usize % self.taps);
                Weight { places: self, list, output, row: tap / self.width, column: tap % self.width }
            })
        })
    }
}

impl Weight<'_> {
    fn input(&self, phases: usize) -> usize {
        self.list / phases
    }

    /// Elements from the first pixel under the kernel to the tap's, in the inputs.
    fn forward(&self, pitch: usize) -> usize {
        (self.row * pitch + self.column) * self.places.lanes
    }

    /// Elements from the first output pixel that any tap of a phase reaches (it belongs to the `last` tap) to this tap's.
    fn backward(&self, last: [usize; 2], pitch: usize) -> usize {
        let [row, column] = [self.row, self.column].map(|tap| tap / self.places.stride);
        ((last[0] - row) * pitch + last[1] - column) * self.places.lanes
    }
}

/// Cuts each list at multiples of `per_block` outputs. Gives the number of blocks and the starts.
fn cut_lists(places: &Places, outputs: usize, per_block: usize) -> (usize, Vec<u32>) {
    let blocks = outputs.div_ceil(per_block);
    let mut starts = vec![0];
    for slots in places.lists() {
        let list = &places.pattern.places()[slots.clone()];
        starts.extend((1..=blocks).map(|block| {
            let end = list.partition_point(|place| (*place as usize) < block * per_block * places.taps);
            (slots.start + end) as u32
        }));
    }
    (blocks, starts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sparse::Shape;
    use crate::sparse::testing::mask;

    #[test]
    fn shares_cover_everything_once_and_weigh_about_the_same() {
        let pattern = Pattern::from_mask(Shape::linear(300, 200), &mask(60_000, 0.9, 1)).unwrap();
        let plan = Plan::linear(&pattern, 16);
        for shares in [1, 2, 7, 64] {
            let (mut input, mut output) = (0, 0);
            for share in 0..shares {
                let (i, o) = (plan.share_of_inputs(share, shares), plan.share_of_outputs(share, shares));
                assert_eq!((i.start, o.start), (input, output));
                let work = plan.weights_of(&i).len();
                assert!(work <= pattern.len() / shares + 100, "{work} weights in one of {shares} shares");
                (input, output) = (i.end, o.end);
            }
            assert_eq!((input, output), (300, 200));
        }
    }

    #[test]
    fn the_forward_order_is_a_permutation_in_blocks() {
        let pattern = Pattern::from_mask(Shape::linear(512, 64), &mask(32_768, 0.5, 2)).unwrap();
        let plan = Plan::linear(&pattern, 64);
        assert_eq!(plan.forward.blocks, 6, "512 inputs of 256 bytes");
        let mut forward = plan.slots.clone();
        let positions: Vec<usize> = pattern.positions().collect();
        for block in 0..6 {
            for output in 0..64 {
                let stretch = &plan.forward.starts[block * 64 + output..][..2];
                let mut previous = None;
                for k in stretch[0] as usize..stretch[1] as usize {
                    let position = positions[forward[k] as usize];
                    assert_eq!(position % 64, output);
                    assert_eq!(position / 64 / 86, block);
                    assert_eq!(plan.forward.offsets[k] as usize, position / 64 * 64);
                    assert!(previous < Some(position));
                    previous = Some(position);
                }
            }
        }
        forward.sort_unstable();
        assert!((0..).zip(&forward).all(|(slot, found)| slot == *found));
        assert_eq!(plan.before[64] as usize, pattern.len());
        assert!(plan.bytes() >= 12 * plan.len());
    }
}
