//! Work that is queued as a whole.

use std::ffi::{CStr, c_char};

use cudarc::driver::sys::{self, CUgraphNodeType as NodeType};

use crate::backend::cuda::failure::Failure;

use super::call::done;
use super::device::Gpu;
use super::stream::Stream;

/// Captured work.
#[derive(Debug)]
pub(in crate::backend::cuda) struct Graph {
    graph: sys::CUgraph,
    gpu: Gpu,
}

impl Graph {
    /// Takes over a graph of a capture.
    pub(super) fn of(graph: sys::CUgraph, gpu: &Gpu) -> Self {
        Self { graph, gpu: gpu.clone() }
    }

    /// Makes it ready to be launched.
    pub(in crate::backend::cuda) fn instantiate(&self) -> Result<GraphExec, Failure> {
        let mut exec = std::ptr::null_mut();
        // SAFETY: the graph lives; it writes one handle, destroyed in `GraphExec::drop`.
        let code = unsafe { sys::cuGraphInstantiateWithFlags(&raw mut exec, self.graph, 0) };
        done("cuGraphInstantiateWithFlags", code)?;
        Ok(GraphExec { exec, gpu: self.gpu.clone() })
    }

    /// The names of the kernels that it runs, in the order in which they were captured; `?` for one that does not tell.
    /// Empty where the driver is older than CUDA 12.3 and never tells.
    pub(in crate::backend::cuda) fn kernels(&self) -> Result<Vec<String>, Failure> {
        let cuda = self.gpu.cuda();
        if !["cuFuncGetName", "cuKernelGetName"].iter().all(|function| cuda.driver_has(function)) {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for node in self.all()? {
            let mut kind = NodeType::CU_GRAPH_NODE_TYPE_EMPTY;
            // SAFETY: the node is of this graph, which lives; it writes one number.
            done("cuGraphNodeGetType", unsafe { sys::cuGraphNodeGetType(node, &raw mut kind) })?;
            if kind == NodeType::CU_GRAPH_NODE_TYPE_KERNEL {
                names.push(kernel_name(node).unwrap_or_else(|| "?".to_string()));
            }
        }
        Ok(names)
    }

    /// How many nodes it has.
    pub(in crate::backend::cuda) fn nodes(&self) -> Result<usize, Failure> {
        let mut count = 0;
        // SAFETY: without a place for nodes it writes their number only.
        let code = unsafe { sys::cuGraphGetNodes(self.graph, std::ptr::null_mut(), &raw mut count) };
        done("cuGraphGetNodes", code)?;
        Ok(count)
    }

    fn all(&self) -> Result<Vec<sys::CUgraphNode>, Failure> {
        let mut count = self.nodes()?;
        let mut nodes = vec![std::ptr::null_mut(); count];
        // SAFETY: there is a place for `count` nodes.
        let code = unsafe { sys::cuGraphGetNodes(self.graph, nodes.as_mut_ptr(), &raw mut count) };
        done("cuGraphGetNodes", code)?;
        nodes.truncate(count);
        Ok(nodes)
    }
}

/// The name of a kernel node's kernel. Those of libraries come without a function, as a kernel of no context yet.
fn kernel_name(node: sys::CUgraphNode) -> Option<String> {
    let mut parameters = std::mem::MaybeUninit::<sys::CUDA_KERNEL_NODE_PARAMS>::zeroed();
    // SAFETY: the node is a kernel's; it writes the structure.
    let code = unsafe { sys::cuGraphKernelNodeGetParams_v2(node, parameters.as_mut_ptr()) };
    done("cuGraphKernelNodeGetParams_v2", code).ok()?;
    // SAFETY: filled above, and all bytes zero is a valid value too.
    let parameters = unsafe { parameters.assume_init() };
    let mut name: *const c_char = std::ptr::null();
    let (function, code) = if parameters.func.is_null() {
        // SAFETY: the kernel is the driver's own; it writes one pointer. `Graph::kernels` asked whether it is there.
        ("cuKernelGetName", unsafe { sys::cuKernelGetName(&raw mut name, parameters.kern) })
    } else {
        // SAFETY: as above, of a function.
        ("cuFuncGetName", unsafe { sys::cuFuncGetName(&raw mut name, parameters.func) })
    };
    done(function, code).ok()?;
    if name.is_null() {
        return None;
    }
    // SAFETY: cuda.h: the name ends with a zero and lives as long as the kernel's module.
    let name = unsafe { CStr::from_ptr(name) };
    Some(name.to_string_lossy().into_owned())
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.gpu.is_abandoned() {
            return;
        }
        // SAFETY: taken over in `of`, destroyed once; instances of it live on.
        let _ = unsafe { sys::cuGraphDestroy(self.graph) };
    }
}

/// A graph that can be launched.
#[derive(Debug)]
pub(in crate::backend::cuda) struct GraphExec {
    exec: sys::CUgraphExec,
    gpu: Gpu,
}

impl GraphExec {
    /// Brings it to the device, so that the first launch is not slower than the others.
    pub(in crate::backend::cuda) fn upload(&self, stream: &Stream) -> Result<(), Failure> {
        // SAFETY: both live and are of the same context.
        done("cuGraphUpload", unsafe { sys::cuGraphUpload(self.exec, stream.raw()) })
    }

    /// Queues it.
    pub(in crate::backend::cuda) fn launch(&self, stream: &Stream) -> Result<(), Failure> {
        // SAFETY: both live and are of the same context; the memory that it uses is held by whoever holds it.
        done("cuGraphLaunch", unsafe { sys::cuGraphLaunch(self.exec, stream.raw()) })
    }
}

impl Drop for GraphExec {
    fn drop(&mut self) {
        if self.gpu.is_abandoned() {
            return;
        }
        // SAFETY: instantiated once, destroyed once; what is queued still runs to its end (cuGraphExecDestroy).
        let _ = unsafe { sys::cuGraphExecDestroy(self.exec) };
    }
}
