//! Exit codes: what went wrong, for scripts.

use std::io::ErrorKind;
use std::process::ExitCode;

use crate::calibration::RecordedError;
use crate::network::ReadError;
use crate::plan::PlanError;
use crate::profile::{OutputError, ProfileError};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Wrong usage or input.
    Input,
    /// The environment cannot do what was asked.
    Environment,
    /// Stopped by the user.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => ExitCode::SUCCESS,
            Exit::Input => ExitCode::from(2),
            Exit::Environment => ExitCode::from(3),
            Exit::Interrupted => ExitCode::from(130),
        }
    }
}

/// The exit code of an error, by its type; anything unforeseen is the environment's.
pub(super) fn of_error(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<ProfileError>() {
            return of_profile(error);
        }
        if let Some(error) = cause.downcast_ref::<OutputError>() {
            return of_output(error);
        }
        if let Some(error) = cause.downcast_ref::<RecordedError>() {
            return of_recorded(error);
        }
        if cause.is::<ReadError>() || cause.is::<PlanError>() || cause.is::<WrongInput>() {
            return Exit::Input;
        }
    }
    Exit::Environment
}

/// The error and its causes on one line. Many of our messages quote their cause: it is not said twice.
pub(super) fn text_of(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn of_profile(error: &ProfileError) -> Exit {
    match error {
        ProfileError::Network(_) | ProfileError::Plan { .. } | ProfileError::Usage(_) => Exit::Input,
        ProfileError::Meter(crate::meter::MeterError::Unknown { .. }) => Exit::Input,
        ProfileError::Meter(_) | ProfileError::Backend(_) => Exit::Environment,
        ProfileError::Output(error) => of_output(error),
    }
}

fn of_output(error: &OutputError) -> Exit {
    match error {
        OutputError::Refused { .. } | OutputError::RunFile(_) => Exit::Input,
        OutputError::Trace(crate::trace::TraceError::Malformed { .. }) => Exit::Input,
        OutputError::Io { what: "read", source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Exit::Input
        }
        _ => Exit::Environment,
    }
}

fn of_recorded(error: &RecordedError) -> Exit {
    match error {
        RecordedError::Nothing { .. } | RecordedError::Malformed { .. } => Exit::Input,
        RecordedError::Io { source, .. } => match source.kind() {
            // The last two are what a damaged gzip stream is.
            ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::UnexpectedEof => Exit::Input,
            _ => Exit::Environment,
        },
    }
}

/// A mistake in the arguments that clap cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct WrongInput(pub(super) String);
