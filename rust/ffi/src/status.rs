//! How a call reports: a code as its result and a message in a block that the caller gives.
//!
//! A block per call, not a "last error" of the thread: background calls run on threads that the caller never sees.

use engine::{Code, Error};
use std::panic::{UnwindSafe, catch_unwind};
use std::sync::Once;

/// Bytes for the message.
const MESSAGE_BYTES: usize = 1016;

/// The block: 1024 bytes.
#[repr(C)]
pub struct Status {
    /// 0, or an engine code.
    code: u32,
    /// Bytes of the message.
    length: u32,
    /// UTF-8.
    message: [u8; MESSAGE_BYTES],
}

/// What a body may fail with.
pub type Fault = Error;

/// Runs `body`, turns errors and panics into the status block and the result. Nothing unwinds past this frame.
///
/// # Safety
/// `status` must be null or point to a status block.
pub unsafe fn guard(status: *mut Status, body: impl FnOnce() -> Result<(), Fault> + UnwindSafe) -> u32 {
    static QUIET: Once = Once::new();
    // The message reaches the caller through the block; the default hook would print it and a backtrace as well.
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let fault = match catch_unwind(body) {
        Ok(Ok(())) => return 0,
        Ok(Err(fault)) => fault,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Error::new(Code::Panic, format!("A bug in leanprop's engine stopped the call: {text}"))
        }
    };
    // SAFETY: null or a status block by the caller's promise.
    if let Some(status) = unsafe { status.as_mut() } {
        let mut end = fault.message.len().min(MESSAGE_BYTES);
        while !fault.message.is_char_boundary(end) {
            end -= 1;
        }
        status.code = fault.code as u32;
        status.length = end as u32;
        status.message[..end].copy_from_slice(&fault.message.as_bytes()[..end]);
    }
    fault.code as u32
}
