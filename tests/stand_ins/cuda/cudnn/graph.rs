//! The graph interface (cuDNN, "cudnn_graph"): descriptors, their attributes, and what they are finalised to.

mod attributes;

use std::collections::BTreeMap;

use cudarc::cudnn::sys::{
    cudnnBackendAttributeName_t as A, cudnnBackendAttributeType_t as T, cudnnBackendDescriptorType_t as K,
    cudnnStatus_t as S,
};

use crate::machine::Machine;
use crate::pointers::{In, Out};

use attributes::{Rule, rules};

use super::engines::{self, Convolved, Graph, Operation, Plan, Shape, Sum, Tensor};
use super::{Dnn, enter, need, put, status};

/// An attribute's elements, each in the low bytes of a word.
#[derive(Debug, Clone, PartialEq)]
struct Value {
    kind: u32,
    words: Vec<u64>,
}

/// A descriptor of the graph interface.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    kind: u32,
    values: BTreeMap<u32, Value>,
    content: Option<Content>,
}

/// What a finalised descriptor stands for.
#[derive(Debug, Clone)]
enum Content {
    Tensor(Tensor),
    Shape(Shape),
    /// The mode of a pointwise operation.
    Pointwise(u32),
    Operation(Operation),
    Graph(Graph),
    Heuristic {
        graph: Graph,
        engines: Vec<i64>,
    },
    Engine {
        graph: Graph,
        index: i64,
    },
    Configuration {
        graph: Graph,
        index: i64,
    },
    Knob {
        index: i64,
    },
    Plan(Plan),
    Pack {
        pointers: BTreeMap<i64, usize>,
        workspace: usize,
    },
}

/// Bytes of an element.
fn element(kind: u32) -> usize {
    let eight = [
        T::CUDNN_TYPE_HANDLE,
        T::CUDNN_TYPE_INT64,
        T::CUDNN_TYPE_DOUBLE,
        T::CUDNN_TYPE_VOID_PTR,
        T::CUDNN_TYPE_BACKEND_DESCRIPTOR,
    ];
    if eight.iter().any(|eight| *eight as u32 == kind) {
        8
    } else if kind == T::CUDNN_TYPE_BOOLEAN as u32 {
        1
    } else {
        4
    }
}

/// The rule for an attribute, or why there is none: "attributeName is not a valid attribute of the descriptor",
/// "attributeType doesn't match".
fn rule_for(machine: &Machine, descriptor: u32, name: u32, kind: u32) -> Dnn<Rule> {
    let found = rules().into_iter().find(|rule| rule.of as u32 == descriptor && rule.name as u32 == name);
    let why =
        format!("attribute {name} of a descriptor of type {descriptor} does not exist or is not emulated");
    need(machine, found.is_some(), S::CUDNN_STATUS_BAD_PARAM, &why)?;
    let rule = found.expect("it was just looked at");
    let fits = rule.kinds.iter().any(|known| *known as u32 == kind);
    let why = format!("attribute {:?} is given as type {kind}", rule.name);
    need(machine, fits, S::CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, &why)?;
    Ok(rule)
}

#[unsafe(no_mangle)]
extern "C" fn cudnnBackendCreateDescriptor(kind: u32, descriptor: Out<usize>) -> u32 {
    status(enter("cudnnBackendCreateDescriptor").and_then(|mut machine| {
        // "NOT_SUPPORTED: creating a descriptor of a given type is not supported."
        let known = rules().iter().any(|rule| rule.of as u32 == kind);
        let why = format!("a descriptor of type {kind} is not emulated");
        need(&machine, known, S::CUDNN_STATUS_NOT_SUPPORTED, &why)?;
        let handle = machine.new_handle();
        put(descriptor, handle)?;
        let content = Backend { kind, values: BTreeMap::new(), content: None };
        machine.cudnn.backend.insert(handle, content);
        Ok(())
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnBackendDestroyDescriptor(descriptor: usize) -> u32 {
    status(enter("cudnnBackendDestroyDescriptor").and_then(|mut machine| {
        // Destroying null is a no-op, as of other descriptors.
        if descriptor == 0 {
            return Ok(());
        }
        let gone = machine.cudnn.backend.remove(&descriptor);
        gone.map(|_| ()).ok_or_else(|| S::CUDNN_STATUS_BAD_PARAM.into())
    }))
}

fn backend(machine: &Machine, descriptor: usize) -> Dnn<&Backend> {
    let found = machine.cudnn.backend.get(&descriptor);
    need(machine, found.is_some(), S::CUDNN_STATUS_BAD_PARAM, "no such descriptor of the graph interface")?;
    Ok(found.expect("it was just looked at"))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnBackendSetAttribute(
    descriptor: usize,
    name: u32,
    kind: u32,
    count: i64,
    elements: In<u8>,
) -> u32 {
    status(enter("cudnnBackendSetAttribute").and_then(|mut machine| {
        let own = backend(&machine, descriptor)?;
        // "NOT_INITIALIZED: the backend descriptor pointed to by the descriptor is already in the finalized state."
        let open = own.content.is_none();
        need(
            &machine,
            open,
            S::CUDNN_STATUS_NOT_INITIALIZED,
            "an attribute of a finalised descriptor is set",
        )?;
        let rule = rule_for(&machine, own.kind, name, kind)?;
        let bad = S::CUDNN_STATUS_BAD_PARAM;
        need(&machine, rule.settable, bad, "an attribute that can only be asked for is set")?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let fits = rule.count.contains(&count);
        need(&machine, fits, bad, &format!("{count} elements for {:?}", rule.name))?;
        let size = element(kind);
        let bytes = elements.all(size * count).ok_or(S::CUDNN_STATUS_BAD_PARAM_NULL_POINTER)?;
        let words: Vec<u64> = bytes
            .chunks(size)
            .map(|chunk| chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
            .collect();
        if kind == T::CUDNN_TYPE_BACKEND_DESCRIPTOR as u32 {
            for word in &words {
                let finished = backend(&machine, *word as usize)?.content.is_some();
                let why = format!("{:?} is set to a descriptor that is not finalised", rule.name);
                need(&machine, finished, S::CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, &why)?;
            }
        }
        let own = machine.cudnn.backend.get_mut(&descriptor).expect("it was just found");
        own.values.insert(name, Value { kind, words });
        Ok(())
    }))
}

impl Backend {
    /// An attribute's elements; refused if it must be set and is not.
    fn words(&self, name: A) -> Dnn<&[u64]> {
        let value = self.values.get(&(name as u32));
        value.map(|value| value.words.as_slice()).ok_or_else(|| S::CUDNN_STATUS_BAD_PARAM.into())
    }

    fn word(&self, name: A) -> Dnn<u64> {
        Ok(self.words(name)?[0])
    }

    /// Sizes, none below `least`.
    fn sizes(&self, name: A, least: i64) -> Dnn<Vec<usize>> {
        let words = self.words(name)?;
        let fits = words.iter().all(|word| *word as i64 >= least);
        if fits {
            Ok(words.iter().map(|word| *word as usize).collect())
        } else {
            Err(S::CUDNN_STATUS_BAD_PARAM.into())
        }
    }

    /// A factor, or what it is where it may be left out.
    fn factor(&self, name: A, standard: Option<f32>) -> Dnn<f32> {
        match self.values.get(&(name as u32)) {
            Some(value) if value.kind == T::CUDNN_TYPE_DOUBLE as u32 => {
                Ok(f64::from_bits(value.words[0]) as f32)
            }
            Some(value) => Ok(f32::from_bits(value.words[0] as u32)),
            None => standard.ok_or_else(|| S::CUDNN_STATUS_BAD_PARAM.into()),
        }
    }
}

/// What descriptors that an attribute names stand for.
fn contents(machine: &Machine, own: &Backend, name: A) -> Dnn<Vec<Content>> {
    let words = own.words(name)?;
    words
        .iter()
        .map(|word| {
            let content = backend(machine, *word as usize)?.content.clone();
            content.ok_or_else(|| S::CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED.into())
        })
        .collect()
}

macro_rules! one {
    ($machine:expr, $own:expr, $name:expr, $pattern:pat => $found:expr) => {
        match contents($machine, $own, $name)?.into_iter().next() {
            Some($pattern) => $found,
            _ => {
                $machine.say("a descriptor of another type is expected");
                return Err(S::CUDNN_STATUS_BAD_PARAM.into());
            }
        }
    };
}

/// Checks a descriptor's attributes together, and says what it stands for.
fn finalised(machine: &Machine, own: &Backend) -> Dnn<Content> {
    let bad = S::CUDNN_STATUS_BAD_PARAM;
    let kind = own.kind;
    Ok(match kind {
        k if k == K::CUDNN_BACKEND_TENSOR_DESCRIPTOR as u32 => {
            let dims = own.sizes(A::CUDNN_ATTR_TENSOR_DIMENSIONS, 1)?;
            let strides = own.sizes(A::CUDNN_ATTR_TENSOR_STRIDES, 1)?;
            need(
                machine,
                dims.len() == strides.len(),
                bad,
                "a tensor with another number of strides than axes",
            )?;
            let alignment = own.word(A::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT)? as usize;
            let number = crate::numbers::Number::of_cudnn(own.word(A::CUDNN_ATTR_TENSOR_DATA_TYPE)? as u32);
            need(
                machine,
                number.is_some(),
                S::CUDNN_STATUS_NOT_SUPPORTED,
                "a data type that is not emulated",
            )?;
            let number = number.expect("it was just looked at");
            let fits = alignment.is_power_of_two() && alignment.is_multiple_of(number.bytes());
            need(machine, fits, bad, "an alignment that is not a multiple of a number's size")?;
            let id = own.word(A::CUDNN_ATTR_TENSOR_UNIQUE_ID)? as i64;
            let is_virtual = own.word(A::CUDNN_ATTR_TENSOR_IS_VIRTUAL).unwrap_or(0) != 0;
            Content::Tensor(Tensor { id, number, dims, strides, alignment, is_virtual })
        }
        k if k == K::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR as u32 => {
            let axes = own.word(A::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS)? as usize;
            let lists = [
                own.sizes(A::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, 0)?,
                own.sizes(A::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, 0)?,
                own.sizes(A::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, 1)?,
                own.sizes(A::CUDNN_ATTR_CONVOLUTION_DILATIONS, 1)?,
            ];
            let equal = lists.iter().all(|list| list.len() == axes);
            need(machine, equal, bad, "a convolution whose lists are not as long as its axes are many")?;
            need(
                machine,
                axes == 2,
                S::CUDNN_STATUS_NOT_SUPPORTED,
                "only convolutions of images are emulated",
            )?;
            let [before, behind, stride, dilation] = lists.map(|list| [list[0], list[1]]);
            let compute = own.word(A::CUDNN_ATTR_CONVOLUTION_COMP_TYPE)? as u32;
            // CUDNN_CONVOLUTION 0, CUDNN_CROSS_CORRELATION 1.
            let turned = own.word(A::CUDNN_ATTR_CONVOLUTION_CONV_MODE)? == 0;
            Content::Shape(Shape { before, behind, stride, dilation, compute, turned })
        }
        k if k == K::CUDNN_BACKEND_POINTWISE_DESCRIPTOR as u32 => {
            own.word(A::CUDNN_ATTR_POINTWISE_MATH_PREC)?;
            Content::Pointwise(own.word(A::CUDNN_ATTR_POINTWISE_MODE)? as u32)
        }
        k if k == K::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR as u32 => {
            use A::{
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA as ALPHA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA as BETA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC as SHAPE,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W as W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X as X,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y as Y,
            };
            let convolved = Convolved {
                shape: one!(machine, own, SHAPE, Content::Shape(shape) => shape),
                x: one!(machine, own, X, Content::Tensor(tensor) => tensor),
                w: one!(machine, own, W, Content::Tensor(tensor) => tensor),
                y: one!(machine, own, Y, Content::Tensor(tensor) => tensor),
                alpha: own.factor(ALPHA, None)?,
                beta: own.factor(BETA, None)?,
            };
            let fits = convolved.fits();
            let status = S::CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
            need(machine, fits, status, "a convolution whose tensors do not go together")?;
            Content::Operation(Operation::Convolution(convolved))
        }
        k if k == K::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR as u32 => {
            use A::{
                CUDNN_ATTR_OPERATION_POINTWISE_ALPHA1 as ALPHA1,
                CUDNN_ATTR_OPERATION_POINTWISE_ALPHA2 as ALPHA2, CUDNN_ATTR_OPERATION_POINTWISE_BDESC as B,
                CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR as MODE,
                CUDNN_ATTR_OPERATION_POINTWISE_XDESC as X, CUDNN_ATTR_OPERATION_POINTWISE_YDESC as Y,
            };
            let mode = one!(machine, own, MODE, Content::Pointwise(mode) => mode);
            // CUDNN_POINTWISE_ADD.
            need(machine, mode == 0, S::CUDNN_STATUS_NOT_SUPPORTED, "only sums are emulated")?;
            let sum = Sum {
                x: one!(machine, own, X, Content::Tensor(tensor) => tensor),
                b: one!(machine, own, B, Content::Tensor(tensor) => tensor),
                y: one!(machine, own, Y, Content::Tensor(tensor) => tensor),
                factors: [own.factor(ALPHA1, Some(1.0))?, own.factor(ALPHA2, Some(1.0))?],
            };
            let status = S::CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
            need(machine, sum.fits(), status, "a sum whose tensors do not go together")?;
            Content::Operation(Operation::Sum(sum))
        }
        k if k == K::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR as u32 => {
            machine.cudnn.stream(own.word(A::CUDNN_ATTR_OPERATIONGRAPH_HANDLE)? as usize)?;
            let mut operations = Vec::new();
            for content in contents(machine, own, A::CUDNN_ATTR_OPERATIONGRAPH_OPS)? {
                let Content::Operation(operation) = content else { return Err(bad.into()) };
                operations.push(operation);
            }
            let graph = Graph::of(operations);
            let status = S::CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN;
            need(
                machine,
                graph.is_some(),
                status,
                "a graph that is neither a convolution nor one with a bias",
            )?;
            Content::Graph(graph.expect("it was just looked at"))
        }
        k if k == K::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR as u32 => {
            let name = A::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH;
            let graph = one!(machine, own, name, Content::Graph(graph) => graph);
            let mode = own.word(A::CUDNN_ATTR_ENGINEHEUR_MODE)? as u32;
            need(machine, mode < 4, bad, "no such mode of the heuristic")?;
            // CUDNN_HEUR_MODE_FALLBACK is 2.
            let found = engines::ranked(machine, &graph, mode == 2);
            let why = "no engine can do this graph";
            need(machine, !found.is_empty(), S::CUDNN_STATUS_NOT_SUPPORTED, why)?;
            Content::Heuristic { graph, engines: found }
        }
        k if k == K::CUDNN_BACKEND_ENGINE_DESCRIPTOR as u32 => {
            let name = A::CUDNN_ATTR_ENGINE_OPERATION_GRAPH;
            let graph = one!(machine, own, name, Content::Graph(graph) => graph);
            let index = own.word(A::CUDNN_ATTR_ENGINE_GLOBAL_INDEX)? as i64;
            let known = (0..engines::COUNT).contains(&index);
            need(machine, known, bad, "no such engine")?;
            let can = engines::supports(machine, &graph, index);
            need(machine, can, S::CUDNN_STATUS_NOT_SUPPORTED, "the engine cannot do this graph")?;
            Content::Engine { graph, index }
        }
        k if k == K::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR as u32 => {
            let name = A::CUDNN_ATTR_ENGINECFG_ENGINE;
            let (graph, index) = one!(machine, own, name, Content::Engine { graph, index } => (graph, index));
            Content::Configuration { graph, index }
        }
        k if k == K::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR as u32 => {
            own.word(A::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE)?;
            Content::Knob { index: own.word(A::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE)? as i64 }
        }
        k if k == K::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR as u32 => {
            machine.cudnn.stream(own.word(A::CUDNN_ATTR_EXECUTION_PLAN_HANDLE)? as usize)?;
            let name = A::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG;
            let (graph, index) =
                one!(machine, own, name, Content::Configuration { graph, index } => (graph, index));
            let plan = Plan { graph, engine: index };
            // Heuristics propose engines that then turn out not to work; callers must go on to the next.
            need(machine, plan.works(), S::CUDNN_STATUS_NOT_SUPPORTED, "the engine turns out not to work")?;
            Content::Plan(plan)
        }
        _ => {
            let ids = own.words(A::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS)?;
            let pointers = own.words(A::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS)?;
            need(
                machine,
                ids.len() == pointers.len(),
                bad,
                "a variant pack with more ids than pointers or less",
            )?;
            let all: BTreeMap<i64, usize> =
                ids.iter().zip(pointers).map(|(id, pointer)| (*id as i64, *pointer as usize)).collect();
            let status = S::CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES;
            need(machine, all.len() == ids.len(), status, "a variant pack that has an id twice")?;
            let workspace = own.word(A::CUDNN_ATTR_VARIANT_PACK_WORKSPACE).unwrap_or(0) as usize;
            Content::Pack { pointers: all, workspace }
        }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cudnnBackendFinalize(descriptor: usize) -> u32 {
    status(enter("cudnnBackendFinalize").and_then(|mut machine| {
        let own = backend(&machine, descriptor)?.clone();
        let content = finalised(&machine, &own).inspect_err(|status| {
            machine.say(&format!("a descriptor of type {} is refused: status {}", own.kind, status.0));
        })?;
        machine.cudnn.backend.get_mut(&descriptor).expect("it was just found").content = Some(content);
        Ok(())
    }))
}

/// What an attribute that was not set but follows from the others has for elements; descriptors as their contents.
enum Answer {
    Words(Vec<u64>),
    Contents(Vec<Content>),
}

fn answer(own: &Backend, name: u32, machine: &Machine) -> Option<Answer> {
    let is = |known: A| known as u32 == name;
    Some(match own.content.as_ref()? {
        Content::Heuristic { graph, engines } if is(A::CUDNN_ATTR_ENGINEHEUR_RESULTS) => {
            let result = |index: &i64| Content::Configuration { graph: graph.clone(), index: *index };
            Answer::Contents(engines.iter().map(result).collect())
        }
        Content::Configuration { graph, index } if is(A::CUDNN_ATTR_ENGINECFG_ENGINE) => {
            Answer::Contents(vec![Content::Engine { graph: graph.clone(), index: *index }])
        }
        Content::Configuration { index, .. } if is(A::CUDNN_ATTR_ENGINECFG_KNOB_CHOICES) => {
            Answer::Contents(vec![Content::Knob { index: *index }])
        }
        // CUDNN_KNOB_TYPE_TILE_SIZE.
        Content::Knob { .. } if is(A::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE) => Answer::Words(vec![2]),
        Content::Knob { index } if is(A::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE) => {
            Answer::Words(vec![*index as u64])
        }
        Content::Engine { index, .. } if is(A::CUDNN_ATTR_ENGINE_GLOBAL_INDEX) => {
            Answer::Words(vec![*index as u64])
        }
        Content::Engine { graph, index } if is(A::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE) => {
            Answer::Words(engines::notes(graph, *index))
        }
        Content::Engine { .. } if is(A::CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE) => Answer::Words(Vec::new()),
        Content::Engine { .. } if is(A::CUDNN_ATTR_ENGINE_KNOB_INFO) => Answer::Contents(Vec::new()),
        Content::Graph(_) if is(A::CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT) => {
            Answer::Words(vec![engines::COUNT as u64])
        }
        Content::Plan(plan) if is(A::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) => {
            Answer::Words(vec![plan.workspace() as u64])
        }
        _ => {
            let value = own.values.get(&name)?;
            if value.kind == T::CUDNN_TYPE_BACKEND_DESCRIPTOR as u32 {
                let inner =
                    value.words.iter().filter_map(|word| machine.cudnn.backend.get(&(*word as usize)));
                Answer::Contents(inner.filter_map(|inner| inner.content.clone()).collect())
            } else {
                Answer::Words(value.words.clone())
            }
        }
    })
}

/// The type of the descriptor that stands for this.
fn kind_of(content: &Content) -> u32 {
    (match content {
        Content::Tensor(_) => K::CUDNN_BACKEND_TENSOR_DESCRIPTOR,
        Content::Shape(_) => K::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR,
        Content::Pointwise(_) => K::CUDNN_BACKEND_POINTWISE_DESCRIPTOR,
        Content::Operation(Operation::Convolution(_)) => {
            K::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR
        }
        Content::Operation(Operation::Sum(_)) => K::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
        Content::Graph(_) => K::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR,
        Content::Heuristic { .. } => K::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR,
        Content::Engine { .. } => K::CUDNN_BACKEND_ENGINE_DESCRIPTOR,
        Content::Configuration { .. } => K::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
        Content::Knob { .. } => K::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR,
        Content::Plan(_) => K::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR,
        Content::Pack { .. } => K::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR,
    }) as u32
}

#[unsafe(no_mangle)]
extern "C" fn cudnnBackendGetAttribute(
    descriptor: usize,
    name: u32,
    kind: u32,
    asked: i64,
    count: Out<i64>,
    elements: Out<u8>,
) -> u32 {
    status(enter("cudnnBackendGetAttribute").and_then(|mut machine| {
        let own = backend(&machine, descriptor)?.clone();
        rule_for(&machine, own.kind, name, kind)?;
        // "NOT_INITIALIZED: the descriptor was not already successfully finalized."
        let finished = own.content.is_some();
        let status = S::CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
        need(&machine, finished, status, "an attribute of a descriptor that is not finalised is asked for")?;
        let found = answer(&own, name, &machine).ok_or(S::CUDNN_STATUS_BAD_PARAM)?;
        let asked = usize::try_from(asked).map_err(|_| S::CUDNN_STATUS_BAD_PARAM)?;
        let there = match &found {
            Answer::Words(words) => words.len(),
            Answer::Contents(contents) => contents.len(),
        };
        let null = asked > 0 && elements.is_null();
        need(
            &machine,
            !null,
            S::CUDNN_STATUS_BAD_PARAM_NULL_POINTER,
            "no place for an attribute's elements",
        )?;
        match found {
            Answer::Words(words) => {
                let size = element(kind);
                for (at, word) in words.iter().take(asked).enumerate() {
                    crate::pointers::to_host(elements.address() + at * size, &word.to_le_bytes()[..size]);
                }
            }
            // "If the attribute type is CUDNN_TYPE_BACKEND_DESCRIPTOR, arrayOfElements has descriptors that were created
            // before": they become copies.
            Answer::Contents(contents) => {
                let place: In<u64> = In::from(elements).cast();
                for (at, content) in contents.into_iter().take(asked).enumerate() {
                    let target = place.at(at).ok_or(S::CUDNN_STATUS_BAD_PARAM_NULL_POINTER)? as usize;
                    let fits = backend(&machine, target)?.kind == kind_of(&content);
                    let status = S::CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE;
                    need(&machine, fits, status, "a descriptor of another type is to be filled")?;
                    machine.cudnn.backend.get_mut(&target).expect("it was just found").content =
                        Some(content);
                }
            }
        }
        if count.is_null() {
            Ok(())
        } else {
            put(count, if asked == 0 { there } else { there.min(asked) } as i64)
        }
    }))
}

#[unsafe(no_mangle)]
extern "C" fn cudnnBackendExecute(handle: usize, plan: usize, pack: usize) -> u32 {
    status(enter("cudnnBackendExecute").and_then(|mut machine| {
        machine.cudnn.stream(handle)?;
        let open = S::CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
        let (plan, pack) =
            (backend(&machine, plan)?.content.clone(), backend(&machine, pack)?.content.clone());
        need(&machine, plan.is_some() && pack.is_some(), open, "a plan or pack that is not finalised")?;
        let (Some(Content::Plan(plan)), Some(Content::Pack { pointers, workspace })) = (plan, pack) else {
            return Err(S::CUDNN_STATUS_BAD_PARAM.into());
        };
        let needed = plan.workspace();
        let given = needed == 0 || workspace != 0;
        need(&machine, given, S::CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "no workspace")?;
        let there = needed == 0 || machine.memory.has(workspace, needed);
        need(&machine, there, S::CUDNN_STATUS_EXECUTION_FAILED, "a workspace that is not device memory")?;
        for tensor in plan.graph.tensors() {
            let address = pointers.get(&tensor.id).copied();
            let why = format!("no address for the tensor {}", tensor.id);
            need(&machine, address.is_some_and(|a| a != 0), S::CUDNN_STATUS_BAD_PARAM_NULL_POINTER, &why)?;
            let aligned = address.is_some_and(|address| address.is_multiple_of(tensor.alignment));
            let status = S::CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
            need(&machine, aligned, status, "an address that is less aligned than was said")?;
        }
        let work = plan.work(&machine, &pointers);
        machine.run(handle, work)
    }))
}
