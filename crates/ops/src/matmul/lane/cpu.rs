//! Vectors of f32 for the matmul micro-kernel, one type an instruction set.
#![expect(unsafe_code, reason = "SIMD intrinsics")]

/// Columns of a packed panel.
pub const PANEL: usize = 64;

/// A vector of f32.
///
/// # Safety
/// Each method needs the type's instructions, and memory for as many elements as it loads or stores.
pub trait Lane: Copy {
    /// Elements in a vector; divides `PANEL`.
    const WIDTH: usize;
    /// Zeros.
    unsafe fn zero() -> Self;
    /// From memory, not aligned.
    unsafe fn load(from: *const f32) -> Self;
    /// To memory, not aligned.
    unsafe fn store(to: *mut f32, value: Self);
    /// One number in every element.
    unsafe fn splat(value: f32) -> Self;
    /// a b + c.
    unsafe fn multiply_add(a: Self, b: Self, c: Self) -> Self;
    /// a + b.
    unsafe fn add(a: Self, b: Self) -> Self;
    /// Asks for the cache line of an address, which need not be there.
    #[inline(always)]
    unsafe fn fetch(_at: *const f32) {}
    /// Asks for the cache line of an address that will be written.
    #[inline(always)]
    unsafe fn fetch_to_write(_at: *const f32) {}

    /// to[x, y] = from[y, x] for 16 x 16 elements.
    #[inline(always)]
    unsafe fn transpose_16(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for x in 0..16 {
            for y in 0..16 {
                // SAFETY: the caller's promise.
                unsafe { *to.add(x * to_stride + y) = *from.add(y * from_stride + x) };
            }
        }
    }
}

/// Four numbers that the compiler may put in a register.
#[derive(Clone, Copy)]
pub struct Portable([f32; 4]);

impl Lane for Portable {
    const WIDTH: usize = 4;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Portable([0.0; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Portable(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, value: Self) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(value.0) };
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Portable([value; 4])
    }

    #[inline(always)]
    unsafe fn multiply_add(a: Self, b: Self, c: Self) -> Self {
        Portable(std::array::from_fn(|i| a.0[i] * b.0[i] + c.0[i]))
    }

    #[inline(always)]
    unsafe fn add(a: Self, b: Self) -> Self {
        Portable(std::array::from_fn(|i| a.0[i] + b.0[i]))
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lane;
    use std::arch::x86_64::*;

    macro_rules! lane {
        ($(#[$doc:meta])* $name:ident($register:ty) $width:literal: $zero:ident $load:ident $store:ident $splat:ident
            $fmadd:ident $add:ident; $($more:item)*) => {
            $(#[$doc])*
            #[derive(Clone, Copy)]
            pub struct $name($register);

            impl Lane for $name {
                const WIDTH: usize = $width;

                #[inline(always)]
                unsafe fn zero() -> Self {
                    // SAFETY: the instructions are there by the trait's contract, here and below.
                    $name(unsafe { $zero() })
                }

                #[inline(always)]
                unsafe fn load(from: *const f32) -> Self {
                    // SAFETY: the caller's promise.
                    $name(unsafe { $load(from) })
                }

                #[inline(always)]
                unsafe fn store(to: *mut f32, value: Self) {
                    // SAFETY: the caller's promise.
                    unsafe { $store(to, value.0) };
                }

                #[inline(always)]
                unsafe fn splat(value: f32) -> Self {
                    // SAFETY: as in `zero`.
                    $name(unsafe { $splat(value) })
                }

                #[inline(always)]
                unsafe fn multiply_add(a: Self, b: Self, c: Self) -> Self {
                    // SAFETY: as in `zero`.
                    $name(unsafe { $fmadd(a.0, b.0, c.0) })
                }

                #[inline(always)]
                unsafe fn add(a: Self, b: Self) -> Self {
                    // SAFETY: as in `zero`.
                    $name(unsafe { $add(a.0, b.0) })
                }

                #[inline(always)]
                unsafe fn fetch(at: *const f32) {
                    // SAFETY: fetching is a hint; it touches nothing.
                    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
                }

                #[inline(always)]
                unsafe fn fetch_to_write(at: *const f32) {
                    // SAFETY: as above.
                    unsafe { _mm_prefetch::<_MM_HINT_ET0>(at.cast()) };
                }

                $($more)*
            }
        };
    }

    lane!(
        /// Eight numbers.
        Avx2(__m256) 8: _mm256_setzero_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_set1_ps _mm256_fmadd_ps _mm256_add_ps;
    );
    lane!(
        /// Sixteen numbers.
        Avx512(__m512) 16: _mm512_setzero_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_set1_ps _mm512_fmadd_ps _mm512_add_ps;

        #[inline(always)]
        unsafe fn transpose_16(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            // SAFETY: the caller's promise: 16 rows of 16 elements at both strides.
            unsafe {
                // Lane l of columns[g][q] holds column 4 l + q of rows 4 g to 4 g + 3.
                let mut columns = [[_mm512_setzero_ps(); 4]; 4];
                for g in 0..4 {
                    let r = |i: usize| _mm512_loadu_ps(from.add((4 * g + i) * from_stride));
                    let (r0, r1, r2, r3) = (r(0), r(1), r(2), r(3));
                    let pairs = |low: bool, a: __m512, b: __m512| {
                        _mm512_castps_pd(if low { _mm512_unpacklo_ps(a, b) } else { _mm512_unpackhi_ps(a, b) })
                    };
                    let (low01, high01) = (pairs(true, r0, r1), pairs(false, r0, r1));
                    let (low23, high23) = (pairs(true, r2, r3), pairs(false, r2, r3));
                    columns[g] = [
                        _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23)),
                        _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23)),
                        _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23)),
                        _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23)),
                    ];
                }
                for q in 0..4 {
                    let even = |g: usize| _mm512_shuffle_f32x4::<0x88>(columns[g][q], columns[g + 1][q]);
                    let odd = |g: usize| _mm512_shuffle_f32x4::<0xdd>(columns[g][q], columns[g + 1][q]);
                    let (even_low, even_high, odd_low, odd_high) = (even(0), even(2), odd(0), odd(2));
                    let put = |l: usize, row: __m512| _mm512_storeu_ps(to.add((4 * l + q) * to_stride), row);
                    put(0, _mm512_shuffle_f32x4::<0x88>(even_low, even_high));
                    put(1, _mm512_shuffle_f32x4::<0x88>(odd_low, odd_high));
                    put(2, _mm512_shuffle_f32x4::<0xdd>(even_low, even_high));
                    put(3, _mm512_shuffle_f32x4::<0xdd>(odd_low, odd_high));
                }
            }
        }
    );
}
