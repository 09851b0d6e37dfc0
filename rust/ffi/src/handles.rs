//! Handles: numbers that name engine objects. A handle is a generation and a slot, so that a stale one is an error and never
//! another object; 0 is never issued.

use crate::status::Fault;
use engine::{Code, Error};
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

/// Exclusive use of a network for one call; a second call at the same time is refused, not queued.
pub fn enter<T>(network: &Mutex<T>) -> Result<MutexGuard<'_, T>, Fault> {
    match network.try_lock() {
        Ok(guard) => Ok(guard),
        Err(TryLockError::WouldBlock) => {
            Err(Error::new(Code::Busy, "Cannot use this network now: another call on it is still running"))
        }
        Err(TryLockError::Poisoned(_)) => Err(Error::new(
            Code::Poisoned,
            "Cannot use this network: a bug stopped an earlier call on it; load it again from a checkpoint",
        )),
    }
}
