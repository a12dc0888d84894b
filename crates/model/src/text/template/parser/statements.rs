//! Tags and what lies between them.

use super::super::ast::*;
use super::super::error::{At, Error, Kind, Result};
use super::super::lexer::Token;
use super::{DEEPEST_BLOCK, MOST_BRANCHES, MOST_PARTS, Parser, deepest, too_deep, too_many};
use std::sync::Arc;

impl Parser<'_> {
    /// Statements up to one of the tags `ends`, whose name is taken and answered.
    pub(super) fn body(&mut self, ends: &[&str]) -> Result<(Body, String)> {
        self.blocks += 1;
        if self.blocks > DEEPEST_BLOCK {
            return Err(too_deep("blocks", DEEPEST_BLOCK).or_at(self.here()));
        }
        let mut body = Vec::new();
        loop {
            let at = self.here();
            match self.next() {
                Token::Data(text) => body.push(Stmt { kind: StmtKind::Text(text.clone()), at }),
                Token::VariableBegin => {
                    let value = self.tuple(true, &[])?;
                    match self.peek() {
                        Token::VariableEnd => self.at += 1,
                        _ => return self.unexpected("`}}`"),
                    }
                    body.push(Stmt { kind: StmtKind::Print(value), at });
                }
                Token::BlockBegin => {
                    let tag = self.name("a tag's name")?;
                    if ends.contains(&tag.as_str()) {
                        self.blocks -= 1;
                        return Ok((body, tag));
                    }
                    let kind = self.statement(&tag, at)?;
                    body.push(Stmt { kind, at });
                }
                _ if ends.is_empty() => return Ok((body, String::new())),
                _ => {
                    self.at -= 1;
                    let ends: Vec<_> = ends.iter().map(|end| format!("`{{% {end} %}}`")).collect();
                    return self.unexpected(&ends.join(" or "));
                }
            }
        }
    }

    /// A body that ends with the tag `end` alone.
    pub(super) fn closed(&mut self, end: &str) -> Result<Body> {
        self.block_end()?;
        let (body, _) = self.body(&[end])?;
        // The name after `endblock` and `endmacro` is the reader's.
        if ["endblock", "endmacro"].contains(&end) && matches!(self.peek(), Token::Name(_)) {
            self.at += 1;
        }
        self.block_end()?;
        Ok(body)
    }

    /// A closed body that no `break` leaves.
    pub(super) fn apart(&mut self, end: &str) -> Result<Body> {
        let loops = std::mem::take(&mut self.loops);
        let body = self.closed(end)?;
        self.loops = loops;
        Ok(body)
    }

    pub(super) fn statement(&mut self, tag: &str, at: At) -> Result<StmtKind> {
        Ok(match tag {
            "if" => self.if_statement()?,
            "for" => self.for_statement()?,
            "set" => self.set_statement()?,
            "macro" => {
                let name = self.name("the macro's name")?;
                let parameters = self.parameters()?;
                StmtKind::Macro(Arc::new(self.macro_body(name, parameters, "endmacro")?))
            }
            "call" => {
                let parameters = if self.is_op("(") { self.parameters()? } else { Vec::new() };
                let call = self.expression()?;
                if !matches!(call.kind, ExprKind::Call(..)) {
                    return Err(Error::new(Kind::Syntax, "`{% call %}` needs a call").or_at(call.at));
                }
                StmtKind::CallBlock(Arc::new(self.macro_body(String::new(), parameters, "endcall")?), call)
            }
            "filter" => {
                let filter = self.filters(None, at)?;
                let Some(filter) = filter else { return self.unexpected("a filter") };
                StmtKind::FilterBlock(filter, self.closed("endfilter")?)
            }
            "with" => {
                let mut values = Vec::new();
                while !matches!(self.peek(), Token::BlockEnd) {
                    if !values.is_empty() {
                        self.op(",")?;
                    }
                    let target = self.target()?;
                    self.op("=")?;
                    values.push((target, self.expression()?));
                }
                StmtKind::With(values, self.closed("endwith")?)
            }
            "block" => {
                let name = self.name("the block's name")?;
                if self.block_names.contains(&name) {
                    return Err(Error::new(Kind::Syntax, format!("block `{name}` stands here twice")).or_at(at));
                }
                self.block_names.push(name.clone());
                let is_scoped = self.skip_name("scoped");
                let body = self.apart("endblock")?;
                let [takes_rest, takes_named, takes_caller] = [false; 3];
                let parameters = Vec::new();
                let block = Macro { name, parameters, body, takes_rest, takes_named, takes_caller, is_block: true };
                let block = Arc::new(block);
                self.made_blocks.push(block.clone());
                if is_scoped { StmtKind::ScopedBlock(block) } else { StmtKind::Block(block) }
            }
            "generation" => StmtKind::Generation(self.apart("endgeneration")?),
            "autoescape" => {
                if !(self.skip_name("false") || self.skip_name("False")) {
                    return self.fail("chat templates are not HTML: only `{% autoescape false %}` is known");
                }
                StmtKind::Scope(self.closed("endautoescape")?)
            }
            "print" => {
                let at = self.here();
                let mut values = vec![self.expression()?];
                while self.skip_op(",") {
                    values.push(self.expression()?);
                }
                self.block_end()?;
                let depth = deepest(&values);
                StmtKind::Print(self.over(ExprKind::Concat(values), at, depth)?)
            }
            "break" | "continue" => {
                if self.loops == 0 {
                    return self.fail(format!("`{{% {tag} %}}` stands in no loop"));
                }
                self.block_end()?;
                if tag == "break" { StmtKind::Break } else { StmtKind::Continue }
            }
            "include" | "import" | "from" | "extends" => {
                let what = format!("`{{% {tag} %}}`: a chat template reads no other file");
                return Err(Error::new(Kind::Refused, what).or_at(at));
            }
            _ => return Err(Error::new(Kind::Syntax, format!("there is no tag `{tag}`")).or_at(at)),
        })
    }

    pub(super) fn if_statement(&mut self) -> Result<StmtKind> {
        let mut branches = Vec::new();
        self.soft += 1;
        loop {
            let condition = self.tuple(false, &[])?;
            self.block_end()?;
            let (body, end) = self.body(&["elif", "else", "endif"])?;
            branches.push((condition, body));
            if branches.len() > MOST_BRANCHES {
                return Err(too_many("branches of an `if`", MOST_BRANCHES).or_at(self.here()));
            }
            let otherwise = match end.as_str() {
                "elif" => continue,
                "else" => self.closed("endif")?,
                _ => {
                    self.block_end()?;
                    Vec::new()
                }
            };
            self.soft -= 1;
            return Ok(StmtKind::If(branches, otherwise));
        }
    }

    pub(super) fn for_statement(&mut self) -> Result<StmtKind> {
        let target = self.target()?;
        if !self.skip_name("in") {
            return self.unexpected("`in`");
        }
        let iterable = self.tuple(false, &["recursive"])?;
        let condition = if self.skip_name("if") { Some(self.expression()?) } else { None };
        let is_recursive = self.skip_name("recursive");
        self.block_end()?;
        self.loops += 1;
        let (body, end) = self.body(&["endfor", "else"])?;
        self.loops -= 1;
        let otherwise = match end.as_str() {
            "else" => self.closed("endfor")?,
            _ => {
                self.block_end()?;
                Vec::new()
            }
        };
        Ok(StmtKind::For(Arc::new(For { target, iterable, condition, is_recursive, body, otherwise })))
    }

    pub(super) fn set_statement(&mut self) -> Result<StmtKind> {
        let at = self.here();
        let target = match (self.peek(), self.peek_second()) {
            (Token::Name(name), Token::Op(".")) => {
                self.at += 2;
                Target::Attribute(name.clone(), self.name("an attribute's name")?)
            }
            _ => self.target()?,
        };
        if self.skip_op("=") {
            let value = self.tuple(true, &[])?;
            self.block_end()?;
            return Ok(StmtKind::Set(target, value));
        }
        let filter = if self.is_op("|") { self.filters(None, at)? } else { None };
        Ok(StmtKind::SetBlock(target, filter, self.closed("endset")?))
    }

    pub(super) fn target(&mut self) -> Result<Target> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            self.descend()?;
            targets.push(match self.skip_op("(") {
                true => {
                    let inner = self.target()?;
                    self.op(")")?;
                    inner
                }
                false => {
                    let name = self.name("a variable's name")?;
                    if ["true", "false", "none", "True", "False", "None"].contains(&name.as_str()) {
                        return self.fail(format!("`{name}` can't be assigned to"));
                    }
                    Target::Name(name)
                }
            });
            self.depth -= 1;
            if targets.len() > MOST_PARTS {
                return Err(too_many("names", MOST_PARTS).or_at(self.here()));
            }
            if !self.skip_op(",") {
                break;
            }
            is_tuple = true;
            if self.is_name("in") || self.is_op("=") {
                break;
            }
        }
        match targets.pop() {
            Some(only) if !is_tuple => Ok(only),
            Some(last) => {
                targets.push(last);
                Ok(Target::Tuple(targets))
            }
            None => self.unexpected("a variable's name"),
        }
    }

    pub(super) fn parameters(&mut self) -> Result<Vec<(String, Option<Expr>)>> {
        self.op("(")?;
        let mut parameters: Vec<(String, Option<Expr>)> = Vec::new();
        while !self.skip_op(")") {
            if !parameters.is_empty() {
                self.op(",")?;
                if self.skip_op(")") {
                    break;
                }
            }
            let name = self.name("a parameter's name")?;
            let default = if self.skip_op("=") { Some(self.expression()?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, default)| default.is_some()) {
                return self.fail("a parameter without a default follows one with a default");
            }
            parameters.push((name, default));
        }
        Ok(parameters)
    }

    pub(super) fn macro_body(
        &mut self,
        name: String,
        parameters: Vec<(String, Option<Expr>)>,
        end: &str,
    ) -> Result<Macro> {
        self.used.push([false; 3]);
        let body = self.apart(end)?;
        let [takes_rest, takes_named, takes_caller] = self.used.pop().unwrap_or_default();
        Ok(Macro { name, parameters, body, takes_rest, takes_named, takes_caller, is_block: false })
    }
}
