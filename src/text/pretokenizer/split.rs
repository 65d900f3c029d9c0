//! The steps that cut text into words.
//!
//! A model's tokenizer states its rule as regular expressions, which its GGUF file only names
//! (`tokenizer.ggml.pre`). Here each rule is one or more [`Step`]s; every step cuts the pieces that the
//! step before left. Steps are written by hand, since most of encoding is spent here, and tests hold each
//! of them to the regular expressions. Which name means which steps is in `rules`.

use super::classes::{DIGIT, NUMBER, SPACE, Set, contains, is_word_character};
use super::words::{Words, gpt2_word_len};

/// One pass over a piece.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// GPT-2's words.
    Gpt2,
    /// Words of the family of Llama 3's.
    Words(Words),
    /// Cuts out runs of a class, and leaves what is between them in one piece.
    Runs(Runs),
    /// Cuts out the runs of whichever class has one, the first class first.
    AnyRun(&'static [Runs]),
    /// Cuts out what the function gives the length of, 0 for nothing here.
    Match(fn(&str) -> usize),
    /// Cuts every run of numbers into threes from the right: `\p{N}{1,3}(?=(\p{N}{3})*(?!\p{N}))`
    Thousands,
    /// The same for decimal digits, unless a letter follows the run: `\d{1,3}(?=(?:\d{3})*\b)`
    ThousandsAlone,
    /// Cuts runs of three or more digits where a multiple of three follows: `(?=(\d{3})+(?!\d))`
    BeforeThousands,
}

/// Characters that a run is made of.
#[derive(Clone, Copy)]
pub(super) enum Class {
    /// A set of general categories.
    Set(Set),
    /// Sorted ranges of code points, none of them ASCII.
    Beyond(&'static [(u32, u32)]),
    /// Whatever the function holds for.
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

    /// Where the first character of the class is.
    fn find(self, text: &str) -> Option<usize> {
        match self {
            Class::Set(set) => Some(set.without_len(text)).filter(|&at| at < text.len()),
            Class::Beyond(_) if text.is_ascii() => None,
            _ => text.find(|c| self.has(c)),
        }
    }
}

/// `C{shortest,longest}`, or with a character before it `B?C{shortest,longest}`.
#[derive(Clone, Copy)]
pub(super) struct Runs {
    before: Option<fn(char) -> bool>,
    class: Class,
    shortest: usize,
    longest: usize,
}

impl Runs {
    /// Runs of a class, as long as they go.
    pub const fn of(class: Class) -> Runs {
        Runs { before: None, class, shortest: 1, longest: usize::MAX }
    }
}

/// Runs of a class, as long as they go.
pub(super) const fn runs(class: Class) -> Step {
    Step::Runs(Runs::of(class))
}

/// Runs of a class with at most one character of another before them.
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

/// Cuts `text` by the first step, and each piece by the others, and gives the pieces to `each` in order and without gaps.
/// One level deep per step.
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

/// Cuts out the matches, of which `match_len` gives the length of the one that starts a text, and leaves what is between
/// them in one piece.
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
        // Where what is not cut out began, and from where matches are looked for.
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

    /// The length of the run that `text` starts with, without a character before it; 0 for none.
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

/// The runs of a class, each with what is before it: (before, run, after). The last has an empty run.
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

/// Cuts runs of a class into threes from the right, where `may` allows it for what follows the run.
fn cut_thousands<'t>(
    text: &'t str,
    is_digit: fn(char) -> bool,
    may: fn(&str) -> bool,
    each: &mut dyn FnMut(&'t str),
) {
    // Where what is not cut began.
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

/// Gives a run of digits in threes, the first group with what is over.
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

/// Cuts before each group of three digits of a run, counted from its end.
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
