//! One sequence: its prompt, what it has been given, and why it ended.

use crate::Sampling;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The tokens to go on from: at least one.
    pub prompt: Vec<u32>,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Tokens to make at most; the context's end stops as well.
    pub max_tokens: usize,
    /// Tokens that end the sequence; they are answered like the others.
    pub stop: Vec<u32>,
}

/// A sequence's name, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// One of its stop tokens came.
    Stop,
    /// It has as many tokens as it asked for.
    Length,
    /// The context is full.
    Context,
}

impl Finish {
    /// The word for it in answers.
    pub fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
            Finish::Context => "context",
        }
    }
}

/// A token that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Whose it is.
    pub sequence: SequenceId,
    /// Its id.
    pub id: u32,
    /// Set with a sequence's last token.
    pub finish: Option<Finish>,
}

/// A sequence at work.
pub(crate) struct Sequence {
    pub id: SequenceId,
    pub sampling: Sampling,
    pub stop: Vec<u32>,
    /// The prompt's length.
    pub prompt: usize,
    /// Tokens to make at most, the context's end taken into account.
    pub most: usize,
    /// Whether it is the context that allows no more.
    pub context_is_least: bool,
    /// Decode steps submitted.
    pub submitted: usize,
    /// Tokens taken in.
    pub taken: usize,
    /// Blocks of the cache that hold its positions, in order.
    pub blocks: Vec<u32>,
}

impl Sequence {
    /// The place of the token that the next decode step reads.
    pub fn position(&self) -> usize {
        self.prompt - 1 + self.submitted
    }

    /// Why it ends with the token `id`, which was just taken in.
    pub fn finish(&self, id: u32) -> Option<Finish> {
        if self.stop.contains(&id) {
            return Some(Finish::Stop);
        }
        let end = if self.context_is_least { Finish::Context } else { Finish::Length };
        (self.taken >= self.most).then_some(end)
    }
}
