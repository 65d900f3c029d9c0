//! Anthropic's interface. `messages` has the routes, `conversation` reads conversations, `answer` writes answers, event by
//! event or whole.
//!
//! This folder knows Anthropic's field names, and no other interface's.

mod answer;
#[cfg(test)]
mod answer_tests;
mod conversation;
#[cfg(test)]
mod conversation_tests;
pub(super) mod messages;
