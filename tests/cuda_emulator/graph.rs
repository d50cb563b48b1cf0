//! cuDNN's graph interface.

use std::ffi::c_void;
use std::ptr::null_mut;

use cudarc::cudnn::sys::{
    cudnnBackendAttributeName_t as A, cudnnBackendAttributeType_t as T, cudnnBackendDescriptorType_t as K,
};

use super::raw::{Gpu, call};

const NOT_INITIALIZED: u32 = 1001;
const BAD_PARAM: u32 = 2000;
const MISALIGNED: u32 = 2003;
const NOT_FINALIZED: u32 = 2004;
const SHAPE_MISMATCH: u32 = 2008;
const ATTRIBUTE_TYPE: u32 = 2010;
const NOT_SUPPORTED: u32 = 3000;

/// Descriptors of the graph interface.
struct Graphs<'a>(&'a Gpu);

impl Graphs<'_> {
    fn create(&self, kind: K) -> usize {
        let mut descriptor = 0;
        let made = call!(self.0, cudnnBackendCreateDescriptor, kind as u32 => u32, &raw mut descriptor => *mut usize);
        assert_eq!(made, 0);
        descriptor
    }

    fn try_set<V>(&self, descriptor: usize, name: A, kind: T, values: &[V]) -> u32 {
        let count = values.len() as i64;
        let from = values.as_ptr().cast::<c_void>();
        call!(self.0, cudnnBackendSetAttribute, descriptor => usize, name as u32 => u32, kind as u32 => u32,
            count => i64, from => *const c_void)
    }

    fn set<V>(&self, descriptor: usize, name: A, kind: T, values: &[V]) {
        assert_eq!(self.try_set(descriptor, name, kind, values), 0, "{name:?}");
    }

    fn refer(&self, descriptor: usize, name: A, to: usize) {
        self.set(descriptor, name, T::CUDNN_TYPE_BACKEND_DESCRIPTOR, &[to]);
    }

    fn finalise(&self, descriptor: usize) -> u32 {
        call!(self.0, cudnnBackendFinalize, descriptor => usize)
    }

    fn get<V>(&self, descriptor: usize, name: A, kind: T, to: &mut [V]) -> (u32, i64) {
        let (mut count, room) = (-1, to.len() as i64);
        let place = to.as_mut_ptr().cast::<c_void>();
        let code = call!(self.0, cudnnBackendGetAttribute, descriptor => usize, name as u32 => u32, kind as u32 => u32,
            room => i64, &raw mut count => *mut i64, place => *mut c_void);
        (code, count)
    }

    fn tensor(&self, id: i64, dims: [i64; 4], strides: [i64; 4], is_virtual: bool) -> usize {
        let tensor = self.create(K::CUDNN_BACKEND_TENSOR_DESCRIPTOR);
        self.set(tensor, A::CUDNN_ATTR_TENSOR_UNIQUE_ID, T::CUDNN_TYPE_INT64, &[id]);
        self.set(tensor, A::CUDNN_ATTR_TENSOR_DATA_TYPE, T::CUDNN_TYPE_DATA_TYPE, &[0_u32]);
        self.set(tensor, A::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, T::CUDNN_TYPE_INT64, &[16_i64]);
        self.set(tensor, A::CUDNN_ATTR_TENSOR_DIMENSIONS, T::CUDNN_TYPE_INT64, &dims);
        self.set(tensor, A::CUDNN_ATTR_TENSOR_STRIDES, T::CUDNN_TYPE_INT64, &strides);
        self.set(tensor, A::CUDNN_ATTR_TENSOR_IS_VIRTUAL, T::CUDNN_TYPE_BOOLEAN, &[is_virtual]);
        assert_eq!(self.finalise(tensor), 0);
        tensor
    }

    /// A cross-correlation with a padding before and behind both axes.
    fn shape(&self, before: i64, behind: i64) -> usize {
        let shape = self.create(K::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
        self.set(shape, A::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, T::CUDNN_TYPE_DATA_TYPE, &[0_u32]);
        self.set(shape, A::CUDNN_ATTR_CONVOLUTION_CONV_MODE, T::CUDNN_TYPE_CONVOLUTION_MODE, &[1_u32]);
        self.set(shape, A::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, T::CUDNN_TYPE_INT64, &[2_i64]);
        for (name, value) in [
            (A::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, before),
            (A::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, behind),
            (A::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, 1),
            (A::CUDNN_ATTR_CONVOLUTION_DILATIONS, 1),
        ] {
            self.set(shape, name, T::CUDNN_TYPE_INT64, &[value; 2]);
        }
        assert_eq!(self.finalise(shape), 0);
        shape
    }

    fn forward(&self, shape: usize, x: usize, w: usize, y: usize) -> usize {
        let operation = self.create(K::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
        self.refer(operation, A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, shape);
        self.refer(operation, A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
        self.refer(operation, A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, w);
        self.refer(operation, A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
        let float = T::CUDNN_TYPE_FLOAT;
        self.set(operation, A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, float, &[1.0_f32]);
        self.set(operation, A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, float, &[0.0_f32]);
        operation
    }

    fn sum(&self, x: usize, b: usize, y: usize) -> usize {
        let mode = self.create(K::CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
        self.set(mode, A::CUDNN_ATTR_POINTWISE_MODE, T::CUDNN_TYPE_POINTWISE_MODE, &[0_u32]);
        self.set(mode, A::CUDNN_ATTR_POINTWISE_MATH_PREC, T::CUDNN_TYPE_DATA_TYPE, &[0_u32]);
        assert_eq!(self.finalise(mode), 0);
        let operation = self.create(K::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
        self.refer(operation, A::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, mode);
        self.refer(operation, A::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
        self.refer(operation, A::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
        self.refer(operation, A::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
        assert_eq!(self.finalise(operation), 0);
        operation
    }

    fn graph(&self, handle: usize, operations: &[usize]) -> usize {
        let graph = self.create(K::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
        self.set(graph, A::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, T::CUDNN_TYPE_HANDLE, &[handle]);
        self.set(graph, A::CUDNN_ATTR_OPERATIONGRAPH_OPS, T::CUDNN_TYPE_BACKEND_DESCRIPTOR, operations);
        assert_eq!(self.finalise(graph), 0);
        graph
    }

    fn heuristic(&self, graph: usize) -> (usize, u32) {
        let heuristic = self.create(K::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
        self.refer(heuristic, A::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
        self.set(heuristic, A::CUDNN_ATTR_ENGINEHEUR_MODE, T::CUDNN_TYPE_HEUR_MODE, &[3_u32]);
        let code = self.finalise(heuristic);
        (heuristic, code)
    }

    /// The configurations that the heuristic proposes for a graph, with their engines' numbers.
    fn proposals(&self, graph: usize) -> Vec<(usize, i64)> {
        let (heuristic, code) = self.heuristic(graph);
        assert_eq!(code, 0);
        let kind = T::CUDNN_TYPE_BACKEND_DESCRIPTOR;
        let mut results: Vec<usize> =
            (0..8).map(|_| self.create(K::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)).collect();
        let (code, count) = self.get(heuristic, A::CUDNN_ATTR_ENGINEHEUR_RESULTS, kind, &mut results);
        assert_eq!(code, 0);
        results.truncate(count as usize);
        let of = |configuration: usize| {
            let mut engine = [self.create(K::CUDNN_BACKEND_ENGINE_DESCRIPTOR)];
            let found = self.get(configuration, A::CUDNN_ATTR_ENGINECFG_ENGINE, kind, &mut engine);
            assert_eq!(found, (0, 1));
            let mut index = [-1_i64];
            let found =
                self.get(engine[0], A::CUDNN_ATTR_ENGINE_GLOBAL_INDEX, T::CUDNN_TYPE_INT64, &mut index);
            assert_eq!(found, (0, 1));
            (configuration, index[0])
        };
        results.into_iter().map(of).collect()
    }

    fn plan(&self, handle: usize, configuration: usize) -> Result<(usize, usize), u32> {
        let plan = self.create(K::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
        self.set(plan, A::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, T::CUDNN_TYPE_HANDLE, &[handle]);
        self.refer(plan, A::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, configuration);
        match self.finalise(plan) {
            0 => {
                let mut workspace = [-1_i64];
                let name = A::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE;
                assert_eq!(self.get(plan, name, T::CUDNN_TYPE_INT64, &mut workspace), (0, 1));
                Ok((plan, workspace[0] as usize))
            }
            code => Err(code),
        }
    }

    fn pack(&self, ids: &[i64], pointers: &[u64], workspace: u64) -> usize {
        let pack = self.create(K::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
        self.set(pack, A::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, T::CUDNN_TYPE_INT64, ids);
        self.set(pack, A::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, T::CUDNN_TYPE_VOID_PTR, pointers);
        self.set(pack, A::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, T::CUDNN_TYPE_VOID_PTR, &[workspace]);
        assert_eq!(self.finalise(pack), 0);
        pack
    }

    fn execute(&self, handle: usize, plan: usize, pack: usize) -> u32 {
        call!(self.0, cudnnBackendExecute, handle => usize, plan => usize, pack => usize)
    }
}

const IMAGE: [i64; 4] = [1, 1, 3, 3];
const PLAIN: [i64; 4] = [9, 9, 3, 1];
const PIXELS: [f32; 9] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];

#[test]
fn each_engine_that_works_gives_the_convolution_by_hand() {
    let gpu = Gpu::new();
    let (handle, graphs) = (gpu.cudnn(0), Graphs(&gpu));
    let [x, w, y] = [1, 2, 3].map(|id| graphs.tensor(id, IMAGE, PLAIN, false));
    let operation = graphs.forward(graphs.shape(1, 1), x, w, y);
    assert_eq!(graphs.finalise(operation), 0);
    let proposals = graphs.proposals(graphs.graph(handle, &[operation]));
    let engines: Vec<i64> = proposals.iter().map(|(_, engine)| *engine).collect();
    assert_eq!(engines, [3, 2, 1, 0]);
    let (input, filter) = (gpu.floats(&PIXELS), gpu.floats(&[1.0; 9]));
    for (configuration, engine) in proposals {
        let (plan, workspace) = match graphs.plan(handle, configuration) {
            Ok(plan) => plan,
            Err(code) => {
                assert_eq!((code, engine), (NOT_SUPPORTED, 3), "one is proposed and does not work");
                continue;
            }
        };
        let output = gpu.alloc(36);
        let room = if workspace > 0 { gpu.alloc(workspace) } else { 0 };
        let pack = graphs.pack(&[1, 2, 3], &[input, filter, output], room);
        assert_eq!(graphs.execute(handle, plan, pack), 0);
        let sums = [12.0, 21.0, 16.0, 27.0, 45.0, 33.0, 24.0, 39.0, 28.0];
        assert_eq!(gpu.read_floats(output, 9), sums, "engine {engine}");
    }
}

#[test]
fn a_bias_is_fused_where_channels_come_last_and_padding_may_differ() {
    let gpu = Gpu::new();
    let (handle, graphs) = (gpu.cudnn(0), Graphs(&gpu));
    // Two channels of 2x2 and one 2x2 filter for each of two outputs, padded before only.
    let last = |c: i64, h: i64, w: i64| [c * h * w, 1, c * w, c];
    let x = graphs.tensor(1, [1, 2, 2, 2], last(2, 2, 2), false);
    let w = graphs.tensor(2, [2, 2, 2, 2], last(2, 2, 2), false);
    let middle = graphs.tensor(3, [1, 2, 2, 2], last(2, 2, 2), true);
    let b = graphs.tensor(4, [1, 2, 1, 1], [2, 1, 2, 2], false);
    let y = graphs.tensor(5, [1, 2, 2, 2], last(2, 2, 2), false);
    let operation = graphs.forward(graphs.shape(1, 0), x, w, middle);
    assert_eq!(graphs.finalise(operation), 0);
    let graph = graphs.graph(handle, &[operation, graphs.sum(middle, b, y)]);
    let proposals = graphs.proposals(graph);
    assert_eq!(proposals.iter().map(|(_, engine)| *engine).collect::<Vec<_>>(), [2, 1]);
    // Pixel by pixel both channels: (1, 10) (2, 20) (3, 30) (4, 40). The first filter is one everywhere, the second
    // takes the pixel at its lower right of the first channel.
    let input = gpu.floats(&[1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0]);
    let filter =
        gpu.floats(&[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    let (bias, output) = (gpu.floats(&[100.0, 1000.0]), gpu.alloc(32));
    for (configuration, _) in proposals {
        let (plan, workspace) = graphs.plan(handle, configuration).unwrap();
        let pack = graphs.pack(&[1, 2, 4, 5], &[input, filter, bias, output], gpu.alloc(workspace));
        assert_eq!(graphs.execute(handle, plan, pack), 0);
        // Sums of the pixels up and left: 11, 33, 44, 110.
        let expected = [111.0, 1001.0, 133.0, 1002.0, 144.0, 1003.0, 210.0, 1004.0];
        assert_eq!(gpu.read_floats(output, 8), expected);
    }
    // The same with planes one after the other is not done by any engine.
    let planes = [8, 4, 2, 1];
    let [x, w, y] = [1, 2, 5].map(|id| graphs.tensor(id, [2, 2, 2, 2], planes, false));
    let middle = graphs.tensor(3, [2, 2, 2, 2], planes, true);
    let operation = graphs.forward(graphs.shape(1, 0), x, w, middle);
    assert_eq!(graphs.finalise(operation), 0);
    let b = graphs.tensor(4, [1, 2, 1, 1], [2, 1, 1, 1], false);
    let graph = graphs.graph(handle, &[operation, graphs.sum(middle, b, y)]);
    assert_eq!(graphs.heuristic(graph).1, NOT_SUPPORTED);
}

#[test]
fn attributes_of_other_types_or_at_the_wrong_time_are_refused() {
    let gpu = Gpu::new();
    let graphs = Graphs(&gpu);
    let tensor = graphs.create(K::CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    let id = A::CUDNN_ATTR_TENSOR_UNIQUE_ID;
    assert_eq!(graphs.try_set(tensor, id, T::CUDNN_TYPE_FLOAT, &[1_i64]), ATTRIBUTE_TYPE);
    assert_eq!(graphs.try_set(tensor, id, T::CUDNN_TYPE_INT64, &[1_i64, 2]), BAD_PARAM);
    let foreign = A::CUDNN_ATTR_CONVOLUTION_DILATIONS;
    assert_eq!(graphs.try_set(tensor, foreign, T::CUDNN_TYPE_INT64, &[1_i64]), BAD_PARAM);
    assert_eq!(graphs.finalise(tensor), BAD_PARAM, "nothing is set");
    assert_eq!(graphs.get(tensor, id, T::CUDNN_TYPE_INT64, &mut [0_i64]).0, NOT_FINALIZED);

    let x = graphs.tensor(1, IMAGE, PLAIN, false);
    assert_eq!(graphs.try_set(x, id, T::CUDNN_TYPE_INT64, &[7_i64]), NOT_INITIALIZED, "it is finalised");
    let forward = graphs.create(K::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    let kind = T::CUDNN_TYPE_BACKEND_DESCRIPTOR;
    let name = A::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X;
    assert_eq!(graphs.try_set(forward, name, kind, &[tensor]), NOT_FINALIZED);
    // An output that is not padded is smaller.
    let operation = graphs.forward(graphs.shape(0, 0), x, x, x);
    assert_eq!(graphs.finalise(operation), SHAPE_MISMATCH);
}

#[test]
fn a_pack_that_lacks_an_address_or_an_alignment_is_refused() {
    let gpu = Gpu::new();
    let (handle, graphs) = (gpu.cudnn(0), Graphs(&gpu));
    let [x, w, y] = [1, 2, 3].map(|id| graphs.tensor(id, IMAGE, PLAIN, false));
    let operation = graphs.forward(graphs.shape(1, 1), x, w, y);
    assert_eq!(graphs.finalise(operation), 0);
    let proposals = graphs.proposals(graphs.graph(handle, &[operation]));
    let plan_of = |number: i64| {
        let (configuration, _) = proposals.iter().find(|(_, engine)| *engine == number).unwrap();
        graphs.plan(handle, *configuration).unwrap().0
    };
    let (all, many) = (gpu.floats(&PIXELS), gpu.alloc(1024));
    let execute = |plan: usize, ids: &[i64], pointers: &[u64], workspace: u64| {
        graphs.execute(handle, plan, graphs.pack(ids, pointers, workspace))
    };
    let plain = plan_of(0);
    assert_eq!(execute(plain, &[1, 2, 3], &[all, all, many], 0), 0);
    assert_eq!(execute(plain, &[1, 2], &[all, all], 0), 2002);
    assert_eq!(execute(plain, &[1, 2, 3], &[all, all, many + 4], 0), MISALIGNED);
    assert_eq!(execute(plan_of(1), &[1, 2, 3], &[all, all, many], 0), 2002, "it needs a workspace");
    let open = graphs.create(K::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    assert_eq!(graphs.execute(handle, plain, open), NOT_FINALIZED);
    assert_eq!(call!(gpu, cudnnBackendExecute, 0 => usize, plain => usize, open => usize), NOT_INITIALIZED);
    assert_eq!(call!(gpu, cudnnBackendDestroyDescriptor, null_mut() => *mut c_void), 0);
}
