//! Matches the first word of a text, by the patterns that most tokenizers share.
//!
//! The regular expressions are alternatives tried in order; the matchers here make the same decisions without
//! backtracking. A matcher returns the length in bytes of the match at the start of a text, 0 for none.

use super::classes::{
    BEFORE_WORD, BEFORE_WORD_NO_SIGN, HAN, LETTER, LETTER_OR_MARK, MARK, NOT_LOWER, NOT_UPPER, NUMBER, OTHER,
    OTHER_THAN_MARK, PUNCTUATION_OR_SYMBOL, SPACE, Set, bits_of,
};

/// A pattern of the family that began with Llama 3 and Qwen: contractions, words with an optional character in front,
/// numbers, other characters with newlines after them, white space.
#[derive(Clone, Copy)]
pub(super) struct Words {
    contractions: Contractions,
    /// `[!-/:-@\[-`{-~][A-Za-z]+` is tried first.
    sign_before_ascii: bool,
    /// `\p{Han}+` is tried first.
    han: bool,
    /// The optional character in front of a word.
    before: Set,
    letters: Letters,
    /// The most digits in a word; with 0 digits are not words.
    digits: usize,
    /// Other characters that form words, with an optional space in front.
    other: Set,
    after_other: AfterOther,
    space: Space,
}

#[derive(Clone, Copy, PartialEq)]
enum Contractions {
    None,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)` as a word of its own.
    Alone,
    /// The same alternatives at the end of a word.
    AtTheEnd,
}

#[derive(Clone, Copy)]
enum Letters {
    /// `C+`
    Run(Set),
    /// `U*L+` or else `U+L*`: a change from lower to upper case ends a word.
    Cased { not_lower: Set, not_upper: Set },
    /// `(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+`: words separated by single spaces.
    Phrase,
}

#[derive(Clone, Copy)]
enum AfterOther {
    /// Nothing.
    Nothing,
    /// `[\r\n]*`
    Newlines,
    /// `[\r\n/]*`
    NewlinesAndSlashes,
    /// `[\r\n/]?`
    OneNewlineOrSlash,
}

#[derive(Clone, Copy)]
enum Space {
    /// `\s*[\r\n]+|\s+(?!\S)|\s+`
    UpToNewline,
    /// `[\r\n]|\s+(?!\S)|\s+`
    NewlinesAlone,
    /// `\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|…|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}`
    PowersOfTwo,
}

impl Words {
    /// Llama 3's: `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}|`
    /// ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    pub const fn llama3(digits: usize) -> Words {
        Words {
            contractions: Contractions::Alone,
            sign_before_ascii: false,
            han: false,
            before: BEFORE_WORD,
            letters: Letters::Run(LETTER),
            digits,
            other: OTHER,
            after_other: AfterOther::Newlines,
            space: Space::UpToNewline,
        }
    }

    /// GPT-4o's, where a change from lower to upper case ends a word:
    /// `[^\r\n\p{L}\p{N}]?U*L+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?U+L*(?i:…)?|\p{N}{1,digits}|`
    /// ` ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    pub const fn gpt4o(digits: usize) -> Words {
        Words {
            contractions: Contractions::AtTheEnd,
            letters: Letters::Cased { not_lower: NOT_LOWER, not_upper: NOT_UPPER },
            after_other: AfterOther::NewlinesAndSlashes,
            ..Words::llama3(digits)
        }
    }

    /// Tekken's: GPT-4o's without contractions.
    pub const fn tekken() -> Words {
        Words { contractions: Contractions::None, ..Words::gpt4o(1) }
    }

    /// Kimi's: `[\p{Han}]+`, then GPT-4o's without Han characters in words.
    pub const fn kimi() -> Words {
        Words {
            han: true,
            letters: Letters::Cased {
                not_lower: NOT_LOWER.and_not_han(),
                not_upper: NOT_UPPER.and_not_han(),
            },
            after_other: AfterOther::Newlines,
            ..Words::gpt4o(3)
        }
    }

    /// DeepSeek V3's, after numbers are cut out: `[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|`
    /// ` ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    pub const fn deepseek3() -> Words {
        Words {
            contractions: Contractions::None,
            sign_before_ascii: true,
            before: BEFORE_WORD_NO_SIGN,
            letters: Letters::Run(LETTER_OR_MARK),
            other: PUNCTUATION_OR_SYMBOL,
            ..Words::llama3(0)
        }
    }

    /// Spark's: DeepSeek V3's, with every newline as a word.
    pub const fn spark() -> Words {
        Words { after_other: AfterOther::Nothing, space: Space::NewlinesAlone, ..Words::deepseek3() }
    }

    /// Qwen 3.5's: Llama 3's with one digit and with marks as letters.
    pub const fn qwen35() -> Words {
        Words { letters: Letters::Run(LETTER_OR_MARK), other: OTHER_THAN_MARK, ..Words::llama3(1) }
    }

    /// Jais 2's: Llama 3's with runs of spaces in powers of two.
    pub const fn jais2() -> Words {
        Words { space: Space::PowersOfTwo, ..Words::llama3(3) }
    }

    /// Seed-Coder's: Llama 3's with one digit and no newlines after other characters.
    pub const fn seed_coder() -> Words {
        Words { after_other: AfterOther::Nothing, ..Words::llama3(1) }
    }

    /// Llama 3's with one digit and without contractions.
    pub const fn without_contractions() -> Words {
        Words { contractions: Contractions::None, ..Words::llama3(1) }
    }

    /// EXAONE MoE's: Llama 3's with one digit, phrases as words, and at most one newline after other characters.
    pub const fn phrases() -> Words {
        Words { letters: Letters::Phrase, after_other: AfterOther::OneNewlineOrSlash, ..Words::llama3(1) }
    }

    /// The length of the first word of a text, 0 for none.
    pub fn word_len(&self, text: &str) -> usize {
        let mut chars = text.chars();
        let Some(first) = chars.next() else { return 0 };
        if first == '\'' && self.contractions == Contractions::Alone {
            let contraction = contraction_len(text, true);
            if contraction > 0 {
                return contraction;
            }
        }
        if self.sign_before_ascii && first.is_ascii_punctuation() {
            let letters = ascii_letters_len(&text[1..]);
            if letters > 0 {
                return 1 + letters;
            }
        }
        let bits = bits_of(first);
        if self.han && HAN.holds(bits) {
            return HAN.run_len(text);
        }
        let word = self.letters_len(text, self.before.holds(bits).then_some(first.len_utf8()));
        if word > 0 {
            return match self.contractions {
                Contractions::AtTheEnd => word + contraction_len(&text[word..], true),
                _ => word,
            };
        }
        if NUMBER.holds(bits) {
            let digits = text.chars().take(self.digits).take_while(|&c| NUMBER.has(c));
            return digits.map(char::len_utf8).sum();
        }
        let spaced = first == ' ' && chars.next().is_some_and(|second| self.other.has(second));
        if spaced || self.other.holds(bits) {
            let start = usize::from(spaced);
            let other = start + self.other.run_len(&text[start..]);
            return other + self.after_other.len(&text[other..]);
        }
        self.space.len(text)
    }

    /// The length of the letters at the start of the text, including an optional character of `before` bytes in front
    /// of them.
    fn letters_len(&self, text: &str, before: Option<usize>) -> usize {
        let after = |len: fn(&Letters, &str) -> usize| {
            let with_before = before.map(|before| (before, len(&self.letters, &text[before..])));
            match with_before {
                Some((before, letters)) if letters > 0 => before + letters,
                _ => len(&self.letters, text),
            }
        };
        match after(Letters::len) {
            0 => after(Letters::capitals_len),
            word => word,
        }
    }
}

impl Letters {
    fn len(&self, text: &str) -> usize {
        match *self {
            Letters::Run(set) => set.run_len(text),
            Letters::Cased { not_lower, not_upper } => cased_len(text, not_lower, not_upper),
            Letters::Phrase => phrase_len(text),
        }
    }

    /// The second alternative of [`Letters::Cased`], `U+L*`, when the first does not match: then no character of the
    /// `U+` is in `L`.
    fn capitals_len(&self, text: &str) -> usize {
        match *self {
            Letters::Cased { not_lower, .. } => not_lower.run_len(text),
            _ => 0,
        }
    }
}

/// `U*L+`, for overlapping sets. If the character after the `U*` is not in `L`, the `L+` is the last character of the
/// `U*` that is in `L`.
fn cased_len(text: &str, not_lower: Set, not_upper: Set) -> usize {
    let mut last = 0;
    for (at, character) in text.char_indices() {
        let bits = bits_of(character);
        if !not_lower.holds(bits) {
            let small = not_upper.run_len(&text[at..]);
            return if small > 0 { at + small } else { last };
        }
        if not_upper.holds(bits) {
            last = at + character.len_utf8();
        }
    }
    last
}

/// Letters with optional marks after them, separated by single spaces.
fn phrase_len(text: &str) -> usize {
    let mut len = 0;
    loop {
        let space = usize::from(len > 0 && text[len..].starts_with(' '));
        let letters = LETTER.run_len(&text[len + space..]);
        if letters == 0 {
            return len;
        }
        len += space + letters;
        len += MARK.run_len(&text[len..]);
    }
}

impl AfterOther {
    fn len(self, text: &str) -> usize {
        let run = |is_in: fn(char) -> bool| text.find(|c| !is_in(c)).unwrap_or(text.len());
        match self {
            AfterOther::Nothing => 0,
            AfterOther::Newlines => run(|c| matches!(c, '\r' | '\n')),
            AfterOther::NewlinesAndSlashes => run(|c| matches!(c, '\r' | '\n' | '/')),
            AfterOther::OneNewlineOrSlash => usize::from(text.starts_with(['\r', '\n', '/'])),
        }
    }
}

impl Space {
    /// The length of the first white space word.
    fn len(self, text: &str) -> usize {
        let run = SPACE.run_len(text);
        let newline = || text[..run].rfind(['\r', '\n']).map(|last| last + 1);
        match self {
            Space::UpToNewline => newline().unwrap_or_else(|| space_len(text, run)),
            Space::NewlinesAlone if text.starts_with(['\r', '\n']) => 1,
            Space::NewlinesAlone => space_len(text, run),
            Space::PowersOfTwo => newline().unwrap_or_else(|| power_of_two_len(text, run)),
        }
    }
}

/// `\s+(?!\S)|\s+`: a run of `run` bytes, without its last character if a word follows.
fn space_len(text: &str, run: usize) -> usize {
    let last = text[..run].chars().next_back().map_or(0, char::len_utf8);
    if run == text.len() || run == last { run } else { run - last }
}

/// The largest power of two up to 512 of characters of the run, leaving one character before a following word.
fn power_of_two_len(text: &str, run: usize) -> usize {
    let count = text[..run].chars().take(513).count();
    let free = if run == text.len() { count } else { count.saturating_sub(1) };
    let take = [512, 256, 128, 64, 32, 16, 8, 4, 2].into_iter().find(|&power| power <= free).unwrap_or(1);
    text[..run].chars().take(take).map(char::len_utf8).sum()
}

fn ascii_letters_len(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_alphabetic).count()
}

/// The length of the English contraction at the start of `text`, 0 for none.
fn contraction_len(text: &str, any_case: bool) -> usize {
    let mut chars = text.chars();
    if chars.next() != Some('\'') {
        return 0;
    }
    // The long s is the only non-ASCII character that case-folds to a letter of these contractions.
    let mut next = || match chars.next() {
        Some('\u{17f}') if any_case => Some(('s', 2)),
        Some(c) if any_case => Some((c.to_ascii_lowercase(), c.len_utf8())),
        other => other.map(|c| (c, c.len_utf8())),
    };
    let Some((first, len)) = next() else { return 0 };
    if matches!(first, 's' | 't' | 'm' | 'd') {
        return 1 + len;
    }
    match (first, next()) {
        ('r' | 'v', Some(('e', _))) | ('l', Some(('l', _))) => 3,
        _ => 0,
    }
}

/// The length of the first word of a nonempty text, by GPT-2's pattern:
/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
pub(super) fn gpt2_word_len(text: &str) -> usize {
    let contraction = contraction_len(text, false);
    if contraction > 0 {
        return contraction;
    }
    let start = usize::from(text.starts_with(' '));
    let Some(bits) = text[start..].chars().next().map(bits_of) else { return start };
    match [LETTER, NUMBER, OTHER].into_iter().find(|set| set.holds(bits)) {
        Some(set) => start + set.run_len(&text[start..]),
        None => space_len(text, SPACE.run_len(text)),
    }
}

/// `[\t\n]|    |  `: Chameleon's white space.
pub(super) fn chameleon_space_len(text: &str) -> usize {
    match text {
        _ if text.starts_with(['\t', '\n']) => 1,
        _ if text.starts_with("    ") => 4,
        _ if text.starts_with("  ") => 2,
        _ => 0,
    }
}

/// `<sentinel:[0-9]+>`
pub(super) fn sentinel_len(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("<sentinel:") else { return 0 };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let closed = digits > 0 && rest[digits..].starts_with('>');
    if closed { text.len() - rest.len() + digits + 1 } else { 0 }
}

/// `IMGIMG[A-I]{1,4}Z`
pub(super) fn image_len(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("IMGIMG") else { return 0 };
    let letters = rest.bytes().take_while(|byte| (b'A'..=b'I').contains(byte)).count();
    let closed = (1..=4).contains(&letters) && rest[letters..].starts_with('Z');
    if closed { text.len() - rest.len() + letters + 1 } else { 0 }
}

/// `\s+$`
pub(super) fn last_space_len(text: &str) -> usize {
    if SPACE.run_len(text) == text.len() { text.len() } else { 0 }
}

/// `[^\n]+|\n+`
pub(super) fn line_len(text: &str) -> usize {
    let is_break = text.starts_with('\n');
    text.find(|c| (c == '\n') != is_break).unwrap_or(text.len())
}
