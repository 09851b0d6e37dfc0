//! The linear map with its bias and activation: what the slots of a learning rule act on.

use super::map::Map;
use super::support::Support;
use super::{Mode, Order, Pass, Specification, Trace};
use crate::config::Init;
use crate::rules::decorrelated::watch::Watch;
use crate::rules::front_contribution::Form;
use crate::rules::mem_aop::Chosen;
use crate::rules::sparse::growth;
use crate::rules::{Moment, Slots};
use kernels::conv;
use kernels::linear::{self, Dims};
use kernels::optimize::{self, Update};
use kernels::{Activation, Par, Real, reduce};

/// y = f(x · W + b). W is stored inputs × outputs and shown to users the other way round.
pub struct Linear<T> {
    /// What is multiplied.
    pub map: Map,
    /// Whether there is a bias.
    pub bias: bool,
    /// Initial weights.
    pub weight_init: Init,
    /// Initial bias.
    pub bias_init: Init,
    /// The activation that follows, where it could be fused.
    pub activation: Activation<T>,
    /// The activation that made the input, when this map is its only reader: the input gradient then takes its derivative
    /// along while the block is in the cache.
    pub below: Option<Activation<T>>,
    /// Whether the layer above has already taken this map's own activation along.
    pub derivative_done: bool,
    /// Which weights there are, where there are not all: parameters, gradient and optimizer state then hold those only.
    pub support: Option<Support<T>>,
    /// What the learning rule put into the slots.
    pub slots: Slots<T>,
    /// What counts how correlated the inputs are, while somebody wants to know.
    pub watch: Option<Box<Watch<T>>>,
    /// What stands in for the weights while a step is taken, where they are collapsed.
    pub collapsed: Option<Box<Form<T>>>,
}

/// What a backward pass may change for one node: its ranges of the gradient and of the optimizer's state.
pub struct Learn<'a, T> {
    /// Gradient of the node's parameters.
    pub gradient: &'a mut [T],
    /// First optimizer state, or empty.
    pub first: &'a mut [T],
    /// Second optimizer state, or empty.
    pub second: &'a mut [T],
    /// Scratch memory for all threads.
    pub scratch: &'a mut [T],
    /// The update to apply at once; without it the gradient is stored.
    pub update: Option<&'a Update<T>>,
    /// When the step takes place.
    pub moment: Moment,
}

impl<T: Real> Linear<T> {
    /// A map whose slots are plain.
    pub fn new(map: Map, bias: bool, weight_init: Init, bias_init: Init) -> Linear<T> {
        Linear {
            map,
            bias,
            weight_init,
            bias_init,
            activation: Activation::Identity,
            below: None,
            derivative_done: false,
            support: None,
            slots: Slots::default(),
            watch: None,
            collapsed: None,
        }
    }

    /// Number of weights that are stored.
    pub fn weights(&self) -> usize {
        self.support.as_ref().map_or(self.map.weights(), |support| support.pattern().len())
    }

    /// Place of the bias among the node's parameters.
    pub fn bias_start(&self) -> usize {
        crate::plan::aligned::<T>(self.weights())
    }

    /// Scratch elements that the products need for up to `samples` samples.
    pub fn scratch(&self, par: Par, samples: usize) -> usize {
        let sparse = self.support.as_ref().map_or(0, |support| support.scratch(samples));
        self.map.scratch::<T>(par, samples).max(sparse)
    }

    /// The parameters it wants.
    pub fn parameters(&self) -> Vec<Specification> {
        let outputs = self.map.outputs();
        let (shape, order, receptive) = match &self.map {
            Map::Dense { inputs, outputs } => (vec![*outputs, *inputs], Order::Transposed, 1),
            Map::Conv(g) => {
                let shape = vec![g.outputs, g.inputs / g.groups, g.kernel[0], g.kernel[1]];
                (shape, Order::Convolution { groups: g.groups }, g.kernel[0] * g.kernel[1])
            }
        };
        let groups = if let Map::Conv(g) = &self.map { g.groups } else { 1 };
        let fans = (self.map.inputs(), outputs / groups * receptive);
        let mut list = vec![Specification { name: "weight", shape, order, init: self.weight_init, fans }];
        if self.bias {
            let (shape, order) = (vec![outputs], Order::Same);
            list.push(Specification { name: "bias", shape, order, init: self.bias_init, fans });
        }
        list
    }

    /// Weights and, where there is one, bias among the map's parameters.
    pub fn halves<'a>(&self, own: &'a mut [T]) -> (&'a mut [T], Option<&'a mut [T]>) {
        let (weights, biases) = own.split_at_mut(self.bias_start().min(own.len()));
        let outputs = self.map.outputs();
        (&mut weights[..self.weights()], self.bias.then(|| &mut biases[..outputs]))
    }

    /// y from x.
    pub fn forward(&mut self, pass: &Pass, parameters: &[T], x: &[T], y: &mut [T], scratch: &mut [T]) {
        let weight = &parameters[..self.weights()];
        let bias = self.bias.then(|| &parameters[self.bias_start()..][..self.map.outputs()]);
        if let Some(form) = &mut self.collapsed {
            return form.forward(pass, bias, self.activation, x, y);
        }
        if let (Some(watch), Mode::Evaluate) = (&mut self.watch, pass.mode) {
            watch.see(&self.map, pass, x, self.slots.inputs.decorrelated());
        }
        if let Some(rule) = self.slots.inputs.decorrelated() {
            return rule.forward(&self.map, pass, x, weight, bias, self.activation, y, scratch);
        }
        match &mut self.support {
            None => self.map.forward(pass.par, pass.rows, x, weight, bias, self.activation, y, scratch),
            Some(support) => support.forward(pass, x, weight, bias, self.activation, y, scratch),
        }
    }

    /// y = x · W alone, without bias and activation, for any number of samples: how tangents pass through the map, after the values
    /// of their step.
    pub fn multiply(&mut self, par: Par, samples: usize, parameters: &[T], x: &[T], y: &mut [T], scratch: &mut [T]) {
        let weight = &parameters[..self.weights()];
        if let Some(rule) = self.slots.inputs.decorrelated() {
            return rule.multiply(&self.map, (par, samples), x, weight, y, scratch);
        }
        match &self.support {
            None => self.map.forward(par, samples, x, weight, None, Activation::Identity, y, scratch),
            Some(support) => support.multiply(par, samples, x, weight, y, scratch),
        }
    }

    /// The sum of each output's weights, from the tangents `ones` of outputs whose inputs all move alike: those themselves, but of
    /// a dense map summed apart, without the rounding of the product.
    pub fn weight_sums(&self, parameters: &[T], ones: &[T], sums: &mut [T]) {
        sums.copy_from_slice(ones);
        if let (Map::Dense { outputs, .. }, None) = (&self.map, &self.support) {
            for (output, sum) in sums.iter_mut().enumerate() {
                let column = parameters[..self.weights()].iter().skip(output).step_by(*outputs);
                *sum = T::of(column.map(|weight| weight.wide()).sum());
            }
        }
    }

    /// gx from gy, and the weight gradient or, with an update, the next weights. `gy` is used up.
    pub fn backward(
        &mut self,
        pass: &Pass,
        parameters: &mut [T],
        trace: Trace<T>,
        gy: &mut [T],
        gx: Option<&mut [T]>,
        learn: Learn<T>,
    ) {
        self.through_activation(pass, trace.y, gy);
        if self.support.is_some() {
            return self.backward_sparse(pass, parameters, trace.x, gy, gx, learn);
        }
        // The input gradient needs the weights of this step's forward pass: before they change.
        if let Some(gx) = gx {
            let below = self.below.map(|activation| (activation, trace.x));
            let weight = &parameters[..self.map.weights()];
            if let Some(form) = &self.collapsed {
                form.input_gradient(pass, gy, below, gx);
            } else if let Some(rule) = self.slots.inputs.decorrelated() {
                rule.input_gradient(&self.map, pass, gy, weight, below, gx, learn.scratch);
            } else {
                self.map.input_gradient(pass.par, pass.rows, gy, weight, below, gx, learn.scratch);
            }
        }
        self.learn(pass, parameters, trace.x, gy, learn);
    }

    /// As [`Linear::backward`] from the gradient of the pre-activations, at the weights that there are.
    fn backward_sparse(
        &mut self,
        pass: &Pass,
        parameters: &mut [T],
        x: &[T],
        g: &mut [T],
        gx: Option<&mut [T]>,
        learn: Learn<T>,
    ) {
        let (size, start, count) = (self.weights(), self.bias_start(), self.map.outputs());
        let bias = self.bias;
        let Some(support) = &mut self.support else { return };
        let (weights, biases) = learn.gradient.split_at_mut(start);
        let (dw, values) = (&mut weights[..size], &parameters[..size]);
        let all = self.slots.products.all();
        // Rows that a rule chooses make another weight gradient, but the same input gradient.
        let db = (bias && all).then(|| &mut biases[..count]);
        support.backward(pass, x, g, values, self.below, gx, (dw, db), learn.scratch);
        if !all {
            return self.learn(pass, parameters, x, g, learn);
        }
        let learn = self.grow(pass, parameters, x, g, learn);
        self.step_sparse(pass.par, parameters, learn);
    }

    /// The step of a map with sparse weights, once its gradient is known.
    fn step_sparse(&mut self, par: Par, parameters: &mut [T], learn: Learn<T>) {
        let Learn { gradient, first, second, update: Some(update), .. } = learn else { return };
        let (size, start, count) = (self.weights(), self.bias_start(), self.map.outputs());
        let stands = self.support.as_ref().is_some_and(|support| support.left.is_some());
        if !stands {
            let (first, second) = (part(first, 0, size), part(second, 0, size));
            optimize::apply_all(par, update, &mut parameters[..size], &gradient[..size], first, second);
        }
        if self.bias {
            let (bias, gradient) = (&mut parameters[start..start + count], &gradient[start..start + count]);
            update.apply(bias, gradient, part(first, start, count), part(second, start, count));
        }
    }

    /// Lets the rule drop weights and grow others where the gradient is largest, if it is time for that.
    fn grow<'a>(&mut self, pass: &Pass, parameters: &mut [T], x: &[T], g: &[T], learn: Learn<'a, T>) -> Learn<'a, T> {
        let size = self.weights();
        let Some(support) = &mut self.support else { return learn };
        support.left = None;
        let Some(count) = self.slots.weights.exchanged(support.pattern(), &learn.moment) else { return learn };
        let weights = &mut parameters[..size];
        let pattern = growth::by_gradient(pass, &self.map, support, weights, (x, g), count, learn.scratch);
        let before = support.replace(&self.map, pattern);
        for values in [weights, part(learn.first, 0, size), part(learn.second, 0, size)] {
            if !values.is_empty() {
                let old = values.to_vec();
                support.pattern().carry(&before, &old, values);
            }
        }
        learn.gradient[..size].fill(T::zero());
        support.left = Some(before);
        learn
    }

    /// The gradient of the pre-activation from that of the output, unless the layer above has seen to it.
    fn through_activation(&self, pass: &Pass, y: &[T], gy: &mut [T]) {
        if self.derivative_done || self.activation == Activation::Identity {
            return;
        }
        pass.par.for_work(gy.len() * 20).chunks_mut(gy, 16_384, |start, gy| {
            let y = &y[start..start + gy.len()];
            kernels::isa::vectorize(
                #[inline(always)]
                || self.activation.backward_from_output(y, gy),
            );
        });
    }

    /// Weights and bias from the map's inputs and the gradient of its pre-activations, however that was found.
    pub fn learn(&mut self, pass: &Pass, parameters: &mut [T], x: &[T], g: &[T], learn: Learn<T>) {
        let moment = learn.moment;
        let Some(rule) = self.slots.inputs.decorrelated().filter(|rule| !rule.is_given(pass)) else {
            return self.learn_from(pass, parameters, x, g, learn);
        };
        if let Some(z) = rule.take_inputs() {
            self.learn_from(pass, parameters, &z[..x.len()], g, learn);
            if let Some(rule) = self.slots.inputs.decorrelated() {
                rule.put_back(z);
            }
        } else {
            self.learn_turned(pass, parameters, x, g, learn);
        }
        if let Some(rule) = self.slots.inputs.decorrelated() {
            rule.update(&self.map, pass, x, &moment);
        }
    }

    /// As [`Linear::learn`] for weights behind a matrix: the gradient of their product is turned into theirs.
    fn learn_turned(&mut self, pass: &Pass, parameters: &mut [T], x: &[T], g: &[T], learn: Learn<T>) {
        let Learn { gradient, first, second, scratch, update, moment } = learn;
        let (size, start, par) = (self.weights(), self.bias_start(), pass.par);
        let (weights, biases) = gradient.split_at_mut(start);
        let dw = &mut weights[..size];
        self.slots
            .products
            .choose(pass, &self.map, (x, g), &moment, scratch)
            .weight_gradient(&self.map, par, dw, scratch);
        let db = self.bias.then(|| &mut biases[..self.map.outputs()]);
        let db = db.map(|db| {
            self.bias_gradient(par, g, db, scratch);
            &*db
        });
        if let Some(rule) = self.slots.inputs.decorrelated() {
            rule.turn_gradient(par, db, dw);
        }
        let Some(update) = update else { return };
        optimize::apply_all(par, update, &mut parameters[..size], dw, part(first, 0, size), part(second, 0, size));
        if let Some(db) = db {
            let bias = &mut parameters[start..start + db.len()];
            update.apply(bias, db, part(first, start, db.len()), part(second, start, db.len()));
        }
    }

    /// As [`Linear::learn`] from what the weights multiply.
    fn learn_from(&mut self, pass: &Pass, parameters: &mut [T], x: &[T], g: &[T], learn: Learn<T>) {
        let Learn { gradient, first, second, scratch, update, moment } = learn;
        let (size, par) = (self.weights(), pass.par);
        let (start, count) = (self.bias_start(), self.map.outputs());
        let weight_gradient = &mut gradient[..size];
        if let Some(form) = &mut self.collapsed {
            form.learn(pass, x, g, update);
            let learn = Learn { gradient, first, second, scratch, update, moment };
            return self.learn_bias(par, parameters, Some(g), learn);
        }
        let mut chosen = self.slots.products.choose(pass, &self.map, (x, g), &moment, scratch);
        if let Some(support) = &self.support {
            chosen.sparse_weight_gradient(support, par, weight_gradient, scratch);
            if self.bias {
                self.bias_gradient(par, g, &mut gradient[start..start + count], scratch);
            }
            let learn = Learn { gradient, first, second, scratch, update, moment };
            let learn = self.grow(pass, parameters, x, g, learn);
            return self.step_sparse(par, parameters, learn);
        }
        match (update, &self.map, &mut chosen) {
            // Each block of the gradient is applied while it is in the cache.
            (Some(update), Map::Dense { inputs, outputs }, Chosen::Samples { count, x, g, .. }) => {
                let dims = Dims { rows: *count, inputs: *inputs, outputs: *outputs };
                let weights = linear::Weights {
                    w: &mut parameters[..size],
                    first: part(first, 0, size),
                    second: part(second, 0, size),
                };
                linear::weight_step(par, dims, x, g, update, weights, scratch);
            }
            (update, map, chosen) => {
                chosen.weight_gradient(map, par, weight_gradient, scratch);
                if let Some(update) = update {
                    let (first, second) = (part(first, 0, size), part(second, 0, size));
                    optimize::apply_all(par, update, &mut parameters[..size], weight_gradient, first, second);
                }
            }
        }
        let known = self.bias && chosen.write_sums(&mut gradient[start..start + count]);
        let learn = Learn { gradient, first, second, scratch, update, moment };
        self.learn_bias(par, parameters, (!known).then_some(g), learn);
    }

    /// The bias from the gradients `g` of the pre-activations; without them its own gradient is known already.
    fn learn_bias(&mut self, par: Par, parameters: &mut [T], g: Option<&[T]>, learn: Learn<T>) {
        let Learn { gradient, first, second, scratch, update, .. } = learn;
        if self.bias {
            let (start, count) = (self.bias_start(), self.map.outputs());
            let bias_gradient = &mut gradient[start..start + count];
            if let Some(g) = g {
                self.bias_gradient(par, g, bias_gradient, scratch);
            }
            if let Some(update) = update {
                let bias = &mut parameters[start..start + count];
                update.apply(bias, bias_gradient, part(first, start, count), part(second, start, count));
            }
        }
    }
}

impl<T: Real> Linear<T> {
    fn bias_gradient(&self, par: Par, g: &[T], out: &mut [T], scratch: &mut [T]) {
        match &self.map {
            Map::Dense { .. } => reduce::column_sums(par, g, out.len(), false, out),
            Map::Conv(_) => conv::bias_gradient(par, g, false, out, scratch),
        }
    }
}

/// A range of an optimizer's state, which may be empty altogether.
fn part<T>(state: &mut [T], start: usize, count: usize) -> &mut [T] {
    if state.is_empty() { state } else { &mut state[start..start + count] }
}
