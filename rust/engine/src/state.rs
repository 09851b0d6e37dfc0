//! Every tensor of a network and its training run by name: what checkpoints store and what users read and write.
//!
//! Users see weights as outputs × inputs; the engine stores the transpose. Bytes are little-endian.

use crate::error::{Code, Error, Result};
use crate::network::Network;
use crate::plan::Parameter;
use crate::training::Counters;
use kernels::Real;
use serde_json::json;

/// Name of the tensor with the counters of a training run.
const COUNTERS: &str = "training.counters";

/// Numbers in that tensor.
const COUNTER_COUNT: usize = 6;

/// Where the values of a tensor lie: all stores have the layout of the parameters.
#[derive(Clone, Copy, PartialEq)]
enum Store {
    Parameters,
    Gradient,
    First,
    Second,
}

impl Store {
    const ALL: [Store; 4] = [Store::Gradient, Store::First, Store::Second, Store::Parameters];

    /// What stands before the parameter's name. The empty prefix comes last, so that it cannot hide another.
    fn prefix(self) -> &'static str {
        match self {
            Store::Parameters => "",
            Store::Gradient => "gradient.",
            Store::First => "optimizer.first.",
            Store::Second => "optimizer.second.",
        }
    }

    fn group(self) -> &'static str {
        match self {
            Store::Parameters => "parameter",
            Store::Gradient => "gradient",
            Store::First | Store::Second => "optimizer",
        }
    }
}

impl<T: Real> Network<T> {
    /// All tensors as JSON: `[{ name, group, dtype, shape }]` with the groups parameter, gradient, optimizer and training.
    pub fn tensors(&self) -> String {
        let mut list = vec![];
        for store in Store::ALL.into_iter().filter(|store| self.values_in(*store).is_some()) {
            list.extend(self.plan.parameters.iter().map(|parameter| {
                let name = format!("{}{}", store.prefix(), parameter.name);
                let shape = &parameter.specification.shape;
                json!({ "name": name, "group": store.group(), "dtype": T::NAME, "shape": shape })
            }));
        }
        if self.training.is_some() {
            list.push(json!({ "name": COUNTERS, "group": "training", "dtype": "f64", "shape": [COUNTER_COUNT] }));
        }
        json!(list).to_string()
    }

    /// Copies a tensor to `out` as bytes.
    pub fn read(&self, name: &str, out: &mut [u8]) -> Result<()> {
        if let (COUNTERS, Some(training)) = (name, &self.training) {
            check_bytes(name, COUNTER_COUNT * 8, out.len())?;
            for (out, number) in out.chunks_exact_mut(8).zip(training.counters.to_numbers()) {
                number.write_le(out);
            }
            return Ok(());
        }
        let (store, index) = self.find(name)?;
        let parameter = &self.plan.parameters[index];
        let values = self.values_in(store).ok_or_else(|| unknown(name))?;
        check_bytes(name, parameter.range.len() * T::BYTES, out.len())?;
        let (values, order) = (&values[parameter.range.clone()], order(parameter));
        for (index, out) in out.chunks_exact_mut(T::BYTES).enumerate() {
            values[order(index)].write_le(out);
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
        let (store, index) = self.find(name)?;
        let parameter = self.plan.parameters[index].clone();
        check_bytes(name, parameter.range.len() * T::BYTES, bytes.len())?;
        let elements = || bytes.chunks_exact(T::BYTES).map(T::read_le);
        if let Some(found) = elements().find(|value| !value.is_finite()) {
            let message = format!("Cannot write {name}: expected finite numbers but found {found}");
            return Err(Error::new(Code::NotFinite, message));
        }
        let values = match (store, &mut self.training) {
            (Store::Parameters, _) => &mut self.values,
            (Store::First, Some(training)) => &mut training.optimizer.first,
            (Store::Second, Some(training)) => &mut training.optimizer.second,
            (Store::Gradient, _) => {
                let message = format!("Cannot write {name}: gradients are results; write parameters instead");
                return Err(Error::new(Code::InvalidConfig, message));
            }
            (Store::First | Store::Second, None) => return Err(unknown(name)),
        };
        let (values, order) = (&mut values[parameter.range.clone()], order(&parameter));
        for (index, value) in elements().enumerate() {
            values[order(index)] = value;
        }
        Ok(())
    }

    /// The values of a store, where there are any.
    fn values_in(&self, store: Store) -> Option<&[T]> {
        let optimizer = self.training.as_ref().map(|training| &training.optimizer);
        let values = match store {
            Store::Parameters => Some(&self.values[..]),
            Store::Gradient => self.gradient.as_deref(),
            Store::First => optimizer.map(|optimizer| &optimizer.first[..]),
            Store::Second => optimizer.map(|optimizer| &optimizer.second[..]),
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
                let index = self.plan.parameters.iter().position(|parameter| parameter.name == rest)?;
                Some((store, index))
            })
            .ok_or_else(|| unknown(name))
    }
}

fn unknown(name: &str) -> Error {
    Error::new(Code::UnknownName, format!("Cannot find tensor {name}: this network has none of that name"))
}

fn check_bytes(name: &str, expected: usize, found: usize) -> Result<()> {
    if expected == found {
        return Ok(());
    }
    Err(Error::shape(format!("the array for {name}"), format!("{expected} bytes"), found))
}

/// Where the engine stores the element that users see at an index.
fn order(parameter: &Parameter) -> impl Fn(usize) -> usize {
    let shape = &parameter.specification.shape;
    let (rows, columns) = match shape[..] {
        [rows, columns] if parameter.specification.transposed => (rows, columns),
        _ => (1, parameter.range.len().max(1)),
    };
    move |index| (index % columns) * rows + index / columns
}
