//! Text and tokens: tokenizers, and text that arrives token by token.

mod stream;
mod tokenizer;

pub use stream::Stream;
pub use tokenizer::{END, SMALLEST_VOCABULARY, Tokenizer, utf8};
