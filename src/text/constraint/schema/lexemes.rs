//! Puts regular expressions of ours in place of placeholders in a compiled grammar.
//!
//! A placeholder is a definition with nothing but a constant string. The library makes a lexeme of its own of it, since
//! it never joins definitions with what refers to them.

use llguidance::derivre::RegexAst;
use llguidance::earley::lexerspec::LexerSpec;

/// The start of placeholders: private characters, so that no answer does.
pub(super) const MARKER: &str = "\u{E000}\u{F8FF}lexeme ";

/// A regular expression, and the text of its placeholder.
pub(super) struct Lexeme {
    pub(super) placeholder: String,
    pub(super) regex: RegexAst,
}

/// Replaces the placeholders' lexemes.
///
/// # Errors
/// The reason, if a placeholder is not a lexeme of its own.
pub(super) fn put(mut lexer: LexerSpec, lexemes: Vec<Lexeme>) -> Result<LexerSpec, String> {
    if lexemes.is_empty() {
        return Ok(lexer);
    }
    let quoted = |lexeme: &Lexeme| format!("\"{}\"", lexeme.placeholder).into_bytes();
    // All placeholders begin alike.
    let marker = quoted(&lexemes[0]);
    let marker = &marker[..marker.len().min(1 + MARKER.len())];
    let mut lexemes: Vec<(Vec<u8>, Lexeme)> =
        lexemes.into_iter().map(|lexeme| (quoted(&lexeme), lexeme)).collect();
    let all = std::mem::take(&mut lexer.lexemes);
    // A new lexeme gets the next number, and is joined with an equal one. The first one, which skips white space, equals
    // none: filling up with it leads to the right numbers.
    let Some(filler) = all.first().cloned() else { return Ok(lexer) };
    let mut kept = Vec::with_capacity(all.len());
    for (number, lexeme) in all.into_iter().enumerate() {
        if !lexer.has_forced_bytes(&lexeme, marker) {
            kept.push(lexeme);
            continue;
        }
        let found = lexemes.iter().position(|(text, _)| lexer.has_forced_bytes(&lexeme, text));
        let Some(found) = found else {
            return Err(
                "a pattern or a large number is joined with other keywords, which is not supported".into()
            );
        };
        let regex = lexemes.swap_remove(found).1.regex;
        lexer.lexemes.resize(number, filler.clone());
        let added = lexer
            .add_greedy_lexeme(String::new(), regex, false, None, usize::MAX)
            .map_err(|error| format!("{error:#}"))?;
        match lexer.lexemes.pop() {
            Some(lexeme) if added.as_usize() == number => kept.push(lexeme),
            _ => return Err("a pattern cannot be put into the grammar".into()),
        }
    }
    lexer.lexemes = kept;
    Ok(lexer)
}
