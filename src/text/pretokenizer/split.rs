//! The steps that cut text into words.
//!
//! A model's tokenizer defines its rule by regular expressions, which its GGUF file only names (`tokenizer.ggml.pre`).
//! Here each rule is one or more [`Step`]s; every step cuts the pieces of the step before. Steps are written by hand,
//! since most of the encoding time is spent here, and tests compare each with its regular expression. `rules` maps
//! names to steps.

use super::classes::{DIGIT, NUMBER, SPACE, Set, contains, is_word_character};
use super::words::{Words, gpt2_word_len};

/// One pass over a piece.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// GPT-2's words.
    Gpt2,
    /// Words of Llama 3's pattern family.
    Words(Words),
    /// Cuts out runs of a class; the text between them stays in one piece.
    Runs(Runs),
    /// Cuts out runs of any of the classes; earlier classes take precedence.
    AnyRun(&'static [Runs]),
    /// Cuts out matches: the function returns the length of the match at the start of a text, 0 for none.
    Match(fn(&str) -> usize),
    /// Cuts every run of numbers into groups of three from the right: `\p{N}{1,3}(?=(\p{N}{3})*(?!\p{N}))`
    Thousands,
    /// Cuts decimal digits likewise, unless a letter follows the run: `\d{1,3}(?=(?:\d{3})*\b)`
    ThousandsAlone,
    /// Cuts runs of decimal digits before every multiple of three from their end: `(?=(\d{3})+(?!\d))`
    BeforeThousands,
}

/// The characters of a run.
#[derive(Clone, Copy)]
pub(super) enum Class {
    /// A set of general categories.
    Set(Set),
    /// Sorted ranges of code points, all outside ASCII.
    Beyond(&'static [(u32, u32)]),
    /// Characters for which the function returns true.
    Is(fn(char) -> bool),
}

impl Class {
    fn has(self, character: char) -> bool {
        match self {
            Class::Set(set) => set.has(character),
            Class::Beyond(ranges) => !character.is_ascii() && contains(ranges, character),
            Class::Is(is_in) => is_in(character),
        }
    }

    /// Index of the first character of the class.
    fn find(self, text: &str) -> Option<usize> {
        match self {
            Class::Set(set) => Some(set.without_len(text)).filter(|&at| at < text.len()),
            Class::Beyond(_) if text.is_ascii() => None,
            _ => text.find(|c| self.has(c)),
        }
    }
}

/// `C{shortest,longest}`, or with an optional preceding character `B?C{shortest,longest}`.
#[derive(Clone, Copy)]
pub(super) struct Runs {
    before: Option<fn(char) -> bool>,
    class: Class,
    shortest: usize,
    longest: usize,
}

impl Runs {
    /// Runs of a class, of any length.
    pub const fn of(class: Class) -> Runs {
        Runs { before: None, class, shortest: 1, longest: usize::MAX }
    }
}

/// Runs of a class, of any length.
pub(super) const fn runs(class: Class) -> Step {
    Step::Runs(Runs::of(class))
}

/// Runs of a class with at most one character of `before` in front.
pub(super) const fn runs_after(before: fn(char) -> bool, class: Class) -> Step {
    Step::Runs(Runs { before: Some(before), ..Runs::of(class) })
}

/// Pieces of exactly `count` characters of a class.
pub(super) const fn exactly(count: usize, class: Class) -> Step {
    Step::Runs(Runs { shortest: count, longest: count, ..Runs::of(class) })
}

/// Pieces of at most `count` characters of a class.
pub(super) const fn at_most(count: usize, class: Class) -> Step {
    Step::Runs(Runs { longest: count, ..Runs::of(class) })
}

/// `\s`
pub(super) fn is_space(character: char) -> bool {
    SPACE.has(character)
}

/// Cuts `text` by the first step and each piece by the remaining steps, and passes the pieces to `each` in order and
/// without gaps. Recurses once per step.
pub(super) fn apply<'t>(steps: &[Step], text: &'t str, each: &mut dyn FnMut(&'t str)) {
    let Some((step, rest)) = steps.split_first() else { return each(text) };
    if rest.is_empty() {
        return step.cut(text, each);
    }
    step.cut(text, &mut |piece| apply(rest, piece, each));
}

impl Step {
    fn cut<'t>(&self, text: &'t str, each: &mut dyn FnMut(&'t str)) {
        match self {
            Step::Gpt2 => cut_out(text, gpt2_word_len, each),
            Step::Words(words) => cut_out(text, |text| words.word_len(text), each),
            Step::Runs(runs) => runs.cut(text, each),
            Step::AnyRun(all) => {
                let longest =
                    |text: &str| all.iter().map(|runs| runs.run_len(text)).find(|&len| len > 0).unwrap_or(0);
                cut_out(text, longest, each);
            }
            Step::Match(len) => cut_out(text, len, each),
            Step::Thousands => cut_thousands(text, |c| NUMBER.has(c), |_| true, each),
            Step::ThousandsAlone => {
                let alone = |after: &str| !after.starts_with(is_word_character);
                cut_thousands(text, |c| DIGIT.has(c), alone, each);
            }
            Step::BeforeThousands => cut_before_thousands(text, each),
        }
    }
}

/// Cuts out the matches; the text between them stays in one piece. `match_len` returns the length of the match at the
/// start of a text.
fn cut_out<'t>(text: &'t str, match_len: impl Fn(&str) -> usize, each: &mut dyn FnMut(&'t str)) {
    let (mut start, mut at) = (0, 0);
    while let Some(character) = text[at..].chars().next() {
        match match_len(&text[at..]) {
            0 => at += character.len_utf8(),
            len => {
                if start < at {
                    each(&text[start..at]);
                }
                each(&text[at..at + len]);
                at += len;
                start = at;
            }
        }
    }
    if start < text.len() {
        each(&text[start..]);
    }
}

impl Runs {
    fn cut<'t>(&self, text: &'t str, each: &mut dyn FnMut(&'t str)) {
        // Start of the text that is not yet passed on, and the position to search from.
        let (mut start, mut from) = (0, 0);
        while let Some(at) = self.class.find(&text[from..]).map(|at| from + at) {
            let len = self.run_len(&text[at..]);
            if len == 0 {
                from = at + text[at..].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            let before = text[from..at].chars().next_back();
            let before = before.filter(|&c| self.before.is_some_and(|is_before| is_before(c)));
            let first = at - before.map_or(0, char::len_utf8);
            if start < first {
                each(&text[start..first]);
            }
            each(&text[first..at + len]);
            from = at + len;
            start = from;
        }
        if start < text.len() {
            each(&text[start..]);
        }
    }

    /// The length of the run at the start of `text`, without a preceding character; 0 for none.
    fn run_len(&self, text: &str) -> usize {
        if let (Class::Set(set), 1, usize::MAX) = (self.class, self.shortest, self.longest) {
            return set.run_len(text);
        }
        let (mut len, mut count) = (0, 0);
        for character in text.chars().take(self.longest).take_while(|&c| self.class.has(c)) {
            len += character.len_utf8();
            count += 1;
        }
        if count < self.shortest { 0 } else { len }
    }
}

/// The runs of a class with their surroundings: (before, run, after). The last run is empty.
fn each_run<'t>(
    text: &'t str,
    is_in: impl Fn(char) -> bool,
    mut each: impl FnMut(&'t str, &'t str, &'t str),
) {
    let mut rest = text;
    while !rest.is_empty() {
        let (before, from) = rest.split_at(rest.find(&is_in).unwrap_or(rest.len()));
        let (run, after) = from.split_at(from.find(|c| !is_in(c)).unwrap_or(from.len()));
        each(before, run, after);
        rest = after;
    }
}

/// Cuts runs of a class into groups of three from the right, if `may` accepts the text after the run.
fn cut_thousands<'t>(
    text: &'t str,
    is_digit: fn(char) -> bool,
    may: fn(&str) -> bool,
    each: &mut dyn FnMut(&'t str),
) {
    // Start of the text that is not yet passed on.
    let mut start = 0;
    let mut give = |piece: &'t str| {
        if !piece.is_empty() {
            each(piece);
        }
    };
    each_run(text, is_digit, |_, run, after| {
        if run.is_empty() || !may(after) {
            return;
        }
        let end = text.len() - after.len();
        give(&text[start..end - run.len()]);
        groups_of_three(run, &mut give);
        start = end;
    });
    give(&text[start..]);
}

/// Cuts a run of digits into groups of three; the first group has the remainder.
fn groups_of_three<'t>(run: &'t str, each: &mut impl FnMut(&'t str)) {
    let count = run.chars().count();
    let mut rest = run;
    let mut take = if count.is_multiple_of(3) { 3 } else { count % 3 };
    while !rest.is_empty() {
        let end = rest.char_indices().nth(take).map_or(rest.len(), |(at, _)| at);
        each(&rest[..end]);
        rest = &rest[end..];
        take = 3;
    }
}

/// Cuts before each group of three digits of a run, counted from the run's end.
fn cut_before_thousands<'t>(text: &'t str, each: &mut dyn FnMut(&'t str)) {
    let mut start = 0;
    let mut cut = |at: usize| {
        if at > start {
            each(&text[start..at]);
            start = at;
        }
    };
    each_run(
        text,
        |c| DIGIT.has(c),
        |_, run, after| {
            let end = text.len() - after.len();
            let mut at = end - run.len();
            let mut left = run.chars().count();
            for digit in run.chars() {
                if left.is_multiple_of(3) {
                    cut(at);
                }
                at += digit.len_utf8();
                left -= 1;
            }
        },
    );
    cut(text.len());
}
