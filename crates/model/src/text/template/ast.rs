//! A template as the parser leaves it.

use super::error::At;
use std::sync::Arc;

/// An expression, where it stands, and how deep it is.
#[derive(Debug)]
pub(super) struct Expr {
    pub kind: ExprKind,
    pub at: At,
    pub depth: usize,
}

#[derive(Debug)]
pub(super) enum ExprKind {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    Name(String),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Attribute(Box<Expr>, String),
    Item(Box<Expr>, Box<Expr>),
    /// Start, stop, step.
    Slice(Box<Expr>, [Option<Box<Expr>>; 3]),
    Call(Box<Expr>, Args),
    /// None at the start of a `{% filter %}` or `{% set %}` block's filters: what the block printed.
    Filter(Option<Box<Expr>>, String, Args),
    Test(Box<Expr>, String, Args),
    Not(Box<Expr>),
    Negative(Box<Expr>),
    Positive(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Compare, Expr)>),
    /// Condition, then, otherwise.
    If(Box<Expr>, Box<Expr>, Option<Box<Expr>>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

/// The arguments of a call, a filter or a test.
#[derive(Debug, Default)]
pub(super) struct Args {
    pub positional: Vec<Expr>,
    pub named: Vec<(String, Expr)>,
    pub spread: Option<Box<Expr>>,
    pub spread_named: Option<Box<Expr>>,
}

/// What a value is assigned to.
#[derive(Debug)]
pub(super) enum Target {
    Name(String),
    Tuple(Vec<Target>),
    /// An attribute of a namespace.
    Attribute(String, String),
}

/// A statement and where it stands.
#[derive(Debug)]
pub(super) struct Stmt {
    pub kind: StmtKind,
    pub at: At,
}

pub(super) type Body = Vec<Stmt>;

/// A whole template: its statements, and the blocks wherever they stand in them.
#[derive(Debug)]
pub(super) struct Whole {
    pub body: Body,
    pub blocks: Vec<Arc<Macro>>,
}

#[derive(Debug)]
pub(super) enum StmtKind {
    Text(String),
    Print(Expr),
    If(Vec<(Expr, Body)>, Body),
    For(Arc<For>),
    Set(Target, Expr),
    SetBlock(Target, Option<Expr>, Body),
    Macro(Arc<Macro>),
    CallBlock(Arc<Macro>, Expr),
    FilterBlock(Expr, Body),
    With(Vec<(Target, Expr)>, Body),
    /// A body with names of its own.
    Scope(Body),
    /// `{% block %}`, which nothing can override; it sees the names of the whole template alone.
    Block(Arc<Macro>),
    /// The same, which sees the names of where it stands.
    ScopedBlock(Arc<Macro>),
    Generation(Body),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct For {
    pub target: Target,
    pub iterable: Expr,
    pub condition: Option<Expr>,
    pub is_recursive: bool,
    pub body: Body,
    pub otherwise: Body,
}

#[derive(Debug)]
pub(super) struct Macro {
    pub name: String,
    pub parameters: Vec<(String, Option<Expr>)>,
    pub body: Body,
    /// Whether the body reads `varargs`, `kwargs`, `caller`: only then may a call give them.
    pub takes_rest: bool,
    pub takes_named: bool,
    pub takes_caller: bool,
    /// Whether it is a `{% block %}`, which `self` calls.
    pub is_block: bool,
}
