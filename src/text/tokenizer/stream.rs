//! Incremental decoding: a character split over several tokens waits until it is complete.

use super::{TokenKind, Tokenizer};

/// Decodes ids to text one by one.
///
/// The concatenated pieces equal the decoded whole. Bytes that are not UTF-8 become U+FFFD as in
/// `String::from_utf8_lossy`. Buffers are reused: once they have grown, a push does not allocate. A clone continues
/// independently from the same point.
#[derive(Clone)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    keep_special: bool,
    /// The next token is the first of a text whose leading space was added by encoding.
    strip_space: bool,
    /// Bytes of an incomplete character.
    pending: Vec<u8>,
    text: String,
}

impl StreamDecoder {
    /// Decodes text that follows other text, such as a model's answer. Control tokens appear only with `keep_special`.
    pub fn new(tokenizer: &Tokenizer, keep_special: bool) -> StreamDecoder {
        StreamDecoder {
            tokenizer: tokenizer.clone(),
            keep_special,
            strip_space: false,
            pending: Vec::new(),
            text: String::new(),
        }
    }

    /// Decodes a text from its start: the space that encoding put before it is removed.
    pub fn from_start(tokenizer: &Tokenizer, keep_special: bool) -> StreamDecoder {
        StreamDecoder {
            strip_space: tokenizer.adds_space_prefix(),
            ..StreamDecoder::new(tokenizer, keep_special)
        }
    }

    /// Takes the next token, and returns the text that is now complete, possibly empty.
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

    /// Ends the text: an incomplete character becomes U+FFFD. The next push starts a new text, as after
    /// [`new`](Self::new).
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        push_lossy(&self.pending, &mut self.text);
        self.pending.clear();
        self.strip_space = false;
        &self.text
    }
}

/// Appends bytes as text, with U+FFFD for each maximal invalid part.
fn push_lossy(bytes: &[u8], out: &mut String) {
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
}

/// The number of bytes at the end that may still become a character.
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
