//! Energy, time and power of one execution, from the windows in which it was replayed.

use crate::stats::Uncertain;

use super::integrate::Reading;

/// One execution of a kind of work. Energies in joules, time in seconds, power in watts.
///
/// All are absent with fewer than two windows: one window has no measured spread.
#[derive(Debug, Clone, PartialEq)]
pub struct SignatureEnergy {
    /// Windows that counted.
    pub windows: usize,
    /// Executions in all of them.
    pub executions: u64,
    /// Time of one execution.
    pub time: Option<Uncertain>,
    /// Energy of one execution, with the static share of its time.
    pub energy: Option<Uncertain>,
    /// Energy above active idle.
    pub dynamic: Option<Uncertain>,
    /// The same without the uncertainty of the idle power, which all kinds of work share.
    pub dynamic_alone: Option<Uncertain>,
    /// Mean power.
    pub power: Option<Uncertain>,
}

/// Averages the windows of one kind of work; `active_idle` is the power to set apart, in watts.
pub fn work_energy(windows: &[Reading], active_idle: Option<Uncertain>) -> SignatureEnergy {
    let windows: Vec<&Reading> = windows.iter().filter(|w| w.executions > 0).collect();
    let mean = |quantity: &dyn Fn(&Reading) -> f64| {
        Uncertain::mean_of(&windows.iter().map(|w| quantity(w)).collect::<Vec<_>>())
    };
    let each = |w: &Reading, total: f64| total / w.executions as f64;
    let time = mean(&|w| each(w, w.time));
    let power = mean(&|w| w.energy / w.time);
    let alignment = power.map_or(0.0, |p| p.value.abs()) * alignment_seconds(&windows);
    let energy = mean(&|w| each(w, w.energy)).map(|e| e.widened(alignment));
    let dynamic_alone = active_idle.and_then(|idle| {
        // Paired within each window, so that a window longer by chance does not count twice.
        mean(&|w| each(w, w.energy - idle.value * w.time)).map(|d| d.widened(alignment))
    });
    let dynamic = dynamic_alone
        .zip(active_idle)
        .zip(time)
        .map(|((alone, idle), time)| alone.plus(Uncertain { value: 0.0, ..idle.times(time.value) }));
    SignatureEnergy {
        windows: windows.len(),
        executions: windows.iter().map(|w| w.executions).sum(),
        time,
        energy,
        dynamic,
        dynamic_alone,
        power,
    }
}

/// Standard uncertainty of one execution's share of the window that comes from the edges, in seconds.
///
/// Both edges lie anywhere within `edge` after the true change: the difference of two uniform numbers has
/// variance edge^2 / 6 (Hähnel 2012; GUM 4.3.7), and windows are independent.
fn alignment_seconds(windows: &[&Reading]) -> f64 {
    let n = windows.len() as f64;
    let variance: f64 =
        windows.iter().map(|w| (w.edge / w.executions as f64).powi(2) / 6.0).sum::<f64>() / n.powi(2);
    variance.sqrt()
}
