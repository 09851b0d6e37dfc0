//! Rows of features and targets, checked once when they arrive and copied into the engine.

use crate::augment::Source;
use crate::error::{Code, Error, Result};
use kernels::gram::{Place, gram_block};
use kernels::{Buffer, Par, Real};
use serde::Deserialize;
use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Rough cost of one element of a changed image.
const OPERATIONS: usize = 10;

/// Bytes that are still in the caches a step after they were fetched.
const NEAR: usize = 1 << 15;

/// What the numbers of a data set are, beside the numbers themselves.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DatasetConfig {
    /// Number of rows.
    pub rows: usize,
    /// Shape of one sample.
    pub shape: Vec<usize>,
    /// Element type of the features.
    pub features: FeatureType,
    /// For bytes: value = byte · scale + offset, one entry for all or one for each channel (last axis).
    pub scale: Vec<f64>,
    /// See `scale`.
    pub offset: Vec<f64>,
    /// What the network should give.
    pub targets: TargetConfig,
}

/// Element types of features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FeatureType {
    /// Bytes with scale and offset.
    U8,
    /// 32-bit floating point.
    F32,
    /// 64-bit floating point.
    F64,
}

/// Kinds of targets.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum TargetConfig {
    /// One class a row.
    Labels {
        /// Number of classes.
        classes: usize,
    },
    /// Real numbers.
    Values {
        /// Numbers a row.
        size: usize,
    },
    /// No targets: for prediction.
    None {},
}

enum Features {
    U8 { data: Vec<u8>, scale: Vec<f64>, offset: Vec<f64> },
    F32(Vec<f32>),
    F64(Vec<f64>),
}

/// Targets of all rows.
pub enum Targets {
    /// One class a row.
    Labels {
        /// Number of classes.
        classes: usize,
        /// The classes.
        values: Vec<u32>,
    },
    /// Real numbers, row after row.
    Values {
        /// Numbers a row.
        size: usize,
        /// The numbers.
        values: Vec<f64>,
    },
    /// No targets.
    None,
}

/// Features as they cross the boundary.
pub enum FeatureSlice<'a> {
    /// Bytes.
    U8(&'a [u8]),
    /// 32-bit floating point.
    F32(&'a [f32]),
    /// 64-bit floating point.
    F64(&'a [f64]),
}

/// Rows that are converted at once where products of rows are computed.
const BLOCK: usize = 256;

/// A checked data set: all of the rows that were copied into the engine, or a selection of them.
pub struct Dataset {
    store: Arc<Store>,
    /// The rows that were selected, in their order; none for all.
    index: Option<Vec<u32>>,
}

/// The rows themselves, shared by all selections from them.
struct Store {
    rows: usize,
    shape: Vec<usize>,
    features: Features,
    targets: Targets,
    /// Products of all rows, one matrix for each element type that was asked for.
    grams: Mutex<Vec<Weak<dyn Any + Send + Sync>>>,
}

impl Dataset {
    /// Checks and copies. `labels` and `values` hold the targets of their kind and are empty otherwise.
    pub fn new(config: DatasetConfig, features: FeatureSlice, labels: &[u32], values: &[f64]) -> Result<Dataset> {
        let DatasetConfig { rows, shape, scale, offset, targets, .. } = config;
        if rows == 0 {
            return Err(Error::shape("the data set", "at least one row", "none"));
        }
        let product = shape.iter().try_fold(1usize, |product, axis| product.checked_mul(*axis));
        let size = product.ok_or_else(|| Error::shape("the data set", "fewer features a row", format!("{shape:?}")))?;
        if size == 0 {
            return Err(Error::shape("the data set", "at least one feature a row", format!("the shape {shape:?}")));
        }
        let count = rows.checked_mul(size).ok_or_else(|| Error::shape("the data set", "fewer elements", rows))?;
        let check_length = |what: &str, expected: usize, found: usize| {
            if expected == found {
                return Ok(());
            }
            Err(Error::shape(what, format!("{expected} values for {rows} rows"), found))
        };
        let features = match features {
            FeatureSlice::U8(data) => {
                check_length("features", count, data.len())?;
                let channels = shape.last().copied().unwrap_or(1);
                for (name, list) in [("scale", &scale), ("offset", &offset)] {
                    if list.len() != 1 && list.len() != channels {
                        let expected = format!("1 entry or one for each of {channels} channels");
                        return Err(Error::shape(name, expected, list.len()));
                    }
                    check_finite(name, list, list.len())?;
                }
                Features::U8 { data: data.to_vec(), scale, offset }
            }
            FeatureSlice::F32(data) => {
                check_length("features", count, data.len())?;
                check_finite("features", data, size)?;
                Features::F32(data.to_vec())
            }
            FeatureSlice::F64(data) => {
                check_length("features", count, data.len())?;
                check_finite("features", data, size)?;
                Features::F64(data.to_vec())
            }
        };
        let targets = match targets {
            TargetConfig::Labels { classes } => {
                check_length("labels", rows, labels.len())?;
                if classes < 2 {
                    return Err(Error::shape("targets.classes", "at least 2", classes));
                }
                if let Some(row) = labels.iter().position(|label| *label as usize >= classes) {
                    let expected = format!("a class from 0 to {}", classes - 1);
                    return Err(Error::shape(format!("the label of row {row}"), expected, labels[row]));
                }
                Targets::Labels { classes, values: labels.to_vec() }
            }
            TargetConfig::Values { size } => {
                if size == 0 {
                    return Err(Error::shape("targets.size", "at least 1", size));
                }
                check_length("targets", rows.saturating_mul(size), values.len())?;
                check_finite("targets", values, size)?;
                Targets::Values { size, values: values.to_vec() }
            }
            TargetConfig::None {} => Targets::None,
        };
        let store = Store { rows, shape, features, targets, grams: Mutex::default() };
        Ok(Dataset { store: Arc::new(store), index: None })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.index.as_ref().map_or(self.store.rows, Vec::len)
    }

    /// Some of the rows, in the given order; they stay where they are.
    pub fn select(&self, rows: &[u32]) -> Result<Dataset> {
        if rows.is_empty() {
            return Err(Error::shape("the selection", "at least one row", "none"));
        }
        if let Some(row) = rows.iter().find(|row| **row as usize >= self.rows()) {
            return Err(Error::shape("the selection", format!("rows from 0 to {}", self.rows() - 1), row));
        }
        let index = rows.iter().map(|row| self.place(*row) as u32).collect();
        Ok(Dataset { store: self.store.clone(), index: Some(index) })
    }

    /// Where a row stands among all rows.
    fn place(&self, row: u32) -> usize {
        self.index.as_ref().map_or(row as usize, |index| index[row as usize] as usize)
    }

    /// Shape of one sample.
    pub fn shape(&self) -> &[usize] {
        &self.store.shape
    }

    /// Features of one row.
    pub fn size(&self) -> usize {
        self.store.shape.iter().product()
    }

    /// The targets.
    pub fn targets(&self) -> &Targets {
        &self.store.targets
    }

    /// Copies the features of the named rows, converted, row after row.
    pub fn gather<T: Real>(&self, rows: &[u32], out: &mut [T]) {
        let size = self.size();
        assert_eq!(out.len(), rows.len() * size);
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(size)) {
            self.convert(self.place(*row) * size, out);
        }
    }

    /// Has the processor fetch rows that the next [`Dataset::gather`] will copy, if they are few enough to stay in its caches.
    pub fn prefetch(&self, rows: &[u32]) {
        fn fetch<E>(data: &[E], starts: impl ExactSizeIterator<Item = usize>, size: usize) {
            if starts.len() * size * size_of::<E>() <= NEAR {
                starts.for_each(|start| kernels::isa::prefetch(&data[start..start + size]));
            }
        }
        let size = self.size();
        let starts = rows.iter().map(|row| self.place(*row) * size);
        match &self.store.features {
            Features::F32(data) => fetch(data, starts, size),
            Features::F64(data) => fetch(data, starts, size),
            Features::U8 { data, .. } => fetch(data, starts, size),
        }
    }

    /// As [`Dataset::gather`], for images that are changed at random on the way: `samples` says whose changes each row gets.
    pub fn gather_augmented<T: Real>(
        &self,
        (rows, samples): (&[u32], &[u32]),
        source: &Source,
        par: Par,
        out: &mut [T],
    ) {
        let &[height, width, channels] = self.shape() else { unreachable!("augmentation is refused for non-images") };
        let size = self.size();
        assert_eq!(out.len(), rows.len() * size);
        par.for_work(out.len() * OPERATIONS).chunks_mut(out, size, |first, out| {
            let (row, sample) = (rows[first / size], samples[first / size]);
            let (view, start) = (source.view(sample), self.place(row) * size);
            for (y, line) in out.chunks_exact_mut(width * channels).enumerate() {
                let (from, inside) = view.line(y, [height, width]);
                let pixels = inside.start * channels..inside.end * channels;
                self.fill_zero(&mut line[..pixels.start]);
                self.fill_zero(&mut line[pixels.end..]);
                self.convert(start + from * channels, &mut line[pixels]);
                if view.flip {
                    for x in 0..width / 2 {
                        let (left, right) = line.split_at_mut((width - 1 - x) * channels);
                        left[x * channels..(x + 1) * channels].swap_with_slice(&mut right[..channels]);
                    }
                }
            }
        });
    }

    /// Copies features from element `from` on, the first of a pixel, converted.
    fn convert<T: Real>(&self, from: usize, out: &mut [T]) {
        let range = from..from + out.len();
        match &self.store.features {
            Features::F32(data) => copy(&data[range], out),
            Features::F64(data) => copy(&data[range], out),
            Features::U8 { data, scale, offset } => widen(&data[range], scale, offset, out),
        }
    }

    /// What pixels are that the data holds as zeros: black, in images of bytes.
    fn fill_zero<T: Real>(&self, out: &mut [T]) {
        out.fill(T::zero());
        if let Features::U8 { offset, .. } = &self.store.features {
            for (index, value) in out.iter_mut().enumerate() {
                *value = T::of(offset[index % offset.len()]);
            }
        }
    }

    /// Copies the labels of the named rows; nothing for other targets.
    pub fn gather_labels(&self, rows: &[u32], out: &mut Vec<u32>) {
        out.clear();
        if let Targets::Labels { values, .. } = &self.store.targets {
            out.extend(rows.iter().map(|row| values[self.place(*row)]));
        }
    }

    /// Copies the target values of the named rows; nothing for other targets.
    pub fn gather_values<T: Real>(&self, rows: &[u32], out: &mut [T]) {
        if let Targets::Values { size, values } = &self.store.targets {
            for (row, out) in rows.iter().zip(out.chunks_exact_mut(*size)) {
                let from = self.place(*row) * size;
                for (out, value) in out.iter_mut().zip(&values[from..from + size]) {
                    *out = T::of(*value);
                }
            }
        }
    }

    /// The products of all rows with each other, N × N. Taken from what
    /// [`Dataset::share_gram`] gave, while somebody keeps that.
    pub fn gram<T: Real>(&self, par: Par) -> Result<Arc<Buffer<T>>> {
        match (self.kept_gram::<T>(), &self.index) {
            (Some(whole), None) => Ok(whole),
            (Some(whole), Some(index)) => {
                let mut k = Buffer::zeroed(index.len() * index.len())?;
                for (i, row) in index.iter().zip(k.chunks_exact_mut(index.len())) {
                    let from = &whole[*i as usize * self.store.rows..][..self.store.rows];
                    row.iter_mut().zip(index).for_each(|(k, j)| *k = from[*j as usize]);
                }
                Ok(Arc::new(k))
            }
            (None, _) => self.compute_gram(par),
        }
    }

    /// Whether somebody keeps the products of all rows that this is a selection from.
    pub fn has_gram<T: Real>(&self) -> bool {
        self.kept_gram::<T>().is_some()
    }

    /// Computes the products of all rows, also of those that are not selected. While somebody keeps the result, it serves all who
    /// use these rows.
    pub fn share_gram<T: Real>(&self, par: Par) -> Result<Arc<Buffer<T>>> {
        if let Some(kept) = self.kept_gram() {
            return Ok(kept);
        }
        let whole = Dataset { store: self.store.clone(), index: None };
        let k = whole.compute_gram::<T>(par)?;
        let any: Arc<dyn Any + Send + Sync> = k.clone();
        let mut grams = self.store.grams.lock().unwrap_or_else(PoisonError::into_inner);
        grams.retain(|gram| gram.strong_count() > 0);
        grams.push(Arc::downgrade(&any));
        Ok(k)
    }

    fn kept_gram<T: Real>(&self) -> Option<Arc<Buffer<T>>> {
        let grams = self.store.grams.lock().unwrap_or_else(PoisonError::into_inner);
        grams.iter().filter_map(Weak::upgrade).find_map(|gram| gram.downcast::<Buffer<T>>().ok())
    }

    fn compute_gram<T: Real>(&self, par: Par) -> Result<Arc<Buffer<T>>> {
        let (rows, columns) = (self.rows(), self.size());
        crate::memory::check("the products of all rows", rows as u128 * rows as u128 * T::BYTES as u128)?;
        let mut k = Buffer::zeroed(rows * rows)?;
        let take = |range: std::ops::Range<usize>, x: &mut Buffer<T>| {
            let samples: Vec<u32> = range.map(|row| row as u32).collect();
            self.gather(&samples, &mut x[..samples.len() * columns]);
            samples.len() * columns
        };
        let room = rows.min(BLOCK) * columns;
        let mut left = Buffer::zeroed(room)?;
        let mut right = Buffer::zeroed(if rows > BLOCK { room } else { 0 })?;
        for i in kernels::par::blocks(rows, BLOCK) {
            let count = take(i.clone(), &mut left);
            let left = &left[..count];
            gram_block(par, left, None, Place { size: rows, columns, row: i.start, column: i.start }, &mut k);
            for j in kernels::par::blocks(rows, BLOCK).filter(|j| j.start > i.start) {
                let place = Place { size: rows, columns, row: i.start, column: j.start };
                let count = take(j, &mut right);
                gram_block(par, left, Some(&right[..count]), place, &mut k);
            }
        }
        Ok(Arc::new(k))
    }

    /// The features themselves as a matrix of a kernel's values, one column for each row; refused unless they can be that.
    pub fn kernel_matrix<T: Real>(&self) -> Result<Arc<Buffer<T>>> {
        let rows = self.rows();
        let fault = |expected: &str, found: String| Error::shape("the features as a kernel matrix", expected, found);
        if self.size() != rows {
            return Err(fault("as many columns as rows", format!("{rows} rows of {} columns", self.size())));
        }
        let mut k = Buffer::<T>::zeroed(rows * rows)?;
        self.gather(&(0..rows as u32).collect::<Vec<_>>(), &mut k);
        let tolerance = 1e3 * T::epsilon().wide();
        for i in 0..rows {
            let own = k[i * rows + i].wide();
            if own < 0.0 {
                return Err(fault("a diagonal from 0 up", format!("{own} in row {i}")));
            }
            for j in 0..i {
                let (upper, lower, other) = (k[j * rows + i].wide(), k[i * rows + j].wide(), k[j * rows + j].wide());
                let scale = (own * other.max(0.0)).sqrt();
                if (upper - lower).abs() > tolerance * scale.max(upper.abs()) {
                    return Err(fault("a symmetric matrix", format!("{upper} and {lower} for rows {j} and {i}")));
                }
                if upper.abs() > scale * (1.0 + tolerance) {
                    let expected = "a positive semi-definite matrix, with |k(x, y)|² at most k(x, x) · k(y, y)";
                    return Err(fault(expected, format!("{upper} for rows {j} and {i}")));
                }
            }
        }
        Ok(Arc::new(k))
    }
}

fn copy<T: Real, S: Real>(from: &[S], to: &mut [T]) {
    kernels::isa::vectorize(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to = T::of(from.wide());
            }
        },
    );
}

fn widen<T: Real>(bytes: &[u8], scale: &[f64], offset: &[f64], out: &mut [T]) {
    if let ([scale], [offset]) = (scale, offset) {
        let (scale, offset) = (T::of(*scale), T::of(*offset));
        kernels::isa::vectorize(
            #[inline(always)]
            || {
                for (out, byte) in out.iter_mut().zip(bytes) {
                    *out = T::of(f64::from(*byte)) * scale + offset;
                }
            },
        );
        return;
    }
    let channels = scale.len().max(offset.len());
    for (out, bytes) in out.chunks_mut(channels).zip(bytes.chunks(channels)) {
        for (channel, (out, byte)) in out.iter_mut().zip(bytes).enumerate() {
            let pick = |list: &[f64]| T::of(if list.len() == 1 { list[0] } else { list[channel] });
            *out = T::of(f64::from(*byte)) * pick(scale) + pick(offset);
        }
    }
}

/// Refuses NaN and infinity, by row and column.
fn check_finite<T: Real>(what: &str, data: &[T], columns: usize) -> Result<()> {
    if kernels::reduce::all_finite(data) {
        return Ok(());
    }
    match data.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::new(
            Code::NotFinite,
            format!(
                "Cannot use {what}: expected finite numbers but found {} in row {}, column {}",
                data[at],
                at / columns,
                at % columns
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(rows: usize, targets: TargetConfig) -> DatasetConfig {
        DatasetConfig { rows, shape: vec![2], features: FeatureType::F32, scale: vec![1.0], offset: vec![0.0], targets }
    }

    fn fault(result: Result<Dataset>) -> String {
        result.err().expect("an error").message
    }

    #[test]
    fn bad_data_is_named_by_place() {
        let labels = TargetConfig::Labels { classes: 3 };
        let make = |features: &[f32], labels_given: &[u32]| {
            Dataset::new(config(2, labels.clone()), FeatureSlice::F32(features), labels_given, &[])
        };
        assert_eq!(
            fault(make(&[0.0, 1.0, f32::NAN, 2.0], &[0, 1])),
            "Cannot use features: expected finite numbers but found NaN in row 1, column 0"
        );
        assert_eq!(
            fault(make(&[0.0; 4], &[0, 3])),
            "Cannot use the label of row 1: expected a class from 0 to 2 but found 3"
        );
        assert_eq!(fault(make(&[0.0; 3], &[0, 1])), "Cannot use features: expected 4 values for 2 rows but found 3");
        assert_eq!(fault(make(&[0.0; 4], &[0])), "Cannot use labels: expected 2 values for 2 rows but found 1");
        let empty = Dataset::new(config(0, labels.clone()), FeatureSlice::F32(&[]), &[], &[]);
        assert_eq!(fault(empty), "Cannot use the data set: expected at least one row but found none");
    }

    #[test]
    fn bytes_are_scaled_by_channel() {
        let config = DatasetConfig {
            rows: 1,
            shape: vec![1, 2, 2],
            features: FeatureType::U8,
            scale: vec![0.5, 2.0],
            offset: vec![1.0],
            targets: TargetConfig::None {},
        };
        let data = Dataset::new(config, FeatureSlice::U8(&[2, 3, 4, 5]), &[], &[]).unwrap();
        let mut out = [0.0f64; 4];
        data.gather(&[0], &mut out);
        assert_eq!(out, [2.0, 7.0, 3.0, 11.0]);
    }
}
