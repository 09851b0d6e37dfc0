//! The few vector operations the sparse kernels need, once per instruction set.
//!
//! A kernel is written once over [`Vector`] and compiled for each set inside a function that enables it. The portable
//! body is an array the compiler may keep in whatever registers the target has (NEON on AArch64).

/// A register of elements `T`.
///
/// # Safety
/// Every method may only run where the instruction set of the type is available; pointers must be good for
/// [`Vector::LANES`] elements.
pub trait Vector<T: Copy>: Copy {
    /// Elements of one register.
    const LANES: usize;
    /// Registers the set has: tells how much a kernel may keep in them.
    const REGISTERS: usize;

    /// All lanes `value`.
    ///
    /// # Safety
    /// As for the trait.
    unsafe fn splat(value: T) -> Self;
    /// Lanes from memory, at any alignment.
    ///
    /// # Safety
    /// As for the trait.
    unsafe fn load(from: *const T) -> Self;
    /// Lanes to memory, at any alignment.
    ///
    /// # Safety
    /// As for the trait.
    unsafe fn store(self, to: *mut T);
    /// The first `count` lanes from memory, the others zero.
    ///
    /// # Safety
    /// As for the trait.
    unsafe fn load_first(from: *const T, count: usize) -> Self;
    /// The first `count` lanes to memory.
    ///
    /// # Safety
    /// As for the trait.
    unsafe fn store_first(self, to: *mut T, count: usize);
    /// self · by + plus.
    ///
    /// # Safety
    /// As for the trait.
    unsafe fn mul_add(self, by: Self, plus: Self) -> Self;
    /// self · by.
    ///
    /// # Safety
    /// As for the trait.
    unsafe fn mul(self, by: Self) -> Self;
    /// self + other.
    ///
    /// # Safety
    /// As for the trait.
    unsafe fn add(self, other: Self) -> Self;
    /// self − other.
    ///
    /// # Safety
    /// As for the trait.
    unsafe fn sub(self, other: Self) -> Self;
    /// Where self > 0 the lane of `then`, elsewhere of `otherwise`.
    ///
    /// # Safety
    /// As for the trait.
    unsafe fn where_positive(self, then: Self, otherwise: Self) -> Self;
    /// Where self < 0 the lane of `then`, elsewhere of `otherwise`.
    ///
    /// # Safety
    /// As for the trait.
    unsafe fn where_negative(self, then: Self, otherwise: Self) -> Self;
    /// The sums over the lanes of four registers.
    ///
    /// # Safety
    /// As for the trait.
    unsafe fn sums(four: [Self; 4]) -> [T; 4];
}

/// Element types with a register for every instruction set: `f32` and `f64`.
pub trait Lanes: Copy {
    /// What every machine has.
    type Portable: Vector<Self>;
    /// 256-bit registers.
    #[cfg(target_arch = "x86_64")]
    type Avx2: Vector<Self>;
    /// 512-bit registers.
    #[cfg(target_arch = "x86_64")]
    type Avx512: Vector<Self>;

    /// Turns a square block of [`Lanes::BLOCK`] × `BLOCK` elements round, or returns false where this type has no
    /// faster way than plain loops on this machine.
    ///
    /// # Safety
    /// `from` and `to` must be good for `BLOCK` rows of `BLOCK` elements at their strides.
    unsafe fn transpose(isa: crate::isa::Isa, from: *const Self, stride: usize, to: *mut Self, pitch: usize) -> bool;
}

/// Side of the square block that [`Lanes::transpose`] turns round, and the smallest batch tile.
pub const BLOCK: usize = 16;

impl Lanes for f32 {
    type Portable = Array<f32, 4>;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = std::arch::x86_64::__m256;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = std::arch::x86_64::__m512;

    #[inline]
    unsafe fn transpose(isa: crate::isa::Isa, from: *const f32, stride: usize, to: *mut f32, pitch: usize) -> bool {
        match isa {
            crate::isa::Isa::Portable => false,
            #[cfg(target_arch = "x86_64")]
            crate::isa::Isa::Avx2 | crate::isa::Isa::Avx512 => {
                // SAFETY: AVX-512 includes AVX2; the pointers by the caller's promise.
                unsafe { x86::transpose_16(from, stride, to, pitch) };
                true
            }
            #[cfg(not(target_arch = "x86_64"))]
            crate::isa::Isa::Avx2 | crate::isa::Isa::Avx512 => {
                let _ = (from, stride, to, pitch);
                false
            }
        }
    }
}

impl Lanes for f64 {
    type Portable = Array<f64, 2>;
    #[cfg(target_arch = "x86_64")]
    type Avx2 = std::arch::x86_64::__m256d;
    #[cfg(target_arch = "x86_64")]
    type Avx512 = std::arch::x86_64::__m512d;

    #[inline]
    unsafe fn transpose(_: crate::isa::Isa, _: *const f64, _: usize, _: *mut f64, _: usize) -> bool {
        false
    }
}

/// The portable register: 16 bytes, what SSE2 and NEON have.
#[derive(Clone, Copy)]
pub struct Array<T, const N: usize>([T; N]);

macro_rules! portable {
    ($type:ident, $lanes:literal) => {
        impl Vector<$type> for Array<$type, $lanes> {
            const LANES: usize = $lanes;
            const REGISTERS: usize = if cfg!(target_arch = "x86_64") { 16 } else { 32 };

            #[inline(always)]
            unsafe fn splat(value: $type) -> Self {
                Array([value; $lanes])
            }
            #[inline(always)]
            unsafe fn load(from: *const $type) -> Self {
                // SAFETY: good for `LANES` elements, by the caller's promise.
                unsafe { from.cast::<Self>().read_unaligned() }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $type) {
                // SAFETY: good for `LANES` elements, by the caller's promise.
                unsafe { to.cast::<Self>().write_unaligned(self) }
            }
            #[inline(always)]
            unsafe fn load_first(from: *const $type, count: usize) -> Self {
                // SAFETY: good for `count` elements, by the caller's promise.
                Array(std::array::from_fn(|i| if i < count { unsafe { *from.add(i) } } else { 0.0 }))
            }
            #[inline(always)]
            unsafe fn store_first(self, to: *mut $type, count: usize) {
                for (i, lane) in self.0.into_iter().enumerate().take(count) {
                    // SAFETY: good for `count` elements, by the caller's promise.
                    unsafe { *to.add(i) = lane }
                }
            }
            #[inline(always)]
            unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
                // Fused where every machine of the target can; elsewhere that would be a call per element.
                let fused = cfg!(target_arch = "aarch64");
                Array(std::array::from_fn(|i| {
                    if fused { self.0[i].mul_add(by.0[i], plus.0[i]) } else { self.0[i] * by.0[i] + plus.0[i] }
                }))
            }
            #[inline(always)]
            unsafe fn mul(self, by: Self) -> Self {
                Array(std::array::from_fn(|i| self.0[i] * by.0[i]))
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                Array(std::array::from_fn(|i| self.0[i] + other.0[i]))
            }
            #[inline(always)]
            unsafe fn sub(self, other: Self) -> Self {
                Array(std::array::from_fn(|i| self.0[i] - other.0[i]))
            }
            #[inline(always)]
            unsafe fn where_positive(self, then: Self, otherwise: Self) -> Self {
                Array(std::array::from_fn(|i| if self.0[i] > 0.0 { then.0[i] } else { otherwise.0[i] }))
            }
            #[inline(always)]
            unsafe fn where_negative(self, then: Self, otherwise: Self) -> Self {
                Array(std::array::from_fn(|i| if self.0[i] < 0.0 { then.0[i] } else { otherwise.0[i] }))
            }
            #[inline(always)]
            unsafe fn sums(four: [Self; 4]) -> [$type; 4] {
                four.map(|register| register.0.into_iter().sum())
            }
        }
    };
}

portable!(f32, 4);
portable!(f64, 2);

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    /// One register type in terms of its intrinsics; `$first` makes the mask of the first lanes. `$negative` and `$positive` turn (self, then, otherwise) into a blend.
    macro_rules! register {
        (
            $register:ident, $type:ident, $lanes:literal, $registers:literal,
            $splat:ident, $load:ident, $store:ident, $fma:ident, $mul:ident, $add:ident, $sub:ident,
            $blend:expr, $sums:ident, $first:ident, $load_masked:ident, $store_masked:ident
        ) => {
            impl Vector<$type> for $register {
                const LANES: usize = $lanes;
                const REGISTERS: usize = $registers;

                #[inline(always)]
                unsafe fn splat(value: $type) -> Self {
                    // SAFETY: the instruction set is available, by the caller's promise.
                    unsafe { $splat(value) }
                }
                #[inline(always)]
                unsafe fn load(from: *const $type) -> Self {
                    // SAFETY: as above, and `from` is good for a register.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut $type) {
                    // SAFETY: as above, and `to` is good for a register.
                    unsafe { $store(to, self) }
                }
                #[inline(always)]
                unsafe fn load_first(from: *const $type, count: usize) -> Self {
                    // SAFETY: as above, and `from` is good for what the mask names.
                    unsafe { $load_masked($first(count), from) }
                }
                #[inline(always)]
                unsafe fn store_first(self, to: *mut $type, count: usize) {
                    // SAFETY: as above, and `to` is good for what the mask names.
                    unsafe { $store_masked(to, $first(count), self) }
                }
                #[inline(always)]
                unsafe fn mul_add(self, by: Self, plus: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $fma(self, by, plus) }
                }
                #[inline(always)]
                unsafe fn mul(self, by: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $mul(self, by) }
                }
                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $add(self, other) }
                }
                #[inline(always)]
                unsafe fn sub(self, other: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $sub(self, other) }
                }
                #[inline(always)]
                unsafe fn where_positive(self, then: Self, otherwise: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $blend(Self::splat(0.0), self, then, otherwise) }
                }
                #[inline(always)]
                unsafe fn where_negative(self, then: Self, otherwise: Self) -> Self {
                    // SAFETY: as in `splat`.
                    unsafe { $blend(self, Self::splat(0.0), then, otherwise) }
                }
                #[inline(always)]
                unsafe fn sums(four: [Self; 4]) -> [$type; 4] {
                    // SAFETY: as in `splat`.
                    unsafe { $sums(four) }
                }
            }
        };
    }

    /// `then` where a < b, else `otherwise`.
    macro_rules! masked {
        ($compare:ident, $blend:ident) => {
            |a, b, then, otherwise| $blend($compare::<_CMP_LT_OQ>(a, b), otherwise, then)
        };
    }
    macro_rules! blended {
        ($compare:ident, $blend:ident) => {
            |a, b, then, otherwise| $blend(otherwise, then, $compare::<_CMP_LT_OQ>(a, b))
        };
    }

    register!(
        __m512,
        f32,
        16,
        32,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_mul_ps,
        _mm512_add_ps,
        _mm512_sub_ps,
        masked!(_mm512_cmp_ps_mask, _mm512_mask_blend_ps),
        sums_512,
        first_16,
        _mm512_maskz_loadu_ps,
        _mm512_mask_storeu_ps
    );
    register!(
        __m512d,
        f64,
        8,
        32,
        _mm512_set1_pd,
        _mm512_loadu_pd,
        _mm512_storeu_pd,
        _mm512_fmadd_pd,
        _mm512_mul_pd,
        _mm512_add_pd,
        _mm512_sub_pd,
        masked!(_mm512_cmp_pd_mask, _mm512_mask_blend_pd),
        sums_512d,
        first_8,
        _mm512_maskz_loadu_pd,
        _mm512_mask_storeu_pd
    );
    register!(
        __m256,
        f32,
        8,
        16,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_mul_ps,
        _mm256_add_ps,
        _mm256_sub_ps,
        blended!(_mm256_cmp_ps, _mm256_blendv_ps),
        sums_256,
        first_8_of_32_bits,
        load_256,
        _mm256_maskstore_ps
    );
    register!(
        __m256d,
        f64,
        4,
        16,
        _mm256_set1_pd,
        _mm256_loadu_pd,
        _mm256_storeu_pd,
        _mm256_fmadd_pd,
        _mm256_mul_pd,
        _mm256_add_pd,
        _mm256_sub_pd,
        blended!(_mm256_cmp_pd, _mm256_blendv_pd),
        sums_256d,
        first_4_of_64_bits,
        load_256d,
        _mm256_maskstore_pd
    );

    #[inline(always)]
    fn first_16(count: usize) -> __mmask16 {
        ((1u32 << count) - 1) as __mmask16
    }

    #[inline(always)]
    fn first_8(count: usize) -> __mmask8 {
        ((1u32 << count) - 1) as __mmask8
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn first_8_of_32_bits(count: usize) -> __m256i {
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn first_4_of_64_bits(count: usize) -> __m256i {
        _mm256_cmpgt_epi64(_mm256_set1_epi64x(count as i64), _mm256_setr_epi64x(0, 1, 2, 3))
    }

    /// As its intrinsic, with the operands in the order of AVX-512.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_256(mask: __m256i, from: *const f32) -> __m256 {
        // SAFETY: the caller's promise.
        unsafe { _mm256_maskload_ps(from, mask) }
    }

    /// As its intrinsic, with the operands in the order of AVX-512.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn load_256d(mask: __m256i, from: *const f64) -> __m256d {
        // SAFETY: the caller's promise.
        unsafe { _mm256_maskload_pd(from, mask) }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
    fn sums_512(a: [__m512; 4]) -> [f32; 4] {
        let low = _mm512_add_ps(_mm512_unpacklo_ps(a[0], a[1]), _mm512_unpackhi_ps(a[0], a[1]));
        let high = _mm512_add_ps(_mm512_unpacklo_ps(a[2], a[3]), _mm512_unpackhi_ps(a[2], a[3]));
        let each = _mm512_add_ps(_mm512_shuffle_ps::<0x44>(low, high), _mm512_shuffle_ps::<0xee>(low, high));
        let half = _mm256_add_ps(_mm512_castps512_ps256(each), _mm512_extractf32x8_ps::<1>(each));
        quarter(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps::<1>(half)))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn sums_256(a: [__m256; 4]) -> [f32; 4] {
        let low = _mm256_add_ps(_mm256_unpacklo_ps(a[0], a[1]), _mm256_unpackhi_ps(a[0], a[1]));
        let high = _mm256_add_ps(_mm256_unpacklo_ps(a[2], a[3]), _mm256_unpackhi_ps(a[2], a[3]));
        let each = _mm256_add_ps(_mm256_shuffle_ps::<0x44>(low, high), _mm256_shuffle_ps::<0xee>(low, high));
        quarter(_mm_add_ps(_mm256_castps256_ps128(each), _mm256_extractf128_ps::<1>(each)))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
    fn sums_512d(a: [__m512d; 4]) -> [f64; 4] {
        sums_256d(a.map(|v| _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd::<1>(v))))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn sums_256d(a: [__m256d; 4]) -> [f64; 4] {
        let low = _mm256_add_pd(_mm256_unpacklo_pd(a[0], a[1]), _mm256_unpackhi_pd(a[0], a[1]));
        let high = _mm256_add_pd(_mm256_unpacklo_pd(a[2], a[3]), _mm256_unpackhi_pd(a[2], a[3]));
        let each = _mm256_add_pd(_mm256_permute2f128_pd::<0x20>(low, high), _mm256_permute2f128_pd::<0x31>(low, high));
        let mut sums = [0.0; 4];
        // SAFETY: four elements.
        unsafe { _mm256_storeu_pd(sums.as_mut_ptr(), each) };
        sums
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn quarter(register: __m128) -> [f32; 4] {
        let mut sums = [0.0; 4];
        // SAFETY: four elements.
        unsafe { _mm_storeu_ps(sums.as_mut_ptr(), register) };
        sums
    }

    /// to[j · pitch + i] = from[i · stride + j] for i, j in 0..16.
    ///
    /// # Safety
    /// Both pointers must be good for 16 rows of 16 elements at their strides.
    #[target_feature(enable = "avx2")]
    pub unsafe fn transpose_16(from: *const f32, stride: usize, to: *mut f32, pitch: usize) {
        for (row, column) in [(0, 0), (8, 0), (0, 8), (8, 8)] {
            // SAFETY: each quarter lies inside the caller's blocks.
            unsafe { transpose_8(from.add(row * stride + column), stride, to.add(column * pitch + row), pitch) };
        }
    }

    /// to[j · pitch + i] = from[i · stride + j] for i, j in 0..8.
    ///
    /// # Safety
    /// Both pointers must be good for 8 rows of 8 elements at their strides.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn transpose_8(from: *const f32, stride: usize, to: *mut f32, pitch: usize) {
        // Rows i and i + 4 share a register, so that only shuffles inside 128-bit halves are left.
        let pair = |row: usize, half: usize| {
            // SAFETY: inside the block, by the caller's promise.
            let (low, high) = unsafe {
                (_mm_loadu_ps(from.add(row * stride + half * 4)), _mm_loadu_ps(from.add((row + 4) * stride + half * 4)))
            };
            _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high)
        };
        for half in 0..2 {
            let r = [pair(0, half), pair(1, half), pair(2, half), pair(3, half)];
            let (a, b) = (_mm256_unpacklo_ps(r[0], r[1]), _mm256_unpackhi_ps(r[0], r[1]));
            let (c, d) = (_mm256_unpacklo_ps(r[2], r[3]), _mm256_unpackhi_ps(r[2], r[3]));
            let columns = [
                _mm256_shuffle_ps::<0x44>(a, c),
                _mm256_shuffle_ps::<0xee>(a, c),
                _mm256_shuffle_ps::<0x44>(b, d),
                _mm256_shuffle_ps::<0xee>(b, d),
            ];
            for (i, column) in columns.into_iter().enumerate() {
                // SAFETY: inside the block, by the caller's promise.
                unsafe { _mm256_storeu_ps(to.add((half * 4 + i) * pitch), column) };
            }
        }
    }
}
