//! The memory that repeated steps work on: copies of the plan's buffers and of packed parameters that take turns, so
//! that no cache holds what the next execution finds.

use std::sync::Arc;

use crate::backend::places::{Places, StepPlaces};
use crate::backend::turns::{Passing, copies};
use crate::backend::{BackendError, Mix, host_memory};

use super::buffer::Buffer;
use super::executor::PreparedStep;
use super::kernel::{Kernel, Place};

/// Where copies of different tensors begin, in elements: a line of the cache.
const LINE: usize = 16;
/// Most copies: each is some allocations.
const MOST_COPIES: usize = 1 << 14;
/// The part of the memory that can be had which copies take.
const SHARE_OF_MEMORY: u64 = 4;

/// A step with its places in a memory.
pub(super) struct PlacedStep {
    pub(super) kernel: Arc<dyn Kernel>,
    pub(super) inputs: Vec<Place>,
    pub(super) output: Place,
}

/// Steps that are repeated on end, with copies that take turns.
#[derive(Default)]
pub(super) struct Part {
    /// The steps of each copy; none where the plan's own buffers serve.
    pub(super) copies: Vec<Vec<PlacedStep>>,
    /// The copy that is next.
    next: usize,
}

impl Part {
    /// The copy whose turn it is.
    pub(super) fn turn(&mut self) -> Option<&[PlacedStep]> {
        let copy = self.copies.get(self.next)?;
        self.next = (self.next + 1) % self.copies.len();
        Some(copy)
    }
}

/// A mix that is ready.
pub(super) struct PlacedMix {
    pub(super) mix: Mix,
    pub(super) memory: Buffer,
    pub(super) part: Part,
    pub(super) filler: Part,
    /// What is not as it was asked for, because memory is short.
    pub(super) notes: Vec<String>,
}

/// What comes from before the first step of a part: from where in the plan's memory, to which place.
pub(super) type Fill = (Place, Place);

/// A part on its way: its steps, their places, and how many copies there are to be.
struct Wanted<'a> {
    steps: &'a [PreparedStep],
    places: Places,
    count: usize,
}

/// Bytes that copies may take.
pub(super) fn room() -> usize {
    let bytes = host_memory::available().map_or(u64::MAX, |bytes| bytes / SHARE_OF_MEMORY);
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Makes the copies of a mix of the steps of a plan, on a processor with a last-level cache of so many bytes, in memory of
/// `room` bytes. What comes from before has still to be brought: for the filler, and for the other steps.
pub(super) fn place(
    mix: Mix,
    steps: &[PreparedStep],
    own: &[Place],
    cache: Option<usize>,
    room: usize,
) -> Result<(PlacedMix, [Vec<Fill>; 2]), BackendError> {
    let cache = cache.unwrap_or(0);
    let whole = |times: u64| usize::try_from(times).unwrap_or(usize::MAX);
    let mut part = Wanted::new(&steps[mix.first..=mix.last]);
    let mut filler =
        mix.filler.filter(|&(_, times)| times > 0).map(|(step, _)| Wanted::new(&steps[step..=step]));
    // What is repeated on the same buffers passes through the cache once.
    let bytes = if mix.fresh { part.bytes(2) / 2 } else { 0 };
    let passing = Passing { bytes, times: whole(mix.times.max(1)) };
    let others = filler.as_ref().map_or(Passing::NOTHING, |filler| Passing {
        bytes: filler.bytes(2) / 2,
        times: whole(mix.filler.map_or(0, |(_, times)| times)),
    });
    let asked = [copies(passing, others, cache), copies(others, passing, cache)].map(|n| n.min(MOST_COPIES));
    // The plan's own buffers do for one, where nothing is overwritten that comes from before.
    part.count = if asked[0] == 1 && !part.places.overwrites { 0 } else { asked[0] };
    let mut notes = Vec::new();
    if let Some(filler) = &mut filler {
        filler.count = asked[1];
        let spared = part.bytes(part.count).min(room / 2);
        filler.fit(room - spared, &mut notes);
    }
    let taken = filler.as_ref().map_or(0, |filler| filler.bytes(filler.count));
    part.fit(room - taken, &mut notes);

    let mut end = 0;
    let (own_copies, own_fills) = part.placed(own, &mut end);
    let (filler_copies, filler_fills) =
        filler.map_or_else(Default::default, |filler| filler.placed(own, &mut end));
    let memory = Buffer::new(end).map_err(|error| BackendError::Device {
        device: "cpu".to_string(),
        reason: format!("cannot get {} bytes for copies of buffers: {error}", end * size_of::<f32>()),
    })?;
    let turns = |copies| Part { copies, next: 0 };
    let placed = PlacedMix { mix, memory, part: turns(own_copies), filler: turns(filler_copies), notes };
    Ok((placed, [filler_fills, own_fills]))
}

impl<'a> Wanted<'a> {
    fn new(steps: &'a [PreparedStep]) -> Self {
        let places = Places::new(steps.iter().map(|step| (step.inputs.as_slice(), step.output)));
        Self { steps, places, count: 1 }
    }

    /// Bytes of some copies. Parameters are never written, so that a single one reads those that are there.
    fn bytes(&self, copies: usize) -> usize {
        let parameters: usize = self.steps.iter().map(|step| step.parameters).sum();
        let each = self.places.size(LINE) + if copies > 1 { parameters } else { 0 };
        each.saturating_mul(copies).saturating_mul(size_of::<f32>())
    }

    /// Takes as many copies as there is room for.
    fn fit(&mut self, room: usize, notes: &mut Vec<String>) {
        let asked = self.count;
        if self.bytes(asked) <= room {
            return;
        }
        let each = self.bytes(2) / 2;
        self.count = room.checked_div(each).unwrap_or(0).max(1).min(asked);
        if self.bytes(self.count) > room {
            self.count = 0;
        }
        let name = self.steps.last().map_or("", |step| &step.name);
        notes.push(match self.count {
            0 => format!(
                "{name}: there is no memory for copies of its buffers, so that in replays its inputs may be overwritten; \
                 lower --batch"
            ),
            there => format!(
                "{name}: there is memory for {there} of {asked} copies of its buffers, so that replays may find in the \
                 cache what the network does not; lower --batch"
            ),
        });
    }

    /// The copies with their places from `end` on, which moves behind them.
    fn placed(self, own: &[Place], end: &mut usize) -> (Vec<Vec<PlacedStep>>, Vec<Fill>) {
        let mut fills = Vec::new();
        let mut copies = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            let mut starts = Vec::with_capacity(self.places.sizes.len());
            for size in &self.places.sizes {
                starts.push(*end);
                *end += size.next_multiple_of(LINE);
            }
            for &given in &self.places.given {
                let len = self.places.sizes[given];
                let from = Place { start: own[self.places.buffers[given]].start, len };
                fills.push((from, Place { start: starts[given], len }));
            }
            let of_step = |(step, places): (&PreparedStep, &StepPlaces)| {
                let place = |(&place, len): (&usize, usize)| Place { start: starts[place], len };
                let lens = step.inputs.iter().map(|slot| slot.size);
                let kernel = if self.count > 1 { step.kernel.copied() } else { None };
                PlacedStep {
                    kernel: kernel.unwrap_or_else(|| Arc::clone(&step.kernel)),
                    inputs: places.inputs.iter().zip(lens).map(place).collect(),
                    output: place((&places.output, step.output.size)),
                }
            };
            copies.push(self.steps.iter().zip(&self.places.steps).map(of_step).collect());
        }
        (copies, fills)
    }
}
