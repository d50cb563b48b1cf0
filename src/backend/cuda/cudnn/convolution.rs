//! Convolution by the older calls, one algorithm at a time.

use std::ffi::c_int;

use cudarc::cudnn::sys::{
    self, cudnnConvolutionFwdAlgo_t as Fwd, cudnnConvolutionFwdAlgoPerf_t as Perf,
    cudnnMathType_t as MathType,
};

use crate::backend::cuda::driver::Stream;
use crate::backend::cuda::failure::Failure;
use crate::network::Conv;
use crate::plan::{Layout, Precision};

use super::call::done;
use super::descriptors::{ActivationDescriptor, ConvolutionDescriptor, FilterDescriptor, TensorDescriptor};
use super::forward::{ONE, ZERO, at, factor};
use super::handle::Cudnn;
use super::view::View;

/// What products may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend::cuda) enum Math {
    /// f32 alone. The default would let devices from capability 8.0 on round to TF32 (cudnn_cnn Library,
    /// `cudnnMathType_t`).
    Fma,
    /// Tensor cores on what is stored; TF32 for f32. Never `ALLOW_CONVERSION`, which would round f32 to f16.
    TensorOp,
    /// The library's default.
    Default,
}

impl Math {
    /// What a precision asks for.
    pub(in crate::backend::cuda) const fn of(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::Fma,
            Precision::Tf32 | Precision::F16 | Precision::Bf16 => Self::TensorOp,
        }
    }

    /// What cuDNN is asked to propose for a precision. TF32 is documented for the default and known of tensor operations.
    pub(in crate::backend::cuda) const fn asked(precision: Precision) -> &'static [Self] {
        match precision {
            Precision::F32 => &[Self::Fma],
            Precision::Tf32 => &[Self::TensorOp, Self::Default],
            Precision::F16 | Precision::Bf16 => &[Self::TensorOp],
        }
    }

    const fn raw(self) -> MathType {
        match self {
            Self::Fma => MathType::CUDNN_FMA_MATH,
            Self::TensorOp => MathType::CUDNN_TENSOR_OP_MATH,
            Self::Default => MathType::CUDNN_DEFAULT_MATH,
        }
    }
}

/// How cuDNN computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend::cuda) enum Algorithm {
    ImplicitGemm,
    ImplicitPrecompGemm,
    Gemm,
    Direct,
    Fft,
    FftTiling,
    Winograd,
    WinogradNonfused,
}

impl Algorithm {
    const ALL: [Self; 8] = [
        Self::ImplicitGemm,
        Self::ImplicitPrecompGemm,
        Self::Gemm,
        Self::Direct,
        Self::Fft,
        Self::FftTiling,
        Self::Winograd,
        Self::WinogradNonfused,
    ];

    /// cuDNN's name for it.
    pub(in crate::backend::cuda) const fn name(self) -> &'static str {
        match self {
            Self::ImplicitGemm => "implicit_gemm",
            Self::ImplicitPrecompGemm => "implicit_precomp_gemm",
            Self::Gemm => "gemm",
            Self::Direct => "direct",
            Self::Fft => "fft",
            Self::FftTiling => "fft_tiling",
            Self::Winograd => "winograd",
            Self::WinogradNonfused => "winograd_nonfused",
        }
    }

    const fn raw(self) -> Fwd {
        match self {
            Self::ImplicitGemm => Fwd::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
            Self::ImplicitPrecompGemm => Fwd::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
            Self::Gemm => Fwd::CUDNN_CONVOLUTION_FWD_ALGO_GEMM,
            Self::Direct => Fwd::CUDNN_CONVOLUTION_FWD_ALGO_DIRECT,
            Self::Fft => Fwd::CUDNN_CONVOLUTION_FWD_ALGO_FFT,
            Self::FftTiling => Fwd::CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING,
            Self::Winograd => Fwd::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD,
            Self::WinogradNonfused => Fwd::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED,
        }
    }

    /// Whether a precision may be computed so: transforms of 16-bit numbers are kept in 16 bits and lose more than the
    /// products do, and those of large tiles, which Winograd takes for filters beyond 3 x 3, lose too much in f32 as well.
    pub(in crate::backend::cuda) fn keeps(self, precision: Precision, filter: [usize; 2]) -> bool {
        match self {
            Self::Fft | Self::FftTiling => precision.bytes() == 4,
            Self::Winograd | Self::WinogradNonfused => precision.bytes() == 4 && filter == [3; 2],
            _ => true,
        }
    }
}

/// A convolution with everything but an algorithm.
#[derive(Debug)]
pub(in crate::backend::cuda) struct Convolution {
    convolution: ConvolutionDescriptor,
    x: TensorDescriptor,
    filter: FilterDescriptor,
    y: TensorDescriptor,
    bias: Option<(TensorDescriptor, ActivationDescriptor)>,
    cudnn: Cudnn,
}

/// Addresses of a convolution.
#[derive(Debug, Clone, Copy)]
pub(in crate::backend::cuda) struct ConvolutionPlaces {
    pub(in crate::backend::cuda) x: u64,
    pub(in crate::backend::cuda) filter: u64,
    pub(in crate::backend::cuda) y: u64,
    pub(in crate::backend::cuda) workspace: (u64, usize),
}

/// The binding's structure with numbers for its enumerations: it must not hold values that they lack.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Proposal {
    algorithm: u32,
    status: u32,
    time: f32,
    memory: usize,
    determinism: u32,
    math: u32,
    reserved: [c_int; 3],
}

const _: () =
    assert!(size_of::<Proposal>() == size_of::<Perf>() && align_of::<Proposal>() == align_of::<Perf>());

impl Convolution {
    /// A convolution with the same padding on both sides; its tensors lie as the layout says.
    pub(in crate::backend::cuda) fn new(
        cudnn: &Cudnn,
        conv: &Conv,
        x: View,
        y: View,
        layout: Layout,
        precision: Precision,
    ) -> Result<Self, Failure> {
        let [top, left, bottom, right] = conv.padding;
        if (top, left) != (bottom, right) {
            return Err(Failure::refused(
                "cudnnSetConvolution2dDescriptor",
                "padding differs between the sides",
            ));
        }
        let filters = [conv.out_channels, x.sizes[1] / conv.groups, conv.kernel[0], conv.kernel[1]];
        let bias = match conv.bias {
            true => Some((
                TensorDescriptor::new(View::channels(conv.out_channels), precision)?,
                ActivationDescriptor::identity()?,
            )),
            false => None,
        };
        Ok(Self {
            cudnn: cudnn.clone(),
            convolution: ConvolutionDescriptor::new([top, left], conv.stride, conv.dilation, conv.groups)?,
            x: TensorDescriptor::new(x, precision)?,
            filter: FilterDescriptor::new(filters, layout, precision)?,
            y: TensorDescriptor::new(y, precision)?,
            bias,
        })
    }

    /// The algorithms that cuDNN proposes for a way of multiplying, with the way that each of them multiplies, the one
    /// that it thinks the fastest first.
    pub(in crate::backend::cuda) fn proposals(&self, math: Math) -> Result<Vec<(Algorithm, Math)>, Failure> {
        const COUNT: &str = "cudnnGetConvolutionForwardAlgorithmMaxCount";
        self.convolution.set_math(math.raw())?;
        let mut most = 0;
        // SAFETY: the handle lives; it writes one int.
        let status =
            unsafe { sys::cudnnGetConvolutionForwardAlgorithmMaxCount(self.cudnn.raw(), &raw mut most) };
        done(COUNT, status)?;
        let mut found = vec![Proposal::default(); usize::try_from(most).unwrap_or(0)];
        let mut count = 0;
        let places: *mut Proposal = found.as_mut_ptr();
        // SAFETY: the descriptors live; there are places for `most` structures, of the same layout (asserted above).
        let status = unsafe {
            sys::cudnnGetConvolutionForwardAlgorithm_v7(
                self.cudnn.raw(),
                self.x.raw(),
                self.filter.raw(),
                self.convolution.raw(),
                self.y.raw(),
                most,
                &raw mut count,
                places.cast(),
            )
        };
        done("cudnnGetConvolutionForwardAlgorithm_v7", status)?;
        found.truncate(usize::try_from(count).unwrap_or(0));
        Ok(found.iter().filter_map(|proposal| proposal.understood(math)).collect())
    }

    /// Bytes of scratch memory of an algorithm.
    pub(in crate::backend::cuda) fn workspace(
        &self,
        algorithm: Algorithm,
        math: Math,
    ) -> Result<usize, Failure> {
        self.convolution.set_math(math.raw())?;
        let mut bytes = 0;
        // SAFETY: the descriptors live; it writes one size.
        let status = unsafe {
            sys::cudnnGetConvolutionForwardWorkspaceSize(
                self.cudnn.raw(),
                self.x.raw(),
                self.filter.raw(),
                self.convolution.raw(),
                self.y.raw(),
                algorithm.raw(),
                &raw mut bytes,
            )
        };
        done("cudnnGetConvolutionForwardWorkspaceSize", status)?;
        Ok(bytes)
    }

    /// Queues y = the convolution of x, without the bias.
    pub(in crate::backend::cuda) fn queue(
        &self,
        stream: &Stream,
        algorithm: Algorithm,
        math: Math,
        places: ConvolutionPlaces,
    ) -> Result<(), Failure> {
        let handle = self.cudnn.on(stream)?;
        self.convolution.set_math(math.raw())?;
        let (workspace, bytes) = places.workspace;
        // SAFETY: handle and descriptors live; whoever queues holds memory of the descriptors' sizes at the addresses.
        let status = unsafe {
            sys::cudnnConvolutionForward(
                handle,
                factor(&ONE),
                self.x.raw(),
                at(places.x),
                self.filter.raw(),
                at(places.filter),
                self.convolution.raw(),
                algorithm.raw(),
                at(workspace),
                bytes,
                factor(&ZERO),
                self.y.raw(),
                at(places.y),
            )
        };
        done("cudnnConvolutionForward", status)
    }

    /// Queues y = the convolution of x plus the bias, which is in the precision's storage type. With no activation only
    /// [`Algorithm::ImplicitPrecompGemm`] works (cudnn_cnn Library, `cudnnConvolutionBiasActivationForward`).
    pub(in crate::backend::cuda) fn queue_with_bias(
        &self,
        stream: &Stream,
        math: Math,
        places: ConvolutionPlaces,
        bias: u64,
    ) -> Result<(), Failure> {
        const CALL: &str = "cudnnConvolutionBiasActivationForward";
        let handle = self.cudnn.on(stream)?;
        let (vector, identity) =
            self.bias.as_ref().ok_or_else(|| Failure::refused(CALL, "the layer has no bias"))?;
        self.convolution.set_math(math.raw())?;
        let (workspace, bytes) = places.workspace;
        // SAFETY: as in `queue`. The second input is the output itself, with the factor 0, as the manual allows.
        let status = unsafe {
            sys::cudnnConvolutionBiasActivationForward(
                handle,
                factor(&ONE),
                self.x.raw(),
                at(places.x),
                self.filter.raw(),
                at(places.filter),
                self.convolution.raw(),
                Algorithm::ImplicitPrecompGemm.raw(),
                at(workspace),
                bytes,
                factor(&ZERO),
                self.y.raw(),
                at(places.y),
                vector.raw(),
                at(bias),
                identity.raw(),
                self.y.raw(),
                at(places.y),
            )
        };
        done(CALL, status)
    }
}

impl Proposal {
    /// The algorithm, unless it failed, is unknown, or multiplies in a way that was not asked for.
    fn understood(&self, asked: Math) -> Option<(Algorithm, Math)> {
        let algorithm =
            Algorithm::ALL.into_iter().find(|algorithm| algorithm.raw() as u32 == self.algorithm)?;
        let math = match asked {
            // With the descriptor's FMA neither uses tensor cores.
            Math::Fma => {
                let known = [Math::Fma, Math::Default].into_iter().any(|math| math.raw() as u32 == self.math);
                known.then_some(Math::Fma)?
            }
            Math::TensorOp | Math::Default => [Math::Fma, Math::TensorOp, Math::Default]
                .into_iter()
                .find(|math| math.raw() as u32 == self.math)?,
        };
        (self.status == 0).then_some((algorithm, math))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(algorithm: u32, status: u32, math: u32) -> Proposal {
        Proposal { algorithm, status, math, ..Proposal::default() }
    }

    #[test]
    fn f32_never_runs_on_tensor_cores() {
        assert_eq!(Math::of(Precision::F32), Math::Fma);
        // Proposed with CUDNN_DEFAULT_MATH, which allows TF32.
        assert_eq!(
            proposal(1, 0, 0).understood(Math::Fma),
            Some((Algorithm::ImplicitPrecompGemm, Math::Fma))
        );
    }

    #[test]
    fn conversions_to_f16_failures_and_unknown_algorithms_are_left_out() {
        // CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION is 2.
        assert_eq!(proposal(1, 0, 2).understood(Math::TensorOp), None);
        assert_eq!(proposal(1, 3000, 1).understood(Math::TensorOp), None);
        assert_eq!(proposal(8, 0, 1).understood(Math::TensorOp), None);
        assert_eq!(
            proposal(7, 0, 1).understood(Math::TensorOp),
            Some((Algorithm::WinogradNonfused, Math::TensorOp))
        );
    }

    #[test]
    fn transforms_are_for_f32_alone() {
        assert!(
            Algorithm::Winograd.keeps(Precision::F32, [3; 2])
                && Algorithm::Fft.keeps(Precision::Tf32, [5; 2])
        );
        assert!(
            !Algorithm::WinogradNonfused.keeps(Precision::F16, [3; 2])
                && !Algorithm::FftTiling.keeps(Precision::Bf16, [3; 2])
                && !Algorithm::WinogradNonfused.keeps(Precision::F32, [5; 2])
        );
        assert!(Algorithm::ImplicitPrecompGemm.keeps(Precision::Bf16, [5; 2]));
    }
}
