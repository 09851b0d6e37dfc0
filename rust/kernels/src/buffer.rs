//! Memory for parameters and activations: aligned to cache lines, zeroed lazily, refused with an error when there is too little.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Bytes of a cache line, and of the widest vector.
const ALIGNMENT: usize = 64;

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
        if layout.size() == 0 {
            return Ok(Buffer { pointer: NonNull::dangling(), length: 0 });
        }
        // SAFETY: the size is not zero.
        let pointer = unsafe { alloc_zeroed(layout) }.cast::<T>();
        // All-zero bytes are zero for the number types that the bound allows.
        let pointer = NonNull::new(pointer).ok_or(OutOfMemory { bytes: layout.size() })?;
        Ok(Buffer { pointer, length })
    }

    /// No elements and no memory.
    pub fn empty() -> Self {
        Buffer { pointer: NonNull::dangling(), length: 0 }
    }
}

impl<T> Buffer<T> {
    fn layout(length: usize) -> Option<Layout> {
        let bytes = length.checked_mul(size_of::<T>())?;
        Layout::from_size_align(bytes, ALIGNMENT.max(align_of::<T>())).ok()
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        if self.length > 0 {
            let layout = Self::layout(self.length).expect("the layout it was made with");
            // SAFETY: allocated in `zeroed` with the same layout.
            unsafe { dealloc(self.pointer.as_ptr().cast(), layout) };
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

    #[test]
    fn too_much_is_refused_not_fatal() {
        assert!(Buffer::<f64>::zeroed(usize::MAX / 4).is_err());
        assert!(Buffer::<f64>::zeroed(1 << 50).is_err());
    }
}
