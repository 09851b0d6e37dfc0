//! The shape of a convolution.

/// Sizes of a convolution of NHWC images; pairs are (vertical, horizontal). Dilation is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Channels of the images.
    pub inputs: usize,
    /// Channels of the result.
    pub outputs: usize,
    /// Size of the kernel.
    pub kernel: [usize; 2],
    /// Distance between neighbouring positions of the kernel.
    pub stride: [usize; 2],
    /// Zeros around the image, on each side.
    pub padding: [usize; 2],
    /// Groups of channels that do not see each other.
    pub groups: usize,
}

/// Outputs along one side.
fn outputs(size: usize, kernel: usize, stride: usize, padding: usize) -> usize {
    (size + 2 * padding - kernel) / stride + 1
}

impl Geometry {
    /// What is wrong with the sizes, as "expected … but found …"; the caller names the layer.
    pub fn check(&self) -> Result<(), String> {
        let [kernel, stride, padding] = [self.kernel, self.stride, self.padding];
        let of = |[a, b]: [usize; 2]| format!("{a}×{b}");
        if self.height == 0 || self.width == 0 || self.inputs == 0 {
            let (height, width, inputs) = (self.height, self.width, self.inputs);
            return Err(format!("expected images with pixels and channels but found {height}×{width}×{inputs}"));
        }
        if self.outputs == 0 {
            return Err("expected at least 1 output channel but found 0".into());
        }
        if kernel.contains(&0) {
            return Err(format!("expected a kernel of at least 1×1 but found {}", of(kernel)));
        }
        if stride.contains(&0) {
            return Err(format!("expected a stride of at least 1×1 but found {}", of(stride)));
        }
        if self.groups == 0 || !self.inputs.is_multiple_of(self.groups) || !self.outputs.is_multiple_of(self.groups) {
            return Err(format!(
                "expected a number of groups that divides {} input and {} output channels but found {}",
                self.inputs, self.outputs, self.groups
            ));
        }
        let padded = [self.height + 2 * padding[0], self.width + 2 * padding[1]];
        if kernel[0] > padded[0] || kernel[1] > padded[1] {
            return Err(format!(
                "expected a kernel no larger than the padded image ({}) but found {}",
                of(padded),
                of(kernel)
            ));
        }
        Ok(())
    }

    /// Rows of a result image.
    #[inline]
    pub fn out_height(&self) -> usize {
        outputs(self.height, self.kernel[0], self.stride[0], self.padding[0])
    }

    /// Columns of a result image.
    #[inline]
    pub fn out_width(&self) -> usize {
        outputs(self.width, self.kernel[1], self.stride[1], self.padding[1])
    }

    /// Positions of the kernel in one image: patch rows, pixels of a result image.
    #[inline]
    pub fn positions(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// Elements of a patch of one group: kernel rows · kernel columns · channels of the group.
    #[inline]
    pub fn patch(&self) -> usize {
        self.kernel[0] * self.kernel[1] * (self.inputs / self.groups)
    }

    /// Weights of all groups together.
    pub fn weights(&self) -> usize {
        self.patch() * self.outputs
    }

    /// Floating-point operations of one pass by the definition (two for each product).
    pub fn operations(&self, images: usize) -> usize {
        2 * images * self.positions() * self.weights()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Geometry = Geometry {
        height: 7,
        width: 9,
        inputs: 4,
        outputs: 6,
        kernel: [3, 4],
        stride: [2, 3],
        padding: [1, 0],
        groups: 2,
    };

    #[test]
    fn sizes_follow_the_definition() {
        assert_eq!(GOOD.check(), Ok(()));
        // Kernel rows start at −1, 1, 3, 5 and columns at 0, 3 (the last column is not covered).
        assert_eq!((GOOD.out_height(), GOOD.out_width()), (4, 2));
        assert_eq!((GOOD.patch(), GOOD.weights(), GOOD.operations(5)), (24, 144, 2 * 5 * 8 * 144));
    }

    #[test]
    fn check_says_what_is_wrong() {
        for (bad, sentence) in [
            (Geometry { height: 0, ..GOOD }, "expected images with pixels and channels but found 0×9×4"),
            (Geometry { outputs: 0, ..GOOD }, "expected at least 1 output channel but found 0"),
            (Geometry { kernel: [0, 1], ..GOOD }, "expected a kernel of at least 1×1 but found 0×1"),
            (Geometry { stride: [1, 0], ..GOOD }, "expected a stride of at least 1×1 but found 1×0"),
            (
                Geometry { groups: 3, ..GOOD },
                "expected a number of groups that divides 4 input and 6 output channels but found 3",
            ),
            (
                Geometry { kernel: [3, 10], ..GOOD },
                "expected a kernel no larger than the padded image (9×9) but found 3×10",
            ),
        ] {
            assert_eq!(bad.check(), Err(sentence.to_string()));
        }
    }
}
