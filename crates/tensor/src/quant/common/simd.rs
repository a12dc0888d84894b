//! Runs a kernel compiled for the widest vectors that this processor has; every width gives the same bits.
#![expect(unsafe_code, reason = "functions for instructions that were found at run time")]

/// Something to compute. `run` and all that it calls must be `#[inline(always)]`, to be compiled for each width.
pub trait Kernel {
    /// Computes it.
    fn run(self);
}

/// Runs `kernel` in the widest form.
pub fn fastest(kernel: impl Kernel) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        let wide = has!("avx512f") && has!("avx512bw") && has!("avx512vl") && has!("avx512dq") && has!("avx2");
        if wide && allowed(512) {
            // SAFETY: the processor has these instructions.
            return unsafe { avx512(kernel) };
        }
        if has!("avx2") && allowed(256) {
            // SAFETY: the processor has these instructions.
            return unsafe { avx2(kernel) };
        }
    }
    kernel.run();
}

/// Whether vectors of so many bits may be used.
#[cfg(not(test))]
fn allowed(_bits: usize) -> bool {
    true
}

#[cfg(test)]
fn allowed(bits: usize) -> bool {
    bits <= WIDEST.get()
}

#[cfg(test)]
thread_local! {
    /// The widest vectors, in bits, that this thread's tests let be used.
    pub static WIDEST: std::cell::Cell<usize> = const { std::cell::Cell::new(512) };
}

/// Eight signed bytes as numbers. Left to itself, the compiler takes the bytes apart by shifts.
#[inline(always)]
pub fn numbers(bytes: u64) -> [f32; 8] {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && allowed(256) {
        use std::arch::x86_64::{__m256, _mm_cvtsi64_si128, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps};
        // SAFETY: the processor has these instructions, and eight lanes are eight numbers.
        return unsafe {
            std::mem::transmute::<__m256, [f32; 8]>(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(
                bytes as i64,
            ))))
        };
    }
    bytes.to_le_bytes().map(|byte| f32::from(byte as i8))
}

/// Of sixteen bytes those that the low halves of codes select, then those that the high halves do.
#[inline(always)]
pub fn lookup(table: &[i8; 16], codes: &[u8; 16]) -> [i8; 32] {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && allowed(256) {
        use std::arch::x86_64::{
            __m128i, _mm_and_si128, _mm_loadu_si128, _mm_set1_epi8, _mm_shuffle_epi8, _mm_srli_epi16,
        };
        // SAFETY: the processor has these instructions, and each vector is 16 bytes.
        return unsafe {
            let [table, codes] = [table.as_ptr().cast::<__m128i>(), codes.as_ptr().cast()].map(|p| _mm_loadu_si128(p));
            let low = _mm_shuffle_epi8(table, _mm_and_si128(codes, _mm_set1_epi8(15)));
            let high = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16::<4>(codes), _mm_set1_epi8(15)));
            std::mem::transmute::<[__m128i; 2], [i8; 32]>([low, high])
        };
    }
    std::array::from_fn(|i| table[usize::from(codes[i % 16] >> (i / 16 * 4) & 15)])
}

/// Writes past the caches, for results that nobody reads soon: their old lines aren't fetched first, which is a third of
/// the traffic. Dropping it waits for the writes, as other threads may only then read them: once for many, since
/// computing goes on beside writes that are under way.
pub struct Stream(());

impl Stream {
    /// Begins.
    pub fn new() -> Self {
        Self(())
    }

    /// Copies bytes past the caches.
    ///
    /// # Panics
    /// When lengths differ.
    pub fn copy(&self, from: &[u8], to: &mut [u8]) {
        assert_eq!(from.len(), to.len(), "as many bytes as there is room for");
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
            let head = to.as_ptr().align_offset(64).min(to.len());
            let (head_from, from) = from.split_at(head);
            let (head_to, to) = to.split_at_mut(head);
            head_to.copy_from_slice(head_from);
            let (lines_from, rest_from) = from.as_chunks::<64>();
            let (lines_to, rest_to) = to.as_chunks_mut::<64>();
            for (from, to) in lines_from.iter().zip(lines_to) {
                for quarter in 0..4 {
                    // SAFETY: each quarter is 16 of the 64 bytes, `to` is aligned to 64, and every x86-64 has SSE2.
                    unsafe {
                        let bytes = _mm_loadu_si128(from.as_ptr().cast::<__m128i>().add(quarter));
                        _mm_stream_si128(to.as_mut_ptr().cast::<__m128i>().add(quarter), bytes);
                    }
                }
            }
            rest_to.copy_from_slice(rest_from);
        }
        #[cfg(not(target_arch = "x86_64"))]
        to.copy_from_slice(from);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // SAFETY: every x86-64 has SSE.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            std::arch::x86_64::_mm_sfence();
        }
    }
}

/// Asks for bytes that will be read soon, while something else is computed.
pub fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64) {
        // SAFETY: a hint changes nothing but what is in the caches.
        unsafe {
            std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

// Without `fma`: multiplications and additions stay apart, so that all widths agree.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2")]
fn avx512(kernel: impl Kernel) {
    kernel.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(kernel: impl Kernel) {
    kernel.run();
}
