//! Runs a parsed template: scopes, statements, loops and macros.

use super::ast::*;
use super::call::Given;
use super::clock::Now;
use super::error::{At, Error, Kind, Result};
use super::meter::{Held, spend};
use super::text::{Builder, Text};
use super::value::{Dict, List, LoopState, MacroValue, Value};
use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// How deep evaluation may go: expressions, blocks and calls of macros together.
const DEEPEST: usize = 1500;

/// How a body ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
}

/// The names that a body has set.
#[derive(Debug)]
struct Scope {
    /// Its own number for the outermost.
    parent: usize,
    names: Vec<(String, Value)>,
    held: Held,
}

/// What has a state: templates can change nothing else.
#[derive(Debug)]
pub(super) enum Object {
    /// `self`, always the first.
    Itself,
    Namespace(Dict),
    /// The items of `cycler`, and which is next.
    Cycler(Rc<List>, usize),
    /// The separator of `joiner`, and whether it was used.
    Joiner(Text, bool),
}

/// A template being rendered.
pub(super) struct Run {
    pub now: Now,
    variables: Dict,
    /// By number, so that a namespace that holds itself, or a macro its own scope, is no cycle in memory.
    scopes: Vec<Scope>,
    /// Scopes below it are ones that a macro was written in.
    kept: usize,
    scope: usize,
    pub objects: Vec<Object>,
    objects_held: Held,
    depth: usize,
    pub out: Builder,
    most_output: usize,
    /// How many outputs wait until the one that is captured now ends.
    captures: usize,
    /// What `{% filter %}` and `{% set %}` blocks have printed.
    pub blocks: Vec<Text>,
    pub generations: Vec<Range<usize>>,
    /// The template's `{% block %}`s.
    self_blocks: Vec<Arc<Macro>>,
}

impl Run {
    pub(super) fn new(variables: Dict, now: Now, most_output: usize) -> Result<Run> {
        let outermost = Scope { parent: 0, names: Vec::new(), held: Held::default() };
        Ok(Run {
            now,
            variables,
            scopes: vec![outermost],
            kept: 1,
            scope: 0,
            objects: vec![Object::Itself],
            objects_held: Held::default(),
            depth: 0,
            out: Builder::new(),
            most_output,
            captures: 0,
            blocks: Vec::new(),
            generations: Vec::new(),
            self_blocks: Vec::new(),
        })
    }

    /// Renders the whole template into `out`.
    pub(super) fn template(&mut self, whole: &Whole) -> Result<()> {
        self.self_blocks.clone_from(&whole.blocks);
        self.body(&whole.body).map(|_| ())
    }

    pub(super) fn descend(&mut self, at: At) -> Result<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let what = format!("macros, blocks and expressions call each other more than {DEEPEST} deep");
            return Err(Error::new(Kind::Limit, what).or_at(at));
        }
        spend(1).map_err(|e| e.or_at(at))
    }

    pub(super) fn ascend(&mut self) {
        self.depth -= 1;
    }

    // Names.

    /// Starts a scope within scope `parent`, and answers the one to go back to.
    fn enter(&mut self, parent: usize) -> Result<usize> {
        let held = Held::new(size_of::<Scope>())?;
        self.scopes.push(Scope { parent, names: Vec::new(), held });
        Ok(std::mem::replace(&mut self.scope, self.scopes.len() - 1))
    }

    /// Ends the scope that was entered last.
    fn leave(&mut self, back: usize) {
        if self.scope + 1 == self.scopes.len() && self.scope >= self.kept {
            self.scopes.pop();
        }
        self.scope = back;
    }

    pub(super) fn set(&mut self, name: &str, value: Value) -> Result<()> {
        let Some(scope) = self.scopes.get_mut(self.scope) else { return Ok(()) };
        spend((1 + scope.names.len() / 8) * (1 + name.len() / 64))?;
        if let Some((_, old)) = scope.names.iter_mut().find(|(n, _)| n == name) {
            *old = value;
            return Ok(());
        }
        scope.held.grow(name.len() + size_of::<(String, Value)>())?;
        scope.names.push((name.into(), value));
        Ok(())
    }

    pub(super) fn lookup(&self, name: &str) -> Result<Value> {
        let mut at = self.scope;
        while let Some(scope) = self.scopes.get(at) {
            spend((1 + scope.names.len() / 8) * (1 + name.len() / 64))?;
            if let Some((_, value)) = scope.names.iter().find(|(n, _)| n == name) {
                return Ok(value.clone());
            }
            if scope.parent == at {
                break;
            }
            at = scope.parent;
        }
        if name == "self" {
            return Ok(Value::Object(0));
        }
        if let Some(value) = self.variables.get_str(name) {
            return Ok(value.clone());
        }
        Ok(match super::call::FUNCTIONS.iter().find(|f| **f == name) {
            Some(function) => Value::Function(function),
            None => Value::undefined(format!("`{name}` isn't defined")),
        })
    }

    /// A new object.
    pub(super) fn object(&mut self, object: Object) -> Result<Value> {
        self.objects_held.grow(size_of::<Object>())?;
        self.objects.push(object);
        Ok(Value::Object(self.objects.len() - 1))
    }

    fn assign(&mut self, target: &Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => self.set(name, value),
            Target::Tuple(targets) => {
                value.defined()?;
                let items = value.iterate()?;
                if items.items.len() != targets.len() {
                    let (want, have) = (targets.len(), items.items.len());
                    return Err(Error::value(format!("{have} values for {want} names")));
                }
                for (target, item) in targets.iter().zip(&items.items) {
                    self.assign(target, item.clone())?;
                }
                Ok(())
            }
            Target::Attribute(name, attribute) => {
                if attribute.starts_with('_') {
                    let what = format!("a namespace has no attribute `{attribute}`: the name starts with `_`");
                    return Err(Error::new(Kind::Refused, what));
                }
                let object = self.lookup(name)?;
                object.defined()?;
                let key = Value::str(attribute)?;
                match object {
                    Value::Object(i) => match self.objects.get_mut(i) {
                        Some(Object::Namespace(attributes)) => attributes.insert(key, value),
                        _ => Err(Error::value(format!("`{name}` is no namespace"))),
                    },
                    _ => Err(Error::value(format!("`{name}` is no namespace: only these can be changed"))),
                }
            }
        }
    }

    /// Block `name` of the template, to be called.
    pub(super) fn block(&self, name: &str) -> Result<Option<Value>> {
        spend(self.self_blocks.len() / 4)?;
        let found = self.self_blocks.iter().find(|block| block.name == name);
        Ok(found.map(|code| Value::Macro(Rc::new(MacroValue { code: code.clone(), scope: 0 }))))
    }

    // Output.

    /// What `printing` prints, kept from the output.
    pub(super) fn captured<T>(&mut self, printing: impl FnOnce(&mut Run) -> Result<T>) -> Result<(Text, T)> {
        let before = std::mem::take(&mut self.out);
        self.captures += 1;
        let value = printing(self)?;
        self.captures -= 1;
        Ok((std::mem::replace(&mut self.out, before).finish(), value))
    }

    fn print(&mut self, value: &Value) -> Result<()> {
        match value {
            Value::Loop(state) => {
                let text = format!("<LoopContext {}/{}>", state.index.get() + 1, self.loop_len(state)?);
                self.out.push_str(&text, false)?;
            }
            Value::Object(i) => match self.objects.get(*i) {
                Some(Object::Namespace(attributes)) => namespace(attributes, &mut self.out)?,
                Some(Object::Itself) => self.out.push_str("<TemplateReference None>", false)?,
                _ => value.print(&mut self.out)?,
            },
            _ => value.print(&mut self.out)?,
        }
        self.within_output()
    }

    fn within_output(&self) -> Result<()> {
        if self.out.len() > self.most_output {
            let most = self.most_output >> 10;
            let what = format!("the template prints more than {most} KiB for this conversation");
            return Err(Error::new(Kind::Limit, what));
        }
        Ok(())
    }

    // Statements.

    fn body(&mut self, body: &Body) -> Result<Flow> {
        self.descend(At::default())?;
        for statement in body {
            spend(1).map_err(|e| e.or_at(statement.at))?;
            let flow = self.statement(statement).map_err(|e| e.or_at(statement.at))?;
            if flow != Flow::Next {
                self.ascend();
                return Ok(flow);
            }
        }
        self.ascend();
        Ok(Flow::Next)
    }

    /// A body with names of its own, seen from where it stands.
    fn scoped(&mut self, body: &Body) -> Result<Flow> {
        let back = self.enter(self.scope)?;
        let flow = self.body(body)?;
        self.leave(back);
        Ok(flow)
    }

    fn statement(&mut self, statement: &Stmt) -> Result<Flow> {
        match &statement.kind {
            StmtKind::Text(text) => {
                self.out.push_str(text, false)?;
                self.within_output()?;
            }
            StmtKind::Print(value) => {
                let value = self.eval(value)?;
                self.print(&value)?;
            }
            StmtKind::If(branches, otherwise) => return self.branches(branches, otherwise),
            StmtKind::For(code) => {
                let source = self.eval(&code.iterable)?;
                return self.for_loop(code, &source, 0);
            }
            StmtKind::Set(target, value) => {
                let value = self.eval(value)?;
                self.assign(target, value)?;
            }
            StmtKind::SetBlock(target, filter, body) => return self.set_block(target, filter.as_ref(), body),
            StmtKind::Macro(code) => {
                let value = self.macro_here(code)?;
                self.set(&code.name, value)?;
            }
            StmtKind::CallBlock(code, call) => self.call_block(code, call)?,
            StmtKind::FilterBlock(filter, body) => {
                let (text, flow) = self.captured(|run| run.scoped(body))?;
                let value = self.filtered(text, filter)?;
                self.print(&value)?;
                return Ok(flow);
            }
            StmtKind::With(values, body) => return self.with(values, body),
            StmtKind::Scope(body) => return self.scoped(body),
            StmtKind::ScopedBlock(block) => return self.scoped(&block.body),
            StmtKind::Block(block) => {
                let back = self.enter(0)?;
                self.body(&block.body)?;
                self.leave(back);
            }
            StmtKind::Generation(body) => {
                let start = self.out.len();
                self.scoped(body)?;
                if self.captures == 0 && self.out.len() > start {
                    self.generations.push(start..self.out.len());
                }
            }
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn branches(&mut self, branches: &[(Expr, Body)], otherwise: &Body) -> Result<Flow> {
        for (condition, body) in branches {
            if self.eval(condition)?.is_true() {
                return self.body(body);
            }
        }
        self.body(otherwise)
    }

    /// `text` through the filters of a block.
    fn filtered(&mut self, text: Text, filter: &Expr) -> Result<Value> {
        self.blocks.push(text);
        let value = self.eval(filter)?;
        self.blocks.pop();
        Ok(value)
    }

    fn set_block(&mut self, target: &Target, filter: Option<&Expr>, body: &Body) -> Result<Flow> {
        let (text, flow) = self.captured(|run| run.scoped(body))?;
        let value = match filter {
            Some(filter) => self.filtered(text, filter)?,
            None => Value::Str(text),
        };
        if flow == Flow::Next {
            self.assign(target, value)?;
        }
        Ok(flow)
    }

    fn with(&mut self, values: &[(Target, Expr)], body: &Body) -> Result<Flow> {
        let mut evaluated = Vec::with_capacity(values.len());
        for (_, value) in values {
            evaluated.push(self.eval(value)?);
        }
        let back = self.enter(self.scope)?;
        for ((target, _), value) in values.iter().zip(evaluated) {
            self.assign(target, value)?;
        }
        let flow = self.body(body)?;
        self.leave(back);
        Ok(flow)
    }

    // Loops.

    fn for_loop(&mut self, code: &Arc<For>, source: &Value, depth: usize) -> Result<Flow> {
        let state = Rc::new(LoopState {
            code: code.clone(),
            scope: self.scope,
            source: source.iterate()?,
            met: RefCell::default(),
            asked: Cell::new(0),
            index: Cell::new(0),
            depth,
            changed: RefCell::default(),
        });
        let mut has_run = false;
        while let Some(item) = self.loop_item(&state, state.index.get())? {
            let back = self.enter(state.scope)?;
            self.set("loop", Value::Loop(state.clone()))?;
            self.assign(&code.target, item)?;
            let flow = self.body(&code.body)?;
            self.leave(back);
            if flow == Flow::Break {
                break;
            }
            // As jinja2 has it, a body that is left early hasn't run.
            has_run |= flow == Flow::Next;
            state.index.set(state.index.get() + 1);
        }
        // What it remembers may be the loop itself.
        state.changed.take();
        if has_run || code.otherwise.is_empty() { Ok(Flow::Next) } else { self.scoped(&code.otherwise) }
    }

    /// Element `index` of what a loop goes over. A condition is asked as late as jinja2 asks it, since what it reads
    /// may change on the way.
    pub(super) fn loop_item(&mut self, state: &Rc<LoopState>, index: usize) -> Result<Option<Value>> {
        let Some(condition) = &state.code.condition else {
            return Ok(state.source.items.get(index).cloned());
        };
        spend(1)?;
        while state.met.borrow().len() <= index {
            let Some(item) = state.source.items.get(state.asked.get()) else { break };
            state.asked.set(state.asked.get() + 1);
            let back = std::mem::replace(&mut self.scope, state.scope);
            let inner = self.enter(state.scope)?;
            self.assign(&state.code.target, item.clone())?;
            let meets = self.eval(condition)?.is_true();
            self.leave(inner);
            self.scope = back;
            if meets {
                state.met.borrow_mut().push(item.clone());
            }
        }
        Ok(state.met.borrow().get(index).cloned())
    }

    /// How many elements a loop goes over.
    pub(super) fn loop_len(&mut self, state: &Rc<LoopState>) -> Result<usize> {
        if state.code.condition.is_none() {
            return Ok(state.source.items.len());
        }
        self.loop_item(state, usize::MAX)?;
        Ok(state.met.borrow().len())
    }

    /// `loop(...)` in a recursive loop: the same loop over something else, as text.
    pub(super) fn loop_again(&mut self, state: &Rc<LoopState>, given: Given) -> Result<Value> {
        if !state.code.is_recursive {
            return Err(Error::value("only a loop that says `recursive` can be called"));
        }
        let [source] = given.all("loop", ["iterable"])?;
        let back = std::mem::replace(&mut self.scope, state.scope);
        self.descend(At::default())?;
        let (text, _) = self.captured(|run| run.for_loop(&state.code, &source, state.depth + 1))?;
        self.ascend();
        self.scope = back;
        Ok(Value::Str(text))
    }

    // Macros.

    /// A macro that is written in the scope of now, which is kept for it.
    fn macro_here(&mut self, code: &Arc<Macro>) -> Result<Value> {
        self.kept = self.kept.max(self.scope + 1);
        Ok(Value::Macro(Rc::new(MacroValue { code: code.clone(), scope: self.scope })))
    }

    fn call_block(&mut self, code: &Arc<Macro>, call: &Expr) -> Result<()> {
        let caller = self.macro_here(code)?;
        let ExprKind::Call(callee, args) = &call.kind else {
            return Err(Error::new(Kind::Syntax, "`{% call %}` needs a call").or_at(call.at));
        };
        self.descend(call.at)?;
        let callee = self.eval(callee)?;
        let mut given = self.given(args)?;
        given.named.push(("caller".into(), caller));
        let value = self.call(&callee, given).map_err(|e| e.or_at(call.at))?;
        self.ascend();
        self.print(&value)
    }

    /// What a macro prints.
    pub(super) fn call_macro(&mut self, called: &MacroValue, mut given: Given) -> Result<Value> {
        let code = &called.code;
        let back = std::mem::replace(&mut self.scope, called.scope);
        let inner = self.enter(called.scope)?;
        let mut positional = given.positional.into_iter();
        let mut takes_caller = code.takes_caller;
        for (name, default) in &code.parameters {
            takes_caller &= name != "caller";
            let value = match positional.next() {
                Some(value) => Some(value),
                None => take(&mut given.named, name),
            };
            let value = match (value, default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.eval(default)?,
                (None, None) => Value::undefined(format!("parameter `{name}` wasn't given")),
            };
            self.set(name, value)?;
        }
        if takes_caller {
            let caller = take(&mut given.named, "caller");
            let caller = caller.filter(|c| !matches!(c, Value::None));
            self.set("caller", caller.unwrap_or_else(|| Value::undefined("there is no caller")))?;
        }
        if code.takes_named {
            let mut named = Dict::default();
            for (name, value) in given.named {
                named.insert(Value::str(&name)?, value)?;
            }
            self.set("kwargs", Value::Dict(Rc::new(named)))?;
        } else if let Some((name, _)) = given.named.first() {
            return Err(Error::value(format!("macro `{}` has no parameter `{name}`", code.name)));
        }
        let rest: Vec<Value> = positional.collect();
        if code.takes_rest {
            self.set("varargs", Value::tuple(rest)?)?;
        } else if !rest.is_empty() {
            let most = code.parameters.len();
            return Err(Error::value(format!("macro `{}` takes at most {most} arguments", code.name)));
        }
        let (text, _) = self.captured(|run| run.body(&code.body))?;
        self.leave(inner);
        self.scope = back;
        Ok(Value::Str(text))
    }
}

fn take(named: &mut Vec<(String, Value)>, name: &str) -> Option<Value> {
    let i = named.iter().position(|(n, _)| n == name)?;
    Some(named.remove(i).1)
}

fn namespace(attributes: &Dict, out: &mut Builder) -> Result<()> {
    out.push_str("<Namespace ", false)?;
    attributes.repr(out)?;
    out.push_str(">", false)
}
