//! The bias gradient of a convolution: sums down many rows of few columns.

use super::blocked::add_partials;
use super::scratch::{Pieces, piece};
use crate::isa::vectorize;
use crate::par::{self, Par, Shared};
use crate::real::Real;

/// Rows added up by one task at least.
const FEWEST_ROWS: usize = 256;

/// Partial sums at most; fixed, so that sums have one order.
const PARTIALS: usize = 32;

/// Elements of scratch memory for [`bias_gradient`].
pub fn bias_scratch_elements(columns: usize) -> usize {
    piece(PARTIALS * columns)
}

/// db[j] (+)= Σ over rows of g[row, j]. Unlike [`crate::reduce::column_sums`] it shares the rows between threads.
pub fn bias_gradient<T: Real>(par: Par, g: &[T], accumulate: bool, db: &mut [T], scratch: &mut [T]) {
    let columns = db.len();
    assert!(columns > 0 && g.len().is_multiple_of(columns));
    let rows = g.len() / columns;
    let of_partial = rows.div_ceil(PARTIALS).max(FEWEST_ROWS);
    let partials = rows.div_ceil(of_partial);
    let sums = Pieces(scratch).take(partials * columns);
    let shared = Shared::new(&mut *sums);
    par.for_work(g.len()).each(partials, |index| {
        // SAFETY: partial sums are disjoint.
        let sums = unsafe { shared.slice(index * columns..(index + 1) * columns) };
        let rows = par::block(index, rows, of_partial);
        vectorize(
            #[inline(always)]
            || {
                sums.fill(T::zero());
                for row in g[rows.start * columns..rows.end * columns].chunks_exact(columns) {
                    for (sum, value) in sums.iter_mut().zip(row) {
                        *sum += *value;
                    }
                }
            },
        );
    });
    add_partials(sums, accumulate, db);
}
