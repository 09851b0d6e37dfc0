//! What can go wrong, as data: a code for programs and one sentence for people.

use kernels::OutOfMemory;

/// The kind of fault; the numbers cross the boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// An option, or a combination of options, that cannot be used.
    InvalidConfig = 1,
    /// An array or data set of another size than needed.
    ShapeMismatch = 2,
    /// A handle that names nothing (any more).
    UnknownHandle = 3,
    /// The object is in use by another call or training run.
    Busy = 4,
    /// An earlier panic left the object in an unknown state.
    Poisoned = 5,
    /// A bug in the engine.
    Panic = 6,
    /// NaN or infinity appeared.
    NotFinite = 7,
    /// Not enough memory.
    OutOfMemory = 8,
    /// A tensor or option name that does not exist.
    UnknownName = 9,
}

/// A fault with its sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// The kind of fault.
    pub code: Code,
    /// Where, expected, found.
    pub message: String,
}

/// What engine functions return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A fault of the given kind.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into() }
    }

    /// `Cannot use WHERE: expected … but found …`.
    pub fn config(path: impl AsRef<str>, expected: impl AsRef<str>, found: impl std::fmt::Display) -> Error {
        let (path, expected) = (path.as_ref(), expected.as_ref());
        Error::new(Code::InvalidConfig, format!("Cannot use {path}: expected {expected} but found {found}"))
    }

    /// `Cannot use WHERE: expected … but found …`, for sizes.
    pub fn shape(what: impl AsRef<str>, expected: impl AsRef<str>, found: impl std::fmt::Display) -> Error {
        let (what, expected) = (what.as_ref(), expected.as_ref());
        Error::new(Code::ShapeMismatch, format!("Cannot use {what}: expected {expected} but found {found}"))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<OutOfMemory> for Error {
    fn from(fault: OutOfMemory) -> Error {
        let size = crate::memory::words(fault.bytes);
        Error::new(Code::OutOfMemory, format!("Cannot allocate {size}: not enough memory"))
    }
}

/// Reads JSON from the TypeScript side; a misfit is a bug or a hand-written file, so the parser's sentence is kept.
pub fn parse<T: serde::de::DeserializeOwned>(what: &str, json: &str) -> Result<T> {
    serde_json::from_str(json).map_err(|fault| Error::new(Code::InvalidConfig, format!("Cannot use {what}: {fault}")))
}
