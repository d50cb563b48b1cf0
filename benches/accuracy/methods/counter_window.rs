//! Zeus windows: the energy counter before and after one pass, and before and after each layer of another pass.
//!
//! Described in Zeus's documentation (ml-energy/zeus, `ZeusMonitor.begin_window` and `end_window`): the device is
//! synchronised and the counter is read at both ends; where it did not move, the window's energy is 0 J and a
//! warning says so. (`approx_instant_energy` is off by default, and its own guide says never to enable it
//! unprompted.) The description asks for no warm-up, so the passes follow ten seconds of others, as ours do.

use super::super::board::{Answer, Board, Value, Work};
use super::super::subject::Subject;

const WARM_UP: f64 = 10.0;

/// One pass as a window, then one pass with a window around each layer.
pub(crate) fn measure(subject: &Subject, seed: u64) -> Result<Answer, String> {
    let mut board = Board::new(subject, seed)?;
    let sensor = board.counter_index()?;
    board.warm_up(WARM_UP)?;
    let pass = window(&mut board, Work::Pass)?;
    let layers = (0..subject.plan.steps.len())
        .map(|step| window(&mut board, Work::Step(step)).map(Some))
        .collect::<Result<_, String>>()?;
    Ok(Answer { layers, pass: Some(pass), gaps: 0.0, seconds: board.now(), sensor })
}

/// Counter after less counter before; zero where it stood still.
pub(crate) fn window(board: &mut Board<'_>, work: Work) -> Result<Value, String> {
    let before = board.counter()?;
    board.launch(work)?;
    Ok(Value::bare(board.counter()? - before))
}
