//! Whether layers add up to what parts of the pass cost, by another estimator: regression on the first steps of a pass.
//!
//! Passes that end early are measured as a whole, each layer behind the one before it as in the network:
//!
//! ```text
//! y_k = sum over parts p <= k of e_p + error_k        e >= 0
//! ```
//!
//! Non-negative least squares, weighted by the windows' variances, gives the energy of each part (Lawson, Hanson 1974,
//! Solving Least Squares Problems, chapter 23). It shares neither excerpts nor what is taken off of them with the rows, so
//! where the two differ by more than both intervals allow, one of them is wrong.

use nalgebra::{DMatrix, DVector};

use crate::stats::Uncertain;
use crate::trace::{Coverage, Header, SpanKind};

use super::signature::{Beyond, SignatureEnergy};
use super::steady::{BYTE_J, Steady};
use super::sum::work_sum;

/// Largest condition number of the regression, its columns scaled to one: beyond it, errors of the windows dominate.
const CONDITION: f64 = 30.0;
/// Chance that sound estimators are said to disagree, over all parts of a run.
const CHANCE: f64 = 0.01;

/// A part of the pass. Energies in joules above active idle, which gaps between kernels do not have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// Its first and its last layer: indices into the trace's layers.
    pub layers: [usize; 2],
    /// By regression on passes that end early.
    pub in_situ: Uncertain,
    /// The sum of its layers.
    pub rows: Uncertain,
    /// Whether the two differ by more than chance and what is known of their errors allow.
    pub disagrees: bool,
}

/// The parts of the pass, as far as its beginnings were measured. None where the meter's sensor is known to look for a part
/// of the time: it sees another part of each beginning.
pub(super) fn stretches(
    header: &Header,
    meter: usize,
    steady: &Steady<'_>,
    signatures: &[SignatureEnergy],
    pass: &SignatureEnergy,
) -> Vec<Stretch> {
    if header.meters[meter].coverage == Some(Coverage::PartTime) {
        return Vec::new();
    }
    let steps: Vec<(usize, usize)> =
        header.layers.iter().enumerate().filter_map(|(at, layer)| Some((at, layer.signature?))).collect();
    let mut ends: Vec<End> = Vec::new();
    for beginning in &header.beginnings {
        let end = header.excerpts[beginning.excerpt].last + 1;
        let work = steady.repeated(SpanKind::Excerpt(beginning.excerpt));
        let Some((work, beyond)) = work.filter(|_| end < steps.len()) else { return Vec::new() };
        ends.extend(End::of(end, &work, beyond, beginning.excess_bytes));
    }
    ends.extend(End::of(steps.len(), pass, pass.beyond, 0.0));
    if ends.len() != header.beginnings.len() + 1
        || ends.len() < 2
        || !ends.is_sorted_by(|a, b| a.steps < b.steps)
    {
        return Vec::new();
    }
    let Some(parts) = regression(&ends) else { return Vec::new() };
    let confidence = 1.0 - CHANCE / parts.len() as f64;
    let begins = std::iter::once(0).chain(ends.iter().map(|end| end.steps));
    let stretch = |((begin, end), energy): ((usize, &End), Uncertain)| {
        let steps = &steps[begin..end.steps];
        let mut works: Vec<(f64, &SignatureEnergy)> = Vec::new();
        for &(_, signature) in steps {
            let work = &signatures[signature];
            match works.iter_mut().find(|(_, known)| std::ptr::eq(*known, work)) {
                Some((count, _)) => *count += 1.0,
                None => works.push((1.0, work)),
            }
        }
        let rows = work_sum(&works)?.dynamic_alone?;
        let difference = energy.minus(rows);
        let disagrees = difference.value.abs() > difference.half_width(confidence);
        let layers = [steps.first()?.0, steps.last()?.0];
        Some(Stretch { layers, in_situ: energy, rows, disagrees })
    };
    begins.zip(&ends).zip(parts).filter_map(stretch).collect()
}

/// A beginning of the pass, or all of it.
struct End {
    steps: usize,
    /// Above active idle, with the windows' own scatter only.
    energy: Uncertain,
    /// Standard uncertainty of what all windows share, in parts of the energy.
    shared: f64,
    excess_bytes: f64,
}

impl End {
    /// None without an energy above zero.
    fn of(steps: usize, work: &SignatureEnergy, beyond: Beyond, excess_bytes: f64) -> Option<Self> {
        let energy = work.dynamic_alone.filter(|energy| energy.value > 0.0)?;
        let shared = beyond.combined() / energy.value;
        Some(Self { steps, energy, shared, excess_bytes })
    }
}

/// The energy of each part of the pass; none where the regression is ill-conditioned.
fn regression(ends: &[End]) -> Option<Vec<Uncertain>> {
    let n = ends.len();
    let least = ends.iter().map(|end| end.energy.std_error).fold(0.0, f64::max) * 1e-6;
    let weight: Vec<f64> = ends.iter().map(|end| 1.0 / end.energy.std_error.max(least)).collect();
    if !weight.iter().all(|weight| weight.is_finite()) {
        return None;
    }
    let design = DMatrix::from_fn(n, n, |row, part| if part <= row { weight[row] } else { 0.0 });
    let readings = DVector::from_fn(n, |row, _| weight[row] * ends[row].energy.value);
    if condition(&design) > CONDITION {
        return None;
    }
    let parts = non_negative(&design, &readings)?;
    // Covariance of the unconstrained solution: none of the parts is below zero but by chance.
    let covariance = (design.transpose() * &design).try_inverse()?;
    let dof = ends.iter().map(|end| end.energy.dof).fold(f64::INFINITY, f64::min);
    let part = |at: usize| {
        let before = at.checked_sub(1).map(|before| &ends[before]);
        let shared = ends[at].shared.max(before.map_or(0.0, |end| end.shared)) * parts[at];
        let bytes = ends[at].excess_bytes - before.map_or(0.0, |end| end.excess_bytes);
        let std_error = covariance[(at, at)].max(0.0).sqrt();
        Uncertain { value: parts[at], std_error, dof }.widened(shared).widened(bytes * BYTE_J)
    };
    Some((0..n).map(part).collect())
}

/// The condition number of a matrix whose columns are scaled to one.
fn condition(design: &DMatrix<f64>) -> f64 {
    let mut scaled = design.clone();
    scaled.column_iter_mut().for_each(|mut column| {
        let norm = column.norm();
        column /= norm;
    });
    let singular = scaled.singular_values();
    singular.max() / singular.min()
}

/// Least squares with no part below zero (Lawson and Hanson's active sets); none if a system cannot be solved.
fn non_negative(design: &DMatrix<f64>, readings: &DVector<f64>) -> Option<DVector<f64>> {
    let n = design.ncols();
    let mut free = vec![false; n];
    let mut parts = DVector::zeros(n);
    // Each turn frees one part; none needs to be freed more often than this.
    for _ in 0..10 * n {
        let gradient = design.transpose() * (readings - design * &parts);
        let steepest = (0..n).filter(|&i| !free[i]).max_by(|&a, &b| gradient[a].total_cmp(&gradient[b]));
        let tolerance = 1e-12 * readings.norm() * design.norm();
        let Some(next) = steepest.filter(|&i| gradient[i] > tolerance) else { return Some(parts) };
        free[next] = true;
        loop {
            let wanted = among(design, readings, &free)?;
            let ahead = (0..n).filter(|&i| free[i] && wanted[i] <= 0.0);
            let Some(step) = ahead.map(|i| parts[i] / (parts[i] - wanted[i])).reduce(f64::min) else {
                parts = wanted;
                break;
            };
            parts += (&wanted - &parts) * step;
            for (part, free) in parts.iter_mut().zip(&mut free).filter(|(part, _)| **part <= 1e-15) {
                (*part, *free) = (0.0, false);
            }
        }
    }
    Some(parts)
}

/// Least squares over some of the parts; the others are zero.
fn among(design: &DMatrix<f64>, readings: &DVector<f64>, free: &[bool]) -> Option<DVector<f64>> {
    let columns: Vec<usize> = (0..free.len()).filter(|&i| free[i]).collect();
    let some = design.select_columns(&columns);
    let solved = some.svd(true, true).solve(readings, 1e-14).ok()?;
    let mut parts = DVector::zeros(free.len());
    columns.iter().zip(solved.iter()).for_each(|(&at, &value)| parts[at] = value);
    Some(parts)
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    fn end(steps: usize, joules: f64) -> End {
        End { steps, energy: Uncertain::known(joules, 0.01), shared: 0.0, excess_bytes: 0.0 }
    }

    #[test]
    fn parts_are_the_differences_of_beginnings() {
        let parts = regression(&[end(2, 1.0), end(5, 3.0), end(6, 3.5)]).unwrap();
        for (part, expected) in parts.iter().zip([1.0, 2.0, 0.5]) {
            assert_relative_eq!(part.value, expected, max_relative = 1e-9);
        }
        // The first is one energy, the others differences of two that err independently.
        assert_relative_eq!(parts[0].std_error, 0.01, max_relative = 1e-9);
        assert_relative_eq!(parts[1].std_error, 0.01 * 2.0_f64.sqrt(), max_relative = 1e-9);
    }

    #[test]
    fn no_part_is_below_zero() {
        // By hand: with the middle part at zero, the first is the mean of 1.02 and 1.00, and the last what is left.
        let parts = regression(&[end(1, 1.02), end(2, 1.0), end(3, 2.0)]).unwrap();
        for (part, expected) in parts.iter().zip([1.01, 0.0, 0.99]) {
            assert_relative_eq!(part.value, expected, epsilon = 1e-9);
        }
    }

    #[test]
    fn the_example_of_lawson_and_hansons_conditions_holds() {
        // Minimum of (x - 1)^2 + (x + y - 0)^2 with x, y >= 0: y is at its bound, x = 1/2.
        let design = DMatrix::from_row_slice(2, 2, &[1.0, 0.0, 1.0, 1.0]);
        let parts = non_negative(&design, &DVector::from_row_slice(&[1.0, 0.0])).unwrap();
        assert_relative_eq!(parts[0], 0.5, epsilon = 1e-12);
        assert_relative_eq!(parts[1], 0.0);
    }

    #[test]
    fn the_condition_number_is_that_of_scaled_columns() {
        // Columns of lengths 3 and 1 at a right angle: scaled, they are as good as can be.
        assert_relative_eq!(condition(&DMatrix::from_row_slice(2, 2, &[3.0, 0.0, 0.0, 1.0])), 1.0);
        // Two columns with an angle of 60 degrees: sqrt((1 + cos) / (1 - cos)) = sqrt(3).
        let angled = DMatrix::from_row_slice(2, 2, &[1.0, 0.5, 0.0, 0.75_f64.sqrt()]);
        assert_relative_eq!(condition(&angled), 3.0_f64.sqrt(), max_relative = 1e-12);
    }

    #[test]
    fn a_beginning_that_is_known_far_worse_than_the_others_leaves_no_regression() {
        let bad = End { energy: Uncertain::known(3.0, 10.0), ..end(5, 3.0) };
        assert!(regression(&[end(2, 1.0), bad, end(6, 3.5)]).is_none());
    }
}
