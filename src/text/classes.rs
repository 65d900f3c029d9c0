//! The character classes that pre-tokenizers split by.
//!
//! They are those of the regular expressions `\p{L}`, `\p{N}`, `\p{P}` and `\s`.

use super::unicode_ranges::{LETTER, NUMBER, PUNCTUATION};

/// The classes that word rules tell apart; each character is in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s`
    Space,
    /// None of them: punctuation, symbols, marks, control characters.
    Other,
}

/// The class of each ASCII character.
const ASCII: [Class; 128] = {
    let mut table = [Class::Other; 128];
    let mut code = 0;
    while code < 128 {
        table[code] = match code as u8 {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b'\t'..=b'\r' | b' ' => Class::Space,
            _ => Class::Other,
        };
        code += 1;
    }
    table
};

/// The class of a character.
pub(super) fn class_of(character: char) -> Class {
    let code = character as u32;
    match ASCII.get(code as usize) {
        Some(&class) => class,
        None if contains(LETTER, code) => Class::Letter,
        None if contains(NUMBER, code) => Class::Number,
        None if character.is_whitespace() => Class::Space,
        None => Class::Other,
    }
}

/// `\p{L}`
pub(super) fn is_letter(character: char) -> bool {
    class_of(character) == Class::Letter
}

/// `\p{N}`
pub(super) fn is_number(character: char) -> bool {
    class_of(character) == Class::Number
}

/// `\p{P}`
pub(super) fn is_punctuation(character: char) -> bool {
    match character {
        '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~' => false,
        _ if character.is_ascii() => character.is_ascii_punctuation(),
        _ => contains(PUNCTUATION, character as u32),
    }
}

/// Whether one of the sorted ranges holds the code point.
fn contains(ranges: &[(u32, u32)], code: u32) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= code);
    after > 0 && code <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares a class with a regular expression's over every character there is.
    fn assert_same_class(pattern: &str, is_in: impl Fn(char) -> bool) {
        let every: String = ('\0'..=char::MAX).collect();
        let mut expected = vec![false; 0x11_0000];
        for found in fancy_regex::Regex::new(pattern).unwrap().find_iter(&every) {
            expected[found.unwrap().as_str().chars().next().unwrap() as usize] = true;
        }
        for character in '\0'..=char::MAX {
            assert_eq!(is_in(character), expected[character as usize], "{pattern} {character:?}");
        }
    }

    #[test]
    fn classes_are_those_of_regular_expressions() {
        assert_same_class(r"\p{L}", is_letter);
        assert_same_class(r"\p{N}", is_number);
        assert_same_class(r"\p{P}", is_punctuation);
        assert_same_class(r"\s", |c| class_of(c) == Class::Space);
    }
}
