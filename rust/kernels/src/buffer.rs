//! Memory for parameters and activations: aligned to cache lines, zeroed lazily, refused with an error when there is too little.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes of a cache line, and of the widest vector.
const ALIGNMENT: usize = 64;

/// What is asked of the allocator. More would make Rust's write the zeros itself, and so touch every page; the rest of the way to
/// [`ALIGNMENT`] is gone by hand.
const ASKED: usize = 16;

/// There was not enough memory for this many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory {
    /// Bytes that were asked for.
    pub bytes: usize,
}

/// A fixed-length array of plain numbers that starts at a cache line.
///
/// Pages that are never touched cost no memory, so a buffer may be sized for the largest case.
pub struct Buffer<T> {
    pointer: NonNull<T>,
    length: usize,
    /// Where the allocation begins: up to [`ALIGNMENT`] bytes before the first element.
    start: NonNull<u8>,
}

// SAFETY: a buffer owns its memory like a `Vec`.
unsafe impl<T: Send> Send for Buffer<T> {}
// SAFETY: as above; shared access is read-only.
unsafe impl<T: Sync> Sync for Buffer<T> {}

impl<T: Copy + num_traits::Zero> Buffer<T> {
    /// `length` zeros.
    pub fn zeroed(length: usize) -> Result<Self, OutOfMemory> {
        let Some(layout) = Self::layout(length) else {
            return Err(OutOfMemory { bytes: length.saturating_mul(size_of::<T>()) });
        };
        if length == 0 || size_of::<T>() == 0 {
            return Ok(Buffer { length, ..Buffer::empty() });
        }
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(OutOfMemory { bytes: layout.size() })?;
        // SAFETY: the allocation has room for the elements after up to ALIGNMENT bytes.
        let pointer = unsafe { start.add(start.align_offset(ALIGNMENT)) }.cast::<T>();
        // All-zero bytes are zero for the number types that the bound allows.
        Ok(Buffer { pointer, length, start })
    }

    /// No elements and no memory.
    pub fn empty() -> Self {
        Buffer { pointer: NonNull::dangling(), length: 0, start: NonNull::dangling() }
    }
}

impl<T> Buffer<T> {
    fn layout(length: usize) -> Option<Layout> {
        const { assert!(align_of::<T>() <= ASKED) };
        let bytes = length.checked_mul(size_of::<T>())?.checked_add(ALIGNMENT)?;
        Layout::from_size_align(bytes, ASKED).ok()
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        if self.length > 0 && size_of::<T>() > 0 {
            let layout = Self::layout(self.length).expect("the layout it was made with");
            // SAFETY: allocated in `zeroed` with the same layout.
            unsafe { dealloc(self.start.as_ptr(), layout) };
        }
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `length` elements were allocated and zeroed, or `length` is 0 and the pointer is aligned.
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.length) }
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.as_ptr(), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_zero_and_aligned() {
        let buffer = Buffer::<f32>::zeroed(1001).unwrap();
        assert_eq!(buffer.len(), 1001);
        assert!(buffer.iter().all(|v| *v == 0.0));
        assert!((buffer.as_ptr() as usize).is_multiple_of(ALIGNMENT));
        assert!(Buffer::<f64>::zeroed(0).unwrap().is_empty() && Buffer::<f64>::empty().is_empty());
    }

    /// Resident bytes of this process.
    #[cfg(target_os = "linux")]
    fn resident() -> usize {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn pages_that_nobody_touches_cost_nothing() {
        let before = resident();
        let mut buffer = Buffer::<f64>::zeroed(1 << 26).unwrap();
        buffer[1 << 25] = 1.0;
        let grown = resident().saturating_sub(before);
        assert!(grown < 1 << 28, "{grown} bytes of {} are resident", 8usize << 26);
    }

    #[test]
    fn too_much_is_refused_not_fatal() {
        assert!(Buffer::<f64>::zeroed(usize::MAX / 4).is_err());
        assert!(Buffer::<f64>::zeroed(1 << 50).is_err());
    }
}
