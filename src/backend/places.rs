//! Where consecutive steps find and leave their tensors when they are repeated by themselves, in memory of their own.
//!
//! A plan uses a buffer again as soon as nobody needs what it holds. Steps that are repeated keep that, since what is
//! found in a cache depends on it, but for one case: a tensor that comes from before the first of them must be there
//! the next time too, so that it gets a place of its own where one of them would overwrite it.

use std::collections::HashMap;

use crate::plan::BufferId;

/// A buffer of the plan as one tensor uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) buffer: BufferId,
    /// How long the tensor is, in whatever unit the device counts.
    pub(super) size: usize,
}

/// What one of the steps uses, by number of the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StepPlaces {
    pub(super) inputs: Vec<usize>,
    pub(super) output: usize,
}

/// Steps with the places of their tensors.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Places {
    /// Size of each place.
    pub(super) sizes: Vec<usize>,
    /// The plan's buffer that each place stands for.
    pub(super) buffers: Vec<BufferId>,
    /// Places of what comes from before the first step: it has to be brought there.
    pub(super) given: Vec<usize>,
    pub(super) steps: Vec<StepPlaces>,
    /// Whether the steps would overwrite in the plan's own buffers what comes from before them.
    pub(super) overwrites: bool,
}

impl Places {
    /// Those of steps in order, each with its inputs and its output.
    pub(super) fn new<'a>(steps: impl IntoIterator<Item = (&'a [Slot], Slot)>) -> Self {
        let mut places = Self::default();
        // What comes from before the first step and what the steps wrote, by buffer.
        let (mut given, mut written) = (HashMap::new(), HashMap::new());
        for (inputs, output) in steps {
            let mut read = |slot: &Slot| {
                let known = written.get(&slot.buffer).or_else(|| given.get(&slot.buffer)).copied();
                let place = known.unwrap_or_else(|| {
                    let place = places.another(slot.buffer);
                    places.given.push(place);
                    given.insert(slot.buffer, place);
                    place
                });
                places.hold(place, slot.size)
            };
            let inputs = inputs.iter().map(&mut read).collect();
            places.overwrites |= given.contains_key(&output.buffer);
            let place = *written.entry(output.buffer).or_insert_with(|| places.another(output.buffer));
            let output = places.hold(place, output.size);
            places.steps.push(StepPlaces { inputs, output });
        }
        places
    }

    /// Size of all places, each a multiple of `alignment`.
    pub(super) fn size(&self, alignment: usize) -> usize {
        self.sizes.iter().map(|size| size.next_multiple_of(alignment)).sum()
    }

    fn another(&mut self, buffer: BufferId) -> usize {
        self.sizes.push(0);
        self.buffers.push(buffer);
        self.sizes.len() - 1
    }

    fn hold(&mut self, place: usize, size: usize) -> usize {
        self.sizes[place] = self.sizes[place].max(size);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Buffer and size.
    type Tensor = (usize, usize);

    fn places(steps: &[(&[Tensor], Tensor)]) -> Places {
        let slot = |&(buffer, size): &Tensor| Slot { buffer, size };
        let steps: Vec<(Vec<Slot>, Slot)> =
            steps.iter().map(|(inputs, output)| (inputs.iter().map(slot).collect(), slot(output))).collect();
        Places::new(steps.iter().map(|(inputs, output)| (inputs.as_slice(), *output)))
    }

    fn of(places: &Places) -> Vec<(Vec<usize>, usize)> {
        places.steps.iter().map(|step| (step.inputs.clone(), step.output)).collect()
    }

    #[test]
    fn what_a_step_writes_the_next_one_finds() {
        let places = places(&[(&[(0, 10)], (1, 20)), (&[(1, 20)], (2, 30))]);
        assert_eq!(of(&places), [(vec![0], 1), (vec![1], 2)]);
        assert_eq!((places.sizes.as_slice(), places.given.as_slice()), (&[10, 20, 30][..], &[0][..]));
        assert!(!places.overwrites);
        assert_eq!(places.size(16), 16 + 32 + 32);
    }

    #[test]
    fn buffers_that_the_plan_uses_again_stay_one_place() {
        // The third step writes the buffer that the first one wrote and the second one read.
        let places = places(&[(&[(0, 10)], (1, 20)), (&[(1, 20)], (2, 30)), (&[(2, 30)], (1, 40))]);
        assert_eq!(of(&places), [(vec![0], 1), (vec![1], 2), (vec![2], 1)]);
        assert_eq!(places.sizes, [10, 40, 30]);
        assert!(!places.overwrites);
    }

    #[test]
    fn what_comes_from_before_is_not_overwritten() {
        // The second step writes where the first one's input lies, and the third reads it from there.
        let places = places(&[(&[(0, 10)], (1, 20)), (&[(1, 20)], (0, 30)), (&[(0, 30)], (1, 40))]);
        assert_eq!(of(&places), [(vec![0], 1), (vec![1], 2), (vec![2], 1)]);
        assert_eq!((places.sizes.as_slice(), places.buffers.as_slice()), (&[10, 40, 30][..], &[0, 1, 0][..]));
        assert_eq!((places.given.as_slice(), places.overwrites), (&[0][..], true));
    }

    #[test]
    fn a_residual_block_reads_its_input_twice_from_one_place() {
        let places = places(&[
            (&[(3, 8)], (1, 8)),
            (&[(1, 8)], (2, 8)),
            (&[(2, 8), (3, 8)], (1, 8)),
            (&[(1, 8), (1, 8)], (2, 8)),
        ]);
        assert_eq!(of(&places), [(vec![0], 1), (vec![1], 2), (vec![2, 0], 1), (vec![1, 1], 2)]);
        assert_eq!((places.given.as_slice(), places.overwrites), (&[0][..], false));
    }
}
