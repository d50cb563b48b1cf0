//! Which kinds of work were measured while something held the device's clock down.

use crate::trace::{Span, SpanKind, Trace};

/// Windows of one kind of work, by the state of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HeldWindows {
    /// All of them.
    pub windows: usize,
    /// Those in which the clock was held down.
    pub held: usize,
    /// Those of which that is not known.
    pub unknown: usize,
}

/// For each signature, its windows; `held` tells of a window whether the clock was held down in it, as far as is known.
pub fn held_windows(trace: &Trace, held: impl Fn(&Span) -> Option<bool>) -> Vec<HeldWindows> {
    let mut found = vec![HeldWindows::default(); trace.header.signatures.len()];
    for span in &trace.spans {
        let SpanKind::Replay(signature) = span.kind else { continue };
        let Some(windows) = found.get_mut(signature) else { continue };
        windows.windows += 1;
        match held(span) {
            Some(true) => windows.held += 1,
            Some(false) => {}
            None => windows.unknown += 1,
        }
    }
    found
}
