//! Between text and tokens: tokenizers, chat templates, grammars, stop strings, the parts of answers.
//!
//! `pretokenizer` cuts text into words; `tokenizer` builds [`Tokenizer`]s from a GGUF file's vocabulary and decodes ids
//! to text ([`StreamDecoder`]); `template` renders a conversation as a prompt ([`ChatTemplate`]); `constraint` masks
//! the tokens that a grammar or a JSON schema does not allow (`Constraint`); [`StopStrings`] finds the text at which an
//! answer ends; `answer` divides an answer into thoughts, text and tool calls ([`AnswerParser`]); `tools` finds out how a model
//! calls tools, and enforces and reads its calls ([`ToolFormat`]).
//!
//! This folder reads its tables from a GGUF file's metadata. It knows no tensor, no graph, no device and no model, and
//! does not choose tokens: `sampling` does.

mod answer;
#[cfg(feature = "grammar")]
mod constraint;
mod pretokenizer;
mod stop;
mod template;
mod tokenizer;
mod tools;

// Public for the page of models, which lists them.
#[doc(hidden)]
pub use answer::{ANSWER_MARKERS, AnswerMarkers, MarkerRole};
pub use answer::{AnswerFormat, AnswerParser, AnswerPlace, CallPiece, Delta, Part, PartKind, ToolCall};
#[cfg(feature = "grammar")]
pub use constraint::{Constraint, ConstraintError, ConstraintFactory, GbnfError};
pub use pretokenizer::known_pre_tokenizers;
// Public for `tests/text`, which compares every pre-tokenizer with its regular expression.
#[doc(hidden)]
pub use pretokenizer::{PRE_TOKENIZERS, PreTokenizer};
pub use stop::StopStrings;
#[cfg(feature = "serve")]
pub(crate) use template::strftime;
pub use template::{ChatTemplate, Message, RenderOptions, TemplateError};
// Public for the page of models, which lists them.
#[doc(hidden)]
pub use tokenizer::{END_NAMES, EndName};
pub use tokenizer::{
    EncodeOptions, StreamDecoder, TOKENIZER_FAMILIES, TokenKind, Tokenizer, TokenizerError, VocabData,
};

pub use tools::{ToolChoice, ToolError, ToolFormat};

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::demo_tokenizer;
