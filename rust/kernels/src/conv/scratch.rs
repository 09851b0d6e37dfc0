//! Scratch memory given by the caller, cut into pieces.

/// Elements of a cache line at most (64 bytes of `f32`): pieces begin on a line where the element size allows it,
/// because vectors that straddle two lines cost twice.
pub(super) const LINE: usize = 16;

/// The elements to ask for so that [`Pieces::take`] can give `elements`.
pub(super) fn piece(elements: usize) -> usize {
    elements + LINE
}

/// What is left of the scratch memory.
pub(super) struct Pieces<'a, T>(pub &'a mut [T]);

impl<'a, T> Pieces<'a, T> {
    /// The next `elements` elements, with whatever they last held.
    pub(super) fn take(&mut self, elements: usize) -> &'a mut [T] {
        let rest = std::mem::take(&mut self.0);
        let skip = rest.as_ptr().align_offset(64).min(LINE);
        assert!(rest.len() >= skip + elements, "scratch of a convolution: {} of {elements} elements", rest.len());
        let (taken, rest) = rest[skip..].split_at_mut(elements);
        self.0 = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_and_fit_what_was_asked_for() {
        for offset in 0..20 {
            let mut memory = vec![0f32; offset + piece(5) + piece(33) + piece(0)];
            let mut pieces = Pieces(&mut memory[offset..]);
            for elements in [5, 33, 0] {
                let taken = pieces.take(elements);
                assert_eq!(taken.len(), elements);
                assert!(elements == 0 || taken.as_ptr().align_offset(64) == 0);
            }
        }
    }
}
