//! The new networks run: every layer of the CPU engine against the f64 reference, at a small size.

use super::shipped;
use crate::conformance::check;

const SEED: u64 = 3;

#[test]
fn networks_of_stacked_and_branching_layers_agree_with_the_reference() {
    for name in ["squeezenet1_1", "googlenet", "densenet121"] {
        check(&shipped(name, &[("size", 32), ("classes", 10)]), 1, 2, SEED);
    }
}

#[test]
fn networks_of_separable_convolutions_agree_with_the_reference() {
    for (name, size) in [("nasnet_mobile", 33), ("xception", 34)] {
        check(&shipped(name, &[("size", size), ("classes", 10)]), 1, 2, SEED);
    }
}

#[test]
fn networks_of_wide_layers_agree_with_the_reference() {
    for name in ["resnet50_v1", "vgg19"] {
        check(&shipped(name, &[("size", 32), ("top", 0)]), 1, 2, SEED);
    }
}

#[test]
fn the_families_of_yarally_2023_agree_with_the_reference() {
    check(&shipped("simple_cnn", &[("conv", 3), ("linear", 4)]), 2, 2, SEED);
    check(&shipped("simple_cnn", &[("relu", 0), ("channels", 3), ("size", 16)]), 2, 2, SEED);
    check(&shipped("dense_poly", &[("linear", 7)]), 2, 2, SEED);
    check(&shipped("dense_linear", &[("linear", 5)]), 2, 2, SEED);
}
