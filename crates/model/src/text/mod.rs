//! Text and tokens: tokenizers, and text that arrives token by token.
#![forbid(unsafe_code)]

mod codec;
mod stream;
pub mod template;
mod tokenizer;
pub mod vocab;

pub use codec::{Codec, CodecError, of_gguf};
pub use stream::Stream;
pub use tokenizer::{END, SMALLEST_VOCABULARY, Tokenizer, utf8};
pub use vocab::Vocabulary;
