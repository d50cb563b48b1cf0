//! Streams and events: what is started, what runs, when it ends.
//!
//! A piece of work computes when it is started, but ends only after its modelled time: it begins when the stream's
//! work before it has ended, `LATENCY` after its start at the earliest, and takes `OVERHEAD` and the longer of its
//! arithmetic and its memory traffic at the modelled speeds. Events have the instants at which the work before them
//! ends. A function that waits sleeps until then; one that asks says `CUDA_ERROR_NOT_READY` before. So a program sees
//! an asynchronous device in real time, and of two kinds of work the modelled faster one is measured to be faster.
//!
//! A replay of work that changed no byte of memory is not computed again as long as nothing else changed any: a second
//! result would be the first. It takes its modelled time all the same, and so does work in one graph that does the same
//! with the same memory.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cudarc::driver::sys::CUresult as R;

use crate::graphs::{Capture, Node, NodeKind};
use crate::machine::{Code, Cu, Machine};
use crate::memory::Memory;
use crate::pointers::to_host;

/// What a piece of work is in a graph.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Kernel {
        /// The handle of a function of a module; none for a library's own kernel.
        function: Option<usize>,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
    },
    Copy,
    Fill,
}

type Body = Box<dyn Fn(&mut Memory) -> Result<(), R> + Send + Sync>;

/// Keys of works that nobody else knows.
static UNKNOWN: AtomicU64 = AtomicU64::new(0);

/// A kernel, a copy or a fill.
pub(crate) struct Work {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) flops: f64,
    pub(crate) bytes: f64,
    /// Its time is so many times the modelled one: some algorithms are slower than others.
    pub(crate) slowness: f64,
    /// Whether it reads or writes the host's memory.
    pub(crate) host: bool,
    /// Whether writes go round [`Memory::write`].
    pub(crate) native: bool,
    pub(crate) body: Body,
    /// The same for works that do the same with the same memory.
    key: u64,
}

impl Work {
    pub(crate) fn new(
        name: &str,
        kind: Kind,
        body: impl Fn(&mut Memory) -> Result<(), R> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.to_string(),
            kind,
            flops: 0.0,
            bytes: 0.0,
            slowness: 1.0,
            host: false,
            native: false,
            body: Box::new(body),
            key: UNKNOWN.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// A library's kernel.
    pub(crate) fn kernel(
        name: &str,
        body: impl Fn(&mut Memory) -> Result<(), R> + Send + Sync + 'static,
    ) -> Self {
        let kind = Kind::Kernel { function: None, grid: [1; 3], block: [128, 1, 1], shared: 0 };
        Self::new(name, kind, body)
    }

    /// Everything that decides what it does, so that others that do the same are known to be equal.
    pub(crate) fn known_by(mut self, what: &impl std::fmt::Debug) -> Self {
        let mut hash = DefaultHasher::new();
        (&self.name, format!("{what:?}")).hash(&mut hash);
        self.key = hash.finish();
        self
    }

    pub(crate) fn costing(self, flops: f64, bytes: f64) -> Self {
        Self { flops, bytes, ..self }
    }
}

/// A stream; the legacy default stream has the handle 0.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// When its work ends.
    pub(crate) end: f64,
    pub(crate) non_blocking: bool,
    /// The capture that it takes part in, by its number.
    pub(crate) capture: Option<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) timed: bool,
    /// When the work before it ends; none before it is recorded.
    pub(crate) at: Option<f64>,
    /// The capture that it was last recorded in.
    pub(crate) capture: Option<u64>,
}

/// What a copy to page-locked memory will bring.
struct Delivery {
    at: f64,
    to: usize,
    bytes: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) streams: BTreeMap<usize, Stream>,
    pub(crate) events: BTreeMap<usize, Event>,
    pub(crate) captures: BTreeMap<u64, Capture>,
    deliveries: Vec<Delivery>,
    /// The memory's version at which a work changed nothing, by its key.
    settled: HashMap<u64, u64>,
}

/// `CU_STREAM_LEGACY`, which may be given in place of the null stream.
const LEGACY: usize = 1;

impl Machine {
    /// The stream with a handle.
    pub(crate) fn stream(&mut self, handle: usize) -> Cu<&mut Stream> {
        let handle = if handle == LEGACY { 0 } else { handle };
        if handle == 0 {
            return Ok(self.queue.streams.entry(0).or_default());
        }
        self.queue.streams.get_mut(&handle).ok_or_else(|| R::CUDA_ERROR_INVALID_HANDLE.into())
    }

    /// The capture that a stream takes part in.
    pub(crate) fn capture_of(&mut self, stream: usize) -> Cu<Option<&mut Capture>> {
        let Some(number) = self.stream(stream)?.capture else { return Ok(None) };
        let capture = self.queue.captures.get_mut(&number).expect("it lasts as long as its streams name it");
        if capture.invalid {
            return Err(R::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED.into());
        }
        Ok(Some(capture))
    }

    /// Starts a piece of work, or puts it into the graph that the stream's capture makes.
    pub(crate) fn submit(&mut self, stream: usize, work: Work) -> Cu<()> {
        self.legacy_rules(stream)?;
        let handle = self.new_handle();
        let work = Arc::new(work);
        if let Some(capture) = self.capture_of(stream)? {
            capture.nodes.push(Node { handle, kind: NodeKind::Work(work) });
            return Ok(());
        }
        let seconds = self.execute(&work, false);
        self.extend(stream, seconds)?;
        self.deliver_at(stream)
    }

    /// Stream synchronisation behaviour, "Legacy default stream": it waits for blocking streams and they for it; while
    /// one of them is capturing, it cannot be used (cuStreamBeginCapture, `CUDA_ERROR_STREAM_CAPTURE_IMPLICIT`).
    pub(crate) fn legacy_rules(&mut self, stream: usize) -> Cu<()> {
        if stream > LEGACY {
            return Ok(());
        }
        let capturing = self.queue.streams.values().find(|s| !s.non_blocking && s.capture.is_some());
        let Some(number) = capturing.and_then(|s| s.capture) else { return Ok(()) };
        if let Some(capture) = self.queue.captures.get_mut(&number) {
            capture.invalid = true;
        }
        Err(R::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT.into())
    }

    /// Computes a piece of work; its time in seconds.
    pub(crate) fn execute(&mut self, work: &Work, replay: bool) -> f64 {
        let settings = &self.settings;
        let seconds = settings.overhead
            + work.slowness * (work.flops / settings.flops).max(work.bytes / settings.bandwidth);
        if self.sticky.is_some() {
            return 0.0;
        }
        if let Some(code) = self.faults.of_work(self.executed, &work.name) {
            self.fail(code, &format!("{} fails as asked", work.name));
            return 0.0;
        }
        self.executed += 1;
        let before = self.memory.version;
        if replay && !work.host && self.queue.settled.get(&work.key) == Some(&before) {
            return seconds;
        }
        let digest = (replay && work.native).then(|| self.memory.digest());
        if let Err(code) = (work.body)(&mut self.memory) {
            self.fail(code as u32, &format!("{}: an address outside of what is allocated", work.name));
            return 0.0;
        }
        self.memory.unchecked |= work.native;
        if work.native && digest != Some(self.memory.digest()) {
            self.memory.version += 1;
        }
        if self.memory.version == before {
            self.queue.settled.insert(work.key, before);
        }
        seconds
    }

    /// Lets a stream end so much later.
    pub(crate) fn extend(&mut self, stream: usize, seconds: f64) -> Cu<()> {
        let earliest = self.now() + self.settings.latency;
        let is_legacy = stream <= LEGACY;
        let non_blocking = self.stream(stream)?.non_blocking;
        // The legacy stream and blocking streams wait for each other.
        let others =
            self.queue.streams.iter().filter(|(handle, other)| {
                !other.non_blocking && !non_blocking && (is_legacy || **handle == 0)
            });
        let others = others.map(|(_, other)| other.end).fold(0.0, f64::max);
        let stream = self.stream(stream)?;
        stream.end = stream.end.max(earliest).max(others) + seconds;
        Ok(())
    }

    /// Notes when what copies brought for page-locked memory is there.
    pub(crate) fn deliver_at(&mut self, stream: usize) -> Cu<()> {
        let at = self.stream(stream)?.end;
        for (to, bytes) in std::mem::take(&mut self.memory.outbox) {
            self.queue.deliveries.push(Delivery { at, to, bytes });
        }
        Ok(())
    }

    /// Brings everything whose time has come.
    pub(crate) fn deliver(&mut self, until: f64) {
        let all = std::mem::take(&mut self.queue.deliveries);
        let (due, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|delivery| delivery.at <= until);
        self.queue.deliveries = later;
        for delivery in due {
            to_host(delivery.to, &delivery.bytes);
        }
    }

    /// What a wait finds: everything due is there, and nobody wrote where nobody may.
    pub(crate) fn settle(&mut self, until: f64) -> Cu<()> {
        self.deliver(until);
        if std::mem::take(&mut self.memory.unchecked) && !self.memory.is_whole() {
            let why = "a kernel wrote outside of what is allocated";
            self.fail(R::CUDA_ERROR_ILLEGAL_ADDRESS as u32, why);
        }
        self.sticky.map_or(Ok(()), |code| Err(Code(code)))
    }
}

/// The answer about work that is still running.
pub(crate) fn not_ready() -> Code {
    R::CUDA_ERROR_NOT_READY.into()
}
