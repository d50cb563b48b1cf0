//! Points in the queue and the instants, by the host's clock, at which the device came past them.

use crate::clock::{Clock, Instant};
use crate::units::Seconds;

use super::driver::{Event, Gpu, Stream};
use super::failure::Failure;

/// Marks that can be asked for at the same time; more are never queued.
const MARKS: u64 = 64;
/// Attempts to place the device's time beside the host's.
const ATTEMPTS: usize = 8;

/// A ring of events, and an event whose instant is known.
#[derive(Debug)]
pub(super) struct Marks {
    ring: Vec<Event>,
    next: u64,
    anchor: Event,
    anchored_at: Option<Instant>,
    /// The mark that was found passed last, and the device's time from the anchor to it.
    last: Option<(u64, Seconds)>,
}

impl Marks {
    pub(super) fn new(gpu: &Gpu) -> Result<Self, Failure> {
        let ring = (0..MARKS).map(|_| Event::new(gpu)).collect::<Result<_, _>>()?;
        Ok(Self { ring, next: 0, anchor: Event::new(gpu)?, anchored_at: None, last: None })
    }

    /// Places the device's time beside the host's: the queue is empty, so an event is passed as soon as it is recorded,
    /// between the two looks at the clock. The two clocks differ by some parts in 10^5, so this is done again before each window.
    pub(super) fn align(&mut self, stream: &Stream, clock: &dyn Clock) -> Result<(), Failure> {
        stream.sync()?;
        let mut least = Seconds::new(f64::INFINITY);
        for attempt in 1..=ATTEMPTS {
            let before = clock.now();
            self.anchor.record(stream)?;
            self.anchor.sync()?;
            let between = clock.now() - before;
            self.anchored_at = Some(before + between * 0.5);
            // The event keeps only its latest time, so the attempts end with one that is about as close as the closest.
            if attempt > ATTEMPTS / 2 && between <= least * 1.2 {
                break;
            }
            least = if between < least { between } else { least };
        }
        self.last = None;
        Ok(())
    }

    /// Puts a mark behind everything queued.
    pub(super) fn put(&mut self, stream: &Stream) -> Result<u64, Failure> {
        let mark = self.next;
        self.event(mark).record(stream)?;
        self.next += 1;
        Ok(mark)
    }

    /// When the device came past a mark; none if it has not yet.
    pub(super) fn passed(&mut self, mark: u64) -> Result<Option<Instant>, Failure> {
        if mark >= self.next || mark + MARKS < self.next {
            let text = format!("mark {mark} is not one of the last {MARKS} before {}", self.next);
            return Err(Failure::refused("Marks::passed", text));
        }
        if !self.event(mark).passed()? {
            return Ok(None);
        }
        // From the mark before, if it is still there: an event's distance is a 32-bit number of milliseconds, whose steps
        // grow with it.
        let since_anchor = match self.last.filter(|&(last, _)| last <= mark && last + MARKS >= self.next) {
            Some((last, since)) => since + self.event(mark).since(self.event(last))?,
            None => self.event(mark).since(&self.anchor)?,
        };
        self.last = Some((mark, since_anchor));
        let Some(anchored_at) = self.anchored_at else {
            return Err(Failure::refused(
                "Marks::passed",
                "the device's time was never placed beside the host's",
            ));
        };
        Ok(Some(anchored_at + since_anchor))
    }

    fn event(&self, mark: u64) -> &Event {
        &self.ring[(mark % MARKS) as usize]
    }
}
