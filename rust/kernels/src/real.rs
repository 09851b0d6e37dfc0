//! The element types of the engine.

use crate::isa::Isa;
use crate::sparse::Lanes;
use num_traits::{Float, NumAssign};
use std::fmt::{Debug, Display};
use std::iter::Sum;

/// `f32` or `f64`.
///
/// The functions named `*_fast` are written without branches so that loops over them vectorise;
/// `f64` takes the library's functions, because it is there for exactness.
pub trait Real: Float + NumAssign + Lanes + Sum + Default + Debug + Display + Send + Sync + 'static {
    /// `"f32"` or `"f64"`.
    const NAME: &'static str;
    /// Bytes of one element.
    const BYTES: usize;

    /// The nearest value of this type.
    fn of(value: f64) -> Self;
    /// The value as `f64`, exactly.
    fn wide(self) -> f64;
    /// Writes the value as little-endian bytes; `out` has [`Real::BYTES`].
    fn write_le(self, out: &mut [u8]);
    /// Reads a value from little-endian bytes; `bytes` has [`Real::BYTES`].
    fn read_le(bytes: &[u8]) -> Self;
    /// eˣ, to about 2 units in the last place; NaN stays NaN.
    fn exp_fast(self) -> Self;
    /// ln x of a positive normal number; NaN stays NaN.
    fn ln_fast(self) -> Self;
    /// tanh x.
    fn tanh_fast(self) -> Self;
    /// The error function; `f32` to 5e-7 absolute.
    fn erf_fast(self) -> Self;

    /// `c (+)= alpha · a · b` with `sizes` = (m, n, k), one thread. See [`crate::gemm::gemm`], which checks the shapes.
    ///
    /// # Safety
    /// Every element addressed by the shapes and strides must lie inside its allocation; `c` must not overlap `a` or `b`;
    /// the machine must have `isa`.
    #[allow(clippy::too_many_arguments)] // The usual BLAS signature.
    unsafe fn gemm_raw(
        isa: Isa,
        sizes: (usize, usize, usize),
        alpha: Self,
        a: (*const Self, isize, isize),
        b: (*const Self, isize, isize),
        accumulate: bool,
        c: (*mut Self, isize, isize),
    );
}

/// The memory of numbers as bytes, for what layers keep that is no number.
pub fn bytes<T: Real>(numbers: &[T]) -> &[u8] {
    // SAFETY: `f32` and `f64` have no padding, and every byte of them is one; bytes need no alignment.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers)) }
}

/// As [`bytes`], to be written.
pub fn bytes_mut<T: Real>(numbers: &mut [T]) -> &mut [u8] {
    // SAFETY: as above; any bytes are some number.
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), size_of_val(numbers)) }
}

macro_rules! implement {
    ($type:ident, $fallback:path, $dtype:ident, $exp:path, $ln:path, $tanh:path, $erf:path) => {
        impl Real for $type {
            const NAME: &'static str = stringify!($type);
            const BYTES: usize = size_of::<$type>();

            #[inline(always)]
            fn of(value: f64) -> Self {
                value as $type
            }
            #[inline(always)]
            fn wide(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn write_le(self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_le_bytes());
            }
            #[inline(always)]
            fn read_le(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$type>()];
                array.copy_from_slice(bytes);
                $type::from_le_bytes(array)
            }
            #[inline(always)]
            fn exp_fast(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn ln_fast(self) -> Self {
                $ln(self)
            }
            #[inline(always)]
            fn tanh_fast(self) -> Self {
                $tanh(self)
            }
            #[inline(always)]
            fn erf_fast(self) -> Self {
                $erf(self)
            }

            unsafe fn gemm_raw(
                isa: Isa,
                (m, n, k): (usize, usize, usize),
                alpha: Self,
                a: (*const Self, isize, isize),
                b: (*const Self, isize, isize),
                accumulate: bool,
                c: (*mut Self, isize, isize),
            ) {
                #[cfg(target_arch = "x86_64")]
                {
                    use private_gemm_x86::{Accum, DType, DstKind, IType, InstrSet, gemm};
                    let set = match isa {
                        Isa::Portable => None,
                        Isa::Avx2 => Some(InstrSet::Avx256),
                        Isa::Avx512 => Some(InstrSet::Avx512),
                    };
                    if let Some(set) = set {
                        let accum = if accumulate { Accum::Add } else { Accum::Replace };
                        let none = std::ptr::null();
                        // SAFETY: shapes, strides and instruction set by the caller's promise; no index or diagonal is given.
                        unsafe {
                            gemm(
                                DType::$dtype,
                                IType::U32,
                                set,
                                m,
                                n,
                                k,
                                c.0.cast(),
                                c.1,
                                c.2,
                                none,
                                none,
                                DstKind::Full,
                                accum,
                                a.0.cast(),
                                a.1,
                                a.2,
                                false,
                                none,
                                0,
                                b.0.cast(),
                                b.1,
                                b.2,
                                false,
                                (&raw const alpha).cast(),
                                1,
                            );
                        }
                        return;
                    }
                }
                let _ = isa;
                let beta = if accumulate { 1.0 } else { 0.0 };
                // SAFETY: shapes and strides by the caller's promise.
                unsafe { $fallback(m, k, n, alpha, a.0, a.1, a.2, b.0, b.1, b.2, beta, c.0, c.1, c.2) };
            }
        }
    };
}

implement!(
    f32,
    matrixmultiply::sgemm,
    F32,
    crate::math::exp_f32,
    crate::math::ln_f32,
    crate::math::tanh_f32,
    crate::math::erf_f32
);
implement!(f64, matrixmultiply::dgemm, F64, libm::exp, libm::log, libm::tanh, libm::erf);
