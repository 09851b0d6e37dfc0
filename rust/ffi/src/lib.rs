//! The C interface of leanprop's engine.
//!
//! [`abi`] is the one list of exported functions; from it come the functions themselves, their description for TypeScript, and
//! a fingerprint that both sides compare when the library is opened. Every body runs inside [`status::guard`]: errors and
//! panics become a status block, nothing unwinds into Deno. No pointer is kept after a call returns.

mod abi;
mod arguments;
mod calls;
mod handles;
mod kernel_calls;
mod sparse_calls;
mod status;

/// The fingerprint of the interface this library was built with.
#[unsafe(no_mangle)]
pub extern "C" fn abi_fingerprint() -> u32 {
    abi::fingerprint()
}

/// Copies the JSON description of the interface into `out` (up to `capacity` bytes) and returns its length.
///
/// # Safety
/// `out` must hold `capacity` bytes, or be null with capacity 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn abi_describe(out: *mut u8, capacity: u32) -> u32 {
    let text = abi::describe();
    let count = text.len().min(capacity as usize);
    if !out.is_null() {
        // SAFETY: `out` holds `capacity` bytes by the caller's promise; the text is at least `count` long.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), out, count) };
    }
    text.len() as u32
}
