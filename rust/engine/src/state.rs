//! Every tensor of a network and its training run by name: what checkpoints store and what users read and write.
//!
//! Users see weights as outputs × inputs; the engine stores the transpose. Bytes are little-endian.

use crate::error::{Code, Error, Result};
use crate::network::Network;
use crate::plan::{Op, Parameter};
use crate::rules::StateTensor;
use crate::rules::front_contribution::FrontContribution;
use crate::training::{Counters, Training};
use kernels::Real;
use serde_json::json;

/// Name of the tensor with the counters of a training run.
const COUNTERS: &str = "training.counters";

/// What stands before the names of a learning rule's state: `rule.0.memory.inputs`.
const RULE: &str = "rule.";

/// What stands before the name of a parameter to read it as it is without the learning rule: `folded.0.weight`.
const FOLDED: &str = "folded.";

/// Numbers in that tensor.
const COUNTER_COUNT: usize = 6;

/// Where the values of a tensor lie: all stores but the buffers have the layout of the parameters.
#[derive(Clone, Copy, PartialEq)]
enum Store {
    Parameters,
    Gradient,
    First,
    Second,
    Average,
    AverageBuffers,
    Buffers,
}

impl Store {
    const ALL: [Store; 7] = [
        Store::Gradient,
        Store::First,
        Store::Second,
        Store::Average,
        Store::AverageBuffers,
        Store::Parameters,
        Store::Buffers,
    ];

    /// What stands before the parameter's name. The empty prefix comes last, so that it cannot hide another.
    fn prefix(self) -> &'static str {
        match self {
            Store::Parameters | Store::Buffers => "",
            Store::Gradient => "gradient.",
            Store::First => "optimizer.first.",
            Store::Second => "optimizer.second.",
            Store::Average | Store::AverageBuffers => "average.",
        }
    }

    fn group(self) -> &'static str {
        match self {
            Store::Parameters => "parameter",
            Store::Buffers => "buffer",
            Store::Gradient => "gradient",
            Store::First | Store::Second => "optimizer",
            Store::Average | Store::AverageBuffers => "average",
        }
    }

    /// Whether it holds buffers, or their averages: in the layout of the buffers, not of the parameters.
    fn holds_buffers(self) -> bool {
        matches!(self, Store::Buffers | Store::AverageBuffers)
    }
}

impl<T: Real> Network<T> {
    /// All tensors as JSON: `[{ name, group, dtype, shape }]` with the groups parameter, buffer, gradient, optimizer,
    /// average, mask, rule and training.
    pub fn tensors(&mut self) -> Result<String> {
        self.bring_up()?;
        let mut list = vec![];
        for store in Store::ALL.into_iter().filter(|store| self.values_in(*store).is_some()) {
            list.extend(self.tensors_of(store).iter().map(|parameter| {
                let name = format!("{}{}", store.prefix(), parameter.name);
                let shape = &parameter.specification.shape;
                json!({ "name": name, "group": store.group(), "dtype": T::NAME, "shape": shape })
            }));
        }
        list.extend(
            self.masks()
                .into_iter()
                .map(|(name, shape)| json!({ "name": name, "group": "mask", "dtype": "u8", "shape": shape })),
        );
        self.visit_rule_state(|name, state| {
            list.push(json!({ "name": name, "group": "rule", "dtype": T::NAME, "shape": state.shape }));
        });
        if self.training.is_some() {
            list.push(json!({ "name": COUNTERS, "group": "training", "dtype": "f64", "shape": [COUNTER_COUNT] }));
        }
        Ok(json!(list).to_string())
    }

    /// Copies a tensor to `out` as bytes.
    pub fn read(&mut self, name: &str, out: &mut [u8]) -> Result<()> {
        self.bring_up()?;
        if name.starts_with(Store::First.prefix()) {
            self.bring_up_velocity()?;
        }
        if let (COUNTERS, Some(training)) = (name, &self.training) {
            check_bytes(name, COUNTER_COUNT * 8, out.len())?;
            for (out, number) in out.chunks_exact_mut(8).zip(training.counters.to_numbers()) {
                number.write_le(out);
            }
            return Ok(());
        }
        if let Some(node) = self.masked_node(name) {
            return self.read_mask(node, name, out);
        }
        if name.starts_with(RULE) {
            return self.with_rule_state(name, |values| {
                check_numbers::<T>(name, &[values.len()], out.len())?;
                for (out, value) in out.chunks_exact_mut(T::BYTES).zip(values.iter()) {
                    value.write_le(out);
                }
                Ok(())
            });
        }
        let (wanted, is_folded) = name.strip_prefix(FOLDED).map_or((name, false), |rest| (rest, true));
        let (store, index) = self.find(wanted)?;
        let folded = if is_folded && store == Store::Parameters { self.folded(index) } else { None };
        let parameter = &self.tensors_of(store)[index];
        let values = self.values_in(store).ok_or_else(|| unknown(name))?;
        check_numbers::<T>(name, &parameter.specification.shape, out.len())?;
        let values = folded.as_deref().unwrap_or(&values[parameter.range.clone()]);
        let mut dense = vec![];
        let values = match self.pattern_of(parameter).filter(|_| !store.holds_buffers()) {
            Some(pattern) => {
                dense.resize(parameter.elements(), T::zero());
                pattern.scatter(values, &mut dense);
                &dense[..]
            }
            None => values,
        };
        for (index, out) in out.chunks_exact_mut(T::BYTES).enumerate() {
            values[parameter.place(index)].write_le(out);
        }
        Ok(())
    }

    /// Replaces a tensor by `bytes`. Refused values change nothing.
    pub fn write(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        if let (COUNTERS, Some(training)) = (name, &mut self.training) {
            check_bytes(name, COUNTER_COUNT * 8, bytes.len())?;
            let mut numbers = [0.0; COUNTER_COUNT];
            for (number, bytes) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
                *number = f64::read_le(bytes);
            }
            let expected = "whole numbers from 0 up";
            let counters = Counters::from_numbers(numbers);
            training.counters = counters.ok_or_else(|| Error::config(name, expected, format!("{numbers:?}")))?;
            return Ok(());
        }
        if let Some(node) = self.masked_node(name) {
            return self.write_mask(node, name, bytes);
        }
        let elements = || bytes.chunks_exact(T::BYTES).map(T::read_le);
        if let Some(found) = elements().find(|value| !value.is_finite()) {
            let message = format!("Cannot write {name}: expected finite numbers but found {found}");
            return Err(Error::new(Code::NotFinite, message));
        }
        if name.starts_with(RULE) {
            self.bring_up()?;
            let written = self.with_rule_state(name, |values| {
                check_numbers::<T>(name, &[values.len()], bytes.len())?;
                values.iter_mut().zip(elements()).for_each(|(value, element)| *value = element);
                Ok(())
            });
            if let Some(front) = self.training.as_mut().and_then(|training| training.front.as_mut()) {
                front.touch();
            }
            if let Some(given) = self.training.as_mut().and_then(|training| training.given.as_mut()) {
                given.touch();
            }
            return written;
        }
        let (store, index) = self.find(name)?;
        let parameter = self.tensors_of(store)[index].clone();
        check_numbers::<T>(name, &parameter.specification.shape, bytes.len())?;
        let pattern = self.pattern_of(&parameter).filter(|_| !store.holds_buffers()).cloned();
        if let (Store::Parameters, Some(front)) = (store, self.training.as_ref().and_then(|t| t.front.as_ref())) {
            front.check_write(&self.plan, parameter.range.start, name)?;
        }
        let values = match (store, &mut self.training) {
            (Store::Parameters, _) => &mut self.values,
            (Store::Buffers, _) => &mut self.buffers,
            (Store::First, Some(training)) => &mut training.optimizer.first,
            (Store::Second, Some(training)) => &mut training.optimizer.second,
            (Store::Gradient, _) => {
                let message = format!("Cannot write {name}: gradients are results; write parameters instead");
                return Err(Error::new(Code::InvalidConfig, message));
            }
            (Store::Average, Some(Training { average: Some(average), .. })) => &mut average.values,
            (Store::AverageBuffers, Some(Training { average: Some(average), .. })) => &mut average.buffers,
            (Store::First | Store::Second | Store::Average | Store::AverageBuffers, _) => return Err(unknown(name)),
        };
        let values = &mut values[parameter.range.clone()];
        let Some(pattern) = pattern else {
            for (index, value) in elements().enumerate() {
                values[parameter.place(index)] = value;
            }
            return Ok(());
        };
        let mut dense = vec![T::zero(); parameter.elements()];
        for (index, value) in elements().enumerate() {
            dense[parameter.place(index)] = value;
        }
        let there = dense.iter().filter(|value| **value != T::zero()).count();
        let mut kept = vec![T::zero(); pattern.len()];
        pattern.gather(&dense, &mut kept);
        let missing = there - kept.iter().filter(|value| **value != T::zero()).count();
        if missing > 0 {
            let expected = "zeros where its mask has no weights";
            return Err(Error::config(name, expected, format!("{missing} other numbers there")));
        }
        values.copy_from_slice(&kept);
        Ok(())
    }

    /// The pattern of a weight under a mask.
    fn pattern_of(&self, parameter: &Parameter) -> Option<&kernels::sparse::Pattern> {
        self.plan.nodes.iter().enumerate().find_map(|(index, node)| match &node.op {
            Op::Linear(linear) if self.plan.is_weight_of(index, parameter) => {
                linear.support.as_ref().map(|support| support.pattern())
            }
            Op::Linear(_) | Op::Add { .. } | Op::Layer(_) => None,
        })
    }

    /// Visits all state of the learning rule, by full name.
    fn visit_rule_state(&mut self, mut visit: impl FnMut(String, StateTensor<'_, T>)) {
        for node in &mut self.plan.nodes {
            let Op::Linear(linear) = &mut node.op else { continue };
            for state in linear.slots.state() {
                visit(format!("{RULE}{}.{}", node.layer, state.name), state);
            }
        }
        let front = self.training.as_mut().and_then(|training| training.front.as_mut());
        for (layer, state) in front.into_iter().flat_map(FrontContribution::state) {
            visit(format!("{RULE}{layer}.{}", state.name), state);
        }
        if let Some(training) = &mut self.training {
            for (layer, state) in training.propagation.state(&self.plan) {
                visit(format!("{RULE}{layer}.{}", state.name), state);
            }
        }
    }

    /// A copy of all state of the learning rule.
    pub(crate) fn copy_rule_state(&mut self) -> Vec<Vec<T>> {
        let mut kept = vec![];
        self.visit_rule_state(|_, state| kept.push(state.values.to_vec()));
        kept
    }

    /// Puts back what [`Network::copy_rule_state`] gave.
    pub(crate) fn restore_rule_state(&mut self, kept: &[Vec<T>]) {
        let mut kept = kept.iter();
        self.visit_rule_state(|_, state| {
            if let Some(kept) = kept.next() {
                state.values.copy_from_slice(kept);
            }
        });
    }

    /// Acts on one piece of the learning rule's state.
    fn with_rule_state(&mut self, wanted: &str, mut act: impl FnMut(&mut [T]) -> Result<()>) -> Result<()> {
        let mut result = Err(unknown(wanted));
        self.visit_rule_state(|name, state| {
            if name == wanted {
                result = act(state.values);
            }
        });
        result
    }

    /// The tensors that a store holds.
    fn tensors_of(&self, store: Store) -> &[Parameter] {
        if store.holds_buffers() { &self.plan.buffers } else { &self.plan.parameters }
    }

    /// The values of a store, where there are any.
    fn values_in(&self, store: Store) -> Option<&[T]> {
        let optimizer = self.training.as_ref().map(|training| &training.optimizer);
        let average = self.training.as_ref().and_then(|training| training.average.as_ref());
        let values = match store {
            Store::Parameters => Some(&self.values[..]),
            Store::Buffers => Some(&self.buffers[..]),
            Store::Gradient => self.gradient.as_deref(),
            Store::First => optimizer.map(|optimizer| &optimizer.first[..]),
            Store::Second => optimizer.map(|optimizer| &optimizer.second[..]),
            Store::Average => average.map(|average| &average.values[..]),
            Store::AverageBuffers => average.map(|average| &average.buffers[..]),
        };
        values.filter(|values| !values.is_empty())
    }

    /// The store and the number of the parameter that a name means.
    fn find(&self, name: &str) -> Result<(Store, usize)> {
        Store::ALL
            .into_iter()
            .filter(|store| self.values_in(*store).is_some())
            .find_map(|store| {
                let rest = name.strip_prefix(store.prefix())?;
                let index = self.tensors_of(store).iter().position(|parameter| parameter.name == rest)?;
                Some((store, index))
            })
            .ok_or_else(|| unknown(name))
    }
}

fn unknown(name: &str) -> Error {
    Error::new(Code::UnknownName, format!("Cannot find tensor {name}: this network has none of that name"))
}

/// Refuses an array of another size than a tensor of `shape`, in numbers as the caller counts them.
fn check_numbers<T: Real>(name: &str, shape: &[usize], bytes: usize) -> Result<()> {
    let count: usize = shape.iter().product();
    if bytes == count * T::BYTES {
        return Ok(());
    }
    let numbers = if count == 1 { "1 number".into() } else { format!("{count} numbers") };
    let axes = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let expected = if shape.len() > 1 { format!("{axes} = {numbers}") } else { numbers };
    let found = if bytes.is_multiple_of(T::BYTES) { (bytes / T::BYTES).to_string() } else { format!("{bytes} bytes") };
    Err(Error::shape(format!("the array for {name}"), expected, found))
}

pub(crate) fn check_bytes(name: &str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::shape(format!("the array for {name}"), format!("{expected} bytes"), found))
}
