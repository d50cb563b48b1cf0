//! The executions of a mix: which steps run in each, on which copies, and how many of them make a graph.

use crate::backend::Mix;
use crate::backend::places::Slot;
use crate::backend::turns::{Passing, Turns, copies};
use crate::units::Seconds;

use super::copies::{Addresses, Copies, Piece, Source};
use super::executor::{Method, PreparedStep};
use super::rotation;

/// Steps that are repeated on end, and how their copies take turns.
#[derive(Debug)]
struct Part<'a> {
    piece: Piece<'a>,
    /// Repetitions in an execution.
    times: usize,
    turns: Turns,
    /// Whether the plan's own buffers do.
    own: bool,
}

/// A mix with what it takes to run it.
#[derive(Debug)]
pub(super) struct PlannedMix<'a> {
    part: Part<'a>,
    filler: Option<Part<'a>>,
    /// Executions in a graph.
    pub(super) unit: usize,
    /// Graphs that take turns.
    pub(super) graphs: usize,
}

/// A part whose copies have their places.
#[derive(Debug)]
pub(super) struct PlacedPart {
    pub(super) first: usize,
    times: usize,
    turns: Turns,
    pub(super) addresses: Vec<Vec<Addresses>>,
    /// What has to be copied when all steps before the first have run: from where, to which address, how many bytes.
    pub(super) fills: Vec<(Source, u64, usize)>,
}

/// A mix whose copies have their places.
#[derive(Debug)]
pub(super) struct PlacedMix {
    pub(super) part: PlacedPart,
    pub(super) filler: Option<PlacedPart>,
    /// What is not as it was asked for, because memory is short.
    pub(super) notes: Vec<String>,
}

impl<'a> PlannedMix<'a> {
    /// That of a mix of the steps of a plan, in graphs of a length, on a device with a last-level cache of so many bytes.
    pub(super) fn new(
        mix: &Mix,
        steps: &'a [PreparedStep],
        methods: &[Method],
        length: Seconds,
        cache: usize,
    ) -> Self {
        let cost = |first: usize, last: usize, times: usize| {
            let methods = || steps[first..=last].iter().map(|step| &methods[step.method]);
            let nodes: usize = methods().map(|method| method.nodes).sum();
            let each: Seconds = methods().map(|method| method.each).sum();
            (each * times as f64, nodes.saturating_mul(times))
        };
        let whole = |times: u64| usize::try_from(times).unwrap_or(usize::MAX);
        let (times, filler) = (whole(mix.times.max(1)), mix.filler.filter(|&(_, times)| times > 0));
        let filler = filler.map(|(step, times)| (step, whole(times)));
        let own = cost(mix.first, mix.last, times);
        let (each, nodes) = filler.map_or(own, |(step, times)| {
            let (each, nodes) = cost(step, step, times);
            (own.0 + each, own.1.saturating_add(nodes))
        });
        let unit = rotation::executions(length, each, nodes);

        let piece = Piece::new(steps, mix.first, mix.last);
        let filler = filler.map(|(step, times)| (Piece::new(steps, step, step), times));
        // What is repeated on the same buffers passes through the cache once.
        let bytes = if mix.fresh { piece.footprint() } else { 0 };
        let passing = Passing { bytes, times };
        let others = filler.as_ref().map_or(Passing::NOTHING, |(piece, times)| Passing {
            bytes: piece.footprint(),
            times: *times,
        });
        let (apart, filler_apart) = (copies(passing, others, cache), copies(others, passing, cache));
        let graphs = rotation::graphs(unit, apart, times)
            .max(filler.as_ref().map_or(1, |(_, times)| rotation::graphs(unit, filler_apart, *times)));
        let turns = |apart: usize, times: usize| Turns::new(graphs * unit * times, apart);
        let turns_of_part = turns(apart, times);
        let own = turns_of_part.copies() == 1 && piece.runs_in_the_plans_buffers();
        Self {
            part: Part { piece, times, turns: turns_of_part, own },
            // Its output could lie where the other steps find what comes from before them.
            filler: filler.map(|(piece, times)| Part {
                piece,
                times,
                turns: turns(filler_apart, times),
                own: false,
            }),
            unit,
            graphs,
        }
    }

    /// Bytes of all copies.
    pub(super) fn bytes(&self) -> usize {
        self.part.bytes().saturating_add(self.filler.as_ref().map_or(0, Part::bytes))
    }

    /// Places for the copies in memory of `room` bytes from an address on; fewer copies if that is not enough, and in the
    /// end the plan's own buffers, with a note in both cases.
    pub(super) fn placed(self, from: u64, room: usize, buffer: impl Fn(&Slot) -> u64) -> PlacedMix {
        let spared = self.filler.as_ref().map_or(0, Part::bytes).min(room / 2);
        let mut notes = Vec::new();
        let (part, taken) = self.part.placed(from, room - spared, &buffer, &mut notes);
        let filler = self.filler.map(|filler| {
            filler.placed(from + taken as u64, room - taken, &buffer, &mut notes).0
        });
        PlacedMix { part, filler, notes }
    }
}

impl Part<'_> {
    fn bytes(&self) -> usize {
        if self.own { 0 } else { self.piece.bytes(self.turns.copies()) }
    }

    /// The same with places, and the bytes that they take.
    fn placed(
        self,
        from: u64,
        room: usize,
        buffer: &impl Fn(&Slot) -> u64,
        notes: &mut Vec<String>,
    ) -> (PlacedPart, usize) {
        let Self { piece, times, turns: wanted, own } = self;
        let found = if own { None } else { piece.fit(wanted, room) };
        let turns = found.unwrap_or(wanted.fitting(1));
        let (asked, there) = (wanted.copies(), turns.copies());
        if !own && found.is_none() {
            notes.push(format!(
                "{}: there is no memory for copies of its buffers, so that in replays its inputs may be overwritten; \
                 lower --batch",
                piece.name()
            ));
        } else if there < asked {
            notes.push(format!(
                "{}: there is memory for {there} of {asked} copies of its buffers, so that replays may find in the cache \
                 what the network does not; lower --batch",
                piece.name()
            ));
        }
        let (Copies { addresses, fills }, taken) = match found {
            Some(turns) => (piece.copies(turns.copies(), from), piece.bytes(turns.copies())),
            None => (piece.own(buffer), 0),
        };
        (PlacedPart { first: piece.first, times, turns, addresses, fills }, taken)
    }
}

impl PlacedPart {
    /// The steps of an execution in order, with the places of each.
    fn execution(&self, at: usize) -> impl Iterator<Item = (usize, &Addresses)> {
        let repetition = move |time| {
            let copy = self.turns.copy(at * self.times + time);
            (self.first..).zip(&self.addresses[copy])
        };
        (0..self.times).flat_map(repetition)
    }
}

impl PlacedMix {
    /// The steps of an execution in order, with the places of each.
    pub(super) fn execution(&self, at: usize) -> impl Iterator<Item = (usize, &Addresses)> {
        self.part.execution(at).chain(self.filler.iter().flat_map(move |filler| filler.execution(at)))
    }
}
