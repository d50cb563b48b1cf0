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
    /// Uses that should lie between two of a copy, as far as there are so many.
    apart: usize,
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
        let others = filler
            .as_ref()
            .map_or(Passing::NOTHING, |(piece, times)| Passing { bytes: piece.footprint(), times: *times });
        let (apart, filler_apart) = (copies(passing, others, cache), copies(others, passing, cache));
        let graphs = rotation::graphs(unit, apart, times)
            .max(filler.as_ref().map_or(1, |(_, times)| rotation::graphs(unit, filler_apart, *times)));
        let part = |piece: Piece<'a>, times: usize, apart: usize| {
            let uses = graphs * unit * times;
            Part { piece, times, apart: apart.min(uses), turns: Turns::new(uses, apart), own: false }
        };
        let mut repeated = part(piece, times, apart);
        repeated.own = repeated.turns.copies() == 1 && repeated.piece.runs_in_the_plans_buffers();
        // Never in the plan's own buffers: its output could lie where the other steps find what comes from before them.
        let filler = filler.map(|(piece, times)| part(piece, times, filler_apart));
        Self { part: repeated, filler, unit, graphs }
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
        let filler =
            self.filler.map(|filler| filler.placed(from + taken as u64, room - taken, &buffer, &mut notes).0);
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
        let Self { piece, times, apart, turns: wanted, own } = self;
        let found = if own { None } else { piece.fit(wanted, room) };
        let turns = found.unwrap_or(wanted.fitting(1));
        if !own && found.is_none() {
            notes.push(format!(
                "{}: there is no memory for copies of its buffers, so that in replays its inputs may be overwritten; \
                 lower --batch",
                piece.name()
            ));
        } else if turns.apart() < apart {
            notes.push(format!(
                "{}: there is memory for {} of {apart} copies of its buffers, so that replays may find in the cache what \
                 the network does not; lower --batch",
                piece.name(),
                turns.copies()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cuda::driver::Stream;
    use crate::backend::cuda::failure::Failure;
    use crate::backend::cuda::operation::{Operation, Places};
    use crate::backend::cuda::tensor::TensorForm;
    use crate::plan::{Layout, Precision};

    const KIB: usize = 1024;

    #[derive(Debug)]
    struct Nothing;

    impl Operation for Nothing {
        fn name(&self) -> &'static str {
            "nothing"
        }

        fn queue(&self, _: &Stream, _: &Places<'_>) -> Result<(), Failure> {
            Ok(())
        }
    }

    /// Steps that read and write 1 KiB in these buffers, with 2 KiB of parameters each, and their methods.
    fn steps(buffers: &[(&[usize], usize)]) -> (Vec<PreparedStep>, Vec<Method>) {
        let slot = |buffer: usize| Slot { buffer, size: KIB };
        let steps = buffers.iter().enumerate().map(|(number, (inputs, output))| PreparedStep {
            name: format!("l{number}"),
            method: 0,
            inputs: inputs.iter().map(|&buffer| slot(buffer)).collect(),
            parameters: vec![(0x10 + number as u64, 2 * KIB)],
            output: slot(*output),
            form: TensorForm::new(1, &[256], Precision::F32, Layout::Nchw),
        });
        let each = Seconds::new(1e-5);
        let method = Method { operation: Box::new(Nothing), each, kernels: Vec::new(), nodes: 2 };
        (steps.collect(), vec![method])
    }

    const FROM: u64 = 0x10_0000;

    /// Buffers of the plan are known by their numbers.
    fn placed(mix: &Mix, buffers: &[(&[usize], usize)], cache: usize, room: usize) -> (usize, PlacedMix) {
        let (steps, methods) = steps(buffers);
        let planned = PlannedMix::new(mix, &steps, &methods, rotation::SHORT, cache);
        let bytes = planned.bytes();
        (bytes, planned.placed(FROM, room, |slot| slot.buffer as u64))
    }

    const CHAIN: [(&[usize], usize); 3] = [(&[0], 1), (&[1], 2), (&[2], 1)];

    #[test]
    fn copies_lie_apart_within_the_memory_and_begin_with_what_comes_from_before() {
        // Three tensors and twice the parameters: 7 KiB, of which twice 20 KiB pass between two uses: six, and the one.
        let (bytes, mix) = placed(&Mix::of(0, 1, true), &CHAIN, 20 * KIB, usize::MAX);
        let copies = &mix.part.addresses;
        assert!((7..14).contains(&copies.len()), "{}", copies.len());
        assert_eq!(bytes, copies.len() * 7 * KIB);
        let mut all: Vec<u64> = Vec::new();
        for copy in copies {
            let [first, second] = copy.as_slice() else { panic!("two steps") };
            assert_eq!(first.output, second.inputs[0], "what one writes the next finds");
            all.extend([
                first.inputs[0],
                first.output,
                second.output,
                first.parameters[0],
                second.parameters[0],
            ]);
        }
        all.sort_unstable();
        let distances: Vec<u64> = all.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(distances.iter().all(|&bytes| bytes >= KIB as u64), "{distances:?}");
        assert!(all[0] >= FROM && all.last().unwrap() + 2 * KIB as u64 <= FROM + bytes as u64);
        // For each copy the input from the plan's first buffer and both steps' parameters.
        assert_eq!(mix.part.fills.len(), 3 * copies.len());
        assert_eq!(mix.part.fills[0], (Source::Buffer(0), copies[0][0].inputs[0], KIB));
        assert!(mix.part.fills.contains(&(Source::Address(0x11), copies[6][1].parameters[0], 2 * KIB)));
        assert!(mix.notes.is_empty());
    }

    #[test]
    fn one_copy_is_the_plans_own_unless_it_would_overwrite_its_input() {
        let (bytes, mix) = placed(&Mix::of(0, 1, false), &CHAIN, 20 * KIB, 0);
        let own = Addresses { inputs: vec![0], parameters: vec![0x10], output: 1 };
        assert_eq!((bytes, &mix.part.addresses[0][0]), (0, &own));
        assert!(mix.part.fills.is_empty() && mix.notes.is_empty());
        // The third step writes into the second one's input. The parameters stay where they are.
        let (bytes, mix) = placed(&Mix::of(1, 2, false), &CHAIN, 20 * KIB, usize::MAX);
        assert_eq!((bytes, mix.part.addresses.len()), (3 * KIB, 1));
        let [second, third] = mix.part.addresses[0].as_slice() else { panic!("two steps") };
        assert_ne!(second.inputs[0], third.output);
        assert_eq!(second.parameters, [0x11]);
        assert_eq!(mix.part.fills, [(Source::Buffer(1), second.inputs[0], KIB)]);
        // What moves more than twice the cache by itself needs no others either.
        assert_eq!(placed(&Mix::of(0, 1, true), &CHAIN, 3 * KIB, 0).0, 0);
    }

    #[test]
    fn an_execution_takes_copies_in_turn_and_ends_with_the_filler() {
        let mix = Mix { times: 2, filler: Some((2, 1)), ..Mix::of(0, 1, true) };
        let (_, mix) = placed(&mix, &CHAIN, 20 * KIB, usize::MAX);
        let (copies, filler) = (&mix.part.addresses, mix.filler.as_ref().unwrap());
        for at in 0..5 {
            let steps: Vec<(usize, &Addresses)> = mix.execution(at).collect();
            assert_eq!(steps.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [0, 1, 0, 1, 2]);
            assert_eq!(steps[0].1.output, steps[1].1.inputs[0]);
            assert_ne!(steps[0].1, steps[2].1, "the next copy");
        }
        let used: Vec<&Addresses> =
            (0..1000).flat_map(|at| mix.execution(at)).map(|(_, copy)| copy).collect();
        let all = copies.iter().chain(&filler.addresses).flatten();
        assert!(all.clone().all(|copy| used.contains(&copy)) && filler.addresses.len() > 1);
    }

    #[test]
    fn with_less_memory_there_are_fewer_copies_and_in_the_end_the_plans_buffers() {
        let copies = |mix: &Mix, room: usize| {
            let mix = placed(mix, &CHAIN, 20 * KIB, room).1;
            (mix.part.addresses.len(), mix.filler.map_or(0, |filler| filler.addresses.len()), mix.notes)
        };
        let alone = Mix::of(0, 1, true);
        let (count, _, notes) = copies(&alone, 22 * KIB);
        assert!(count == 3 && notes[0].starts_with("l1: there is memory for 3 of "), "{notes:?}");
        assert_eq!(copies(&alone, 3 * KIB).0, 1, "with the parameters that are there");
        let (count, _, notes) = copies(&alone, KIB);
        assert!(count == 1 && notes[0].starts_with("l1: there is no memory"), "{notes:?}");
        // Both get a part of what there is: half of it for the filler, if that is not enough for it.
        let mix = Mix { filler: Some((2, 1)), ..alone };
        let (count, fillers, notes) = copies(&mix, 16 * KIB);
        assert_eq!((count, fillers, notes.len()), (1, 3, 2), "{notes:?}");
    }
}
