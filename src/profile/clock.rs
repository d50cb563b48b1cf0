//! Windows at the clock of the network.
//!
//! A layer that is repeated alone may draw more than the power limit allows, and is slowed down as it is not within the
//! network; or the network is slowed down, and a light layer alone is not. Where a limit acts, the clock is that at which
//! the mean power is the limit. So heavy work is repeated with rests between, and light work with heavy work between, in such
//! a ratio that the mean power at the network's clock is the limit:
//!
//! ```text
//! (1 - r) P + r P_idle = limit          (1 - x) P + x P_filler = limit
//! ```

use std::collections::HashMap;

use crate::run::Mixing;
use crate::trace::{Base, PrecisionTarget, Span, SpanKind, Trace};

/// Part of the clock that a window may be off: what is left is corrected for (crate::attribution).
const TOLERATED: f64 = 0.01;
/// How power goes with the clock, for the first guess: less than with the clock and the square of the voltage, since static
/// power and memory do not.
const POWER_BY_CLOCK: f64 = 1.3;
/// How much more than the limit a filler must draw.
const HEAVY: f64 = 1.08;
/// Bounds of the parts for rests and fillers: what is left for the work must be seen.
const MOST: f64 = 0.75;
const LEAST: f64 = 0.01;
/// Scatter of one window that is expected, in parts.
const SCATTER: f64 = 0.005;
/// Part of the pass from which a layer has two windows at least.
const LARGE: f64 = 0.01;
/// Kinds of work that tell how windows scatter although some have one window only.
const MANY: usize = 30;
/// Step from one part to the next, and how near to one that was tried the next may be.
const STEP: f64 = 0.1;
const BRACKET: f64 = 0.2;
/// Length of a mix, in seconds, that the power limit does not follow, if its steps allow that.
const MIX: f64 = 0.003;

/// A window as a load. Power in watts, times in seconds, clock in megahertz.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    watts: f64,
    /// While it did not rest.
    time: f64,
    rest: f64,
    energy: f64,
    executions: f64,
    filler_executions: f64,
    megahertz: Option<f64>,
    limited: bool,
}

impl Load {
    pub(super) fn of(span: &Span, energy: f64) -> Self {
        let (whole, rest) = (span.length().value(), span.state.rest_s.value());
        Self {
            watts: energy / whole,
            time: whole - rest,
            rest,
            energy,
            executions: span.executions,
            filler_executions: span.state.filler.map_or(0.0, |filler| filler.executions),
            megahertz: span.state.megahertz,
            limited: span.state.limited,
        }
    }
}

/// Work without what it was mixed with, at the network's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Own {
    watts: f64,
    /// Of one execution.
    time: f64,
    megahertz: f64,
}

/// What is known of clocks and powers, and how each kind of work is mixed.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    network: Option<f64>,
    /// Whether a limit holds the network's clock down.
    limited: bool,
    /// Energy of a pass.
    pass_j: Option<f64>,
    limit_w: Option<f64>,
    idle_w: Option<f64>,
    own: HashMap<SpanKind, Own>,
    mixings: HashMap<SpanKind, Mixing>,
    /// Parts of rests or fillers that were tried, with the logarithm of the clock over the network's.
    tried: HashMap<SpanKind, Vec<(f64, f64)>>,
    filler: Option<usize>,
}

impl Clocks {
    /// How a kind of work is mixed, as far as is known.
    pub(super) fn mixing(&self, kind: SpanKind) -> Mixing {
        self.mixings.get(&kind).copied().unwrap_or_default()
    }

    /// The windows of the filler.
    pub(super) fn filler(&self) -> Option<SpanKind> {
        self.filler.map(SpanKind::Filler)
    }

    /// Takes note of the clock that the network leads to, and whether a limit holds it down.
    pub(super) fn lead_to(&mut self, (megahertz, limited): (f64, bool)) {
        (self.network, self.limited) = (Some(megahertz), limited);
    }

    /// Takes note of a window; whether its clock was not the network's and a better mixing is known.
    pub(super) fn note(&mut self, kind: SpanKind, load: Load) -> bool {
        match kind {
            SpanKind::ActiveIdle => self.idle_w = Some(load.watts),
            SpanKind::Pass => {
                self.pass_j = Some(load.energy / load.executions);
                self.note_limit(&load);
            }
            SpanKind::Replay(_) | SpanKind::Excerpt(_) | SpanKind::Filler(_) => {
                return self.judge(kind, &load) == Some(true);
            }
            _ => {}
        }
        false
    }

    fn note_limit(&mut self, load: &Load) {
        // The first is as good as any; means of windows scatter by some thousandths.
        if load.limited && self.limit_w.is_none() {
            self.limit_w = Some(load.watts);
        }
    }

    fn judge(&mut self, kind: SpanKind, load: &Load) -> Option<bool> {
        self.note_limit(load);
        let (network, megahertz) = (self.network?, load.megahertz?);
        let own = self.own_of(load, megahertz, network)?;
        self.own.insert(kind, own);
        let off = (megahertz / network).ln();
        let before = self.mixing(kind);
        let share = self.share(before, kind);
        let tried = self.tried.entry(kind).or_default();
        tried.retain(|&(known, _)| (known - share).abs() > 1e-3);
        tried.push((share, megahertz.ln()));
        if off.abs() <= TOLERATED {
            return None;
        }
        let wanted = self.wanted_share(kind, own, network.ln())?;
        let mixing = self.mix(kind, wanted);
        self.mixings.insert(kind, mixing);
        Some(mixing != before)
    }

    /// The part of the time that goes to rests, or as a negative number to the filler: the clock rises with it.
    fn share(&self, mixing: Mixing, kind: SpanKind) -> f64 {
        let filler = || {
            let (step, fillers) = mixing.filler?;
            let (own, filler) = (self.own.get(&kind)?, self.own.get(&SpanKind::Filler(step))?);
            let other = fillers as f64 * filler.time;
            Some(-other / (other + mixing.times as f64 * own.time))
        };
        f64::from(mixing.rest_permille) / 1000.0 + filler().unwrap_or(0.0)
    }

    /// The part at which the clock should be the network's: between the nearest parts that were too small and too large, or
    /// where powers balance if only one was tried. What was tried last counts most, since the clock may have been on its way.
    fn wanted_share(&self, kind: SpanKind, own: Own, network: f64) -> Option<f64> {
        let tried = self.tried.get(&kind)?;
        let least =
            if self.limited && self.filler.is_some() && self.filler() != Some(kind) { -MOST } else { 0.0 };
        let (mut small, mut large) = (None::<(f64, f64)>, None::<(f64, f64)>);
        for &(share, clock) in tried.iter().rev() {
            let off = clock - network;
            let within = small.is_none_or(|s| share > s.0) && large.is_none_or(|l| share < l.0);
            match off < 0.0 {
                true if within => small = Some((share, off)),
                false if within => large = Some((share, off)),
                _ => {}
            }
        }
        let guess = match (small, large) {
            (Some((from, below)), Some((to, above))) => {
                from + (to - from) * (below / (below - above)).clamp(BRACKET, 1.0 - BRACKET)
            }
            _ if tried.len() == 1 => self.balanced(own)?,
            (Some((share, _)), None) => share + STEP,
            (None, Some((share, _))) => share - STEP,
            (None, None) => return None,
        };
        Some(guess.clamp(least, MOST))
    }

    /// The part at which the mean power is the limit, as far as powers are known.
    fn balanced(&self, own: Own) -> Option<f64> {
        let limit = self.limit_w?;
        if own.watts > limit {
            return Some((own.watts - limit) / (own.watts - self.idle_w?));
        }
        let filler = self.own.get(&self.filler()?)?;
        Some(-(limit - own.watts) / (filler.watts - own.watts))
    }

    /// The work of a window alone, at the clock of the network.
    fn own_of(&self, load: &Load, megahertz: f64, network: f64) -> Option<Own> {
        let mut energy = load.energy - self.idle_w.unwrap_or(0.0) * load.rest;
        let mut time = load.time;
        if load.filler_executions > 0.0 {
            let filler = self.own.get(&self.filler()?)?;
            time -= load.filler_executions * filler.time;
            energy -= load.filler_executions
                * filler.time
                * filler.watts
                * (megahertz / network).powf(POWER_BY_CLOCK);
        }
        let watts = energy / time * (network / megahertz).powf(POWER_BY_CLOCK);
        (time > 0.0 && watts > 0.0).then(|| Own { watts, time: time / load.executions, megahertz })
    }

    /// Rests, or a filler, for a part of the time.
    fn mix(&self, kind: SpanKind, share: f64) -> Mixing {
        if share.abs() < LEAST {
            return Mixing::default();
        }
        if share > 0.0 {
            return Mixing { rest_permille: (share * 1000.0).round() as u32, ..Mixing::default() };
        }
        let times = || {
            let step = self.filler?;
            let (own, filler) = (self.own.get(&kind)?, self.own.get(&SpanKind::Filler(step))?);
            let (times, fillers) = ratio(-share, own.time, filler.time);
            Some(Mixing { times, filler: Some((step, fillers)), rest_permille: 0 })
        };
        times().unwrap_or_default()
    }

    /// Kinds of work of which one window is enough: those that are measured alone, or that only serve layers, whose scatter is
    /// within the target for small layers.
    pub(super) fn small(&self, target: &PrecisionTarget, trace: &Trace) -> Vec<SpanKind> {
        // With few kinds of work, all of them are needed to tell how windows scatter.
        let Some(pass) = self.pass_j.filter(|_| self.own.len() >= MANY) else { return Vec::new() };
        let energy = |kind: SpanKind| self.own.get(&kind).map(|own| own.watts * own.time);
        let mut large: Vec<SpanKind> = Vec::new();
        let mut all: Vec<SpanKind> = Vec::new();
        for (signature, context) in trace.header.contexts.iter().enumerate() {
            let kinds = [Some(SpanKind::Replay(signature)), context.base.map(Base::windows)];
            let squares: Option<f64> =
                kinds.iter().flatten().map(|kind| energy(*kind).map(|e| (e * SCATTER).powi(2))).sum();
            let [whole, base] = kinds.map(|kind| kind.map_or(Some(0.0), energy));
            let own = whole.zip(base).map(|(whole, base)| whole - base);
            let wanted = own.map(|own| target.half_width(own, pass));
            let is_small = squares.zip(wanted).is_some_and(|(squares, wanted)| 2.0 * squares.sqrt() < wanted)
                && own.is_some_and(|own| own < LARGE * pass);
            all.extend(kinds.into_iter().flatten());
            if !is_small {
                large.extend(kinds.into_iter().flatten());
            }
        }
        all.retain(|kind| !large.contains(kind));
        all
    }

    /// Chooses the step that others are mixed with, if any kind of work ran at a higher clock than the network: the single
    /// step that draws most. Gives the kinds that need it.
    pub(super) fn choose_filler(&mut self, trace: &Trace) -> Vec<SpanKind> {
        let (Some(network), Some(limit), true) = (self.network, self.limit_w, self.limited) else {
            return Vec::new();
        };
        let is_light = |own: &Own| own.megahertz > network * (1.0 + TOLERATED) && own.watts < limit;
        let mut light: Vec<SpanKind> =
            self.own.iter().filter(|(_, own)| is_light(own)).map(|(kind, _)| *kind).collect();
        light.sort_unstable();
        let single = |kind: &SpanKind| match *kind {
            SpanKind::Replay(signature) => {
                let excerpt = trace.header.contexts.get(signature)?.excerpt;
                (excerpt.first == excerpt.last && excerpt.fresh).then_some(excerpt.last)
            }
            SpanKind::Excerpt(excerpt) => {
                let excerpt = trace.header.excerpts.get(excerpt)?;
                (excerpt.first == excerpt.last && excerpt.fresh).then_some(excerpt.last)
            }
            _ => None,
        };
        let heaviest = self
            .own
            .iter()
            .filter_map(|(kind, own)| Some((single(kind)?, *kind, *own)))
            .max_by(|a, b| a.2.watts.total_cmp(&b.2.watts).then(b.0.cmp(&a.0)));
        let Some((step, kind, own)) = heaviest.filter(|(_, _, own)| own.watts > limit * HEAVY) else {
            return Vec::new();
        };
        if light.is_empty() {
            return light;
        }
        self.filler = Some(step);
        self.own.insert(SpanKind::Filler(step), own);
        self.mixings.insert(SpanKind::Filler(step), self.mixing(kind));
        for &kind in &light {
            if let Some(share) = self.own.get(&kind).and_then(|own| self.balanced(*own)) {
                self.mixings.insert(kind, self.mix(kind, share.clamp(-MOST, 0.0)));
            }
        }
        light
    }
}

/// Repetitions of work and filler whose times have a ratio: small numbers, near the length of a mix.
fn ratio(part: f64, work: f64, filler: f64) -> (u64, u64) {
    let fillers = |times: u64| ((times as f64 * work * part / (1.0 - part)) / filler).round().max(1.0);
    let error = |times: u64| {
        let other = fillers(times) * filler;
        let found = other / (other + times as f64 * work);
        let length = other + times as f64 * work;
        // An error of the ratio weighs more than a mix that is somewhat long.
        (found - part).abs() + 0.002 * (length / MIX).max(1.0).ln()
    };
    let most = ((4.0 * MIX.max(filler / part) / work).ceil() as u64).clamp(1, 4000);
    let best = (1..=most).min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap_or(1);
    (best, fillers(best) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_has_the_ratio_asked_for() {
        for (part, work, filler) in
            [(0.5, 1e-3, 1e-3), (0.2, 1e-4, 2e-3), (0.6, 5e-3, 1e-4), (0.05, 1e-5, 1e-3)]
        {
            let (times, fillers) = ratio(part, work, filler);
            let other = fillers as f64 * filler;
            let found = other / (other + times as f64 * work);
            assert!((found - part).abs() < 0.02, "{part} {found} {times} {fillers}");
        }
    }
}
