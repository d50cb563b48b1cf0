//! Layers + gaps + residual = measured pass, in numbers.

use crate::stats::Uncertain;

use super::signature::SignatureEnergy;
use super::sum::work_sum;

/// The balance of a pass, in joules.
#[derive(Debug, Clone, PartialEq)]
pub struct Balance {
    /// Sum over all layers.
    pub layers: Uncertain,
    /// Active-idle power times the time of a pass that no layer accounts for. Negative when the layers alone are
    /// slower than in the network; never clamped.
    pub gaps: Uncertain,
    /// The measured pass.
    pub pass: Uncertain,
    /// Pass less layers less gaps.
    pub residual: Uncertain,
    /// Energy of one execution of each signature, moved so that the balance holds.
    pub reconciled: Vec<f64>,
}

/// Balances a pass; `counts` are the executions of each signature in a pass.
///
/// None if a signature that runs, the pass or the idle power has no estimate.
pub fn balance(
    signatures: &[SignatureEnergy],
    counts: &[u64],
    pass: &SignatureEnergy,
    active_idle: Option<Uncertain>,
) -> Option<Balance> {
    let idle = active_idle?;
    let pass_energy = pass.energy?;
    let parts: Vec<(f64, &SignatureEnergy)> = signatures
        .iter()
        .zip(counts)
        .filter(|&(_, &count)| count > 0)
        .map(|(signature, &count)| (count as f64, signature))
        .collect();
    let layers = work_sum(&parts)?.energy;
    let mut difference = vec![(1.0, pass)];
    difference.extend(parts.iter().map(|&(n, signature)| (-n, signature)));
    let difference = work_sum(&difference)?;
    let gaps = product(idle, difference.time);
    // Energy and time of a window are one measurement, so the residual is taken between energies above idle,
    // in which the idle power's own error enters only through the gap.
    let residual =
        difference.dynamic_alone?.plus(Uncertain { value: 0.0, ..idle.times(difference.time.value) });
    let squares = parts.iter().filter_map(|(n, signature)| Some((n * signature.energy?.std_error).powi(2)));
    let weight = pass_energy.std_error.powi(2) + squares.sum::<f64>();
    // Least squares with the sum as a noisy constraint (Lagrange multiplier): e = E + n u^2 r / (sum n^2 u^2 + u_net^2).
    let reconciled = signatures
        .iter()
        .zip(counts)
        .map(|(signature, &count)| {
            let energy = signature.energy.unwrap_or(Uncertain::exact(0.0));
            let pull = if weight > 0.0 { energy.std_error.powi(2) * residual.value / weight } else { 0.0 };
            energy.value + count as f64 * pull
        })
        .collect();
    Some(Balance { layers, gaps, pass: pass_energy, residual, reconciled })
}

/// The product of two independent quantities, to first order (GUM 5.1.2).
fn product(a: Uncertain, b: Uncertain) -> Uncertain {
    let parts = Uncertain::exact(a.value * b.value);
    parts
        .plus(Uncertain { value: 0.0, ..a.times(b.value) })
        .plus(Uncertain { value: 0.0, ..b.times(a.value) })
}

#[cfg(test)]
mod tests {
    use approx::assert_relative_eq;

    use super::*;

    fn work(energy: f64, error: f64, time: f64, idle: f64) -> SignatureEnergy {
        let of = |value, std_error| Some(Uncertain { value, std_error, dof: 4.0 });
        SignatureEnergy {
            windows: 5,
            executions: 50.0,
            time: of(time, 0.0),
            energy: of(energy, error),
            dynamic: of(energy - idle * time, error),
            dynamic_alone: of(energy - idle * time, error),
            power: of(energy / time, 0.0),
            rounds: Vec::new(),
            alignment: 0.0,
            beyond: crate::attribution::signature::Beyond::default(),
        }
    }

    #[test]
    fn layers_gaps_and_residual_add_up_to_the_pass() {
        // Two layers of 2 J and one of 3 J in 1 s each; the pass takes 8 J in 3.5 s; idle is 1 W.
        let (idle, layers) = (Uncertain::exact(1.0), [work(2.0, 0.1, 1.0, 1.0), work(3.0, 0.2, 1.0, 1.0)]);
        let b = balance(&layers, &[2, 1], &work(8.0, 0.3, 3.5, 1.0), Some(idle)).unwrap();
        assert_relative_eq!(b.layers.value, 7.0);
        assert_relative_eq!(b.gaps.value, 0.5);
        assert_relative_eq!(b.residual.value, 0.5);
        assert_relative_eq!(b.layers.value + b.gaps.value + b.residual.value, b.pass.value);
        // Errors of the two equal layers add linearly: sqrt((2*0.1)^2 + 0.2^2).
        assert_relative_eq!(b.layers.std_error, 0.08_f64.sqrt());
        // By hand: weight 0.04 + 0.04 + 0.09 = 0.17; first layer 2 + 2*0.01*0.5/0.17, second 3 + 0.04*0.5/0.17.
        assert_relative_eq!(b.reconciled[0], 2.0 + 0.01 / 0.17);
        assert_relative_eq!(b.reconciled[1], 3.0 + 0.02 / 0.17);
    }

    #[test]
    fn a_missing_layer_leaves_no_balance() {
        let mut missing = work(2.0, 0.1, 1.0, 1.0);
        missing.energy = None;
        let idle = Some(Uncertain::exact(1.0));
        assert!(balance(&[missing.clone()], &[1], &work(8.0, 0.3, 3.5, 1.0), idle).is_none());
        // A signature that no layer has does not matter.
        let present = work(3.0, 0.1, 1.0, 1.0);
        assert!(balance(&[missing, present], &[0, 1], &work(8.0, 0.3, 3.5, 1.0), idle).is_some());
    }
}
