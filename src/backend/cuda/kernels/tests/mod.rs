//! Kernels without a GPU.
