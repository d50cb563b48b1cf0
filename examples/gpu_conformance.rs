//! Holds every kind of layer, precision and layout to the f64 reference, in every way that the GPU's libraries offer,
//! and steps that are repeated together, in copies of their memory, to what the pass computes.
//!
//! `gpu_conformance [--cuda-path DIR] [--device N] [--precision f32|tf32|f16|bf16] [--layout nchw|nhwc] [--only TEXT]`
//!
//! Prints a line for each way of computing each layer, and a summary. Exits with 1 where one is wrong or a layer cannot
//! be computed, with 3 without a GPU.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is its result")]

#[path = "../tests/cuda_conformance/suite.rs"]
mod cuda_conformance;

use std::path::PathBuf;
use std::process::ExitCode;

use layerjoule::backend::cuda::{CudaBackend, CudaOptions, Libraries, Search};
use layerjoule::plan::{Layout, Precision};

use cuda_conformance::cases::cases;
use cuda_conformance::check::{Line, Verdict, check};
use cuda_conformance::mixes;

/// What the command line asks for.
#[derive(Debug, Default)]
struct Asked {
    cuda_path: Option<PathBuf>,
    ordinal: usize,
    precision: Option<String>,
    layout: Option<String>,
    only: Option<String>,
}

fn asked() -> Result<Asked, String> {
    let mut asked = Asked::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name}: expected a value"))?;
        match name.as_str() {
            "--cuda-path" => asked.cuda_path = Some(value.into()),
            "--device" => {
                asked.ordinal =
                    value.parse().map_err(|_| format!("--device: expected a number, found {value}"))?;
            }
            "--precision" => asked.precision = Some(value),
            "--layout" => asked.layout = Some(value),
            "--only" => asked.only = Some(value),
            _ => return Err(format!("{name}: unknown; see the head of examples/gpu_conformance.rs")),
        }
    }
    Ok(asked)
}

fn open(asked: &Asked) -> Result<CudaBackend, String> {
    let search = Search::here(asked.cuda_path.as_deref()).map_err(|error| error.to_string())?;
    let cuda = Libraries::load(&search).cuda().map_err(|error| error.to_string())?;
    let options = CudaOptions { ordinal: asked.ordinal, ..CudaOptions::default() };
    CudaBackend::open(&cuda, &options).map_err(|error| error.to_string())
}

/// How many lines there were of each verdict.
#[derive(Debug, Default)]
struct Counts {
    agree: usize,
    refused: usize,
    wrong: usize,
}

impl Counts {
    fn add(&mut self, lines: Result<Vec<Line>, String>, precision: Precision, layout: Layout) {
        match lines {
            Ok(lines) => {
                for line in lines {
                    let (count, word) = match line.verdict {
                        Verdict::Agrees => (&mut self.agree, "ok"),
                        Verdict::Refused => (&mut self.refused, "refused"),
                        Verdict::Wrong => (&mut self.wrong, "WRONG"),
                    };
                    *count += 1;
                    println!("{word:7} {}", line.text);
                }
            }
            Err(error) => {
                self.wrong += 1;
                println!("FAILED  {precision} {layout} | {error}");
            }
        }
    }
}

fn main() -> ExitCode {
    let asked = match asked() {
        Ok(asked) => asked,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let backend = match open(&asked) {
        Ok(backend) => backend,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(3);
        }
    };
    let mut counts = Counts::default();
    let is = |asked: &Option<String>, name: &str| asked.as_deref().is_none_or(|asked| asked == name);
    for precision in Precision::ALL.into_iter().filter(|precision| is(&asked.precision, precision.name())) {
        for layout in
            [Layout::Nchw, Layout::Nhwc].into_iter().filter(|layout| is(&asked.layout, layout.name()))
        {
            let cases = cases();
            let chosen =
                cases.iter().filter(|case| asked.only.as_ref().is_none_or(|part| case.name.contains(part)));
            chosen.for_each(|case| counts.add(check(&backend, case, precision, layout), precision, layout));
            if asked.only.as_ref().is_none_or(|part| mixes::NAME.contains(part)) {
                counts.add(mixes::check(&backend, precision, layout), precision, layout);
            }
        }
    }
    let Counts { agree, refused, wrong } = counts;
    println!("{agree} agree, {refused} refused by a library, {wrong} wrong");
    if wrong == 0 && agree > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
