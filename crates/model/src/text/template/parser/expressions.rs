//! Expressions, by jinja2's order of precedence.

use super::super::ast::*;
use super::super::error::{At, Error, Kind, Result};
use super::super::lexer::Token;
use super::super::{filters, tests};
use super::{DEEPEST, MOST_PARTS, Parser, args_depth, deepest, too_deep, too_many};

impl Parser<'_> {
    pub(super) fn descend(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > DEEPEST { Err(too_deep("expressions", DEEPEST).or_at(self.here())) } else { Ok(()) }
    }

    /// A node over others, the deepest of which is `depth`.
    pub(super) fn over(&self, kind: ExprKind, at: At, depth: usize) -> Result<Expr> {
        if depth >= DEEPEST {
            return Err(too_deep("expressions", DEEPEST).or_at(at));
        }
        Ok(Expr { kind, at, depth: depth + 1 })
    }

    /// One expression, or several with commas between them: a tuple. With `conditions` they may be `a if b else c`.
    pub(super) fn tuple(&mut self, conditions: bool, stops: &[&str]) -> Result<Expr> {
        let at = self.here();
        let mut parts = Vec::new();
        let mut is_tuple = false;
        loop {
            let ends = match self.peek() {
                Token::BlockEnd | Token::VariableEnd | Token::Op(")") => true,
                Token::Name(name) => stops.contains(&name.as_str()),
                _ => false,
            };
            if ends && !parts.is_empty() {
                break;
            }
            parts.push(if conditions { self.expression()? } else { self.without_condition()? });
            if parts.len() > MOST_PARTS {
                return Err(too_many("elements", MOST_PARTS).or_at(at));
            }
            if !self.skip_op(",") {
                break;
            }
            is_tuple = true;
        }
        match parts.pop() {
            Some(only) if !is_tuple => Ok(only),
            Some(last) => {
                parts.push(last);
                let depth = deepest(&parts);
                self.over(ExprKind::Tuple(parts), at, depth)
            }
            None => self.unexpected("an expression"),
        }
    }

    pub(super) fn without_condition(&mut self) -> Result<Expr> {
        self.descend()?;
        let value = self.or()?;
        self.depth -= 1;
        Ok(value)
    }

    pub(super) fn expression(&mut self) -> Result<Expr> {
        self.descend()?;
        let mut value = self.or()?;
        while self.is_name("if") {
            let at = self.here();
            self.at += 1;
            self.soft += 1;
            let condition = self.or()?;
            let otherwise = if self.skip_name("else") { Some(Box::new(self.expression()?)) } else { None };
            self.soft -= 1;
            let depth = value.depth.max(condition.depth).max(otherwise.as_ref().map_or(0, |o| o.depth));
            value = self.over(ExprKind::If(Box::new(condition), Box::new(value), otherwise), at, depth)?;
        }
        self.depth -= 1;
        Ok(value)
    }

    pub(super) fn or(&mut self) -> Result<Expr> {
        let mut left = self.and()?;
        while self.is_name("or") {
            let at = self.here();
            self.at += 1;
            let right = self.and()?;
            let depth = left.depth.max(right.depth);
            left = self.over(ExprKind::Or(Box::new(left), Box::new(right)), at, depth)?;
        }
        Ok(left)
    }

    pub(super) fn and(&mut self) -> Result<Expr> {
        let mut left = self.not()?;
        while self.is_name("and") {
            let at = self.here();
            self.at += 1;
            let right = self.not()?;
            let depth = left.depth.max(right.depth);
            left = self.over(ExprKind::And(Box::new(left), Box::new(right)), at, depth)?;
        }
        Ok(left)
    }

    pub(super) fn not(&mut self) -> Result<Expr> {
        let at = self.here();
        if !self.skip_name("not") {
            return self.compare();
        }
        self.descend()?;
        let value = self.not()?;
        self.depth -= 1;
        let depth = value.depth;
        self.over(ExprKind::Not(Box::new(value)), at, depth)
    }

    pub(super) fn compare(&mut self) -> Result<Expr> {
        let left = self.sum()?;
        let at = self.here();
        let mut rest = Vec::new();
        loop {
            let (op, tokens) = match (self.peek(), self.peek_second()) {
                (Token::Op("=="), _) => (Compare::Eq, 1),
                (Token::Op("!="), _) => (Compare::Ne, 1),
                (Token::Op("<"), _) => (Compare::Lt, 1),
                (Token::Op("<="), _) => (Compare::Le, 1),
                (Token::Op(">"), _) => (Compare::Gt, 1),
                (Token::Op(">="), _) => (Compare::Ge, 1),
                (Token::Name(name), _) if name == "in" => (Compare::In, 1),
                (Token::Name(not), Token::Name(name)) if not == "not" && name == "in" => (Compare::NotIn, 2),
                _ => break,
            };
            self.at += tokens;
            rest.push((op, self.sum()?));
            if rest.len() > MOST_PARTS {
                return Err(too_many("comparisons", MOST_PARTS).or_at(at));
            }
        }
        if rest.is_empty() {
            return Ok(left);
        }
        let depth = rest.iter().map(|(_, e)| e.depth).fold(left.depth, usize::max);
        self.over(ExprKind::Compare(Box::new(left), rest), at, depth)
    }

    /// Left to right over operands that `operand` reads.
    pub(super) fn chain(&mut self, ops: &[(&str, Binary)], operand: fn(&mut Self) -> Result<Expr>) -> Result<Expr> {
        let mut left = operand(self)?;
        while let Some((_, op)) = ops.iter().find(|(op, _)| self.is_op(op)) {
            let at = self.here();
            self.at += 1;
            let right = operand(self)?;
            let depth = left.depth.max(right.depth);
            left = self.over(ExprKind::Binary(*op, Box::new(left), Box::new(right)), at, depth)?;
        }
        Ok(left)
    }

    pub(super) fn sum(&mut self) -> Result<Expr> {
        self.chain(&[("+", Binary::Add), ("-", Binary::Sub)], Self::concat)
    }

    pub(super) fn concat(&mut self) -> Result<Expr> {
        let at = self.here();
        let first = self.product()?;
        if !self.is_op("~") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.skip_op("~") {
            parts.push(self.product()?);
            if parts.len() > MOST_PARTS {
                return Err(too_many("parts joined with `~`", MOST_PARTS).or_at(at));
            }
        }
        let depth = deepest(&parts);
        self.over(ExprKind::Concat(parts), at, depth)
    }

    pub(super) fn product(&mut self) -> Result<Expr> {
        let ops = [("*", Binary::Mul), ("/", Binary::Div), ("//", Binary::FloorDiv), ("%", Binary::Mod)];
        self.chain(&ops, Self::power)
    }

    pub(super) fn power(&mut self) -> Result<Expr> {
        self.chain(&[("**", Binary::Pow)], |parser| parser.unary(true))
    }

    pub(super) fn unary(&mut self, filters: bool) -> Result<Expr> {
        let at = self.here();
        let is_negative = self.is_op("-");
        let value = if self.skip_op("-") || self.skip_op("+") {
            self.descend()?;
            let value = Box::new(self.unary(false)?);
            self.depth -= 1;
            let depth = value.depth;
            let kind = if is_negative { ExprKind::Negative(value) } else { ExprKind::Positive(value) };
            self.over(kind, at, depth)?
        } else {
            self.primary()?
        };
        let value = self.postfix(value)?;
        if !filters {
            return Ok(value);
        }
        let at = self.here();
        match self.filters(Some(value), at)? {
            Some(value) => Ok(value),
            None => self.unexpected("an expression"),
        }
    }

    pub(super) fn primary(&mut self) -> Result<Expr> {
        let at = self.here();
        let kind = match self.peek() {
            Token::Name(name) => match name.as_str() {
                "true" | "True" => ExprKind::Bool(true),
                "false" | "False" => ExprKind::Bool(false),
                "none" | "None" => ExprKind::None,
                name => {
                    if let Some(i) = ["varargs", "kwargs", "caller"].iter().position(|n| *n == name) {
                        // A call block's body may hand on what its macro was given.
                        self.used.iter_mut().filter_map(|used| used.get_mut(i)).for_each(|used| *used = true);
                    }
                    ExprKind::Name(name.into())
                }
            },
            Token::Str(text) => {
                let mut text = text.clone();
                while let Token::Str(more) = self.peek_second() {
                    text.push_str(more);
                    self.at += 1;
                }
                ExprKind::Str(text)
            }
            Token::Int(value) => ExprKind::Int(*value),
            Token::Float(value) => ExprKind::Float(*value),
            Token::Op("(") => {
                self.at += 1;
                if self.skip_op(")") {
                    return self.over(ExprKind::Tuple(Vec::new()), at, 0);
                }
                let value = self.tuple(true, &[])?;
                self.op(")")?;
                return Ok(value);
            }
            Token::Op("[") => {
                self.at += 1;
                let parts = self.list("]", Self::expression)?;
                let depth = deepest(&parts);
                return self.over(ExprKind::List(parts), at, depth);
            }
            Token::Op("{") => {
                self.at += 1;
                let parts = self.list("}", |parser| {
                    let key = parser.expression()?;
                    parser.op(":")?;
                    Ok((key, parser.expression()?))
                })?;
                let depth = parts.iter().map(|(key, value)| key.depth.max(value.depth)).max().unwrap_or(0);
                return self.over(ExprKind::Dict(parts), at, depth);
            }
            _ => return self.unexpected("an expression"),
        };
        self.at += 1;
        self.over(kind, at, 0)
    }

    pub(super) fn list<T>(&mut self, end: &str, part: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut parts = Vec::new();
        while !self.skip_op(end) {
            if !parts.is_empty() {
                self.op(",")?;
                if self.skip_op(end) {
                    break;
                }
            }
            parts.push(part(self)?);
            if parts.len() > MOST_PARTS {
                return Err(too_many("elements", MOST_PARTS).or_at(self.here()));
            }
        }
        Ok(parts)
    }

    pub(super) fn postfix(&mut self, mut value: Expr) -> Result<Expr> {
        loop {
            let at = self.here();
            value = if self.skip_op(".") {
                match self.next() {
                    Token::Name(name) => {
                        let depth = value.depth;
                        self.over(ExprKind::Attribute(Box::new(value), name.clone()), at, depth)?
                    }
                    Token::Int(index) => {
                        let index = Expr { kind: ExprKind::Int(*index), at, depth: 1 };
                        let depth = value.depth;
                        self.over(ExprKind::Item(Box::new(value), Box::new(index)), at, depth)?
                    }
                    _ => {
                        self.at -= 1;
                        return self.unexpected("a name after `.`");
                    }
                }
            } else if self.skip_op("[") {
                self.subscript(value, at)?
            } else if self.is_op("(") {
                self.call(value)?
            } else {
                return Ok(value);
            };
        }
    }

    pub(super) fn call(&mut self, value: Expr) -> Result<Expr> {
        let at = self.here();
        let args = self.args()?;
        let depth = value.depth.max(args_depth(&args));
        self.over(ExprKind::Call(Box::new(value), args), at, depth)
    }

    pub(super) fn subscript(&mut self, value: Expr, at: At) -> Result<Expr> {
        let mut parts: [Option<Box<Expr>>; 3] = [None, None, None];
        let mut part = 0;
        loop {
            if self.skip_op("]") {
                break;
            }
            if self.skip_op(":") {
                part += 1;
                if part > 2 {
                    return self.unexpected("`]`");
                }
                continue;
            }
            match parts.get_mut(part) {
                Some(slot) if slot.is_none() => *slot = Some(Box::new(self.expression()?)),
                _ => return self.unexpected("`]`"),
            }
        }
        let depth = parts.iter().flatten().map(|e| e.depth).fold(value.depth, usize::max);
        if part > 0 {
            return self.over(ExprKind::Slice(Box::new(value), parts), at, depth);
        }
        match parts {
            [Some(index), _, _] => self.over(ExprKind::Item(Box::new(value), index), at, depth),
            _ => self.unexpected("an index"),
        }
    }

    pub(super) fn args(&mut self) -> Result<Args> {
        self.op("(")?;
        let mut args = Args::default();
        let mut count = 0;
        while !self.skip_op(")") {
            if count > 0 {
                self.op(",")?;
                if self.skip_op(")") {
                    break;
                }
            }
            count += 1;
            if count > MOST_PARTS {
                return Err(too_many("arguments", MOST_PARTS).or_at(self.here()));
            }
            if self.skip_op("**") {
                args.spread_named = Some(Box::new(self.expression()?));
            } else if self.skip_op("*") {
                args.spread = Some(Box::new(self.expression()?));
            } else if let (Token::Name(name), Token::Op("=")) = (self.peek(), self.peek_second()) {
                self.at += 2;
                args.named.push((name.clone(), self.expression()?));
            } else if args.named.is_empty() && args.spread_named.is_none() {
                args.positional.push(self.expression()?);
            } else {
                return self.fail("an argument without a name follows one with a name");
            }
        }
        Ok(args)
    }

    /// Filters, tests and calls behind a value; without a value the first filter needs no `|`.
    pub(super) fn filters(&mut self, mut value: Option<Expr>, at: At) -> Result<Option<Expr>> {
        let mut is_bare = value.is_none() && !self.is_op("|");
        loop {
            let here = self.here();
            if is_bare || self.skip_op("|") {
                is_bare = false;
                let name = self.dotted("a filter's name")?;
                if self.soft == 0 && !filters::is_known(&name) {
                    return Err(Error::new(Kind::Syntax, format!("there is no filter `{name}`")).or_at(here));
                }
                let args = if self.is_op("(") { self.args()? } else { Args::default() };
                let depth = value.as_ref().map_or(0, |v| v.depth).max(args_depth(&args));
                value = Some(self.over(ExprKind::Filter(value.map(Box::new), name, args), here, depth)?);
            } else if self.is_name("is") {
                let Some(tested) = value else { return self.unexpected("a filter") };
                self.at += 1;
                value = Some(self.test(tested, here)?);
            } else if self.is_op("(") {
                let Some(called) = value else { return self.unexpected("a filter") };
                value = Some(self.call(called)?);
            } else {
                return Ok(value.map(|v| Expr { at: if v.at.line == 0 { at } else { v.at }, ..v }));
            }
        }
    }

    pub(super) fn dotted(&mut self, what: &str) -> Result<String> {
        let mut name = self.name(what)?;
        while self.skip_op(".") {
            name = format!("{name}.{}", self.name(what)?);
        }
        Ok(name)
    }

    pub(super) fn test(&mut self, value: Expr, at: At) -> Result<Expr> {
        let is_negated = self.skip_name("not");
        let name = self.dotted("a test's name")?;
        if self.soft == 0 && !tests::is_known(&name) {
            return Err(Error::new(Kind::Syntax, format!("there is no test `{name}`")).or_at(at));
        }
        let takes_argument = match self.peek() {
            Token::Name(word) => !["else", "or", "and"].contains(&word.as_str()),
            Token::Str(_) | Token::Int(_) | Token::Float(_) | Token::Op("[" | "{") => true,
            _ => false,
        };
        let mut args = Args::default();
        if self.is_op("(") {
            args = self.args()?;
        } else if takes_argument {
            if self.is_name("is") {
                return self.fail("a test can't follow a test");
            }
            let argument = self.primary()?;
            args.positional.push(self.postfix(argument)?);
        }
        let depth = value.depth.max(args_depth(&args));
        let test = self.over(ExprKind::Test(Box::new(value), name, args), at, depth)?;
        if is_negated { self.over(ExprKind::Not(Box::new(test)), at, depth + 1) } else { Ok(test) }
    }
}
