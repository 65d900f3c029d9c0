//! Python's classes of characters.

use unicode_general_category::{GeneralCategory, get_general_category};

/// `str.isprintable` of one character.
pub(super) fn is_printable(character: char) -> bool {
    use GeneralCategory::{
        Control, Format, LineSeparator, ParagraphSeparator, PrivateUse, SpaceSeparator, Surrogate, Unassigned,
    };
    character == ' '
        || !matches!(
            get_general_category(character),
            Control
                | Format
                | Surrogate
                | PrivateUse
                | Unassigned
                | LineSeparator
                | ParagraphSeparator
                | SpaceSeparator
        )
}

/// `str.isalpha` of one character.
pub(super) fn is_alpha(character: char) -> bool {
    use GeneralCategory::{LowercaseLetter, ModifierLetter, OtherLetter, TitlecaseLetter, UppercaseLetter};
    matches!(
        get_general_category(character),
        LowercaseLetter | ModifierLetter | OtherLetter | TitlecaseLetter | UppercaseLetter
    )
}

/// `str.isdecimal` of one character.
pub(super) fn is_decimal(character: char) -> bool {
    get_general_category(character) == GeneralCategory::DecimalNumber
}

/// `str.isdigit` of one character: superscripts, subscripts and circled digits count.
pub(super) fn is_digit(character: char) -> bool {
    is_decimal(character)
        || matches!(character, '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉' | '①'..='⑨' | '⑴'..='⑼')
}

/// `str.isnumeric` of one character. (The ideographs for numbers are not told apart from other letters.)
pub(super) fn is_numeric(character: char) -> bool {
    use GeneralCategory::{LetterNumber, OtherNumber};
    is_decimal(character) || matches!(get_general_category(character), LetterNumber | OtherNumber)
}

/// `\w` of a regular expression.
pub(super) fn is_word(character: char) -> bool {
    character == '_' || is_alpha(character) || is_numeric(character)
}

/// True for letters that have cases.
pub(super) fn is_cased(character: char) -> bool {
    character.is_uppercase() || character.is_lowercase() || is_title(character)
}

/// True for the letters that are in title case themselves.
pub(super) fn is_title(character: char) -> bool {
    get_general_category(character) == GeneralCategory::TitlecaseLetter
}

/// Adds a character in title case: of several letters, only the first is a capital.
pub(super) fn push_title(character: char, out: &mut String) {
    match character {
        'Ǆ'..='ǆ' => out.push('ǅ'),
        'Ǉ'..='ǉ' => out.push('ǈ'),
        'Ǌ'..='ǌ' => out.push('ǋ'),
        'Ǳ'..='ǳ' => out.push('ǲ'),
        _ if is_title(character) => out.push(character),
        _ => {
            let mut capitals = character.to_uppercase();
            out.extend(capitals.next());
            out.extend(capitals.flat_map(char::to_lowercase));
        }
    }
}
