//! Convolutions: engines of cuDNN's graph interface, its older algorithms, a matrix product where the convolution is
//! one, and the own kernel.

use std::rc::Rc;

use crate::backend::cuda::cublaslt::Product;
use crate::backend::cuda::cudnn::{
    Algorithm, Convolution, ConvolutionGraph, ConvolutionPlaces, Engine, Math, Proposed, Sources, View,
};
use crate::backend::cuda::driver::Stream;
use crate::backend::cuda::failure::Failure;
use crate::backend::cuda::kernels::{self, Tensor, Weights};
use crate::backend::cuda::operation::{Job, Operation, Places};
use crate::backend::cuda::tensor::TensorForm;
use crate::network::{Conv, Role};
use crate::plan::{Layout, Precision};

use super::around::{Stage, biased, staged};
use super::choice::{Candidates, parameter};
use super::linear::{products, stored_bias};
use super::own::Own;
use super::tools::Tools;

/// Engines that are taken from one list of proposals. They come best guess first, each costs a compilation or a
/// measurement, and the first ten have the fastest in nearly every case: frameworks stop there as well.
const MOST_ENGINES: usize = 10;

/// With fewer proposals by the heuristic the engines that work in most cases are asked for as well.
const ENOUGH_ENGINES: usize = 3;

pub(super) fn candidates(tools: &Tools, job: &Job<'_>, conv: &Conv) -> Result<Candidates, Failure> {
    let mut candidates = Candidates::default();
    candidates.extend(by_cudnn(tools, job, conv, &job.inputs[0])?);
    let [top, left, bottom, right] = conv.padding;
    if (top, left) != (bottom, right) {
        candidates.extend(padded_first(tools, job, conv)?);
    }
    if is_product(conv, job.layout) {
        let features = job.inputs[0].shape[0];
        let rows = job.inputs[0].elements() / features.max(1);
        let (outputs, precision) = (conv.out_channels, job.precision);
        let product = Product { rows, features, outputs, precision, bias: conv.bias };
        products(tools, job, product, 0, &mut candidates)?;
    }
    // With few channels a group the own kernel is not slower by far, and libraries are slow at times.
    if conv.groups > 1 || candidates.is_empty() {
        candidates.offer(direct(tools, job, conv))?;
    }
    Ok(candidates)
}

/// Whether a convolution is the product of the places' channels with the filters. Channels lie beside each other.
fn is_product(conv: &Conv, layout: Layout) -> bool {
    layout == Layout::Nhwc
        && conv.kernel == [1; 2]
        && conv.stride == [1; 2]
        && conv.padding == [0; 4]
        && conv.groups == 1
}

fn direct(tools: &Tools, job: &Job<'_>, conv: &Conv) -> Result<Box<dyn Operation>, Failure> {
    let weight = parameter(job, Role::Weight)?;
    let bias = if conv.bias { Some(parameter(job, Role::Bias)?) } else { None };
    let (input, output, conv, layout) = (job.inputs[0].clone(), job.output.clone(), conv.clone(), job.layout);
    let launches = move |places: &Places<'_>| {
        let x = Tensor { form: &input, at: places.inputs[0] };
        let y = Tensor { form: &output, at: places.output };
        let weights = Weights { at: places.parameters[weight], layout };
        let bias = bias.map(|place| places.parameters[place]);
        Ok(vec![kernels::conv(&conv, x, weights, bias, y)?])
    };
    Own::operation(tools, "conv", job.precision, launches)
}

/// Padding that differs between the sides is written by an own kernel first.
fn padded_first(tools: &Tools, job: &Job<'_>, conv: &Conv) -> Result<Candidates, Failure> {
    let input = &job.inputs[0];
    let Some([channels, height, width]) = input.planes() else { return Ok(Candidates::default()) };
    let [top, left, bottom, right] = conv.padding;
    let sizes = [channels, height + top + bottom, width + left + right];
    let padded = TensorForm::new(input.batch, &sizes, input.precision, job.layout);
    let border = conv.padding.map(usize::cast_signed);
    let (from, to) = (input.clone(), padded.clone());
    let stage = Stage::new(0, "pad", padded.clone(), move |x, y| {
        Ok(vec![kernels::pad(border, 0.0, Tensor { form: &from, at: x }, Tensor { form: &to, at: y })?])
    });
    let conv = Conv { padding: [0; 4], ..conv.clone() };
    let found = by_cudnn(tools, job, &conv, &padded)?;
    Ok(found.map(|operation| staged(tools, std::slice::from_ref(&stage), operation)))
}

/// What cuDNN offers for an input of this form.
fn by_cudnn(tools: &Tools, job: &Job<'_>, conv: &Conv, input: &TensorForm) -> Result<Candidates, Failure> {
    let mut candidates = Candidates::default();
    let view = |form| {
        let none = || Failure::refused("cudnn convolution", "no planes in this layout");
        View::planes(form, job.layout).ok_or_else(none)
    };
    let seen = Seen {
        conv,
        x: view(input)?,
        y: view(&job.output)?,
        weight: parameter(job, Role::Weight)?,
        bias: if conv.bias { Some(parameter(job, Role::Bias)?) } else { None },
    };
    candidates.extend(seen.engines(tools, job)?);
    candidates.extend(seen.algorithms(tools, job)?);
    Ok(candidates)
}

/// A convolution as cuDNN sees it.
#[derive(Debug)]
struct Seen<'a> {
    conv: &'a Conv,
    x: View,
    y: View,
    weight: usize,
    bias: Option<usize>,
}

impl Seen<'_> {
    fn filter(&self) -> Filter {
        Filter { weight: self.weight, channels: self.conv.out_channels }
    }

    /// Engines of the graph interface, first with the bias in the same kernel.
    fn engines(&self, tools: &Tools, job: &Job<'_>) -> Result<Candidates, Failure> {
        let mut candidates = Candidates::default();
        if let Some(bias) = self.bias {
            let fused = self.engines_of(tools, job, true, Proposed::ByHeuristic);
            candidates.offer_all(fused.map(|engines| {
                let made =
                    engines.into_iter().map(|engine| self.by_engine(engine, Some(bias), job.precision));
                made.collect()
            }))?;
        }
        for proposed in [Proposed::ByHeuristic, Proposed::AsFallback] {
            let engines = self.engines_of(tools, job, false, proposed);
            let found = engines.map(|engines| {
                let made = engines.into_iter().map(|engine| self.by_engine(engine, None, job.precision));
                made.map(|operation| self.with_bias(tools, job, operation)).collect::<Vec<_>>()
            });
            let enough = found.as_ref().is_ok_and(|found| found.len() >= ENOUGH_ENGINES);
            candidates.offer_all(found)?;
            if enough {
                break;
            }
        }
        Ok(candidates)
    }

    fn engines_of(
        &self,
        tools: &Tools,
        job: &Job<'_>,
        fused: bool,
        proposed: Proposed,
    ) -> Result<Vec<Engine>, Failure> {
        let graph =
            ConvolutionGraph::new(&tools.cudnn, self.conv, self.x, self.y, job.layout, job.precision, fused)?;
        graph.engines(proposed, MOST_ENGINES, tools.workspace)
    }

    fn by_engine(&self, engine: Engine, bias: Option<usize>, precision: Precision) -> Box<dyn Operation> {
        let name = match bias {
            Some(_) => format!("{} with bias", engine.name()),
            None => engine.name().to_string(),
        };
        Box::new(ByEngine { engine, name, filter: self.filter(), bias, precision })
    }

    /// Algorithms of the older calls; the one that can add the bias does so in one more candidate.
    fn algorithms(&self, tools: &Tools, job: &Job<'_>) -> Result<Candidates, Failure> {
        let mut candidates = Candidates::default();
        let made = Convolution::new(&tools.cudnn, self.conv, self.x, self.y, job.layout, job.precision);
        let asked = Math::of(job.precision);
        let proposals = made.and_then(|convolution| {
            let mut proposals = Vec::new();
            for &math in Math::asked(job.precision) {
                proposals.extend(convolution.proposals(math)?);
            }
            Ok((Rc::new(convolution), proposals))
        });
        let (convolution, proposals) = match proposals {
            Ok(proposals) => proposals,
            Err(failure) => {
                candidates.offer(Err(failure))?;
                return Ok(candidates);
            }
        };
        for (number, &(algorithm, math)) in proposals.iter().enumerate() {
            // Without tensor cores two proposals may come to the same.
            if !algorithm.keeps(job.precision, self.conv.kernel)
                || proposals[..number].contains(&(algorithm, math))
            {
                continue;
            }
            let workspace = match convolution.workspace(algorithm, math) {
                Ok(workspace) if workspace <= tools.workspace => workspace,
                Ok(_) => continue,
                Err(failure) => {
                    candidates.offer(Err(failure))?;
                    continue;
                }
            };
            let by = |bias: Option<usize>| -> Box<dyn Operation> {
                let name = name(algorithm, math, asked, bias.is_some());
                let convolution = Rc::clone(&convolution);
                let (filter, precision) = (self.filter(), job.precision);
                Box::new(ByAlgorithm {
                    convolution,
                    algorithm,
                    math,
                    workspace,
                    name,
                    filter,
                    bias,
                    precision,
                })
            };
            if let (Some(bias), Algorithm::ImplicitPrecompGemm) = (self.bias, algorithm) {
                candidates.offer(Ok(by(Some(bias))))?;
            }
            candidates.offer(Ok(self.with_bias(tools, job, by(None))))?;
        }
        Ok(candidates)
    }

    fn with_bias(&self, tools: &Tools, job: &Job<'_>, operation: Box<dyn Operation>) -> Box<dyn Operation> {
        match self.bias {
            Some(place) => biased(tools, 0, &job.output, place, operation),
            None => operation,
        }
    }
}

/// `cudnn implicit_precomp_gemm`, and what sets a proposal apart from others of the same algorithm.
fn name(algorithm: Algorithm, math: Math, asked: Math, bias: bool) -> String {
    let math = match math {
        math if math == asked => "",
        Math::Fma => " fma",
        Math::TensorOp => " tensor_op",
        Math::Default => " default_math",
    };
    format!("cudnn {}{math}{}", algorithm.name(), if bias { " with bias" } else { "" })
}

/// The filters of a convolution: which parameter, and how many.
#[derive(Debug, Clone, Copy)]
struct Filter {
    weight: usize,
    channels: usize,
}

#[derive(Debug)]
struct ByEngine {
    engine: Engine,
    name: String,
    filter: Filter,
    bias: Option<usize>,
    precision: Precision,
}

impl Operation for ByEngine {
    fn name(&self) -> &str {
        &self.name
    }

    fn workspace(&self) -> usize {
        self.engine.workspace()
    }

    fn queue(&self, stream: &Stream, places: &Places<'_>) -> Result<(), Failure> {
        let Filter { weight, channels } = self.filter;
        let bias = self.bias.map(|place| stored_bias(places.parameters[place], channels, self.precision));
        let sources = Sources {
            x: places.inputs[0],
            filter: places.parameters[weight],
            y: places.output,
            bias,
            workspace: places.workspace,
        };
        self.engine.queue(stream, &sources)
    }
}

#[derive(Debug)]
struct ByAlgorithm {
    convolution: Rc<Convolution>,
    algorithm: Algorithm,
    math: Math,
    workspace: usize,
    name: String,
    filter: Filter,
    bias: Option<usize>,
    precision: Precision,
}

impl Operation for ByAlgorithm {
    fn name(&self) -> &str {
        &self.name
    }

    fn workspace(&self) -> usize {
        self.workspace
    }

    fn queue(&self, stream: &Stream, places: &Places<'_>) -> Result<(), Failure> {
        let Filter { weight, channels } = self.filter;
        let at = ConvolutionPlaces {
            x: places.inputs[0],
            filter: places.parameters[weight],
            y: places.output,
            workspace: (places.workspace, self.workspace),
        };
        match self.bias {
            Some(place) => {
                let bias = stored_bias(places.parameters[place], channels, self.precision);
                self.convolution.queue_with_bias(stream, self.math, at, bias)
            }
            None => self.convolution.queue(stream, self.algorithm, self.math, at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conv(kernel: usize, stride: usize, padding: usize, groups: usize) -> Conv {
        Conv {
            out_channels: 4,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 4],
            dilation: [1; 2],
            groups,
            bias: true,
        }
    }

    #[test]
    fn a_convolution_of_single_places_is_a_matrix_product_where_channels_come_last() {
        assert!(is_product(&conv(1, 1, 0, 1), Layout::Nhwc));
        assert!(!is_product(&conv(1, 1, 0, 1), Layout::Nchw));
        assert!(!is_product(&conv(3, 1, 0, 1), Layout::Nhwc));
        assert!(!is_product(&conv(1, 2, 0, 1), Layout::Nhwc));
        assert!(!is_product(&conv(1, 1, 1, 1), Layout::Nhwc));
        assert!(!is_product(&conv(1, 1, 0, 4), Layout::Nhwc));
    }

    #[test]
    fn an_algorithm_is_named_as_cudnn_names_it() {
        let gemm = Algorithm::ImplicitPrecompGemm;
        assert_eq!(name(gemm, Math::TensorOp, Math::TensorOp, false), "cudnn implicit_precomp_gemm");
        assert_eq!(name(gemm, Math::Fma, Math::TensorOp, false), "cudnn implicit_precomp_gemm fma");
        assert_eq!(name(gemm, Math::Fma, Math::Fma, true), "cudnn implicit_precomp_gemm with bias");
    }

    #[test]
    fn the_bias_of_a_16_bit_layer_lies_behind_that_in_f32() {
        assert_eq!(stored_bias(4096, 100, Precision::Tf32), 4096);
        // 400 bytes of f32, to the next multiple of 256.
        assert_eq!(stored_bias(4096, 100, Precision::Bf16), 4096 + 512);
    }
}
