//! What of NVIDIA's real libraries works without a GPU: descriptors. Run where `LAYERJOULE_REAL_CUDA` names a folder with
//! them, such as `site-packages` with the packages of docs/cuda.md; without it the test says that it skips. A
//! part of cuDNN needs `libcuda.so.1` to load; without a driver an empty library of that name does (docs/cuda.md).

use std::path::Path;

use crate::backend::cuda::libraries::{Libraries, LibraryKind, Search};
use crate::network::{Conv, Lrn, Pool};
use crate::plan::{Layout, Precision};

use super::cublaslt;
use super::cudnn;

const VARIABLE: &str = "LAYERJOULE_REAL_CUDA";

#[test]
fn the_real_libraries_take_every_descriptor_that_the_backend_sets() {
    let Some(folder) = std::env::var_os(VARIABLE) else {
        println!("skipped: {VARIABLE} names no folder with NVIDIA's libraries");
        return;
    };
    let libraries = Libraries::load(&Search::here(Some(Path::new(&folder))).unwrap());
    for kind in [LibraryKind::CublasLt, LibraryKind::Cudnn] {
        let library = libraries.all.iter().find(|library| library.kind == kind).unwrap();
        assert!(library.found.is_ok(), "{kind}: {:?}", library.found);
    }
    let conv = |groups: usize, padding: [usize; 4]| Conv {
        out_channels: 8,
        kernel: [3, 3],
        stride: [2, 1],
        padding,
        dilation: [1, 2],
        groups,
        bias: true,
    };
    let pool = Pool {
        kernel: [3, 2],
        stride: [2, 2],
        padding: [1, 0, 1, 0],
        dilation: [1, 1],
        ceil_mode: false,
        count_include_pad: true,
    };
    let lrn = Lrn { size: 5, alpha: 1e-4, beta: 0.75, k: 1.0 };
    for precision in Precision::ALL {
        for layout in [Layout::Nchw, Layout::Nhwc] {
            for (groups, padding) in [(1, [1, 2, 1, 2]), (4, [0, 1, 1, 2])] {
                cudnn::descriptors_of(&conv(groups, padding), layout, precision)
                    .unwrap_or_else(|failure| panic!("{precision} {layout} g{groups}: {failure}"));
            }
        }
        cublaslt::descriptors_of(precision).unwrap_or_else(|failure| panic!("{precision}: {failure}"));
    }
    cudnn::descriptors_of_layers(&pool, &lrn).unwrap_or_else(|failure| panic!("{failure}"));
}
