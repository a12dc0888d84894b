//! Tracing: model code runs once with symbolic values and leaves a graph. The first mistake is kept, with the line that made it.

use crate::op::{OpDef, Params, TensorType};
use std::cell::RefCell;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use tensor::{DType, Shape};

/// Index of a value in its graph.
pub type ValueId = usize;
/// Index of a node in its graph.
pub type NodeId = usize;

/// Elements between the starts of a region's entries are a multiple of this many bytes.
pub const REGION_ALIGNMENT: u64 = 256;
/// The region that holds parameters.
pub const PARAMETERS: &str = "parameters";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// Written by the host before each step.
    Input {
        /// Its name.
        name: String,
    },
    /// Bytes of a region that outlives the step.
    Region {
        /// Index of the region.
        region: usize,
        /// Offset in bytes.
        offset: u64,
        /// The entry's name; the region's own when the value is the whole region.
        name: String,
    },
    /// An output of a node.
    Node {
        /// The node.
        node: NodeId,
        /// Which of its outputs.
        output: usize,
    },
    /// The same bytes as another value, from an offset on, in another shape.
    View {
        /// The other value.
        of: ValueId,
        /// Offset in bytes.
        offset: u64,
    },
    /// A region whose parts are other values, each at its offset; bytes between them stay as they are.
    Pack {
        /// Index of the region.
        region: usize,
        /// Value and offset in bytes.
        parts: Vec<(ValueId, u64)>,
    },
    /// Nowhere: a pass removed the node that made it, and nothing reads it.
    Removed,
}

/// A value of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Its type.
    pub ty: TensorType,
    /// Where it comes from.
    pub source: Source,
}

/// One use of an op.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The op.
    pub op: &'static OpDef,
    /// Its parameters.
    pub params: Params,
    /// Values read.
    pub inputs: Vec<ValueId>,
    /// Values made.
    pub outputs: Vec<ValueId>,
    /// The source line that made it.
    pub location: &'static Location<'static>,
}

/// A named entry of a region.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name, unique in the region.
    pub name: String,
    /// Its type.
    pub ty: TensorType,
    /// Offset in bytes.
    pub offset: u64,
}

/// Memory that outlives a step: parameters, gradients, moments.
#[derive(Clone, Debug, PartialEq)]
pub struct Region {
    /// Its name, unique in the graph.
    pub name: String,
    /// Its entries, in order of offset.
    pub entries: Vec<Entry>,
    /// Its size.
    pub bytes: u64,
}

/// A step as data. Nodes are in program order, and a value is made before it is read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// All values.
    pub values: Vec<Value>,
    /// All nodes, in program order.
    pub nodes: Vec<Node>,
    /// Regions.
    pub regions: Vec<Region>,
    /// Values that the host reads after a step, by name.
    pub outputs: Vec<(String, ValueId)>,
    /// (state, value): what a state holds after the step.
    pub assignments: Vec<(ValueId, ValueId)>,
}

/// The first mistake made while tracing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{location}: {op}: {what}{inputs}")]
pub struct TraceError {
    /// The op, or the tracing call.
    pub op: String,
    /// What is wrong.
    pub what: String,
    /// The inputs' types and names.
    pub inputs: String,
    /// The line that made it.
    pub location: String,
}

#[derive(Default)]
struct State {
    graph: Graph,
    error: Option<TraceError>,
}

/// What model code traces into.
#[derive(Clone, Default)]
pub struct Tracer(Rc<RefCell<State>>);

/// A symbolic value.
#[derive(Clone)]
pub struct Tensor {
    id: ValueId,
    ty: TensorType,
    tracer: Tracer,
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}: {}", self.id, self.ty)
    }
}

/// The id of the values that follow a mistake.
const DEAD: ValueId = usize::MAX;
/// Nodes of a graph: fusing and planning look at pairs of them.
const MOST_NODES: usize = 40_000;
/// No op has more outputs than this.
const MAX_OUTPUTS: usize = 8;

impl Graph {
    /// Runs `build` with symbolic values.
    ///
    /// # Errors
    /// The first mistake: a shape or type that an op refuses, with the line that made it.
    pub fn trace(build: impl FnOnce(&Tracer)) -> Result<Graph, TraceError> {
        let tracer = Tracer::default();
        build(&tracer);
        let state = tracer.0.take();
        match state.error {
            Some(e) => Err(e),
            None => Ok(state.graph),
        }
    }

    /// The region of a name.
    pub fn region(&self, name: &str) -> Option<&Region> {
        self.regions.iter().find(|r| r.name == name)
    }

    /// The value whose bytes `id` is a view of, and the offset in it; a value itself when it is no view.
    pub fn root(&self, mut id: ValueId) -> (ValueId, u64) {
        let mut total = 0;
        while let Source::View { of, offset } = self.values[id].source {
            total += offset;
            id = of;
        }
        (id, total)
    }

    /// Types of the values `ids`.
    pub fn types(&self, ids: &[ValueId]) -> Vec<TensorType> {
        ids.iter().map(|&i| self.values[i].ty.clone()).collect()
    }
}

impl Tracer {
    /// A value that the host writes before each step.
    #[track_caller]
    pub fn input(&self, name: &str, dtype: DType, shape: impl Into<Shape>) -> Tensor {
        let ty = TensorType::new(dtype, shape);
        if self.with(|s| s.graph.values.iter().any(|v| matches!(&v.source, Source::Input { name: n } if n == name))) {
            return self.mistake("input", format!("there is an input `{name}` already"));
        }
        self.value(ty, Source::Input { name: name.into() })
    }

    /// A parameter: an entry of the region `parameters`, which training changes and files hold.
    #[track_caller]
    pub fn parameter(&self, name: &str, dtype: DType, shape: impl Into<Shape>) -> Tensor {
        self.state(PARAMETERS, name, dtype, shape)
    }

    /// An entry of `region`, which keeps its contents from step to step.
    #[track_caller]
    pub fn state(&self, region: &str, name: &str, dtype: DType, shape: impl Into<Shape>) -> Tensor {
        if self.failed() {
            return self.dead();
        }
        let ty = TensorType::new(dtype, shape);
        let Some(bytes) = dtype.bytes(ty.elements()) else {
            return self.mistake("state", format!("`{name}`: {ty} doesn't fill whole blocks"));
        };
        let index = self.region_index(region);
        let duplicate = self.with(|s| s.graph.regions[index].entries.iter().any(|e| e.name == name));
        if duplicate {
            return self.mistake("state", format!("region `{region}` has an entry `{name}` already"));
        }
        let offset = self.with(|s| {
            let r = &mut s.graph.regions[index];
            let offset = r.bytes;
            r.entries.push(Entry { name: name.into(), ty: ty.clone(), offset });
            r.bytes = (offset + bytes as u64).next_multiple_of(REGION_ALIGNMENT);
            offset
        });
        self.value(ty, Source::Region { region: index, offset, name: name.into() })
    }

    /// The entries traced so far of `region`, in order of offset, each with its symbolic value.
    pub fn entries(&self, region: &str) -> Vec<(Entry, Tensor)> {
        let index = self.region_index(region);
        let found: Vec<_> = self.graph(|g| {
            let id = |e: &Entry| {
                let source = Source::Region { region: index, offset: e.offset, name: e.name.clone() };
                g.values.iter().position(|v| v.source == source && v.ty == e.ty)
            };
            g.regions[index].entries.iter().filter_map(|e| Some((e.clone(), id(e)?))).collect()
        });
        found.into_iter().map(|(entry, id)| (entry, self.tensor(id))).collect()
    }

    /// A whole region as one flat f32 value, gaps included. Its entries must all be there already.
    #[track_caller]
    pub fn flat(&self, region: &str) -> Tensor {
        let index = self.region_index(region);
        let bytes = self.with(|s| s.graph.regions[index].bytes);
        self.value(
            TensorType::f32([bytes as usize / 4]),
            Source::Region { region: index, offset: 0, name: region.into() },
        )
    }

    /// The region `name` filled with `parts`, each at its offset in bytes, as one flat f32 value of `bytes` bytes.
    /// Gaps keep what they held, zeros at first.
    #[track_caller]
    pub fn pack(&self, name: &str, parts: &[(Tensor, u64)], bytes: u64) -> Tensor {
        if self.failed() {
            return self.dead();
        }
        let index = self.region_index(name);
        let parts: Vec<_> = parts.iter().map(|(t, o)| (t.id, *o)).collect();
        self.with(|s| s.graph.regions[index].bytes = bytes);
        self.value(TensorType::f32([bytes as usize / 4]), Source::Pack { region: index, parts })
    }

    /// What `state` holds after the step.
    #[track_caller]
    pub fn assign(&self, state: &Tensor, value: &Tensor) {
        if self.failed() {
            return;
        }
        if state.ty != value.ty {
            self.mistake("assign", format!("a state of type {} is assigned a value of type {}", state.ty, value.ty));
            return;
        }
        let from_region = self.with(|s| {
            let root = s.graph.root(value.id).0;
            matches!(s.graph.values[root].source, Source::Region { .. } | Source::Pack { .. })
        });
        if from_region {
            self.mistake("assign", "a state is assigned another state's bytes; assign what an op makes of them".into());
            return;
        }
        if self.with(|s| s.graph.assignments.iter().any(|(id, _)| *id == state.id)) {
            self.mistake("assign", "the state is assigned already".into());
            return;
        }
        self.with(|s| s.graph.assignments.push((state.id, value.id)));
    }

    /// A value that the host reads after a step.
    #[track_caller]
    pub fn output(&self, name: &str, value: &Tensor) {
        if self.failed() {
            return;
        }
        if self.with(|s| s.graph.outputs.iter().any(|(n, _)| n == name)) {
            self.mistake("output", format!("there is an output `{name}` already"));
            return;
        }
        self.with(|s| s.graph.outputs.push((name.into(), value.id)));
    }

    /// One use of an op: its outputs. After a mistake the outputs are dead, and nothing more is traced.
    #[track_caller]
    pub fn emit(&self, op: &'static OpDef, inputs: &[&Tensor], params: Params) -> Vec<Tensor> {
        if self.failed() {
            return vec![self.dead(); MAX_OUTPUTS];
        }
        if self.graph(|g| g.nodes.len()) >= MOST_NODES {
            let what = format!("the step has more than {MOST_NODES} ops; a model with fewer layers has less");
            self.record(op.name, what, &[]);
            return vec![self.dead(); MAX_OUTPUTS];
        }
        let types: Vec<_> = inputs.iter().map(|t| t.ty.clone()).collect();
        let outputs = match (op.infer)(&params, &types) {
            Ok(outputs) => outputs,
            Err(what) => {
                self.record(op.name, what, inputs);
                return vec![self.dead(); MAX_OUTPUTS];
            }
        };
        let node = self.with(|s| s.graph.nodes.len());
        let values: Vec<_> =
            outputs.into_iter().enumerate().map(|(output, ty)| self.value(ty, Source::Node { node, output })).collect();
        let location = Location::caller();
        self.with(|s| {
            s.graph.nodes.push(Node {
                op,
                params,
                inputs: inputs.iter().map(|t| t.id).collect(),
                outputs: values.iter().map(|t| t.id).collect(),
                location,
            });
        });
        values
    }

    /// Notes a mistake found outside an op, and answers a dead value.
    #[track_caller]
    pub fn mistake(&self, op: &str, what: String) -> Tensor {
        self.record(op, what, &[]);
        self.dead()
    }

    /// The symbolic value of an id of this graph.
    pub(crate) fn tensor(&self, id: ValueId) -> Tensor {
        let ty = self.with(|s| s.graph.values[id].ty.clone());
        Tensor { id, ty, tracer: self.clone() }
    }

    pub(crate) fn graph<R>(&self, read: impl FnOnce(&Graph) -> R) -> R {
        read(&self.0.borrow().graph)
    }

    pub(crate) fn failed(&self) -> bool {
        self.0.borrow().error.is_some()
    }

    fn region_index(&self, name: &str) -> usize {
        self.with(|s| {
            let regions = &mut s.graph.regions;
            regions.iter().position(|r| r.name == name).unwrap_or_else(|| {
                regions.push(Region { name: name.into(), entries: Vec::new(), bytes: 0 });
                regions.len() - 1
            })
        })
    }

    #[track_caller]
    fn record(&self, op: &str, what: String, inputs: &[&Tensor]) {
        let names: Vec<_> = inputs.iter().map(|t| format!("{}{}", t.ty, self.name_of(t.id))).collect();
        let inputs = if names.is_empty() { String::new() } else { format!("\n  inputs: {}", names.join(", ")) };
        let at = Location::caller();
        let location = format!("{}:{}", at.file(), at.line());
        self.with(|s| {
            s.error.get_or_insert(TraceError { op: op.into(), what, inputs, location });
        });
    }

    fn name_of(&self, id: ValueId) -> String {
        self.with(|s| match s.graph.values.get(id).map(|v| &v.source) {
            Some(Source::Input { name } | Source::Region { name, .. }) => format!(" `{name}`"),
            _ => String::new(),
        })
    }

    fn value(&self, ty: TensorType, source: Source) -> Tensor {
        let id = self.with(|s| {
            s.graph.values.push(Value { ty: ty.clone(), source });
            s.graph.values.len() - 1
        });
        Tensor { id, ty, tracer: self.clone() }
    }

    fn dead(&self) -> Tensor {
        Tensor { id: DEAD, ty: TensorType::f32([]), tracer: self.clone() }
    }

    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.0.borrow_mut())
    }
}

impl Tensor {
    /// Its sizes, outermost first.
    pub fn shape(&self) -> &Shape {
        &self.ty.shape
    }

    /// Its element type.
    pub fn dtype(&self) -> DType {
        self.ty.dtype
    }

    /// Its type.
    pub fn ty(&self) -> &TensorType {
        &self.ty
    }

    /// Its index in the graph.
    pub fn id(&self) -> ValueId {
        self.id
    }

    /// What it is traced into.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// The same bytes in another shape of as many elements.
    #[track_caller]
    pub fn reshape(&self, shape: impl Into<Shape>) -> Tensor {
        let shape = shape.into();
        if self.tracer.failed() {
            return self.tracer.dead();
        }
        if shape.elements() != self.ty.elements() {
            return self.tracer.mistake("reshape", format!("{} can't take the shape {shape}", self.ty));
        }
        self.view(shape, 0)
    }

    /// Rows `from..to` of the outermost dimension, as a view.
    #[track_caller]
    pub fn rows(&self, from: usize, to: usize) -> Tensor {
        if self.tracer.failed() {
            return self.tracer.dead();
        }
        let outer = self.ty.shape.first().copied().unwrap_or(0);
        if from > to || to > outer {
            return self.tracer.mistake("rows", format!("rows {from}..{to} of {}", self.ty));
        }
        let mut sizes = self.ty.shape.to_vec();
        sizes[0] = to - from;
        let row: usize = sizes[1..].iter().product();
        match self.ty.dtype.bytes(row * from) {
            Some(offset) => self.view(sizes.into(), offset as u64),
            None => self.tracer.mistake("rows", format!("rows of {} don't fill whole blocks", self.ty)),
        }
    }

    fn view(&self, shape: Shape, offset: u64) -> Tensor {
        let ty = TensorType { dtype: self.ty.dtype, shape };
        self.tracer.value(ty, Source::View { of: self.id, offset })
    }
}
