//! The memory that repeated steps work on: copies of the plan's buffers and of the parameters that take turns.

use crate::backend::places::{Places, Slot, StepPlaces};
use crate::backend::turns::Turns;

use super::executor::PreparedStep;

/// Where copies of different buffers begin: what every library's kernels are content with.
const ALIGNMENT: usize = 256;

/// The addresses of what one execution of a step reads and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) inputs: Vec<u64>,
    pub(super) parameters: Vec<u64>,
    pub(super) output: u64,
}

/// Where a copy of something comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The beginning of a buffer of the plan.
    Buffer(usize),
    /// Parameters at an address.
    Address(u64),
}

/// Consecutive steps that are repeated together, and the memory of one copy of all they use.
#[derive(Debug)]
pub(super) struct Piece<'a> {
    /// The first one's number.
    pub(super) first: usize,
    steps: &'a [PreparedStep],
    places: Places,
    tensors: usize,
    parameters: usize,
}

/// Copies of a piece's memory.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// For each copy, the places of each step.
    pub(super) addresses: Vec<Vec<Addresses>>,
    /// What has to be copied before they are of use: from where, to which address, how many bytes.
    pub(super) fills: Vec<(Source, u64, usize)>,
}

impl<'a> Piece<'a> {
    /// That of the steps from `first` to `last`.
    pub(super) fn new(all: &'a [PreparedStep], first: usize, last: usize) -> Self {
        let steps = &all[first..=last];
        let places = Places::new(steps.iter().map(|step| (step.inputs.as_slice(), step.output)));
        let sizes = steps.iter().flat_map(|step| &step.parameters).map(|&(_, bytes)| aligned(bytes));
        Self { first, steps, tensors: places.size(ALIGNMENT), parameters: sizes.sum(), places }
    }

    /// Bytes of all that the steps touch.
    pub(super) fn footprint(&self) -> usize {
        self.tensors + self.parameters
    }

    /// Whether the plan's own buffers do: nothing that comes from before the first step is overwritten there.
    pub(super) fn runs_in_the_plans_buffers(&self) -> bool {
        !self.places.overwrites
    }

    /// Bytes of some copies. Parameters are never written, so that a single one reads those that are there.
    pub(super) fn bytes(&self, copies: usize) -> usize {
        if copies == 1 { self.tensors } else { self.footprint().saturating_mul(copies) }
    }

    /// The turns with as many copies as there is room for; none if there is none for one.
    pub(super) fn fit(&self, turns: Turns, room: usize) -> Option<Turns> {
        if self.bytes(turns.copies()) <= room {
            return Some(turns);
        }
        let most = room.checked_div(self.footprint()).unwrap_or(0);
        let fewer = turns.fitting(most);
        (self.bytes(fewer.copies()) <= room).then_some(fewer)
    }

    /// Copies from an address on.
    pub(super) fn copies(&self, count: usize, from: u64) -> Copies {
        let mut next = from;
        let mut place = |bytes: usize| {
            let here = next;
            next += aligned(bytes) as u64;
            here
        };
        let mut copies = Copies::default();
        for _ in 0..count {
            let tensors: Vec<u64> = self.places.sizes.iter().map(|&bytes| place(bytes)).collect();
            for &given in &self.places.given {
                let buffer = Source::Buffer(self.places.buffers[given]);
                copies.fills.push((buffer, tensors[given], self.places.sizes[given]));
            }
            let mut parameter = |&(from, bytes): &(u64, usize)| {
                if count == 1 {
                    return from;
                }
                let to = place(bytes);
                copies.fills.push((Source::Address(from), to, bytes));
                to
            };
            let of_step = |(step, places): (&PreparedStep, &StepPlaces)| Addresses {
                inputs: places.inputs.iter().map(|&place| tensors[place]).collect(),
                parameters: step.parameters.iter().map(&mut parameter).collect(),
                output: tensors[places.output],
            };
            let addresses = self.steps.iter().zip(&self.places.steps).map(of_step).collect();
            copies.addresses.push(addresses);
        }
        copies
    }

    /// The plan's own buffers, whose addresses are these, as the only copy.
    pub(super) fn own(&self, buffers: impl Fn(&Slot) -> u64) -> Copies {
        let of_step = |step: &PreparedStep| step.own(&buffers);
        Copies { addresses: vec![self.steps.iter().map(of_step).collect()], fills: Vec::new() }
    }

    /// The name of the last step, for what is said of the piece.
    pub(super) fn name(&self) -> &str {
        self.steps.last().map_or("", |step| &step.name)
    }
}

fn aligned(bytes: usize) -> usize {
    bytes.next_multiple_of(ALIGNMENT)
}
