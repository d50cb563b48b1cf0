//! Energy, time and power of one execution, from the windows in which it was replayed.

use crate::stats::Uncertain;

use super::integrate::Reading;

/// One execution in one window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoundEnergy {
    /// The round.
    pub round: usize,
    /// Time in seconds.
    pub time: f64,
    /// Energy in joules.
    pub energy: f64,
    /// Energy above active idle; none without an idle power.
    pub dynamic: Option<f64>,
}

/// One execution of a kind of work. Energies in joules, time in seconds, power in watts.
///
/// All estimates are absent with fewer than two windows: one window has no measured spread.
#[derive(Debug, Clone, PartialEq)]
pub struct SignatureEnergy {
    /// Windows that counted.
    pub windows: usize,
    /// Executions in all of them, with the parts of those at their edges.
    pub executions: f64,
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
    /// Each window's own values, in order of rounds.
    pub rounds: Vec<RoundEnergy>,
    /// Standard uncertainty of `energy` that comes from the windows' edges, already in it.
    pub alignment: f64,
    /// What else its uncertainty is made of, already in it.
    pub beyond: Beyond,
}

/// Standard uncertainties of an energy that its windows share, in joules: no number of rounds lowers them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Beyond {
    /// The temperature of the network's steady state, and what a kelvin costs.
    pub temperature: f64,
    /// Clocks that differ from that of the network, and how energy goes with the clock.
    pub clock: f64,
    /// What is found in the cache, as far as it differs from the network.
    pub cache: f64,
    /// Steps that the work was mixed with.
    pub filler: f64,
}

impl Beyond {
    /// All of them together.
    pub fn combined(&self) -> f64 {
        self.temperature.hypot(self.clock).hypot(self.cache).hypot(self.filler)
    }
}

impl SignatureEnergy {
    /// With what its windows share.
    pub(super) fn with(mut self, beyond: Beyond) -> Self {
        let more = beyond.combined();
        for energy in [&mut self.energy, &mut self.dynamic, &mut self.dynamic_alone].into_iter().flatten() {
            *energy = energy.widened(more);
        }
        if let (Some(power), Some(time)) = (&mut self.power, self.time.filter(|time| time.value > 0.0)) {
            *power = power.widened(more / time.value);
        }
        Self { beyond, ..self }
    }

    /// This work without another that is a part of it. Round by round where both were measured in the same rounds, so that
    /// what a round shares cancels in sums; otherwise the difference of the means.
    pub(super) fn without(&self, other: &Self, active_idle: Option<Uncertain>) -> Self {
        let alike = self.rounds.iter().map(|own| own.round).eq(other.rounds.iter().map(|other| other.round));
        let less = |(own, other): (&RoundEnergy, &RoundEnergy)| RoundEnergy {
            round: own.round,
            time: own.time - other.time,
            energy: own.energy - other.energy,
            dynamic: own.dynamic.zip(other.dynamic).map(|(own, other)| own - other),
        };
        let pairs = self.rounds.iter().zip(&other.rounds).filter(|_| alike);
        let rounds: Vec<RoundEnergy> = pairs.map(less).collect();
        let difference = |of: &dyn Fn(&Self) -> Option<Uncertain>| Some(of(self)?.minus(of(other)?));
        let (energy, time) = (difference(&|work| work.energy), difference(&|work| work.time));
        let power = energy.zip(time).filter(|(_, time)| time.value > 0.0).map(|(energy, time)| {
            let value = energy.value / time.value;
            let shares = (energy.std_error / time.value).hypot(value * time.std_error / time.value);
            Uncertain { value, std_error: shares, dof: energy.dof }
        });
        let dynamic_alone = difference(&|work| work.dynamic_alone);
        let dynamic = dynamic_alone
            .zip(active_idle)
            .zip(time)
            .map(|((alone, idle), time)| alone.plus(Uncertain { value: 0.0, ..idle.times(time.value) }));
        let alignment = self.alignment.hypot(other.alignment);
        Self { energy, time, power, dynamic, dynamic_alone, rounds, alignment, ..self.clone() }
    }
}

/// Averages the windows of one kind of work; `active_idle` is the power to set apart, in watts.
pub fn work_energy(windows: &[Reading], active_idle: Option<Uncertain>) -> SignatureEnergy {
    let mut windows: Vec<Reading> = windows.iter().filter(|w| w.executions > 0.0).copied().collect();
    windows.sort_by_key(|w| w.round);
    let windows: Vec<Reading> = windows.chunk_by(|a, b| a.round == b.round).map(together).collect();
    let round = |w: &Reading| {
        let n = w.executions;
        RoundEnergy {
            round: w.round,
            time: w.time / n,
            energy: w.energy / n,
            // Taken within each window, so that a window longer by chance does not count twice.
            dynamic: active_idle.map(|idle| (w.energy - idle.value * w.time) / n),
        }
    };
    let rounds: Vec<RoundEnergy> = windows.iter().map(round).collect();
    let power = mean_power(&windows);
    let alignment = power.map_or(0.0, |p| p.value.abs()) * alignment_of(&windows, |w| w.edge / w.executions);
    let executions = windows.iter().map(|w| w.executions).sum();
    SignatureEnergy { executions, power, ..of_rounds(rounds, alignment, active_idle) }
}

/// Windows of one round as one: what was measured again counts once.
fn together(windows: &[Reading]) -> Reading {
    let sum = |of: &dyn Fn(&Reading) -> f64| windows.iter().map(of).sum::<f64>();
    Reading {
        energy: sum(&|w| w.energy),
        time: sum(&|w| w.time),
        executions: sum(&|w| w.executions),
        edge: sum(&|w| w.edge.powi(2)).sqrt(),
        ..windows[0]
    }
}

/// The means of rounds; no power.
fn of_rounds(rounds: Vec<RoundEnergy>, alignment: f64, active_idle: Option<Uncertain>) -> SignatureEnergy {
    let mean = |quantity: &dyn Fn(&RoundEnergy) -> Option<f64>| {
        Uncertain::mean_of(&rounds.iter().map(quantity).collect::<Option<Vec<f64>>>()?)
    };
    let time = mean(&|r| Some(r.time));
    let dynamic_alone = mean(&|r| r.dynamic).map(|d| d.widened(alignment));
    let dynamic = dynamic_alone
        .zip(active_idle)
        .zip(time)
        .map(|((alone, idle), time)| alone.plus(Uncertain { value: 0.0, ..idle.times(time.value) }));
    SignatureEnergy {
        windows: rounds.len(),
        executions: 0.0,
        time,
        energy: mean(&|r| Some(r.energy)).map(|e| e.widened(alignment)),
        dynamic,
        dynamic_alone,
        power: None,
        rounds,
        alignment,
        beyond: Beyond::default(),
    }
}

/// Mean power over windows, in watts; none with fewer than two.
pub(super) fn mean_power(windows: &[Reading]) -> Option<Uncertain> {
    let watts: Vec<f64> = windows.iter().map(|w| w.energy / w.time).collect();
    let power = Uncertain::mean_of(&watts)?;
    Some(power.widened(power.value.abs() * alignment_of(windows, |w| w.edge / w.time)))
}

/// Standard uncertainty that the edges give to a mean over windows, per watt; `share` is an edge's weight in
/// one window.
///
/// Both edges lie anywhere within `edge` after the true change: the difference of two uniform numbers has
/// variance edge^2 / 6 (Hähnel 2012; GUM 4.3.7), and windows are independent.
fn alignment_of(windows: &[Reading], share: impl Fn(&Reading) -> f64) -> f64 {
    let n = windows.len().max(1) as f64;
    (windows.iter().map(|w| share(w).powi(2) / 6.0).sum::<f64>() / n.powi(2)).sqrt()
}
