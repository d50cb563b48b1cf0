//! Loads of known energy, and a sensor that looks at one.

use layerjoule::sim::{Domain, EnergyCurve, Sensor, SensorParameters};

/// Time between two looks at a sensor where a change is waited for.
const LOOK: f64 = 1e-3;

/// The same stretches of (seconds, watts) again and again, from some time on.
pub(super) struct Periodic {
    pub(super) parts: Vec<(f64, f64)>,
    pub(super) from: f64,
}

impl Periodic {
    pub(super) fn seconds(&self) -> f64 {
        self.parts.iter().map(|(seconds, _)| seconds).sum()
    }

    pub(super) fn joules_each(&self) -> f64 {
        self.parts.iter().map(|(seconds, watts)| seconds * watts).sum()
    }
}

impl EnergyCurve for Periodic {
    fn joules(&self, _: Domain, at: f64) -> f64 {
        let periods = ((at - self.from) / self.seconds()).floor();
        let mut left = at - self.from - periods * self.seconds();
        let mut joules = periods * self.joules_each();
        for &(seconds, watts) in &self.parts {
            let part = left.clamp(0.0, seconds);
            joules += part * watts;
            left -= part;
        }
        joules
    }
}

/// Steady power.
pub(super) fn steady(watts: f64) -> Periodic {
    Periodic { parts: vec![(1.0, watts)], from: 0.0 }
}

/// One power until some time, and another after it.
pub(super) struct Change {
    pub(super) before: f64,
    pub(super) at: f64,
    pub(super) after: f64,
}

impl EnergyCurve for Change {
    fn joules(&self, _: Domain, at: f64) -> f64 {
        self.before * at.min(self.at) + self.after * (at - self.at).max(0.0)
    }
}

/// Two readings of a counter and the times of them.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) joules: f64,
}

impl Window {
    pub(super) fn watts(self) -> f64 {
        self.joules / (self.to - self.from)
    }

    /// How far its joules are from the true ones of the same time.
    pub(super) fn error(self, load: &dyn EnergyCurve) -> f64 {
        let domain = Domain::Board;
        self.joules / (load.joules(domain, self.to) - load.joules(domain, self.from)) - 1.0
    }
}

/// A sensor that looks at a load. Time moves forward from call to call.
pub(super) struct Watched<'a> {
    sensor: Sensor,
    load: &'a dyn EnergyCurve,
}

impl<'a> Watched<'a> {
    /// The seed decides when it looks.
    pub(super) fn new(sensor: &SensorParameters, seed: u64, load: &'a dyn EnergyCurve) -> Self {
        Self { sensor: Sensor::new(sensor, seed, 0.0), load }
    }

    /// What it shows at a time.
    pub(super) fn at(&mut self, at: f64) -> f64 {
        self.sensor.advance(self.load, at);
        self.sensor.read(at)
    }

    /// The first change that is seen after a time, with when it is seen.
    pub(super) fn change(&mut self, from: f64) -> (f64, f64) {
        let first = self.at(from);
        let looks = (1..).map(|k| from + f64::from(k) * LOOK);
        for at in looks {
            let value = self.at(at);
            if value.to_bits() != first.to_bits() {
                return (at, value);
            }
        }
        unreachable!("the loads here never end")
    }

    /// A window that opens and closes anywhere.
    pub(super) fn unaligned(&mut self, from: f64, seconds: f64) -> Window {
        let before = self.at(from);
        let to = from + seconds;
        Window { from, to, joules: self.at(to) - before }
    }

    /// A window that opens and closes where the reading changes.
    pub(super) fn aligned(&mut self, from: f64, seconds: f64) -> Window {
        let (from, before) = self.change(from);
        let (to, after) = self.change(from + seconds);
        Window { from, to, joules: after - before }
    }
}
