//! From a layer to its candidates.

use crate::backend::BackendError;
use crate::backend::cuda::failure::{Failure, Severity};
use crate::backend::cuda::operation::{Job, Operation};
use crate::network::{LayerKind, Role};

use super::around::{Stage, staged};
use super::form::read_forms;
use super::tools::Tools;
use super::{conv, elementwise, linear, movement, normalise, pool};

/// Ways of computing a layer, and why others are none.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    found: Vec<Box<dyn Operation>>,
    refusal: Option<Failure>,
}

impl Candidates {
    /// Takes a candidate, unless there is none.
    ///
    /// # Errors
    ///
    /// The device is lost, so that no other candidate is worth trying.
    pub(super) fn offer(&mut self, candidate: Result<Box<dyn Operation>, Failure>) -> Result<(), Failure> {
        self.offer_all(candidate.map(|candidate| vec![candidate]))
    }

    /// Takes several.
    ///
    /// # Errors
    ///
    /// As [`Self::offer`].
    pub(super) fn offer_all(
        &mut self,
        candidates: Result<Vec<Box<dyn Operation>>, Failure>,
    ) -> Result<(), Failure> {
        match candidates {
            Ok(candidates) => self.found.extend(candidates),
            Err(failure) if failure.severity == Severity::Lost => return Err(failure),
            Err(failure) => self.refusal = Some(failure),
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Each candidate made into another.
    pub(super) fn map(self, change: impl Fn(Box<dyn Operation>) -> Box<dyn Operation>) -> Self {
        Self { found: self.found.into_iter().map(change).collect(), refusal: self.refusal }
    }

    /// Takes over others' candidates.
    pub(super) fn extend(&mut self, others: Self) {
        self.found.extend(others.found);
        self.refusal = others.refusal.or(self.refusal.take());
    }
}

/// Every way of computing a layer, the one that is most likely the fastest first. Some libraries refuse only when work
/// is queued: a candidate whose [`Operation::queue`] fails as [`Severity::Refused`] is no way.
///
/// # Errors
///
/// The device failed, or there is no way at all.
pub(in crate::backend::cuda) fn candidates(
    tools: &Tools,
    job: &Job<'_>,
) -> Result<Vec<Box<dyn Operation>>, BackendError> {
    let on = |failure: Failure| failure.on(tools.gpu().name());
    let unsupported = |reason: String| BackendError::Unsupported { layer: job.layer.name.clone(), reason };
    let read = read_forms(job);
    let differing = job.inputs.iter().zip(&read).enumerate().filter(|(_, (from, to))| from != to);
    let stages: Vec<Stage> = differing.map(|(input, (from, to))| Stage::reorder(input, from, to)).collect();
    let inner = Job { inputs: read, ..job.clone() };
    let candidates = of_kind(tools, &inner).map_err(on)?;
    let Candidates { mut found, refusal } = candidates.map(|operation| staged(tools, &stages, operation));
    if found.is_empty() {
        let why = refusal.map_or_else(|| "there is no operation for it".to_string(), |why| why.to_string());
        return Err(unsupported(format!(
            "{} in {} {}: nothing on this GPU computes it; the last refusal: {why}",
            job.kind(),
            job.precision,
            job.layout
        )));
    }
    if let (LayerKind::Conv(_), Some(chosen)) = (job.kind(), &tools.options.conv_algorithm) {
        let names: Vec<String> = found.iter().map(|operation| operation.name().to_string()).collect();
        found.retain(|operation| is_called(operation.name(), chosen));
        if found.is_empty() {
            return Err(unsupported(format!(
                "expected the algorithm \"{chosen}\", found {}; name one of these, or leave the choice to measurement",
                names.join(", ")
            )));
        }
    }
    Ok(found)
}

/// Whether an operation's name has these words, whole and in a row.
fn is_called(name: &str, words: &str) -> bool {
    format!(" {name} ").contains(&format!(" {words} "))
}

fn of_kind(tools: &Tools, job: &Job<'_>) -> Result<Candidates, Failure> {
    match job.kind() {
        LayerKind::Conv(of) => conv::candidates(tools, job, of),
        LayerKind::Linear(of) => linear::candidates(tools, job, of),
        LayerKind::Activation(of) => elementwise::activation(tools, job, *of),
        LayerKind::MaxPool(of) => pool::maximum(tools, job, of),
        LayerKind::AvgPool(of) => pool::mean(tools, job, of),
        LayerKind::GlobalAvgPool => pool::global(tools, job, pool::Global::Mean),
        LayerKind::GlobalMaxPool => pool::global(tools, job, pool::Global::Maximum),
        LayerKind::BatchNorm { epsilon } => normalise::batch_norm(tools, job, *epsilon),
        LayerKind::Lrn(of) => normalise::lrn(tools, job, of),
        LayerKind::Softmax { axis } => normalise::softmax(tools, job, *axis),
        LayerKind::Add { operand } => {
            elementwise::combined(tools, job, elementwise::Combination::Sum, operand.as_deref())
        }
        LayerKind::Mul { operand } => {
            elementwise::combined(tools, job, elementwise::Combination::Product, operand.as_deref())
        }
        LayerKind::Concat { axis } => movement::concat(tools, job, *axis),
        LayerKind::Transpose { perm } => movement::transpose(tools, job, perm),
        LayerKind::ChannelShuffle { groups } => movement::channel_shuffle(tools, job, *groups),
        LayerKind::Pad { padding, value } => movement::pad(tools, job, *padding, *value),
        LayerKind::Flatten | LayerKind::Reshape { .. } | LayerKind::Dropout { .. } => {
            movement::view(tools, job)
        }
    }
}

/// Which of the layer's parameters has a role.
///
/// # Errors
///
/// None has: a broken network.
pub(super) fn parameter(job: &Job<'_>, role: Role) -> Result<usize, Failure> {
    let place = job.layer.parameters.iter().position(|parameter| parameter.role == role);
    place.ok_or_else(|| Failure::refused("candidates", format!("the layer has no {role:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_algorithm_is_chosen_by_whole_words() {
        assert!(is_called("cudnn implicit_precomp_gemm", "implicit_precomp_gemm"));
        assert!(is_called("cudnn engine 57 (k2=10)", "engine 57"));
        assert!(!is_called("cudnn implicit_precomp_gemm", "gemm"));
        assert!(!is_called("cudnn engine 57", "engine 5"));
    }
}
