//! Raw arguments into slices.

use crate::status::Fault;
use engine::{Code, Error};

/// `length` elements from `pointer`. Deno passes an empty typed array as null.
///
/// # Safety
/// `pointer` must be null or hold `length` elements, unchanged during the call.
pub unsafe fn slice<'a, T>(pointer: *const T, length: u32) -> Result<&'a [T], Fault> {
    if pointer.is_null() || length == 0 {
        return if length == 0 { Ok(&[]) } else { Err(missing(length)) };
    }
    aligned(pointer)?;
    // SAFETY: not null, aligned, and long enough by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, length as usize) })
}

/// `length` writable elements from `pointer`.
///
/// # Safety
/// `pointer` must be null or hold `length` elements that nobody else uses during the call.
pub unsafe fn slice_mut<'a, T>(pointer: *mut T, length: u32) -> Result<&'a mut [T], Fault> {
    if pointer.is_null() || length == 0 {
        return if length == 0 { Ok(&mut []) } else { Err(missing(length)) };
    }
    aligned(pointer)?;
    // SAFETY: not null, aligned, and long enough by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(pointer, length as usize) })
}

/// UTF-8 text.
///
/// # Safety
/// As [`slice`].
pub unsafe fn text<'a>(pointer: *const u8, length: u32) -> Result<&'a str, Fault> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { slice(pointer, length) }?;
    std::str::from_utf8(bytes).map_err(|fault| Error::new(Code::InvalidConfig, format!("Cannot read text: {fault}")))
}

/// Copies `text` to `out` as far as it fits and writes its whole length to `needed`.
///
/// # Safety
/// `out` holds `capacity` bytes, `needed` one number.
pub unsafe fn put_text(text: &str, out: *mut u8, capacity: u32, needed: *mut u32) -> Result<(), Fault> {
    // SAFETY: the caller's promise.
    let (out, needed) = unsafe { (slice_mut(out, capacity)?, slice_mut(needed, 1)?) };
    let count = out.len().min(text.len());
    out[..count].copy_from_slice(&text.as_bytes()[..count]);
    needed[0] = text.len() as u32;
    Ok(())
}

fn aligned<T>(pointer: *const T) -> Result<(), Fault> {
    if pointer.is_aligned() {
        return Ok(());
    }
    Err(Error::new(
        Code::ShapeMismatch,
        format!("Cannot use an array that is not aligned to {} bytes", align_of::<T>()),
    ))
}

fn missing(length: u32) -> Fault {
    Error::new(Code::ShapeMismatch, format!("Cannot use an empty array where {length} elements are expected"))
}
