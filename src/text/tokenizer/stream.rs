//! Text from tokens as they come: a character that is split over tokens waits until it is whole.

use super::{TokenKind, Tokenizer};

/// Turns ids into text one by one.
///
/// Whatever the split, the pieces together are the text of the whole. Bytes that can never become UTF-8
/// are replaced by U+FFFD as `String::from_utf8_lossy` does. Buffers are reused: once they have grown, a
/// push does not allocate. A clone goes on from the same place by itself.
#[derive(Clone)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    keep_special: bool,
    /// The next token is the first of a text before which encoding put a space.
    strip_space: bool,
    /// Bytes that are not text yet: the beginning of a character.
    pending: Vec<u8>,
    text: String,
}

impl StreamDecoder {
    /// Decodes what follows other text, such as a model's answer. Control tokens show only with
    /// `keep_special`.
    pub fn new(tokenizer: &Tokenizer, keep_special: bool) -> StreamDecoder {
        StreamDecoder {
            tokenizer: tokenizer.clone(),
            keep_special,
            strip_space: false,
            pending: Vec::new(),
            text: String::new(),
        }
    }

    /// Decodes a text from its start: the space that encoding put before it is taken away.
    pub fn from_start(tokenizer: &Tokenizer, keep_special: bool) -> StreamDecoder {
        StreamDecoder {
            strip_space: tokenizer.adds_space_prefix(),
            ..StreamDecoder::new(tokenizer, keep_special)
        }
    }

    /// Takes the next token, and gives the text that is complete now, which may be empty.
    pub fn push(&mut self, id: u32) -> &str {
        let before = self.pending.len();
        self.tokenizer.decode_into(id, self.keep_special, &mut self.pending);
        let structure = matches!(self.tokenizer.kind(id), Some(TokenKind::Control | TokenKind::Unknown));
        if self.strip_space && !structure && before < self.pending.len() {
            self.strip_space = false;
            if self.pending[before] == b' ' {
                self.pending.remove(before);
            }
        }
        self.text.clear();
        let complete = self.pending.len() - incomplete_len(&self.pending);
        push_lossy(&self.pending[..complete], &mut self.text);
        self.pending.drain(..complete);
        &self.text
    }

    /// Ends the text: the beginning of a character that never came becomes U+FFFD. The next push starts
    /// anew, as after [`new`](Self::new).
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        push_lossy(&self.pending, &mut self.text);
        self.pending.clear();
        self.strip_space = false;
        &self.text
    }
}

/// Appends bytes as text, with U+FFFD for each maximal part that is no UTF-8.
fn push_lossy(bytes: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// How many bytes at the end may still become a character.
fn incomplete_len(bytes: &[u8]) -> usize {
    // A character has at most four bytes, so an incomplete one at most three.
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let mut starts = (0..tail.len()).filter(|&start| tail[start] & 0xc0 == 0xc0);
    let incomplete = |&start: &usize| {
        let error = std::str::from_utf8(&tail[start..]).err();
        error.is_some_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    starts.find(incomplete).map_or(0, |start| tail.len() - start)
}
