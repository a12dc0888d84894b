//! `OpDef`: what an op is, and the one place where ops and devices meet.

use crate::launch::{Lowering, Shader};
use crate::spec::Spec;
use crate::trace::Tensor;
use std::fmt;
use tensor::{DType, Shape};

/// Element type and shape of a value.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Sizes, outermost first.
    pub shape: Shape,
}

impl TensorType {
    /// A type from its two parts.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        TensorType { dtype, shape: shape.into() }
    }

    /// An f32 tensor of `shape`.
    pub fn f32(shape: impl Into<Shape>) -> Self {
        Self::new(DType::F32, shape)
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.elements()
    }

    /// Number of bytes.
    pub fn bytes(&self) -> u64 {
        self.dtype.bytes(self.elements()).expect("tracing checked that elements fill whole blocks") as u64
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

/// One parameter of an op: a 32-bit word with a type.
#[derive(Clone, Copy, Debug)]
pub enum Param {
    /// A count, an index or a flag.
    U32(u32),
    /// A number.
    F32(f32),
}

impl Param {
    /// The word as kernels take it.
    pub fn word(self) -> u32 {
        match self {
            Param::U32(v) => v,
            Param::F32(v) => v.to_bits(),
        }
    }
}

impl PartialEq for Param {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other) && self.word() == other.word()
    }
}

/// An op's parameters: named words, in the order in which kernels take them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(Vec<(&'static str, Param)>);

impl Params {
    /// No parameters.
    pub const NONE: Params = Params(Vec::new());

    /// These parameters and a count, an index or a flag.
    #[must_use]
    pub fn with_u32(mut self, name: &'static str, value: usize) -> Self {
        self.0.push((name, Param::U32(u32::try_from(value).expect("an op parameter fits 32 bits"))));
        self
    }

    /// These parameters and a number.
    #[must_use]
    pub fn with_f32(mut self, name: &'static str, value: f32) -> Self {
        self.0.push((name, Param::F32(value)));
        self
    }

    /// The count, index or flag `name`.
    ///
    /// # Panics
    /// When the op has no such parameter: a broken card.
    pub fn u32(&self, name: &str) -> usize {
        match self.get(name) {
            Param::U32(v) => v as usize,
            Param::F32(_) => panic!("parameter `{name}` is a number, not a count"),
        }
    }

    /// The number `name`.
    ///
    /// # Panics
    /// When the op has no such parameter: a broken card.
    pub fn f32(&self, name: &str) -> f32 {
        match self.get(name) {
            Param::F32(v) => v,
            Param::U32(_) => panic!("parameter `{name}` is a count, not a number"),
        }
    }

    /// All words, in order.
    pub fn words(&self) -> Vec<u32> {
        self.0.iter().map(|(_, p)| p.word()).collect()
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Param)> + '_ {
        self.0.iter().copied()
    }

    fn get(&self, name: &str) -> Param {
        let found = self.0.iter().find(|(n, _)| *n == name);
        found.unwrap_or_else(|| panic!("no parameter `{name}`; there are {:?}", self.0)).1
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self
            .iter()
            .map(|(n, p)| match p {
                Param::U32(v) => format!("{n}={v}"),
                Param::F32(v) => format!("{n}={v}"),
            })
            .collect();
        f.pad(&parts.join(" "))
    }
}

/// One use of an op: its parameters and the types around it.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The op's parameters.
    pub params: &'a Params,
    /// Types of the inputs.
    pub inputs: &'a [TensorType],
    /// Types of the outputs.
    pub outputs: &'a [TensorType],
}

/// What a call must move and compute at the least.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Bytes read and written, each input and output once.
    pub bytes: f64,
    /// Floating-point operations; a multiply-add counts two.
    pub flops: f64,
}

impl Cost {
    /// Every input read and every output written once, and `flops_per_output` operations an element of the first output.
    pub fn streaming(call: &Call, flops_per_output: f64) -> Cost {
        let bytes = call.inputs.iter().chain(call.outputs).map(|t| t.bytes() as f64).sum();
        Cost { bytes, flops: flops_per_output * call.outputs[0].elements() as f64 }
    }
}

/// What an op's gradient function is given; it answers one gradient an input, `None` where there is none.
pub struct Backward<'a> {
    /// The op's parameters.
    pub params: &'a Params,
    /// The forward inputs.
    pub inputs: &'a [Tensor],
    /// The forward outputs.
    pub outputs: &'a [Tensor],
    /// The gradient of the loss by each output; `None` where the loss doesn't depend on it.
    pub grads: &'a [Option<Tensor>],
    /// Which inputs' gradients are wanted; the others may be left out.
    pub wanted: &'a [bool],
}

/// A fused op's meaning: the graph of plain ops that it replaces.
#[derive(Clone, Copy)]
pub struct Fusion {
    /// Traces the unfused ops; returns as many values as the fused op has outputs. The pattern and the reference.
    pub unfused: fn(&[Tensor], &Params) -> Vec<Tensor>,
    /// The fused op's parameters, from the parameters of the matched nodes in the order in which `unfused` makes them.
    pub params: fn(&[&Params]) -> Params,
}

/// What an op computes.
#[derive(Clone, Copy)]
pub enum Meaning {
    /// Plain loops in f64: one vector an output, integers as whole f64 numbers.
    Loops(fn(&Call, &[&[f64]]) -> Vec<Vec<f64>>),
    /// The same as these plain ops.
    Unfused(Fusion),
}

/// How a case's input is filled.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// Normal numbers, mean 0, standard deviation 1.
    Normal,
    /// Uniform numbers in [low, high).
    Uniform(f32, f32),
    /// Whole numbers in [0, bound).
    Below(u32),
    /// These very numbers.
    Values(Vec<f64>),
}

/// One input of a case.
#[derive(Clone, Debug, PartialEq)]
pub struct CaseInput {
    /// Its type.
    pub ty: TensorType,
    /// Its contents.
    pub fill: Fill,
}

impl CaseInput {
    /// An f32 input of normal numbers.
    pub fn normal(shape: impl Into<Shape>) -> Self {
        CaseInput { ty: TensorType::f32(shape), fill: Fill::Normal }
    }

    /// An f32 input of uniform numbers.
    pub fn uniform(shape: impl Into<Shape>, low: f32, high: f32) -> Self {
        CaseInput { ty: TensorType::f32(shape), fill: Fill::Uniform(low, high) }
    }

    /// A u32 input of whole numbers below `bound`.
    pub fn below(shape: impl Into<Shape>, bound: u32) -> Self {
        CaseInput { ty: TensorType::new(DType::U32, shape), fill: Fill::Below(bound) }
    }

    /// An input of given numbers.
    pub fn values(dtype: DType, shape: impl Into<Shape>, values: impl Into<Vec<f64>>) -> Self {
        CaseInput { ty: TensorType::new(dtype, shape), fill: Fill::Values(values.into()) }
    }
}

/// One case of an op, used four times: correct, differentiable, supported, fast.
#[derive(Clone, Debug)]
pub struct Case {
    /// A short name, unique in its op, such as `64x256`.
    pub name: String,
    /// The op's parameters.
    pub params: Params,
    /// Its inputs.
    pub inputs: Vec<CaseInput>,
    /// Largest |out - reference| / (1 + |reference|) over the outputs, in f32.
    pub tolerance: f64,
    /// How many roundings of stored elements add up in an output: the tolerance with 16 bits is that many times as large.
    pub roundings: f64,
    /// A model's own shape: run on request and on GPUs, and what `bench ops` times.
    pub large: bool,
}

impl Case {
    /// A small case with the usual f32 tolerance of 1e-5.
    pub fn new(name: impl Into<String>, params: Params, inputs: Vec<CaseInput>) -> Self {
        Case { name: name.into(), params, inputs, tolerance: 1e-5, roundings: 1.0, large: false }
    }

    /// The same with another tolerance.
    #[must_use]
    pub fn tolerance(mut self, tolerance: f64) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// The same where an output is made from elements that were themselves rounded when they were stored.
    #[must_use]
    pub fn roundings(mut self, roundings: f64) -> Self {
        self.roundings = roundings;
        self
    }

    /// The same with float tensors stored as `dtype`, and a tolerance of twice what rounding the results loses, or more.
    #[must_use]
    pub fn stored_as(&self, op: &OpDef, dtype: DType) -> Self {
        let mut case = self.clone();
        for (i, input) in case.inputs.iter_mut().enumerate() {
            if input.ty.dtype == DType::F32 && !op.always_f32.contains(&i) {
                input.ty.dtype = dtype;
            }
        }
        if is_narrow(dtype) {
            case.name = format!("{} {dtype}", self.name);
            let rounding = if dtype == DType::Bf16 { 1.0 / 128.0 } else { 1.0 / 1024.0 };
            case.tolerance = self.tolerance.max(self.roundings * rounding);
        }
        case
    }

    /// The same, marked as a model's own shape.
    #[must_use]
    pub fn large(mut self) -> Self {
        self.large = true;
        self
    }
}

/// Why an op can't be lowered for a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(pub String);

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Element types that activations are stored as. Sums are f32 whatever it is.
pub const FLOATS: &[DType] = &[DType::F32, DType::Bf16, DType::F16];

/// Whether elements of this type have 16 bits.
pub fn is_narrow(dtype: DType) -> bool {
    matches!(dtype, DType::Bf16 | DType::F16)
}

/// An op's card.
pub struct OpDef {
    /// The op's name, also its folder's.
    pub name: &'static str,
    /// The formula in one line.
    pub formula: &'static str,
    /// Types of the outputs, or what is wrong with the inputs.
    pub infer: fn(&Params, &[TensorType]) -> Result<Vec<TensorType>, String>,
    /// Element types that its float tensors may be stored as, all of them the same one; f32 first.
    pub storage: &'static [DType],
    /// The inputs that are f32 whatever the others are: saved statistics, counts, rates.
    pub always_f32: &'static [usize],
    /// Pairs (output, input): the output may lie in that input's memory, element over element.
    pub sharing: &'static [(usize, usize)],
    /// Bytes and operations of a call.
    pub cost: fn(&Call) -> Cost,
    /// What it computes.
    pub meaning: Meaning,
    /// The gradient as a graph of other ops; `None` for ops that are never differentiated.
    pub gradient: Option<fn(&Backward) -> Vec<Option<Tensor>>>,
    /// Names of the lowerings that a device may choose from, the default first.
    pub variants: fn(&Call, &Spec) -> Vec<&'static str>,
    /// The call as launches for a device, in a variant.
    pub lower: fn(&Call, &Spec, variant: &str) -> Result<Lowering, Unsupported>,
    /// The shaders that Vulkan lowerings use.
    pub shaders: &'static [&'static Shader],
    /// The op's cases.
    pub cases: fn() -> Vec<Case>,
}

impl OpDef {
    /// What most cards have in common; a card overrides the rest with `..OpDef::BASE`.
    pub const BASE: OpDef = OpDef {
        name: "",
        formula: "",
        infer: |_, _| Err("the card has no `infer`".into()),
        storage: &[DType::F32],
        always_f32: &[],
        sharing: &[],
        cost: |call| Cost::streaming(call, 1.0),
        meaning: Meaning::Loops(|_, _| Vec::new()),
        gradient: None,
        variants: |_, _| vec!["default"],
        lower: |_, spec, _| Err(Unsupported(format!("it has no kernel for {}", spec.kind))),
        shaders: &[],
        cases: Vec::new,
    };

    /// The cases with every element type that the card stores, those of f32 first.
    pub fn cases_of_every_type(&self) -> Vec<Case> {
        let cases = (self.cases)();
        let narrow = self.storage.iter().filter(|dtype| is_narrow(**dtype));
        let stored = narrow.flat_map(|&dtype| cases.iter().map(move |case| case.stored_as(self, dtype)));
        cases.iter().cloned().chain(stored).collect()
    }
}

impl fmt::Debug for OpDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for OpDef {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Checks used by the cards' `infer` functions; each error says what was expected and what is there.
pub mod expect {
    use super::{DType, TensorType};

    /// There are `count` inputs.
    pub fn inputs(types: &[TensorType], count: usize) -> Result<(), String> {
        if types.len() == count { Ok(()) } else { Err(format!("expects {count} inputs, got {}", types.len())) }
    }

    /// Input `name` has element type `dtype`.
    pub fn dtype(name: &str, ty: &TensorType, dtype: DType) -> Result<(), String> {
        if ty.dtype == dtype {
            Ok(())
        } else {
            Err(format!("`{name}` has element type {}; only {dtype} is supported here", ty.dtype))
        }
    }

    /// Input `name` is stored as one of `FLOATS`, which is answered.
    pub fn float(name: &str, ty: &TensorType) -> Result<DType, String> {
        if super::FLOATS.contains(&ty.dtype) {
            Ok(ty.dtype)
        } else {
            Err(format!("`{name}` has element type {}; only f32, bf16 and f16 are supported here", ty.dtype))
        }
    }

    /// Input `name` has this shape.
    pub fn shape(name: &str, ty: &TensorType, shape: &[usize]) -> Result<(), String> {
        if *ty.shape == *shape {
            Ok(())
        } else {
            Err(format!("`{name}` has shape {}; expected {}", ty.shape, tensor::Shape::from(shape)))
        }
    }

    /// Input `name` has `rank` dimensions.
    pub fn rank(name: &str, ty: &TensorType, rank: usize) -> Result<(), String> {
        if ty.shape.len() == rank {
            Ok(())
        } else {
            Err(format!("`{name}` has shape {}; expected {rank} dimensions", ty.shape))
        }
    }
}
