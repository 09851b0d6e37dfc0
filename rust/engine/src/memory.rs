//! How much memory there is, so that a size that cannot fit is refused before the machine starts to swap or kill.

use crate::error::{Code, Error, Result};

/// Refuses `bytes` for `what` when the machine has less.
pub fn check(what: &str, bytes: u128) -> Result<()> {
    match total() {
        Some(total) if bytes > u128::from(total) => Err(Error::new(
            Code::OutOfMemory,
            format!(
                "Cannot allocate {} for {what}: this machine has {} of memory",
                words(usize::try_from(bytes).unwrap_or(usize::MAX)),
                words(total as usize)
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Bytes of physical memory, where the system tells (Linux). Elsewhere the allocator's refusal has to do.
fn total() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// A number of bytes in words, such as `1.5 GiB`.
pub fn words(bytes: usize) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} bytes") } else { format!("{value:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_use_the_unit_that_fits() {
        assert_eq!(words(12), "12 bytes");
        assert_eq!(words(1536), "1.5 KiB");
        assert_eq!(words(3 << 30), "3.0 GiB");
    }

    #[test]
    fn check_refuses_what_no_machine_has() {
        assert!(check("a test", 1).is_ok());
        if total().is_some() {
            assert_eq!(check("a test", 1 << 90).unwrap_err().code, Code::OutOfMemory);
        }
    }
}
