//! Which libraries there are, what their files are called, and what has to lie beside them.

use std::fmt;

use super::symbols;

/// A library of NVIDIA's that the backend calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LibraryKind {
    /// The driver's own library, which no package of CUDA contains.
    Driver,
    /// Matrix products with fused epilogues; cuBLAS and cuDNN call it.
    CublasLt,
    /// Matrix products; cuDNN calls it.
    Cublas,
    /// The compiler of CUDA C++.
    Nvrtc,
    /// Convolution, pooling, normalisation, softmax.
    Cudnn,
}

impl LibraryKind {
    /// All, in the order in which they are loaded: each after those that it needs.
    pub const ALL: [Self; 5] = [Self::Driver, Self::CublasLt, Self::Cublas, Self::Nvrtc, Self::Cudnn];

    /// The file's name without what follows `.so`.
    pub const fn stem(self) -> &'static str {
        match self {
            Self::Driver => "libcuda",
            Self::CublasLt => "libcublasLt",
            Self::Cublas => "libcublas",
            Self::Nvrtc => "libnvrtc",
            Self::Cudnn => "libcudnn",
        }
    }

    /// Every function that the backend may call.
    pub const fn symbols(self) -> &'static [&'static str] {
        match self {
            Self::Driver => symbols::DRIVER,
            Self::CublasLt => symbols::CUBLASLT,
            Self::Cublas => symbols::CUBLAS,
            Self::Nvrtc => symbols::NVRTC,
            Self::Cudnn => symbols::CUDNN,
        }
    }

    /// The names that cudarc 0.19 tries one after the other when it is built for CUDA 13, without those of Windows.
    pub fn names_for_cudarc(self) -> impl Iterator<Item = String> {
        ["", ".13", ".12", ".11", ".10", ".9", ".1"].iter().map(move |end| format!("{}.so{end}", self.stem()))
    }

    /// The parts that it opens by itself, loaded before it is called for the first time: without its graph part
    /// cuDNN 9.28 aborts the process when asked for its version.
    pub(super) const fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Cudnn => &["libcudnn_graph.so.9", "libcudnn_ops.so.9", "libcudnn_cnn.so.9"],
            _ => &[],
        }
    }

    /// How the names of files begin that it opens later and that have to lie beside it.
    pub(super) const fn companions(self) -> &'static [&'static str] {
        match self {
            Self::Nvrtc => &["libnvrtc-builtins.so"],
            Self::Cudnn => &[
                "libcudnn_engines_precompiled.so.9",
                "libcudnn_engines_runtime_compiled.so.9",
                "libcudnn_heuristic.so.9",
            ],
            _ => &[],
        }
    }

    /// The package on PyPI that contains it for a major version of CUDA, as an argument of `pip install`.
    pub(super) const fn package(self, cuda: u32) -> Option<&'static str> {
        Some(match (self, cuda) {
            (Self::Driver, _) => return None,
            (Self::CublasLt | Self::Cublas, 12) => "nvidia-cublas-cu12",
            (Self::Nvrtc, 12) => "nvidia-cuda-nvrtc-cu12",
            (Self::Cudnn, 12) => "nvidia-cudnn-cu12",
            // From CUDA 13 on the names have no number, and the next major version will have the same.
            (Self::CublasLt | Self::Cublas, _) => "'nvidia-cublas==13.*'",
            (Self::Nvrtc, _) => "'nvidia-cuda-nvrtc==13.*'",
            (Self::Cudnn, _) => "nvidia-cudnn-cu13",
        })
    }
}

impl fmt::Display for LibraryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Driver => "NVIDIA driver",
            Self::CublasLt => "cuBLASLt",
            Self::Cublas => "cuBLAS",
            Self::Nvrtc => "NVRTC",
            Self::Cudnn => "cuDNN",
        })
    }
}
