//! The masks of a network: which weights its linear maps have. They belong to the network like its parameters, outlive training
//! runs, and are read and written by name; a map without a mask has all weights.
//!
//! A change of masks rebuilds the places of all parameters in the flat memory and carries values and optimizer state over: what a
//! map had and keeps stays, what it gains starts at 0.

use crate::error::{Code, Error, Result};
use crate::layers::linear::Linear;
use crate::layers::map::Map;
use crate::layers::support::{self, Joints, Support};
use crate::network::Network;
use crate::plan::{Node, Op, Plan};
use crate::rules::propagation;
use crate::rules::sparse::{Candidate, Choice, kept, pattern_of, probe, pruned};
use crate::rules::{RuleConfig, Slots, sparse, weights};
use crate::training::Training;
use kernels::sparse::{Pattern, Tiles, batch_tile};
use kernels::{Buffer, Real};
use serde::Deserialize;
use serde_json::{Value, json};

/// What stands after a layer's name in the name of its mask.
const MASK: &str = ".weight.mask";

/// Rows of tiles where no run says.
const LANES: usize = 64;

/// New masks: the number of a node, and its pattern or none for all weights.
pub(crate) type Changes = Vec<(usize, Option<Pattern>)>;

/// How to make masks from the weights that there are.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// The largest weights stay.
    Magnitude,
    /// Random ones stay.
    Random,
    /// Those that are not 0 stay.
    Zeros,
}

/// A part of a network's parameters before a change: where they were, and in which pattern.
struct Before {
    ranges: Vec<std::ops::Range<usize>>,
    patterns: Vec<(usize, Option<Pattern>)>,
}

impl<T: Real> Plan<T> {
    /// The linear maps: numbers of their nodes, and the nodes.
    fn linears(&self) -> impl Iterator<Item = (usize, &Node<T>, &Linear<T>)> {
        self.nodes.iter().enumerate().filter_map(|(index, node)| match &node.op {
            Op::Linear(linear) => Some((index, node, linear)),
            Op::Add { .. } | Op::Layer(_) => None,
        })
    }

    fn linear_mut(&mut self, index: usize) -> Option<&mut Linear<T>> {
        match &mut self.nodes[index].op {
            Op::Linear(linear) => Some(linear),
            Op::Add { .. } | Op::Layer(_) => None,
        }
    }

    /// The pattern of a node, where it has a mask.
    fn pattern(&self, index: usize) -> Option<&Pattern> {
        match &self.nodes[index].op {
            Op::Linear(linear) => linear.support.as_ref().map(Support::pattern),
            Op::Add { .. } | Op::Layer(_) => None,
        }
    }

    /// Gives every value the layout that its neighbours work in, with tiles of `lanes` rows: a value between two sparse maps, which
    /// nobody else reads, stays in tiles. Without `joined` all values are rows.
    fn join(&mut self, lanes: usize, joined: bool) {
        let maps: Vec<(usize, usize, usize, Map)> = self
            .linears()
            .filter(|(_, _, linear)| linear.support.is_some())
            .map(|(index, node, linear)| (index, node.input, node.output, linear.map.clone()))
            .collect();
        self.tiles = vec![None; self.sizes.len()];
        self.joining = (lanes, joined);
        let mut joints = vec![Joints::default(); self.nodes.len()];
        for (maker, _, value, below) in maps.iter().filter(|_| joined) {
            let readers = self.nodes.iter().flat_map(Node::reads).filter(|read| read == value).count();
            let Some((reader, _, _, above)) = maps.iter().find(|(_, input, _, _)| input == value) else { continue };
            if readers != 1 || *value == self.output {
                continue;
            }
            let ((_, made), (read, _)) = (support::planes(below), support::planes(above));
            let (channels, same_pixels) = (below.outputs(), (made.height, made.width) == (read.height, read.width));
            let both_dense = matches!((below, above), (Map::Dense { .. }, Map::Dense { .. }));
            let both_images = matches!((below, above), (Map::Conv(_), Map::Conv(_)));
            if !same_pixels || !(both_dense || both_images) {
                continue;
            }
            let plane = made.join(read);
            joints[*maker].above = Some(plane);
            joints[*reader].below = Some(plane);
            self.tiles[*value] =
                Some(if both_dense { Tiles::linear(0, lanes, channels) } else { Tiles::images(0, channels, plane) });
        }
        for (index, _, _, map) in &maps {
            if let Some(support) = self.linear_mut(*index).and_then(|linear| linear.support.as_mut()) {
                support.join(map, lanes, joints[*index]);
            }
        }
    }

    /// Makes room in the sparse maps for batches of `rows`.
    pub(crate) fn reserve(&mut self, rows: usize) -> Result<()> {
        for node in &mut self.nodes {
            if let Op::Linear(Linear { support: Some(support), .. }) = &mut node.op {
                support.reserve(rows)?;
            }
        }
        Ok(())
    }
}

/// A buffer in the new layout, from one in the old.
fn carried<T: Real>(plan: &Plan<T>, before: &Before, old: &Buffer<T>) -> Result<Buffer<T>> {
    let mut new = Buffer::zeroed(plan.elements)?;
    for (parameter, from) in plan.parameters.iter().zip(&before.ranges) {
        let (from, to) = (&old[from.clone()], &mut new[parameter.range.clone()]);
        let changed = before.patterns.iter().find(|(index, _)| plan.is_weight_of(*index, parameter));
        match changed.map(|(index, pattern)| (pattern, plan.pattern(*index))) {
            Some((Some(before), Some(now))) => now.carry(before, from, to),
            Some((Some(before), None)) => before.scatter(from, to),
            Some((None, Some(now))) => now.gather(from, to),
            Some((None, None)) | None => to.copy_from_slice(from),
        }
    }
    Ok(new)
}

impl<T: Real> Network<T> {
    /// Changes masks, and carries the parameters over, and `states` in their layout where they are not empty. On failure nothing has
    /// changed.
    fn change_masks(&mut self, changes: Changes, states: &mut [&mut Buffer<T>]) -> Result<()> {
        let plan = &mut self.plan;
        let ranges = plan.parameters.iter().map(|parameter| parameter.range.clone()).collect();
        let patterns = exchange(plan, changes);
        let before = Before { ranges, patterns };
        plan.place();
        let made: Result<(Buffer<T>, Vec<Buffer<T>>)> = carried(plan, &before, &self.values).and_then(|values| {
            let full = states.iter().filter(|state| !state.is_empty());
            Ok((values, full.map(|state| carried(plan, &before, state)).collect::<Result<_>>()?))
        });
        match made {
            Ok((values, made)) => {
                self.values = values;
                states.iter_mut().filter(|state| !state.is_empty()).zip(made).for_each(|(state, made)| **state = made);
                self.gradient = None;
                Ok(())
            }
            Err(fault) => {
                exchange(plan, before.patterns);
                plan.place();
                Err(fault)
            }
        }
    }

    /// Joins sparse neighbours anew and forgets memory sized for other layouts.
    fn rejoin(&mut self, lanes: usize, joined: bool) {
        self.plan.join(lanes, joined);
        self.forget_evaluation();
    }

    /// The masks and layouts that a run begins with; `resumed` runs take the masks as they are.
    pub(crate) fn begin_masks(&mut self, training: &mut Training<T>, slots: &mut [Slots<T>]) -> Result<()> {
        let rule = training.config.rule.clone();
        let sparse = self.sparse_layer().is_some() || matches!(rule.weights, weights::Config::Sparse(_));
        if !sparse {
            return Ok(());
        }
        let (batch, seed, resumed) = (training.config.batch_size, training.config.seed, training.config.resumed);
        let lanes = batch_tile(batch);
        let nodes: Vec<usize> = self.plan.linears().map(|(index, _, _)| index).collect();
        let mut changes = vec![];
        for (index, slots) in nodes.into_iter().zip(slots.iter_mut()) {
            let node = &self.plan.nodes[index];
            let (Op::Linear(linear), Some(rule)) = (&node.op, slots.weights.sparse()) else { continue };
            if resumed {
                continue;
            }
            let pattern = self.plan.pattern(index);
            if let Some(sparsity) = rule.to_measure(pattern) {
                let threads = self.threads.clone();
                let times = threads.run(|par| probe::times::<T>(par, &linear.map, sparsity, batch, lanes));
                rule.decide(times?, pattern.is_some());
            }
            let values = &self.values[node.parameters.clone()][..linear.weights()];
            if let Some(pattern) = rule.first_mask(&linear.map, pattern, values, seed) {
                changes.push((index, Some(pattern)));
            }
        }
        let drawn: Vec<usize> =
            changes.iter().map(|(index, _)| *index).filter(|index| self.plan.pattern(*index).is_none()).collect();
        if !changes.is_empty() {
            self.change_masks(changes, &mut [])?;
        }
        // Outputs keep their variance although fewer weights make them.
        for index in drawn {
            let scale = self.plan.pattern(index).map_or(T::one(), |pattern| T::of(pattern.density().recip().sqrt()));
            let (range, size) =
                (self.plan.nodes[index].parameters.clone(), self.plan.pattern(index).map_or(0, Pattern::len));
            self.values[range][..size].iter_mut().for_each(|value| *value *= scale);
        }
        self.rejoin(lanes, rule.is_plain_beside_weights());
        self.plan.reserve(batch)?;
        training.resize(&self.plan, self.threads.count())
    }

    /// Changes masks before a step, where the rule's schedule says so.
    pub(crate) fn update_masks(&mut self, training: &mut Training<T>) -> Result<()> {
        let (seed, step) = (training.config.seed, training.counters.step);
        let mut changes = vec![];
        for index in 0..self.plan.nodes.len() {
            let node = &mut self.plan.nodes[index];
            let range = node.parameters.clone();
            let Op::Linear(linear) = &mut node.op else { continue };
            let size = linear.weights();
            let Some(rule) = linear.slots.weights.sparse() else { continue };
            let pattern = linear.support.as_ref().map(Support::pattern);
            if let Some(pattern) = rule.next_mask(&linear.map, pattern, &self.values[range][..size], (seed, step)) {
                changes.push((index, pattern));
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        // Patterns of maps that were and stay sparse keep all layouts.
        let same = changes.iter().all(|(index, pattern)| pattern.is_some() == self.plan.pattern(*index).is_some());
        let optimizer = &mut training.optimizer;
        let mut states = vec![&mut optimizer.first, &mut optimizer.second];
        states.extend(training.average.as_mut().map(|average| &mut average.values));
        self.change_masks(changes, &mut states)?;
        if same {
            return training.resize_gradient(&self.plan);
        }
        let batch = training.config.batch_size;
        self.rejoin(batch_tile(batch), training.config.rule.is_plain_beside_weights());
        self.plan.reserve(batch)?;
        training.resize_workspace(&self.plan, self.threads.count())
    }

    /// The first layer with a mask, as messages call it.
    pub(crate) fn sparse_layer(&self) -> Option<String> {
        self.plan.linears().find(|(_, _, linear)| linear.support.is_some()).map(|(_, node, _)| node.name())
    }

    /// The linear maps as candidates for masks, and the names and kinds of the layers that are none.
    pub(crate) fn candidates(&self) -> (Vec<Candidate<'_>>, Vec<(String, &str)>) {
        let output = self.plan.output;
        let maps = self.plan.linears().map(|(_, node, linear)| Candidate {
            layer: &node.layer,
            name: node.name(),
            map: &linear.map,
            first: node.input == 0,
            last: node.output == output,
        });
        let maps: Vec<Candidate> = maps.collect();
        let others = self.plan.layers.iter().filter(|layer| !maps.iter().any(|map| map.layer == layer.name));
        let others = others.map(|layer| (layer.name.clone(), layer.kind)).collect();
        (maps, others)
    }

    /// Refuses choices in other slots that are not defined on sparse weights.
    pub(crate) fn check_beside_masks(&self, rule: &RuleConfig) -> Result<()> {
        let beside = match (&rule.weights, self.sparse_layer()) {
            (weights::Config::Sparse(_), _) => "sparse weights".to_string(),
            (weights::Config::Dense {}, Some(layer)) => format!("the mask of {layer}"),
            (weights::Config::Dense {}, None) => return Ok(()),
        };
        if rule.products.batch_choice(1).is_some() {
            return Err(Error::config("rule.scope", format!("layer as the scope of mem-aop beside {beside}"), "batch"));
        }
        let found = match &rule.propagation {
            propagation::Config::Backprop {} => return Ok(()),
            propagation::Config::FrontContribution(_) => "front-contribution",
            propagation::Config::Dual(dual) if dual.stays_with_weights() => return Ok(()),
            propagation::Config::Dual(_) => "dual in mode weight, with step hyperdual or with seedAt input",
        };
        Err(Error::config("rule", format!("a rule that is defined beside {beside}"), found))
    }

    fn refuse_in_training(&self, what: &str) -> Result<()> {
        if self.training.is_none() {
            return Ok(());
        }
        Err(Error::new(Code::Busy, format!("Cannot {what}: a run is training this network")))
    }

    /// Makes masks; gives [`Network::describe_masks`].
    pub(crate) fn sparsify(&mut self, choice: &Choice, by: By, seed: u64) -> Result<Value> {
        self.refuse_in_training("sparsify")?;
        let (maps, others) = self.candidates();
        let any = Choice { sparsity: 0.0, min_sparsity: 0.0, ..choice.clone() };
        let plan = if by == By::Zeros { any.plan(&maps, &others)? } else { choice.plan(&maps, &others)? };
        let mut changes = vec![];
        for ((number, (index, node, linear)), sparsity) in self.plan.linears().enumerate().zip(plan) {
            let Some(sparsity) = sparsity else { continue };
            let (values, pattern) =
                (&self.values[node.parameters.clone()][..linear.weights()], self.plan.pattern(index));
            let all = linear.map.weights();
            let made = match by {
                By::Magnitude => pruned(&linear.map, pattern, values, kept(all, sparsity).min(values.len())),
                By::Random => {
                    pattern_of(&linear.map, &sparse::growth::random(all, kept(all, sparsity), (seed, number as u32, 0)))
                }
                By::Zeros => match pattern {
                    None => {
                        let places = (0..all).filter(|place| values[*place] != T::zero());
                        pattern_of(&linear.map, &places.collect::<Vec<_>>())
                    }
                    Some(pattern) => pattern.clone(),
                },
            };
            // A layer without zeros stays as it is.
            let share = 1.0 - made.density();
            if by == By::Zeros && (share < choice.min_sparsity || share == 0.0 && pattern.is_none()) {
                continue;
            }
            if made.is_empty() && !choice.allow_empty {
                let expected = format!("a weight that is not 0 in {} (allowEmpty: true overrides this)", node.name());
                return Err(Error::config("sparsify", expected, "none"));
            }
            changes.push((index, Some(made)));
        }
        self.change_masks(changes, &mut [])?;
        self.rejoin(LANES, true);
        Ok(self.describe_masks())
    }

    /// Takes all masks away: what was not there is 0.
    pub(crate) fn densify(&mut self) -> Result<Value> {
        self.refuse_in_training("densify")?;
        let sparse = self.plan.linears().filter(|(_, _, linear)| linear.support.is_some());
        let changes = sparse.map(|(index, _, _)| (index, None)).collect();
        self.change_masks(changes, &mut [])?;
        self.rejoin(LANES, true);
        Ok(self.describe_masks())
    }

    /// For each dense or convolutional layer: its weights, those that there are, and bytes of weights and their bookkeeping.
    pub(crate) fn describe_masks(&self) -> Value {
        let layers = self.plan.linears().map(|(_, node, linear)| {
            let (all, there) = (linear.map.weights(), linear.weights());
            let bookkeeping = linear.support.as_ref().map_or(0, Support::bytes);
            json!({
                "layer": node.layer, "kind": node.kind, "weights": all, "nonZeros": there,
                "sparsity": 1.0 - there as f64 / all as f64, "sparse": linear.support.is_some(),
                "bytes": there * T::BYTES + bookkeeping,
            })
        });
        json!(layers.collect::<Vec<_>>())
    }

    /// The names of all masks, and the shapes of the weights that they belong to.
    pub(crate) fn masks(&self) -> Vec<(String, Vec<usize>)> {
        let sparse = self.plan.linears().filter(|(_, _, linear)| linear.support.is_some());
        sparse
            .map(|(_, node, linear)| (format!("{}{MASK}", node.layer), linear.parameters()[0].shape.clone()))
            .collect()
    }

    /// The node whose mask a name means.
    pub(crate) fn masked_node(&self, name: &str) -> Option<usize> {
        let layer = name.strip_suffix(MASK)?;
        self.plan.linears().find(|(_, node, _)| node.layer == layer).map(|(index, _, _)| index)
    }

    /// Copies a mask out: 1 for each weight that there is, in the order in which users see weights.
    pub(crate) fn read_mask(&self, index: usize, name: &str, out: &mut [u8]) -> Result<()> {
        let Op::Linear(linear) = &self.plan.nodes[index].op else { return Ok(()) };
        crate::state::check_bytes(name, linear.map.weights(), out.len())?;
        let Some(pattern) = self.plan.pattern(index) else {
            out.fill(1);
            return Ok(());
        };
        let mut occupied = vec![false; out.len()];
        pattern.positions().for_each(|position| occupied[position] = true);
        let specification = &linear.parameters()[0];
        for (i, out) in out.iter_mut().enumerate() {
            *out = u8::from(occupied[specification.order.place(&specification.shape, i)]);
        }
        Ok(())
    }

    /// Gives a map the mask that `mask` says: not 0 for each weight that there shall be.
    pub(crate) fn write_mask(&mut self, index: usize, name: &str, mask: &[u8]) -> Result<()> {
        self.refuse_in_training(&format!("write {name}"))?;
        let node = &self.plan.nodes[index];
        let Op::Linear(linear) = &node.op else { return Ok(()) };
        crate::state::check_bytes(name, linear.map.weights(), mask.len())?;
        support::shape_of(&node.name(), &linear.map)?;
        let specification = &linear.parameters()[0];
        let kept = (0..mask.len()).filter(|i| mask[*i] != 0);
        let mut positions: Vec<usize> = kept.map(|i| specification.order.place(&specification.shape, i)).collect();
        positions.sort_unstable();
        let pattern = pattern_of(&linear.map, &positions);
        self.change_masks(vec![(index, Some(pattern))], &mut [])?;
        self.rejoin(LANES, true);
        Ok(())
    }

    /// Copies of what [`Network::put_masks`] puts back; nothing where neither the network nor the rule knows masks.
    pub(crate) fn take_masks(&self, rule: &RuleConfig) -> Result<Option<Taken<T>>> {
        if self.sparse_layer().is_none() && !matches!(rule.weights, weights::Config::Sparse(_)) {
            return Ok(None);
        }
        let masks = self.plan.linears().map(|(index, _, _)| (index, self.plan.pattern(index).cloned())).collect();
        let mut values = Buffer::zeroed(self.values.len())?;
        values.copy_from_slice(&self.values);
        Ok(Some(Taken { masks, values, joining: self.plan.joining }))
    }

    /// Puts masks, parameters and layouts back, and carries a gradient over.
    pub(crate) fn put_masks(&mut self, taken: Option<Taken<T>>, gradient: &mut Buffer<T>) -> Result<()> {
        let Some(Taken { mut masks, values, joining: (lanes, joined) }) = taken else { return Ok(()) };
        masks.retain(|(index, pattern)| pattern.as_ref() != self.plan.pattern(*index));
        self.change_masks(masks, &mut [gradient])?;
        self.values = values;
        self.rejoin(lanes, joined);
        self.plan.reserve(self.training.as_ref().map_or(0, |training| training.config.batch_size))
    }
}

/// Masks, parameters and layouts, kept while something else is tried.
pub(crate) struct Taken<T> {
    masks: Changes,
    values: Buffer<T>,
    joining: (usize, bool),
}

/// Exchanges patterns; gives those before.
fn exchange<T: Real>(plan: &mut Plan<T>, changes: Changes) -> Changes {
    let mut before = vec![];
    for (index, pattern) in changes {
        let Some(linear) = plan.linear_mut(index) else { continue };
        let was = match (&mut linear.support, pattern) {
            (Some(support), Some(pattern)) => Some(support.replace(&linear.map, pattern)),
            (support, Some(pattern)) => {
                *support = Some(Support::new(&linear.map, pattern, LANES));
                None
            }
            (support, None) => support.take().map(|support| support.pattern().clone()),
        };
        before.push((index, was));
    }
    before
}
