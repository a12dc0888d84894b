//! Tokens into a tree, with bounds on its depth: what is deep here would be deep on the stack when it is rendered.

mod expressions;
mod statements;

use super::ast::{Args, Expr, Macro, Whole};
use super::error::{At, Error, Kind, Result};
use super::lexer::Token;
use std::sync::Arc;

/// How deep an expression may be.
const DEEPEST: usize = 250;
/// How deep blocks may lie in blocks.
const DEEPEST_BLOCK: usize = 60;
/// How many arguments or elements a list of them may have.
const MOST_PARTS: usize = 10_000;
/// How many branches an `if` may have.
const MOST_BRANCHES: usize = 1_000;

/// Parses the tokens of a template.
pub(super) fn parse(tokens: &[(Token, At)]) -> Result<Whole> {
    let mut parser = Parser {
        tokens,
        at: 0,
        depth: 0,
        blocks: 0,
        loops: 0,
        soft: 0,
        used: Vec::new(),
        block_names: Vec::new(),
        made_blocks: Vec::new(),
    };
    let (body, _) = parser.body(&[])?;
    Ok(Whole { body, blocks: parser.made_blocks })
}

struct Parser<'a> {
    tokens: &'a [(Token, At)],
    at: usize,
    depth: usize,
    blocks: usize,
    loops: usize,
    /// Within an `if`, where jinja2 looks for filters and tests only when it comes to them.
    soft: usize,
    /// The special names that each macro which is being read uses.
    used: Vec<[bool; 3]>,
    block_names: Vec<String>,
    made_blocks: Vec<Arc<Macro>>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> &'a Token {
        self.tokens.get(self.at).map_or(&Token::End, |(token, _)| token)
    }

    fn peek_second(&self) -> &'a Token {
        self.tokens.get(self.at + 1).map_or(&Token::End, |(token, _)| token)
    }

    fn here(&self) -> At {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(At::default(), |(_, at)| *at)
    }

    fn next(&mut self) -> &'a Token {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        Err(Error::new(Kind::Syntax, message).or_at(self.here()))
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T> {
        let found = match self.peek() {
            Token::Data(_) => "text".into(),
            Token::BlockBegin => "`{%`".into(),
            Token::BlockEnd => "`%}`".into(),
            Token::VariableBegin => "`{{`".into(),
            Token::VariableEnd => "`}}`".into(),
            Token::Name(name) => format!("`{name}`"),
            Token::Str(_) => "a string".into(),
            Token::Int(_) | Token::Float(_) => "a number".into(),
            Token::Op(op) => format!("`{op}`"),
            Token::End => "the end of the template".to_string(),
        };
        self.fail(format!("expected {wanted}, found {found}"))
    }

    fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Token::Op(found) if *found == op)
    }

    fn skip_op(&mut self, op: &str) -> bool {
        let is = self.is_op(op);
        self.at += usize::from(is);
        is
    }

    fn op(&mut self, op: &str) -> Result<()> {
        if self.skip_op(op) { Ok(()) } else { self.unexpected(&format!("`{op}`")) }
    }

    fn is_name(&self, name: &str) -> bool {
        matches!(self.peek(), Token::Name(found) if found == name)
    }

    fn skip_name(&mut self, name: &str) -> bool {
        let is = self.is_name(name);
        self.at += usize::from(is);
        is
    }

    fn name(&mut self, what: &str) -> Result<String> {
        match self.peek() {
            Token::Name(name) => {
                self.at += 1;
                Ok(name.clone())
            }
            _ => self.unexpected(what),
        }
    }

    fn block_end(&mut self) -> Result<()> {
        self.skip_op(":");
        match self.peek() {
            Token::BlockEnd => {
                self.at += 1;
                Ok(())
            }
            _ => self.unexpected("`%}`"),
        }
    }
}

fn deepest(parts: &[Expr]) -> usize {
    parts.iter().map(|part| part.depth).max().unwrap_or(0)
}

fn args_depth(args: &Args) -> usize {
    let named = args.named.iter().map(|(_, e)| e.depth);
    let spread = [&args.spread, &args.spread_named].into_iter().flatten().map(|e| e.depth);
    args.positional.iter().map(|e| e.depth).chain(named).chain(spread).max().unwrap_or(0)
}

fn too_deep(what: &str, most: usize) -> Error {
    Error::new(Kind::Limit, format!("{what} lie more than {most} deep in each other, or in a chain as long"))
}

fn too_many(what: &str, most: usize) -> Error {
    Error::new(Kind::Limit, format!("more than {most} {what}"))
}
