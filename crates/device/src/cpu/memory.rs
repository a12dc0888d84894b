//! Memory of the processor: aligned, zeroed, shared by its owner and recordings.
#![expect(unsafe_code, reason = "memory shared by threads that write disjoint parts")]

use crate::{Error, Memory};
use std::alloc::{Layout, alloc, dealloc};
use std::any::Any;

/// A page: what lies on a vector boundary in a buffer does so in memory too.
const PAGE: usize = 4096;
/// A huge page: large buffers are made of them, so that few translations cover a step.
const HUGE_PAGE: usize = 2 << 20;

/// A range of host memory.
pub struct Host {
    pointer: *mut u8,
    bytes: u64,
    layout: Layout,
}

impl Host {
    /// `bytes` zeros.
    pub fn new(purpose: &str, bytes: u64) -> Result<Self, Error> {
        let have = crate::room::host().free;
        let refused = || Error::Memory { device: "cpu".into(), purpose: purpose.into(), need: bytes, have };
        if bytes > have {
            return Err(refused());
        }
        let page = if bytes as usize >= HUGE_PAGE { HUGE_PAGE } else { PAGE };
        let size = (bytes as usize).max(1).next_multiple_of(page);
        let layout = Layout::from_size_align(size, page).map_err(|_| refused())?;
        // SAFETY: the layout's size is not zero.
        let pointer = unsafe { alloc(layout) };
        if pointer.is_null() {
            return Err(refused());
        }
        if page == HUGE_PAGE {
            ask_for_huge_pages(pointer, size);
        }
        // SAFETY: just allocated with this size.
        unsafe { std::ptr::write_bytes(pointer, 0, size) };
        Ok(Host { pointer, bytes, layout })
    }

    /// The first byte.
    pub fn pointer(&self) -> *mut u8 {
        self.pointer
    }

    fn check(&self, offset: u64, bytes: usize) -> Result<usize, Error> {
        match offset.checked_add(bytes as u64) {
            Some(end) if end <= self.bytes => Ok(offset as usize),
            _ => {
                let what = format!("{bytes} bytes at {offset} of a buffer of {}", self.bytes);
                Err(Error::Mismatch { device: "cpu".into(), what })
            }
        }
    }
}

/// Advice that the system may ignore; it must come before the memory is first touched.
fn ask_for_huge_pages(pointer: *mut u8, size: usize) {
    #[cfg(target_os = "linux")]
    {
        const MADV_HUGEPAGE: std::ffi::c_int = 14;
        unsafe extern "C" {
            fn madvise(address: *mut std::ffi::c_void, length: usize, advice: std::ffi::c_int) -> std::ffi::c_int;
        }
        // SAFETY: the range is allocated and starts on a page boundary; the advice changes no contents.
        unsafe { madvise(pointer.cast(), size, MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (pointer, size);
}

impl Drop for Host {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and no recording holds it any longer.
        unsafe { dealloc(self.pointer, self.layout) };
    }
}

impl Memory for Host {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let offset = self.check(offset, bytes.len())?;
        // SAFETY: in bounds by the check, and no replay is running: replays end before they return.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.pointer.add(offset), bytes.len()) };
        Ok(())
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        let offset = self.check(offset, bytes.len())?;
        // SAFETY: as in `write`.
        unsafe { std::ptr::copy_nonoverlapping(self.pointer.add(offset), bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_zeros_and_refuses_what_is_outside() {
        for bytes in [0, 1, 4095, (2 << 20) + 12] {
            let host = Host::new("a test", bytes).unwrap();
            assert!(host.pointer().addr().is_multiple_of(PAGE));
            let mut read = vec![1; bytes as usize];
            host.read(0, &mut read).unwrap();
            assert!(read.iter().all(|&b| b == 0));
            assert!(host.write(bytes, &[1]).is_err() && host.read(u64::MAX, &mut [0]).is_err());
        }
    }

    #[test]
    fn more_than_the_machine_has_is_refused_by_name() {
        let Err(error) = Host::new("a test", u64::MAX / 2) else { panic!("there is not so much memory") };
        assert!(error.to_string().contains("are needed for a test"), "{error}");
    }
}
