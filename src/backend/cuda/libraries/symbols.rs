//! Every function that the backend may call. cudarc panics at the first call of one that its library lacks, so what
//! is called must stand here; the loader refuses a library without it.
//!
//! Only names that a driver of CUDA 12.0 has: no `cuEventElapsedTime_v2`, `cuCtxCreate_v4`, `cuMemPrefetchAsync_v2`.

pub(super) const DRIVER: &[&str] = &[
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    // Devices and their contexts.
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetUuid_v2",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuCtxSetCurrent",
    // Memory.
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    // Streams and events.
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamSynchronize",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime",
    "cuEventQuery",
    "cuEventRecord",
    "cuEventSynchronize",
    // Own kernels.
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuLaunchKernel",
    // Graphs: a window replays one, and its nodes name the kernels of a layer.
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphGetNodes",
    "cuGraphInstantiateWithFlags",
    "cuGraphKernelNodeGetParams_v2",
    "cuGraphLaunch",
    "cuGraphNodeGetType",
    "cuGraphUpload",
];

pub(super) const CUBLASLT: &[&str] = &[
    "cublasLtCreate",
    "cublasLtDestroy",
    "cublasLtGetCudartVersion",
    "cublasLtGetProperty",
    "cublasLtGetStatusString",
    "cublasLtMatmul",
    "cublasLtMatmulAlgoConfigGetAttribute",
    "cublasLtMatmulAlgoGetHeuristic",
    "cublasLtMatmulDescCreate",
    "cublasLtMatmulDescDestroy",
    "cublasLtMatmulDescSetAttribute",
    "cublasLtMatmulPreferenceCreate",
    "cublasLtMatmulPreferenceDestroy",
    "cublasLtMatmulPreferenceSetAttribute",
    "cublasLtMatrixLayoutCreate",
    "cublasLtMatrixLayoutDestroy",
];

/// cuDNN alone calls it; what is asked here is whether it fits the others.
pub(super) const CUBLAS: &[&str] = &["cublasGetCudartVersion", "cublasGetProperty"];

pub(super) const NVRTC: &[&str] = &[
    "nvrtcCompileProgram",
    "nvrtcCreateProgram",
    "nvrtcDestroyProgram",
    "nvrtcGetCUBIN",
    "nvrtcGetCUBINSize",
    "nvrtcGetErrorString",
    "nvrtcGetNumSupportedArchs",
    "nvrtcGetPTX",
    "nvrtcGetPTXSize",
    "nvrtcGetProgramLog",
    "nvrtcGetProgramLogSize",
    "nvrtcGetSupportedArchs",
    "nvrtcVersion",
];

pub(super) const CUDNN: &[&str] = &[
    "cudnnCreate",
    "cudnnDestroy",
    "cudnnSetStream",
    "cudnnGetCudartVersion",
    "cudnnGetErrorString",
    "cudnnGetLastErrorString",
    "cudnnGetProperty",
    // Loads a part and compares its version; without a device.
    "cudnnCnnVersionCheck",
    "cudnnGraphVersionCheck",
    "cudnnOpsVersionCheck",
    // The graph interface.
    "cudnnBackendCreateDescriptor",
    "cudnnBackendDestroyDescriptor",
    "cudnnBackendExecute",
    "cudnnBackendFinalize",
    "cudnnBackendGetAttribute",
    "cudnnBackendSetAttribute",
    // Descriptors of the older interface.
    "cudnnCreateActivationDescriptor",
    "cudnnCreateConvolutionDescriptor",
    "cudnnCreateFilterDescriptor",
    "cudnnCreateLRNDescriptor",
    "cudnnCreateOpTensorDescriptor",
    "cudnnCreatePoolingDescriptor",
    "cudnnCreateTensorDescriptor",
    "cudnnDestroyActivationDescriptor",
    "cudnnDestroyConvolutionDescriptor",
    "cudnnDestroyFilterDescriptor",
    "cudnnDestroyLRNDescriptor",
    "cudnnDestroyOpTensorDescriptor",
    "cudnnDestroyPoolingDescriptor",
    "cudnnDestroyTensorDescriptor",
    "cudnnDeriveBNTensorDescriptor",
    "cudnnSetActivationDescriptor",
    "cudnnSetConvolutionGroupCount",
    "cudnnSetConvolutionMathType",
    "cudnnSetConvolution2dDescriptor",
    "cudnnSetFilter4dDescriptor",
    "cudnnSetLRNDescriptor",
    "cudnnSetOpTensorDescriptor",
    "cudnnSetPooling2dDescriptor",
    "cudnnSetTensor4dDescriptorEx",
    // Forward computation.
    "cudnnBatchNormalizationForwardInference",
    "cudnnConvolutionBiasActivationForward",
    "cudnnConvolutionForward",
    "cudnnGetConvolutionForwardAlgorithmMaxCount",
    "cudnnGetConvolutionForwardAlgorithm_v7",
    "cudnnGetConvolutionForwardWorkspaceSize",
    "cudnnLRNCrossChannelForward",
    "cudnnOpTensor",
    "cudnnPoolingForward",
    "cudnnSoftmaxForward",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// What `cudarc::nvrtc::result` calls for us.
    const BY_CUDARC: [&str; 7] = [
        "nvrtcCreateProgram",
        "nvrtcDestroyProgram",
        "nvrtcGetErrorString",
        "nvrtcGetPTX",
        "nvrtcGetPTXSize",
        "nvrtcGetProgramLog",
        "nvrtcGetProgramLogSize",
    ];
    /// What is called only after the driver was asked whether it has it.
    const ASKED_FOR: [&str; 2] = ["cuFuncGetName", "cuKernelGetName"];

    /// The names of CUDA's functions in the code of this backend, tests and comments left out.
    fn names_in_code() -> BTreeSet<String> {
        let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend/cuda")];
        let mut names = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("symbols.rs") {
                    names_of(&fs::read_to_string(path).unwrap(), &mut names);
                }
            }
        }
        names
    }

    fn names_of(text: &str, names: &mut BTreeSet<String>) {
        let shipped = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for line in shipped.lines() {
            let code = line.split("//").next().unwrap_or_default();
            let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            names.extend(words.filter(|word| is_function(word)).map(str::to_string));
        }
    }

    /// `cudnnCreate`, not `cudnnHandle_t` or `custom`.
    fn is_function(word: &str) -> bool {
        let begins = |start: &str| {
            word.strip_prefix(start).is_some_and(|rest| rest.chars().next().is_some_and(char::is_uppercase))
        };
        let others = ["cuDNN", "cuBLAS", "cuBLASLt", "nvrtcProgram"];
        ["cu", "cublas", "cublasLt", "cudnn", "nvrtc"].into_iter().any(begins)
            && !word.ends_with("_t")
            && !others.contains(&word)
    }

    /// cudarc panics at the first call of a function that the library lacks; the loader checks only what stands here.
    #[test]
    fn every_function_that_is_called_is_checked_when_its_library_is_loaded() {
        let listed: Vec<&str> = [DRIVER, CUBLASLT, CUBLAS, NVRTC, CUDNN].concat();
        let names = names_in_code();
        assert!(names.contains("cudnnConvolutionForward") && names.contains("cuLaunchKernel"), "{names:?}");
        let unlisted: Vec<&String> = names
            .iter()
            .filter(|name| !listed.contains(&name.as_str()) && !ASKED_FOR.contains(&name.as_str()))
            .collect();
        assert!(unlisted.is_empty(), "not in symbols.rs: {unlisted:?}");
        let unused: Vec<&&str> =
            listed.iter().filter(|name| !names.contains(**name) && !BY_CUDARC.contains(name)).collect();
        assert!(unused.is_empty(), "in symbols.rs, but nothing calls them: {unused:?}");
    }

    #[test]
    fn no_name_stands_twice() {
        for list in [DRIVER, CUBLASLT, CUBLAS, NVRTC, CUDNN] {
            let distinct: BTreeSet<_> = list.iter().collect();
            assert_eq!(distinct.len(), list.len(), "{list:?}");
        }
    }
}
