//! Handles: numbers that name engine objects. A handle is a generation and a slot, so that a stale one is an error and never
//! another object; 0 is never issued.

use crate::status::Fault;
use engine::{Code, Error};
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

/// Bits of the slot; the rest is the generation.
const SLOT_BITS: u32 = 20;

struct Slot<T> {
    generation: u32,
    object: Option<Arc<T>>,
}

/// Objects by handle.
pub struct Table<T> {
    kind: &'static str,
    slots: RwLock<Vec<Slot<T>>>,
}

impl<T> Table<T> {
    /// An empty table of objects that messages call `kind`.
    pub const fn new(kind: &'static str) -> Self {
        Table { kind, slots: RwLock::new(Vec::new()) }
    }

    /// Keeps an object and gives its handle.
    pub fn insert(&self, object: T) -> Result<u32, Fault> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let object = Some(Arc::new(object));
        if let Some(index) = slots.iter().position(|slot| slot.object.is_none()) {
            let slot = &mut slots[index];
            slot.generation = (slot.generation % ((1 << (32 - SLOT_BITS)) - 1)) + 1;
            slot.object = object;
            return Ok(slot.generation << SLOT_BITS | index as u32);
        }
        if slots.len() == 1 << SLOT_BITS {
            return Err(Error::new(Code::OutOfMemory, format!("Cannot keep more than {} {}s", slots.len(), self.kind)));
        }
        slots.push(Slot { generation: 1, object });
        Ok(1 << SLOT_BITS | (slots.len() - 1) as u32)
    }

    /// The object of a handle. It lives as long as the result, even when the handle is removed meanwhile.
    pub fn get(&self, handle: u32) -> Result<Arc<T>, Fault> {
        let (generation, index) = (handle >> SLOT_BITS, (handle & ((1 << SLOT_BITS) - 1)) as usize);
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let object = slots.get(index).filter(|slot| slot.generation == generation).and_then(|slot| slot.object.clone());
        object.ok_or_else(|| Error::new(Code::UnknownHandle, format!("Cannot use this {}: it is disposed", self.kind)))
    }

    /// Forgets a handle; the object goes when the last call on it ends.
    pub fn remove(&self, handle: u32) -> Result<(), Fault> {
        let object = self.get(handle)?;
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots[(handle & ((1 << SLOT_BITS) - 1)) as usize].object = None;
        // Dropping a large object takes a while: not under the lock.
        drop(slots);
        drop(object);
        Ok(())
    }
}

/// An object that one call at a time may use; a second call is refused, not queued.
///
/// Background calls start some time after they were asked for. A short call of the foreground may have got in between: that
/// one is waited for, as it would otherwise make the earlier call fail.
pub struct Exclusive<T> {
    object: Mutex<T>,
    background: AtomicBool,
}

impl<T> Exclusive<T> {
    /// Wraps an object.
    pub fn new(object: T) -> Self {
        Exclusive { object: Mutex::new(object), background: AtomicBool::new(false) }
    }

    /// Use of the object for a call that the caller waits for.
    pub fn enter(&self) -> Result<MutexGuard<'_, T>, Fault> {
        if self.background.load(Ordering::Acquire) {
            return Err(busy());
        }
        match self.object.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::WouldBlock) => Err(busy()),
            Err(TryLockError::Poisoned(_)) => Err(poisoned()),
        }
    }

    /// Use of the object for a call in the background.
    pub fn enter_background(&self) -> Result<Background<'_, T>, Fault> {
        if self.background.swap(true, Ordering::AcqRel) {
            return Err(busy());
        }
        let guard = self.object.lock();
        let guard = guard.map_err(|_| {
            self.background.store(false, Ordering::Release);
            poisoned()
        })?;
        Ok(Background { guard: Some(guard), background: &self.background })
    }
}

/// A background call's use of an object.
pub struct Background<'a, T> {
    /// There until the drop.
    guard: Option<MutexGuard<'a, T>>,
    background: &'a AtomicBool,
}

impl<T> Drop for Background<'_, T> {
    fn drop(&mut self) {
        // The object first: a foreground call that no longer sees the mark must find the object free.
        self.guard = None;
        self.background.store(false, Ordering::Release);
    }
}

impl<T> Deref for Background<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.guard.as_ref().expect("held until the drop")
    }
}

impl<T> DerefMut for Background<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("held until the drop")
    }
}

fn busy() -> Fault {
    Error::new(Code::Busy, "Cannot use this network now: another call on it is still running")
}

fn poisoned() -> Fault {
    Error::new(
        Code::Poisoned,
        "Cannot use this network: a bug stopped an earlier call on it; load it again from a checkpoint",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_background_call_waits_for_a_foreground_call_and_refuses_others() {
        let object = Exclusive::new(0);
        let foreground = object.enter().unwrap_or_else(|_| panic!("free"));
        thread::scope(|scope| {
            let (asked, held) = std::sync::mpsc::channel();
            let (end, ended) = std::sync::mpsc::channel();
            let object = &object;
            scope.spawn(move || {
                asked.send(()).unwrap();
                let mut background = object.enter_background().unwrap_or_else(|fault| panic!("{fault:?}"));
                *background += 1;
                asked.send(()).unwrap();
                ended.recv().unwrap();
            });
            held.recv().unwrap();
            assert!(held.recv_timeout(Duration::from_millis(20)).is_err(), "the foreground call still runs");
            drop(foreground);
            held.recv().unwrap();
            assert!(object.enter().is_err());
            assert!(object.enter_background().is_err());
            end.send(()).unwrap();
        });
        assert_eq!(object.enter().map(|value| *value).ok(), Some(1));
    }

    #[test]
    fn a_panic_in_a_call_poisons_the_object_for_both_kinds() {
        let object = Exclusive::new(0);
        thread::scope(|scope| {
            let call = scope.spawn(|| {
                let _background = object.enter_background();
                panic!("on purpose");
            });
            assert!(call.join().is_err());
        });
        assert_eq!(object.enter().err().map(|fault| fault.code), Some(Code::Poisoned));
        assert_eq!(object.enter_background().err().map(|fault| fault.code), Some(Code::Poisoned));
    }
}
