//! Evaluates expressions.

use super::ast::*;
use super::call::Given;
use super::error::{Error, Result};
use super::meter::Held;
use super::run::Run;
use super::text::Builder;
use super::value::{Dict, Value, compare, contains, equal};
use super::{filters, operate, tests};
use std::cmp::Ordering;
use std::rc::Rc;

impl Run {
    /// The value of an expression.
    pub(super) fn eval(&mut self, expr: &Expr) -> Result<Value> {
        self.descend(expr.at)?;
        let value = self.kind(&expr.kind).map_err(|e| e.or_at(expr.at))?;
        self.ascend();
        Ok(value)
    }

    fn kind(&mut self, kind: &ExprKind) -> Result<Value> {
        match kind {
            ExprKind::None => Ok(Value::None),
            ExprKind::Bool(b) => Ok(Value::Bool(*b)),
            ExprKind::Int(i) => Ok(Value::Int(*i)),
            ExprKind::Float(f) => Ok(Value::Float(*f)),
            ExprKind::Str(text) => Value::str(text),
            ExprKind::Name(name) => self.lookup(name),
            ExprKind::List(parts) => Value::list(self.all(parts)?),
            ExprKind::Tuple(parts) => Value::tuple(self.all(parts)?),
            ExprKind::Dict(pairs) => self.dict(pairs),
            ExprKind::Attribute(of, name) => {
                let of = self.eval(of)?;
                self.attribute(&of, name)
            }
            ExprKind::Item(of, key) => {
                let (of, key) = (self.eval(of)?, self.eval(key)?);
                self.item(&of, &key)
            }
            ExprKind::Slice(of, parts) => self.slice(of, parts),
            ExprKind::Call(callee, args) => self.call_expr(callee, args),
            ExprKind::Filter(of, name, args) => self.filter(of.as_deref(), name, args),
            ExprKind::Test(of, name, args) => {
                let of = self.eval(of)?;
                let given = self.given(args)?;
                tests::check(self, name, &of, given).map(Value::Bool)
            }
            ExprKind::Not(of) => Ok(Value::Bool(!self.eval(of)?.is_true())),
            ExprKind::Negative(of) => operate::negative(&self.eval(of)?),
            ExprKind::Positive(of) => operate::positive(&self.eval(of)?),
            ExprKind::And(left, right) => {
                let left = self.eval(left)?;
                if left.is_true() { self.eval(right) } else { Ok(left) }
            }
            ExprKind::Or(left, right) => {
                let left = self.eval(left)?;
                if left.is_true() { Ok(left) } else { self.eval(right) }
            }
            ExprKind::Binary(op, left, right) => {
                let (left, right) = (self.eval(left)?, self.eval(right)?);
                operate::binary(self, *op, &left, &right)
            }
            ExprKind::Concat(parts) => self.concat(parts),
            ExprKind::Compare(left, rest) => self.comparisons(left, rest),
            ExprKind::If(condition, then, otherwise) => {
                if self.eval(condition)?.is_true() {
                    return self.eval(then);
                }
                match otherwise {
                    Some(otherwise) => self.eval(otherwise),
                    None => Ok(Value::undefined("the condition isn't met, and there is no `else`")),
                }
            }
        }
    }

    fn all(&mut self, parts: &[Expr]) -> Result<Vec<Value>> {
        // They are held before there is a list that holds them.
        let _held = Held::new(parts.len().saturating_mul(size_of::<Value>()))?;
        let mut values = Vec::with_capacity(parts.len());
        for part in parts {
            values.push(self.eval(part)?);
        }
        Ok(values)
    }

    fn dict(&mut self, pairs: &[(Expr, Expr)]) -> Result<Value> {
        let mut dict = Dict::default();
        for (key, value) in pairs {
            let (key, value) = (self.eval(key)?, self.eval(value)?);
            dict.insert(key, value)?;
        }
        Ok(Value::Dict(Rc::new(dict)))
    }

    fn slice(&mut self, of: &Expr, parts: &[Option<Box<Expr>>; 3]) -> Result<Value> {
        let of = self.eval(of)?;
        let mut values = [None, None, None];
        for (value, part) in values.iter_mut().zip(parts) {
            if let Some(part) = part {
                *value = Some(self.eval(part)?);
            }
        }
        let [start, stop, step] = values;
        operate::slice(&of, start.as_ref(), stop.as_ref(), step.as_ref())
    }

    fn call_expr(&mut self, callee: &Expr, args: &Args) -> Result<Value> {
        let callee = self.eval(callee)?;
        let given = self.given(args)?;
        self.call(&callee, given)
    }

    fn filter(&mut self, of: Option<&Expr>, name: &str, args: &Args) -> Result<Value> {
        let of = match (of, self.blocks.last()) {
            (Some(of), _) => self.eval(of)?,
            (None, Some(text)) => Value::Str(text.clone()),
            (None, None) => return Err(Error::value("there is nothing to filter")),
        };
        let given = self.given(args)?;
        filters::apply(self, name, &of, given)
    }

    fn concat(&mut self, parts: &[Expr]) -> Result<Value> {
        let mut out = Builder::new();
        for part in parts {
            self.eval(part)?.print(&mut out)?;
        }
        Ok(Value::Str(out.finish()))
    }

    fn comparisons(&mut self, left: &Expr, rest: &[(Compare, Expr)]) -> Result<Value> {
        let mut left = self.eval(left)?;
        for (op, right) in rest {
            let right = self.eval(right)?;
            if !holds(*op, &left, &right)? {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    /// The arguments of a call.
    pub(super) fn given(&mut self, args: &Args) -> Result<Given> {
        let mut given = Given::default();
        given.reserve(args.positional.len() + args.named.len())?;
        given.positional = self.all(&args.positional)?;
        for (name, value) in &args.named {
            let value = self.eval(value)?;
            given.name(name, value)?;
        }
        if let Some(spread) = &args.spread {
            let spread = self.eval(spread)?;
            spread.defined()?;
            let spread = spread.iterate()?;
            given.reserve(spread.items.len())?;
            given.positional.extend(spread.items.iter().cloned());
        }
        if let Some(spread) = &args.spread_named {
            let Value::Dict(dict) = self.eval(spread)? else {
                return Err(Error::value("`**` needs a dictionary"));
            };
            given.reserve(dict.entries.len())?;
            for (key, value) in &dict.entries {
                let Value::Str(key) = key else { return Err(Error::value("the keys of `**` must be strings")) };
                given.name(key.as_str(), value.clone())?;
            }
        }
        Ok(given)
    }
}

/// Whether `left op right`.
pub(super) fn holds(op: Compare, left: &Value, right: &Value) -> Result<bool> {
    let order = || compare(left, right);
    Ok(match op {
        Compare::Eq => equal(left, right)?,
        Compare::Ne => !equal(left, right)?,
        Compare::Lt => order()? == Some(Ordering::Less),
        Compare::Le => matches!(order()?, Some(Ordering::Less | Ordering::Equal)),
        Compare::Gt => order()? == Some(Ordering::Greater),
        Compare::Ge => matches!(order()?, Some(Ordering::Greater | Ordering::Equal)),
        Compare::In => contains(right, left)?,
        Compare::NotIn => !contains(right, left)?,
    })
}
