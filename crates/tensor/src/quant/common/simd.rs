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
