//! Graphs: captured from streams or put together from others, and replayed.

use std::collections::BTreeMap;
use std::ffi::{c_uint, c_ulonglong};
use std::sync::Arc;
use std::thread::ThreadId;

use cudarc::driver::sys::{CUDA_KERNEL_NODE_PARAMS, CUgraphNodeType, CUresult as R, CUstreamCaptureMode};

use crate::machine::{CONTEXT, Cu, Machine, code, enter_context, put};
use crate::pointers::{In, Out};
use crate::queue::{Kind, Work};

#[derive(Clone)]
pub(crate) enum NodeKind {
    Work(Arc<Work>),
    Child(Arc<Vec<Node>>),
}

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) handle: usize,
    pub(crate) kind: NodeKind,
}

/// A capture under way.
pub(crate) struct Capture {
    pub(crate) origin: usize,
    pub(crate) mode: u32,
    pub(crate) thread: ThreadId,
    /// In the order of capture, in which each follows what it depends on.
    pub(crate) nodes: Vec<Node>,
    pub(crate) invalid: bool,
}

#[derive(Default)]
pub(crate) struct Graphs {
    pub(crate) graphs: BTreeMap<usize, Vec<Node>>,
    executables: BTreeMap<usize, Arc<Vec<Node>>>,
    /// Names of libraries' kernels, by the handle that a node gives.
    library_kernels: BTreeMap<String, usize>,
}

impl Graphs {
    /// A node of any graph, also inside of child graphs.
    fn node(&self, handle: usize) -> Cu<&Node> {
        fn find(nodes: &[Node], handle: usize) -> Option<&Node> {
            nodes.iter().find_map(|node| match &node.kind {
                _ if node.handle == handle => Some(node),
                NodeKind::Child(nodes) => find(nodes, handle),
                NodeKind::Work(_) => None,
            })
        }
        let found = self.graphs.values().find_map(|nodes| find(nodes, handle));
        found.ok_or_else(|| R::CUDA_ERROR_INVALID_VALUE.into())
    }

    /// The name of a library's kernel with a handle.
    pub(crate) fn library_kernel(&self, handle: usize) -> Option<&str> {
        self.library_kernels.iter().find(|(_, h)| **h == handle).map(|(name, _)| name.as_str())
    }
}

fn replay(machine: &mut Machine, nodes: &[Node]) -> f64 {
    let seconds = nodes.iter().map(|node| match &node.kind {
        NodeKind::Work(work) => machine.execute(work, true),
        NodeKind::Child(nodes) => replay(machine, nodes),
    });
    seconds.sum()
}

/// The same nodes under new handles, as in a copy of their graph.
fn copied(machine: &mut Machine, nodes: &[Node]) -> Vec<Node> {
    let copy = |node: &Node| {
        let kind = match &node.kind {
            NodeKind::Work(work) => NodeKind::Work(Arc::clone(work)),
            NodeKind::Child(nodes) => NodeKind::Child(Arc::new(copied(machine, nodes))),
        };
        Node { handle: machine.new_handle(), kind }
    };
    nodes.iter().map(copy).collect()
}

/// Whether this thread may make calls that may block or synchronise (cuThreadExchangeStreamCaptureMode): not while it
/// captures otherwise than relaxed, nor while any thread captures globally. What is refused invalidates the capture.
pub(crate) fn may_block(machine: &mut Machine) -> Cu<()> {
    let here = std::thread::current().id();
    let global = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL as u32;
    let relaxed = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED as u32;
    for capture in machine.queue.captures.values_mut() {
        if capture.mode == global || capture.thread == here && capture.mode != relaxed {
            capture.invalid = true;
            return Err(R::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED.into());
        }
    }
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamBeginCapture_v2(stream: usize, mode: c_uint) -> u32 {
    code(enter_context("cuStreamBeginCapture_v2").and_then(|mut machine| {
        // "Capture must not be initiated if stream is CU_STREAM_LEGACY."
        if stream <= 1 {
            return Err(R::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED.into());
        }
        if mode > CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED as c_uint {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        if machine.stream(stream)?.capture.is_some() {
            return Err(R::CUDA_ERROR_ILLEGAL_STATE.into());
        }
        let number = machine.new_handle() as u64;
        machine.stream(stream)?.capture = Some(number);
        let thread = std::thread::current().id();
        let capture = Capture { origin: stream, mode, thread, nodes: Vec::new(), invalid: false };
        machine.queue.captures.insert(number, capture);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamEndCapture(stream: usize, graph: Out<usize>) -> u32 {
    code(enter_context("cuStreamEndCapture").and_then(|mut machine| {
        if graph.is_null() {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        let number = machine.stream(stream)?.capture.ok_or(R::CUDA_ERROR_ILLEGAL_STATE)?;
        let capture = machine.queue.captures.get(&number).expect("it lasts as long as its streams name it");
        if capture.origin != stream {
            return Err(R::CUDA_ERROR_STREAM_CAPTURE_UNMATCHED.into());
        }
        let relaxed = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED as u32;
        if capture.mode != relaxed && capture.thread != std::thread::current().id() {
            return Err(R::CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD.into());
        }
        let capture = machine.queue.captures.remove(&number).expect("it was just found");
        for other in machine.queue.streams.values_mut().filter(|other| other.capture == Some(number)) {
            other.capture = None;
        }
        // "If capture was invalidated, due to a violation of the rules of stream capture, then a NULL graph will be
        // returned."
        if capture.invalid {
            put(graph, 0)?;
            return Err(R::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED.into());
        }
        let handle = machine.new_handle();
        machine.graphs.graphs.insert(handle, capture.nodes);
        put(graph, handle)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamIsCapturing(stream: usize, status: Out<u32>) -> u32 {
    code(enter_context("cuStreamIsCapturing").and_then(|mut machine| {
        // CU_STREAM_CAPTURE_STATUS_NONE, ACTIVE, INVALIDATED.
        let number = machine.stream(stream)?.capture;
        let invalid =
            number.and_then(|number| machine.queue.captures.get(&number)).map(|capture| capture.invalid);
        put(
            status,
            match invalid {
                None => 0,
                Some(false) => 1,
                Some(true) => 2,
            },
        )
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphCreate(graph: Out<usize>, flags: c_uint) -> u32 {
    code(enter_context("cuGraphCreate").and_then(|mut machine| {
        if flags != 0 {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        let handle = machine.new_handle();
        put(graph, handle)?;
        machine.graphs.graphs.insert(handle, Vec::new());
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphDestroy(graph: usize) -> u32 {
    code(enter_context("cuGraphDestroy").and_then(|mut machine| {
        machine.graphs.graphs.remove(&graph).map(|_| ()).ok_or_else(|| R::CUDA_ERROR_INVALID_VALUE.into())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphAddChildGraphNode(
    node: Out<usize>,
    graph: usize,
    dependencies: In<usize>,
    count: usize,
    child: usize,
) -> u32 {
    code(enter_context("cuGraphAddChildGraphNode").and_then(|mut machine| {
        let dependencies = dependencies.all(count).or((count == 0).then(Vec::new));
        let dependencies = dependencies.ok_or(R::CUDA_ERROR_INVALID_VALUE)?;
        let nodes = machine.graphs.graphs.get(&graph).ok_or(R::CUDA_ERROR_INVALID_VALUE)?;
        // "dependencies … may not have any duplicate entries", and they are nodes of this graph.
        let known = |handle: &usize| nodes.iter().any(|node| node.handle == *handle);
        let twice = (1..dependencies.len()).any(|at| dependencies[..at].contains(&dependencies[at]));
        if !dependencies.iter().all(known) || twice || graph == child {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        // A graph runs independent nodes in any order, at the same time: what a profiler measures must be a chain.
        if dependencies.is_empty() && !nodes.is_empty() {
            machine.say("cuGraphAddChildGraphNode: a second node without dependencies runs beside the first");
        }
        let inner = machine.graphs.graphs.get(&child).cloned().ok_or(R::CUDA_ERROR_INVALID_VALUE)?;
        let inner = copied(&mut machine, &inner);
        let handle = machine.new_handle();
        put(node, handle)?;
        let added = Node { handle, kind: NodeKind::Child(Arc::new(inner)) };
        machine.graphs.graphs.get_mut(&graph).expect("it was just found").push(added);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphGetNodes(graph: usize, nodes: Out<usize>, count: Out<usize>) -> u32 {
    code(enter_context("cuGraphGetNodes").and_then(|machine| {
        let inner = machine.graphs.graphs.get(&graph);
        let handles: Vec<usize> =
            inner.ok_or(R::CUDA_ERROR_INVALID_VALUE)?.iter().map(|node| node.handle).collect();
        // "nodes may be NULL, in which case this function will return the number of nodes in numNodes."
        if nodes.is_null() {
            return put(count, handles.len());
        }
        let room = In::from(count).get().ok_or(R::CUDA_ERROR_INVALID_VALUE)?;
        for index in 0..room {
            // "If numNodes is higher than the actual number of nodes, the remaining entries in nodes will be set to
            // NULL, and the number of nodes actually obtained will be returned in numNodes."
            let _ = nodes.put_at(index, handles.get(index).copied().unwrap_or(0));
        }
        put(count, room.min(handles.len()))
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphNodeGetType(node: usize, kind: Out<u32>) -> u32 {
    code(enter_context("cuGraphNodeGetType").and_then(|machine| {
        let kind_of_node = match &machine.graphs.node(node)?.kind {
            NodeKind::Child(_) => CUgraphNodeType::CU_GRAPH_NODE_TYPE_GRAPH,
            NodeKind::Work(work) => match work.kind {
                Kind::Kernel { .. } => CUgraphNodeType::CU_GRAPH_NODE_TYPE_KERNEL,
                Kind::Copy => CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEMCPY,
                Kind::Fill => CUgraphNodeType::CU_GRAPH_NODE_TYPE_MEMSET,
            },
        };
        put(kind, kind_of_node as u32)
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphKernelNodeGetParams_v2(node: usize, parameters: Out<CUDA_KERNEL_NODE_PARAMS>) -> u32 {
    code(enter_context("cuGraphKernelNodeGetParams_v2").and_then(|mut machine| {
        let NodeKind::Work(work) = machine.graphs.node(node)?.kind.clone() else {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        };
        let Kind::Kernel { function, grid, block, shared } = work.kind else {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        };
        // "kern: Kernel to launch, will only be referenced if func is NULL": libraries' kernels have this one.
        let kernel = if function.is_some() {
            0
        } else if let Some(handle) = machine.graphs.library_kernels.get(&work.name) {
            *handle
        } else {
            let handle = machine.new_handle();
            machine.graphs.library_kernels.insert(work.name.clone(), handle);
            handle
        };
        put(
            parameters,
            CUDA_KERNEL_NODE_PARAMS {
                func: function.unwrap_or(0) as *mut _,
                gridDimX: grid[0],
                gridDimY: grid[1],
                gridDimZ: grid[2],
                blockDimX: block[0],
                blockDimY: block[1],
                blockDimZ: block[2],
                sharedMemBytes: shared,
                kernelParams: std::ptr::null_mut(),
                extra: std::ptr::null_mut(),
                kern: kernel as *mut _,
                ctx: CONTEXT as *mut _,
            },
        )
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphInstantiateWithFlags(executable: Out<usize>, graph: usize, flags: c_ulonglong) -> u32 {
    code(enter_context("cuGraphInstantiateWithFlags").and_then(|mut machine| {
        // AUTO_FREE_ON_LAUNCH 1, UPLOAD 2 (only with params), DEVICE_LAUNCH 4, USE_NODE_PRIORITY 8.
        if flags & !(1 | 8) != 0 {
            return Err(R::CUDA_ERROR_INVALID_VALUE.into());
        }
        let nodes = machine.graphs.graphs.get(&graph).cloned().ok_or(R::CUDA_ERROR_INVALID_VALUE)?;
        let handle = machine.new_handle();
        put(executable, handle)?;
        machine.graphs.executables.insert(handle, Arc::new(nodes));
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphExecDestroy(executable: usize) -> u32 {
    code(enter_context("cuGraphExecDestroy").and_then(|mut machine| {
        let gone = machine.graphs.executables.remove(&executable);
        gone.map(|_| ()).ok_or_else(|| R::CUDA_ERROR_INVALID_VALUE.into())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphUpload(executable: usize, stream: usize) -> u32 {
    code(enter_context("cuGraphUpload").and_then(|mut machine| {
        if machine.capture_of(stream)?.is_some() {
            return Err(R::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED.into());
        }
        let known = machine.graphs.executables.contains_key(&executable);
        if known { Ok(()) } else { Err(R::CUDA_ERROR_INVALID_VALUE.into()) }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cuGraphLaunch(executable: usize, stream: usize) -> u32 {
    code(enter_context("cuGraphLaunch").and_then(|mut machine| {
        let nodes =
            machine.graphs.executables.get(&executable).cloned().ok_or(R::CUDA_ERROR_INVALID_VALUE)?;
        machine.legacy_rules(stream)?;
        let handle = machine.new_handle();
        if let Some(capture) = machine.capture_of(stream)? {
            capture.nodes.push(Node { handle, kind: NodeKind::Child(nodes) });
            return Ok(());
        }
        let seconds = replay(&mut machine, &nodes);
        machine.extend(stream, seconds)?;
        machine.deliver_at(stream)
    }))
}
