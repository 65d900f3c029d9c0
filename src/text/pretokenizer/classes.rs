//! The character classes of the pre-tokenizers' rules, and the character tests of WordPiece.
//!
//! The classes are those of the regular expressions `\p{Lu}`, `\p{N}`, `\s` and so on, by Unicode's general categories.

use unicode_general_category::{GeneralCategory, get_general_category};

/// The classes of a character, one bit each.
pub(super) type Bits = u16;

const UPPER: Bits = 1;
const LOWER: Bits = 1 << 1;
const TITLE: Bits = 1 << 2;
const MODIFIER: Bits = 1 << 3;
const OTHER_LETTER: Bits = 1 << 4;
const MARK_BIT: Bits = 1 << 5;
const DECIMAL: Bits = 1 << 6;
const OTHER_NUMBER: Bits = 1 << 7;
const CONNECTOR: Bits = 1 << 8;
const OTHER_PUNCTUATION: Bits = 1 << 9;
const SYMBOL: Bits = 1 << 10;
const WHITE: Bits = 1 << 11;
const LINE_END: Bits = 1 << 12;
const HAN_BIT: Bits = 1 << 13;
/// Control and format characters, and unassigned code points.
const CONTROL: Bits = 1 << 14;

const LETTERS: Bits = UPPER | LOWER | TITLE | MODIFIER | OTHER_LETTER;
const NUMBERS: Bits = DECIMAL | OTHER_NUMBER;
const PUNCTUATION_BITS: Bits = CONNECTOR | OTHER_PUNCTUATION;

/// A set of characters: those in any of some classes and in none of some others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::text) struct Set {
    any: Bits,
    none: Bits,
}

const fn of(any: Bits) -> Set {
    Set { any, none: 0 }
}

const fn all_but(none: Bits) -> Set {
    Set { any: !0, none }
}

/// `\p{L}`
pub(super) const LETTER: Set = of(LETTERS);
/// `\p{M}`
pub(super) const MARK: Set = of(MARK_BIT);
/// `[\p{L}\p{M}]`
pub(super) const LETTER_OR_MARK: Set = of(LETTERS | MARK_BIT);
/// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`
pub(super) const NOT_LOWER: Set = of(UPPER | TITLE | MODIFIER | OTHER_LETTER | MARK_BIT);
/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`
pub(super) const NOT_UPPER: Set = of(LOWER | MODIFIER | OTHER_LETTER | MARK_BIT);
/// `\p{N}`
pub(super) const NUMBER: Set = of(NUMBERS);
/// `\p{Nd}`
pub(super) const DIGIT: Set = of(DECIMAL);
/// `\p{P}`
pub(in crate::text) const PUNCTUATION: Set = of(PUNCTUATION_BITS);
/// `[\p{P}\p{S}]`
pub(super) const PUNCTUATION_OR_SYMBOL: Set = of(PUNCTUATION_BITS | SYMBOL);
/// `\s`
pub(super) const SPACE: Set = of(WHITE);
/// `[\r\n]`
pub(super) const NEWLINE: Set = of(LINE_END);
/// `\p{Han}`
pub(super) const HAN: Set = of(HAN_BIT);
/// `[^\s\p{L}\p{N}]`
pub(super) const OTHER: Set = all_but(WHITE | LETTERS | NUMBERS);
/// `[^\s\p{L}\p{M}\p{N}]`
pub(super) const OTHER_THAN_MARK: Set = all_but(WHITE | LETTERS | NUMBERS | MARK_BIT);
/// `[^\r\n\p{L}\p{N}]`
pub(super) const BEFORE_WORD: Set = all_but(LINE_END | LETTERS | NUMBERS);
/// `[^\r\n\p{L}\p{P}\p{S}]`
pub(super) const BEFORE_WORD_NO_SIGN: Set = all_but(LINE_END | LETTERS | PUNCTUATION_BITS | SYMBOL);

impl Set {
    /// The set without Han characters.
    pub const fn and_not_han(self) -> Set {
        Set { none: self.none | HAN_BIT, ..self }
    }

    /// True if a character with these bits is in the set.
    #[inline]
    pub fn holds(self, bits: Bits) -> bool {
        bits & self.any != 0 && bits & self.none == 0
    }

    /// True if the character is in the set.
    #[inline]
    pub fn has(self, character: char) -> bool {
        self.holds(bits_of(character))
    }

    /// The length in bytes of the prefix of `text` whose characters are in the set.
    #[inline]
    pub fn run_len(self, text: &str) -> usize {
        len_while(text, |bits| self.holds(bits))
    }

    /// The length in bytes of the prefix of `text` whose characters are not in the set.
    #[inline]
    pub fn without_len(self, text: &str) -> usize {
        len_while(text, |bits| !self.holds(bits))
    }
}

/// The length in bytes of the prefix of `text` whose characters' bits satisfy `holds`.
#[inline]
fn len_while(text: &str, holds: impl Fn(Bits) -> bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match ASCII.get(byte as usize) {
            Some(&bits) if holds(bits) => at += 1,
            Some(_) => break,
            None => match text[at..].chars().next() {
                Some(character) if holds(bits_of(character)) => at += character.len_utf8(),
                _ => break,
            },
        }
    }
    at
}

/// The bits of each ASCII character.
const ASCII: [Bits; 128] = {
    let mut table = [CONTROL; 128];
    let mut code = 0;
    while code < 128 {
        table[code] = match code as u8 {
            b'a'..=b'z' => LOWER,
            b'A'..=b'Z' => UPPER,
            b'0'..=b'9' => DECIMAL,
            b'\r' | b'\n' => WHITE | LINE_END,
            b'\t' | 0xb | 0xc | b' ' => WHITE,
            b'_' => CONNECTOR,
            b'$' | b'+' | b'<' | b'=' | b'>' | b'^' | b'`' | b'|' | b'~' => SYMBOL,
            b'!'..=b'/' | b':'..=b'@' | b'['..=b'`' | b'{'..=b'~' => OTHER_PUNCTUATION,
            _ => CONTROL,
        };
        code += 1;
    }
    table
};

/// The classes of a character.
#[inline]
pub(super) fn bits_of(character: char) -> Bits {
    match ASCII.get(character as usize) {
        Some(&bits) => bits,
        None => beyond_ascii(character),
    }
}

fn beyond_ascii(character: char) -> Bits {
    use GeneralCategory as Is;
    let bits = match get_general_category(character) {
        Is::UppercaseLetter => UPPER,
        Is::LowercaseLetter => LOWER,
        Is::TitlecaseLetter => TITLE,
        Is::ModifierLetter => MODIFIER,
        Is::OtherLetter => OTHER_LETTER,
        Is::NonspacingMark | Is::SpacingMark | Is::EnclosingMark => MARK_BIT,
        Is::DecimalNumber => DECIMAL,
        Is::LetterNumber | Is::OtherNumber => OTHER_NUMBER,
        Is::ConnectorPunctuation => CONNECTOR,
        Is::DashPunctuation
        | Is::OpenPunctuation
        | Is::ClosePunctuation
        | Is::InitialPunctuation
        | Is::FinalPunctuation
        | Is::OtherPunctuation => OTHER_PUNCTUATION,
        Is::MathSymbol | Is::CurrencySymbol | Is::ModifierSymbol | Is::OtherSymbol => SYMBOL,
        _ if character.is_whitespace() => WHITE,
        _ => CONTROL,
    };
    let is_han = character >= '\u{2e80}' && contains(HAN_RANGES, character);
    bits | if is_han { HAN_BIT } else { 0 }
}

/// `\w` as in Oniguruma: no word boundary between two such characters.
pub(super) fn is_word_character(character: char) -> bool {
    let bits = bits_of(character);
    // The standard library may know letters of a later Unicode version than the category table.
    bits & (LETTERS | MARK_BIT | NUMBERS | CONNECTOR) != 0 || bits & CONTROL == 0 && character.is_alphabetic()
}

/// `\p{Mn}`: a combining accent.
pub(in crate::text) fn is_accent(character: char) -> bool {
    get_general_category(character) == GeneralCategory::NonspacingMark
}

/// `[\p{Cc}\p{Cf}\p{Co}]`: not text. Unassigned code points count as text.
pub(in crate::text) fn is_control(character: char) -> bool {
    use GeneralCategory::{Control, Format, PrivateUse};
    matches!(get_general_category(character), Control | Format | PrivateUse)
}

/// `\p{Script=Han}`, Unicode 16.0 (Scripts.txt).
const HAN_RANGES: &[(u32, u32)] = &[
    (0x2e80, 0x2e99),
    (0x2e9b, 0x2ef3),
    (0x2f00, 0x2fd5),
    (0x3005, 0x3005),
    (0x3007, 0x3007),
    (0x3021, 0x3029),
    (0x3038, 0x303b),
    (0x3400, 0x4dbf),
    (0x4e00, 0x9fff),
    (0xf900, 0xfa6d),
    (0xfa70, 0xfad9),
    (0x16fe2, 0x16fe3),
    (0x16ff0, 0x16ff1),
    (0x20000, 0x2a6df),
    (0x2a700, 0x2b739),
    (0x2b740, 0x2b81d),
    (0x2b820, 0x2cea1),
    (0x2ceb0, 0x2ebe0),
    (0x2ebf0, 0x2ee5d),
    (0x2f800, 0x2fa1d),
    (0x30000, 0x3134a),
    (0x31350, 0x323af),
];

/// True if one of the sorted ranges contains the character.
pub(super) fn contains(ranges: &[(u32, u32)], character: char) -> bool {
    let code = character as u32;
    let after = ranges.partition_point(|&(first, _)| first <= code);
    after > 0 && code <= ranges[after - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares a class with a regular expression over all characters.
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
        for (pattern, set) in [
            (r"\p{L}", LETTER),
            (r"\p{M}", MARK),
            (r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", NOT_LOWER),
            (r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", NOT_UPPER),
            (r"[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]", NOT_UPPER.and_not_han()),
            (r"\p{N}", NUMBER),
            (r"\p{Nd}", DIGIT),
            (r"\p{P}", PUNCTUATION),
            (r"[\p{P}\p{S}]", PUNCTUATION_OR_SYMBOL),
            (r"\s", SPACE),
            (r"\p{Han}", HAN),
            (r"[^\s\p{L}\p{M}\p{N}]", OTHER_THAN_MARK),
            (r"[^\r\n\p{L}\p{P}\p{S}]", BEFORE_WORD_NO_SIGN),
        ] {
            assert_same_class(pattern, |character| set.has(character));
        }
        assert_same_class(r"\p{Mn}", is_accent);
        assert_same_class(r"[\p{Cc}\p{Cf}\p{Co}]", is_control);
    }
}
