//! Which weights of a layer exist.
//!
//! The non-zeros of a layer are kept as one list per input (for a strided convolution: per input and phase), each sorted
//! by output and tap. This master order is the order of values, gradients and optimizer state: one number per non-zero
//! in each. It suits the backward pass, which holds one input and its gradient in registers while it walks a list.

use std::ops::Range;

/// What a sparse weight tensor connects. Its dense order is that of the dense kernels: kernel height × kernel width ×
/// inputs × outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Inputs, or input channels.
    pub inputs: usize,
    /// Outputs, or output channels.
    pub outputs: usize,
    /// Height and width of the kernel: 1 × 1 for a linear map.
    pub kernel: [usize; 2],
    /// Step between outputs, in both directions: 1 or 2.
    pub stride: usize,
}

impl Shape {
    /// A linear map.
    pub fn linear(inputs: usize, outputs: usize) -> Shape {
        Shape { inputs, outputs, kernel: [1, 1], stride: 1 }
    }

    /// Weights of one input and one output.
    pub fn taps(self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Weights of the dense tensor.
    pub fn dense_len(self) -> usize {
        self.inputs * self.outputs * self.taps()
    }

    /// Lists per input: an input pixel meets only the taps that agree with its row and column modulo the stride.
    pub fn phases(self) -> usize {
        self.stride * self.stride
    }

    /// The phase of a tap.
    fn phase(self, tap: usize) -> usize {
        let (stride, width) = (self.stride, self.kernel[1]);
        (tap / width % stride) * stride + tap % width % stride
    }

    /// Where a weight stands in the dense tensor; `place` is output · taps + tap.
    fn position(self, input: usize, place: usize) -> usize {
        let (output, tap) = (place / self.taps(), place % self.taps());
        (tap * self.inputs + input) * self.outputs + output
    }

    fn check(self) -> Result<(), String> {
        let Shape { inputs, outputs, kernel: [height, width], stride } = self;
        let sizes = [inputs, outputs, height, width];
        if sizes.contains(&0) {
            return Err(format!("{FAULT}: expected sizes of at least 1 but found {self:?}"));
        }
        if !(1..=2).contains(&stride) {
            return Err(format!("{FAULT}: expected a stride of 1 or 2 but found {stride}"));
        }
        // Slots, places and starts of lists are 32-bit numbers.
        let most = sizes.iter().try_fold(self.phases(), |product, size| product.checked_mul(*size));
        if most.is_none_or(|most| most > u32::MAX as usize) {
            return Err(format!("{FAULT}: expected fewer than 2³² weights but found {self:?}"));
        }
        Ok(())
    }
}

const FAULT: &str = "Cannot build a sparse pattern";

/// The non-zeros of a layer. A number that belongs to a non-zero is stored at its slot, 0 to [`Pattern::len`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    shape: Shape,
    /// First slot of each list, and the end of the last.
    starts: Vec<u32>,
    /// output · taps + tap of each slot.
    places: Vec<u32>,
}

impl Pattern {
    /// Keeps the weights whose mask is true; `mask` is in dense order.
    pub fn from_mask(shape: Shape, mask: &[bool]) -> Result<Pattern, String> {
        shape.check()?;
        if mask.len() != shape.dense_len() {
            return Err(format!("{FAULT}: expected a mask of {} weights but found {}", shape.dense_len(), mask.len()));
        }
        let kept = || (0..).zip(mask).filter(|(_, kept)| **kept).map(|(position, _)| position);
        Ok(Pattern::sorted(shape, kept))
    }

    /// Keeps the weights at these dense positions, which must ascend.
    pub fn from_positions(shape: Shape, positions: &[usize]) -> Result<Pattern, String> {
        shape.check()?;
        if let Some(pair) = positions.windows(2).find(|pair| pair[0] >= pair[1]) {
            return Err(format!("{FAULT}: expected ascending positions but found {} after {}", pair[1], pair[0]));
        }
        match positions.last() {
            Some(last) if *last >= shape.dense_len() => {
                Err(format!("{FAULT}: expected positions below {} but found {last}", shape.dense_len()))
            }
            Some(_) | None => Ok(Pattern::sorted(shape, || positions.iter().copied())),
        }
    }

    /// Two counting sorts, each of which keeps the order of the one before: by output, then by list. Dense order
    /// ascends in taps for a given input and output, so the lists come out sorted.
    fn sorted<I: Iterator<Item = usize>>(shape: Shape, kept: impl Fn() -> I) -> Pattern {
        let (inputs, outputs, taps, phases) = (shape.inputs, shape.outputs, shape.taps(), shape.phases());
        let (_, by_output) = counting_sort(
            outputs,
            kept,
            |position| position % outputs,
            |position| {
                let (output, input, tap) =
                    (position % outputs, position / outputs % inputs, position / outputs / inputs);
                (input as u32, (output * taps + tap) as u32)
            },
        );
        let list = |(input, place): (u32, u32)| input as usize * phases + shape.phase(place as usize % taps);
        let (starts, places) = counting_sort(inputs * phases, || by_output.iter().copied(), list, |(_, place)| place);
        Pattern { shape, starts, places }
    }

    /// What the pattern connects.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The number of non-zeros.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nothing is connected.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The fraction of weights that are kept.
    pub fn density(&self) -> f64 {
        self.len() as f64 / self.shape.dense_len() as f64
    }

    /// Bytes of memory for the pattern itself, without values.
    pub fn bytes(&self) -> usize {
        size_of::<u32>() * (self.starts.len() + self.places.len())
    }

    /// First slot of each list, and the end of the last.
    pub(super) fn starts(&self) -> &[u32] {
        &self.starts
    }

    /// output · taps + tap of each slot.
    pub(super) fn places(&self) -> &[u32] {
        &self.places
    }

    /// The slots of one list.
    fn slots(&self, list: usize) -> Range<usize> {
        self.starts[list] as usize..self.starts[list + 1] as usize
    }

    /// The dense position of each slot, slot after slot.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        let phases = self.shape.phases();
        (0..self.starts.len() - 1).flat_map(move |list| {
            self.places[self.slots(list)].iter().map(move |place| self.shape.position(list / phases, *place as usize))
        })
    }

    /// Takes the kept weights out of a dense tensor.
    pub fn gather<T: Copy>(&self, dense: &[T], values: &mut [T]) {
        assert_eq!(dense.len(), self.shape.dense_len());
        assert_eq!(values.len(), self.len());
        for (value, position) in values.iter_mut().zip(self.positions()) {
            *value = dense[position];
        }
    }

    /// Writes values into a dense tensor, with zeros everywhere else.
    pub fn scatter<T: Copy + Default>(&self, values: &[T], dense: &mut [T]) {
        assert_eq!(values.len(), self.len());
        assert_eq!(dense.len(), self.shape.dense_len());
        dense.fill(T::default());
        for (value, position) in values.iter().zip(self.positions()) {
            dense[position] = *value;
        }
    }

    /// Carries numbers per slot (weights, optimizer state) over from the pattern before a mask change: what both
    /// patterns have keeps its number, what has grown starts at zero.
    pub fn carry<T: Copy + Default>(&self, before: &Pattern, old: &[T], new: &mut [T]) {
        assert_eq!(before.shape, self.shape, "a mask change keeps the shape");
        assert_eq!(old.len(), before.len());
        assert_eq!(new.len(), self.len());
        for list in 0..self.starts.len() - 1 {
            let mut from = before.slots(list).peekable();
            for slot in self.slots(list) {
                while from.next_if(|old| before.places[*old] < self.places[slot]).is_some() {}
                let same = from.next_if(|old| before.places[*old] == self.places[slot]);
                new[slot] = same.map_or(T::default(), |same| old[same]);
            }
        }
    }
}

/// Sorts items by a key below `keys`, keeping the order of equal ones, in time linear in both. Gives the first place of
/// each key (and the end of the last), and `value(item)` in the new order.
pub(super) fn counting_sort<T: Copy, V: Copy + Default, I: Iterator<Item = T>>(
    keys: usize,
    items: impl Fn() -> I,
    key: impl Fn(T) -> usize,
    value: impl Fn(T) -> V,
) -> (Vec<u32>, Vec<V>) {
    let mut starts = vec![0_u32; keys + 2];
    items().for_each(|item| starts[key(item) + 2] += 1);
    for i in 2..starts.len() {
        starts[i] += starts[i - 1];
    }
    // starts[k + 1] is the next free place of key k until all items have theirs, and then the start of key k + 1.
    let mut sorted = vec![V::default(); starts[keys + 1] as usize];
    for item in items() {
        let next = &mut starts[key(item) + 1];
        sorted[*next as usize] = value(item);
        *next += 1;
    }
    starts.pop();
    (starts, sorted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shapes() -> [Shape; 4] {
        [
            Shape::linear(7, 5),
            Shape { inputs: 3, outputs: 4, kernel: [1, 1], stride: 1 },
            Shape { inputs: 3, outputs: 4, kernel: [3, 3], stride: 2 },
            Shape { inputs: 2, outputs: 3, kernel: [5, 2], stride: 1 },
        ]
    }

    fn mask(shape: Shape, bits: &[bool]) -> Vec<bool> {
        bits.iter().copied().cycle().take(shape.dense_len()).collect()
    }

    #[test]
    fn a_linear_pattern_lists_the_outputs_of_each_input() {
        let shape = Shape::linear(3, 2);
        let pattern = Pattern::from_mask(shape, &[true, true, false, false, false, true]).unwrap();
        assert_eq!((pattern.starts(), pattern.places()), ([0, 2, 2, 3].as_slice(), [0, 1, 1].as_slice()));
        assert_eq!((pattern.len(), pattern.density(), pattern.bytes()), (3, 0.5, 28));
    }

    #[test]
    fn a_strided_pattern_has_one_list_per_phase() {
        let shape = Shape { inputs: 1, outputs: 1, kernel: [3, 3], stride: 2 };
        let pattern = Pattern::from_mask(shape, &[true; 9]).unwrap();
        assert_eq!(pattern.starts(), [0, 4, 6, 8, 9]);
        assert_eq!(pattern.places(), [0, 2, 6, 8, 1, 7, 3, 5, 4]);
    }

    #[test]
    fn what_cannot_be_a_pattern_is_refused() {
        let shape = Shape::linear(3, 2);
        let refused = |result: Result<Pattern, String>| result.unwrap_err();
        assert_eq!(
            refused(Pattern::from_mask(shape, &[true; 5])),
            "Cannot build a sparse pattern: expected a mask of 6 weights but found 5"
        );
        assert_eq!(
            refused(Pattern::from_positions(shape, &[0, 4, 4])),
            "Cannot build a sparse pattern: expected ascending positions but found 4 after 4"
        );
        assert_eq!(
            refused(Pattern::from_positions(shape, &[2, 6])),
            "Cannot build a sparse pattern: expected positions below 6 but found 6"
        );
        assert!(refused(Pattern::from_mask(Shape::linear(0, 2), &[])).contains("at least 1"));
        let strided = Shape { inputs: 1, outputs: 1, kernel: [3, 3], stride: 3 };
        assert!(refused(Pattern::from_positions(strided, &[])).contains("a stride of 1 or 2 but found 3"));
        let huge = Shape::linear(1 << 20, 1 << 20);
        assert!(refused(Pattern::from_positions(huge, &[])).contains("fewer than 2³²"));
    }

    proptest! {
        #[test]
        fn masks_positions_and_dense_tensors_agree(which in 0_usize..4, bits in prop::collection::vec(any::<bool>(), 1..60)) {
            let shape = shapes()[which];
            let mask = mask(shape, &bits);
            let pattern = Pattern::from_mask(shape, &mask).unwrap();
            let kept: Vec<usize> = (0..mask.len()).filter(|i| mask[*i]).collect();
            prop_assert_eq!(&Pattern::from_positions(shape, &kept).unwrap(), &pattern);
            let mut sorted: Vec<usize> = pattern.positions().collect();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, kept);
            let dense: Vec<u32> = (1..).zip(&mask).map(|(i, kept)| if *kept { i } else { 0 }).collect();
            let (mut values, mut back) = (vec![0; pattern.len()], vec![9; mask.len()]);
            pattern.gather(&dense, &mut values);
            pattern.scatter(&values, &mut back);
            prop_assert_eq!(back, dense);
        }

        #[test]
        fn carry_keeps_what_stays_and_zeroes_what_grows(
            which in 0_usize..4,
            before in prop::collection::vec(any::<bool>(), 1..60),
            after in prop::collection::vec(any::<bool>(), 1..60),
        ) {
            let shape = shapes()[which];
            let (before, after) = (mask(shape, &before), mask(shape, &after));
            let [old, new] = [&before, &after].map(|mask| Pattern::from_mask(shape, mask).unwrap());
            let dense: Vec<u32> = (1..=before.len() as u32).collect();
            let (mut values, mut carried, mut back) = (vec![0; old.len()], vec![7; new.len()], vec![9; after.len()]);
            old.gather(&dense, &mut values);
            new.carry(&old, &values, &mut carried);
            new.scatter(&carried, &mut back);
            for i in 0..dense.len() {
                prop_assert_eq!(back[i], if before[i] && after[i] { dense[i] } else { 0 });
            }
        }
    }
}
