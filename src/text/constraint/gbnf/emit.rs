//! Makes a grammar of the `llguidance` library.

use llguidance::api::{GrammarInit, SkipSpec};
use llguidance::derivre::RegexAst;
use llguidance::earley::lexerspec::LexerSpec;
use llguidance::earley::{Grammar, SymIdx, SymbolProps};

use super::rules::{Rules, Symbol, Terminal};

/// Most symbols of a grammar: the library numbers them with 16 bits, and adds some of its own.
const MOST_SYMBOLS: usize = 65_000;

/// The library's grammar of the rules.
///
/// # Errors
/// The reason, if the grammar is too large.
pub(in super::super) fn emit(rules: &Rules) -> Result<GrammarInit, String> {
    let order = rules.reachable();
    let n_symbols = order.len() + rules.terminals.len();
    if n_symbols > MOST_SYMBOLS {
        return Err(format!("it has {n_symbols} rules and characters; {MOST_SYMBOLS} is the most"));
    }
    let failed = |error: &dyn std::fmt::Display| format!("{error:#}");
    let mut lexer = LexerSpec::new().map_err(|error| failed(&error))?;
    let class = lexer
        .setup_lexeme_class_with_skip(SkipSpec::unbounded(RegexAst::NoMatch))
        .map_err(|error| failed(&error))?;
    let mut grammar = Grammar::new(None);
    let props = || SymbolProps { grammar_id: class, ..SymbolProps::default() };
    let start = grammar.fresh_symbol_ext("start", SymbolProps { is_start: true, ..props() });

    let mut symbol_of: Vec<SymIdx> = vec![SymIdx::BOGUS; rules.alternatives.len()];
    for &rule in &order {
        symbol_of[rule] = grammar.fresh_symbol_ext(&format!("r{rule}"), props());
    }
    let mut terminals = Vec::with_capacity(rules.terminals.len());
    for (number, terminal) in rules.terminals.iter().enumerate() {
        let name = format!("t{number}");
        let symbol = grammar.fresh_symbol_ext(&name, props());
        let lexeme = match terminal {
            Terminal::Character(regex) => {
                lexer.add_greedy_lexeme(name, RegexAst::Regex(regex.clone()), false, None, usize::MAX)
            }
            Terminal::Token(ids) => lexer.add_special_token(name, ids.clone()),
        };
        let lexeme = lexeme.map_err(|error| failed(&error))?;
        grammar.make_terminal(symbol, lexeme, &lexer).map_err(|error| failed(&error))?;
        terminals.push(symbol);
    }
    grammar.add_rule(start, vec![symbol_of[rules.root]]).map_err(|error| failed(&error))?;
    for &rule in &order {
        for sequence in &rules.alternatives[rule] {
            let symbols = sequence.iter().map(|symbol| match *symbol {
                Symbol::Terminal(terminal) => terminals[terminal],
                Symbol::Rule(used) => symbol_of[used],
            });
            grammar.add_rule(symbol_of[rule], symbols.collect()).map_err(|error| failed(&error))?;
        }
    }
    Ok(GrammarInit::Internal(grammar, lexer))
}
