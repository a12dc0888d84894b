//! Memory of the processor: aligned, zeroed, shared by its owner and recordings.
#![expect(unsafe_code, reason = "memory shared by threads that write disjoint parts")]

use crate::{Error, Memory};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::any::Any;

/// A page: tensors of the arena start on vector boundaries, and large ones on page boundaries.
const ALIGNMENT: usize = 4096;

/// A range of host memory.
pub struct Host {
    pointer: *mut u8,
    bytes: u64,
    layout: Layout,
}

impl Host {
    /// `bytes` zeros.
    pub fn new(purpose: &str, bytes: u64) -> Result<Self, Error> {
        let refused = || Error::Memory {
            device: "cpu".into(),
            purpose: purpose.into(),
            need: bytes,
            have: crate::probe::memory_bytes(),
        };
        // One vector more, so that the address of an empty buffer is good too.
        let size = usize::try_from(bytes).ok().and_then(|b| b.checked_add(64)).ok_or_else(refused)?;
        let layout = Layout::from_size_align(size, ALIGNMENT).map_err(|_| refused())?;
        // SAFETY: the layout's size is not zero.
        let pointer = unsafe { alloc_zeroed(layout) };
        if pointer.is_null() { Err(refused()) } else { Ok(Host { pointer, bytes, layout }) }
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
