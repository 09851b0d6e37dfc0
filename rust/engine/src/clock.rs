//! How long each node takes in the passes of a run: what `network.layerTimes()` shows.

use crate::plan::Plan;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Time of each node, forward and backward. It is filled only while somebody asks for it: two readings of the system's
/// clock a node would be several per cent of a step of the smallest networks.
#[derive(Default)]
pub struct Clock {
    /// Forward and backward for each node; empty while nobody asks.
    times: Vec<[Duration; 2]>,
}

/// A direction through a node.
#[derive(Clone, Copy)]
pub enum Direction {
    /// Values.
    Forward,
    /// Gradients, with the update where the step applies it layer by layer.
    Backward,
}

impl Clock {
    /// Begins at zero, for `nodes` nodes.
    pub fn start(&mut self, nodes: usize) {
        self.times.clear();
        self.times.resize(nodes, [Duration::ZERO; 2]);
    }

    /// The time now, if it is wanted.
    pub fn now(&self) -> Option<Instant> {
        (!self.times.is_empty()).then(Instant::now)
    }

    /// Adds the time since `start` to a node.
    pub fn add(&mut self, node: usize, direction: Direction, start: Option<Instant>) {
        if let (Some(times), Some(start)) = (self.times.get_mut(node), start) {
            times[direction as usize] += start.elapsed();
        }
    }

    /// Layer, kind, seconds forward and seconds backward of each node since [`Clock::start`], if there was one; stops.
    pub fn finish<T>(&mut self, plan: &Plan<T>) -> Option<Value> {
        let times = std::mem::take(&mut self.times);
        if times.is_empty() {
            return None;
        }
        let layers = plan.nodes.iter().zip(times).map(|(node, [forward, backward])| {
            json!({
                "name": node.layer,
                "kind": node.kind,
                "forward": forward.as_secs_f64(),
                "backward": backward.as_secs_f64(),
            })
        });
        Some(json!(layers.collect::<Vec<_>>()))
    }
}
