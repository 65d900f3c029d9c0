//! Pre-tokenizers: how byte-level BPE cuts text into words, which merges never cross.
//!
//! A model's tokenizer states its rule as regular expressions, which its GGUF file only names
//! (`tokenizer.ggml.pre`). Here each rule is one or more [`Step`]s; every step cuts the pieces that the
//! step before left. Steps are written by hand, since most of encoding is spent here, and tests hold each
//! of them to the regular expressions.

use super::classes::{Class, class_of, is_letter, is_number, is_punctuation};

/// A named rule for cutting text into words.
#[derive(Clone, Copy)]
pub struct PreTokenizer {
    names: &'static [&'static str],
    steps: &'static [Step],
    /// A word that is a token as it stands is that token, whatever the merges say.
    pub(super) whole_words: bool,
    /// Whether a text starts with BOS when the file does not say.
    pub(super) adds_bos: bool,
}

/// One pass over a piece.
#[derive(Clone, Copy)]
enum Step {
    /// GPT-2's words: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
    Gpt2,
    /// Llama 3's words, with at most so many digits in one:
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    Llama3 { max_digits: usize },
    /// Cuts out runs of a class, and leaves what is between them in one piece.
    Runs(Runs),
}

/// `\s?C{shortest,longest}` or, without the space, `C{shortest,longest}`.
#[derive(Clone, Copy)]
struct Runs {
    leading_space: bool,
    class: fn(char) -> bool,
    shortest: usize,
    longest: usize,
}

/// Runs of a class, as long as they go.
const fn runs(class: fn(char) -> bool) -> Step {
    Step::Runs(Runs { leading_space: false, class, shortest: 1, longest: usize::MAX })
}

/// Runs of a class with at most one space before them.
const fn spaced_runs(class: fn(char) -> bool) -> Step {
    Step::Runs(Runs { leading_space: true, class, shortest: 1, longest: usize::MAX })
}

/// Pieces of exactly `count` characters of a class.
const fn exactly(count: usize, class: fn(char) -> bool) -> Step {
    Step::Runs(Runs { leading_space: false, class, shortest: count, longest: count })
}

/// `[\p{P}\$\+<=>\^~\|]`
fn is_mark(character: char) -> bool {
    is_punctuation(character) || matches!(character, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|')
}

/// The same and the grave accent: Falcon's punctuation.
fn is_falcon_mark(character: char) -> bool {
    is_mark(character) || character == '`'
}

fn is_newline(character: char) -> bool {
    matches!(character, '\r' | '\n')
}

/// DeepSeek's `[一-龥ࠀ-一가-퟿]`.
fn is_deepseek_cjk(character: char) -> bool {
    matches!(character, '\u{800}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7ff}')
}

/// Every rule that is known. The first is for files that name none.
const KNOWN: &[PreTokenizer] = &[
    PreTokenizer {
        names: &["default"],
        steps: &[runs(is_mark), Step::Gpt2, runs(is_number), exactly(3, is_ascii_digit)],
        whole_words: false,
        adds_bos: false,
    },
    PreTokenizer { names: &["gpt-2"], steps: &[Step::Gpt2], whole_words: false, adds_bos: false },
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3"],
        steps: &[Step::Llama3 { max_digits: 3 }],
        whole_words: true,
        adds_bos: true,
    },
    PreTokenizer {
        names: &["glm4", "chatglm-bpe"],
        steps: &[Step::Llama3 { max_digits: 3 }],
        whole_words: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["qwen2", "deepseek-r1-qwen"],
        steps: &[Step::Llama3 { max_digits: 1 }],
        whole_words: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["falcon"],
        steps: &[runs(is_falcon_mark), Step::Gpt2, exactly(3, is_ascii_digit)],
        whole_words: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["starcoder", "smollm"],
        steps: &[exactly(1, is_number), Step::Gpt2],
        whole_words: false,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["deepseek-coder"],
        steps: &[
            exactly(1, is_newline),
            spaced_runs(is_letter),
            spaced_runs(is_punctuation),
            runs(is_deepseek_cjk),
            exactly(1, is_number),
        ],
        whole_words: false,
        adds_bos: false,
    },
];

fn is_ascii_digit(character: char) -> bool {
    character.is_ascii_digit()
}

/// The values of `tokenizer.ggml.pre` that are known, separated by commas.
pub fn known_pre_tokenizers() -> String {
    KNOWN.iter().flat_map(|rule| rule.names).map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

impl PreTokenizer {
    /// The rule that `tokenizer.ggml.pre` names, or the one for a file without that key.
    pub fn by_name(name: Option<&str>) -> Option<PreTokenizer> {
        let name = name.unwrap_or("default");
        KNOWN.iter().find(|rule| rule.names.contains(&name)).copied()
    }

    /// Gives the words of `text` to `each`, in order and without gaps: together they are `text`.
    pub fn split<'t>(&self, text: &'t str, mut each: impl FnMut(&'t str)) {
        apply(self.steps, text, &mut each);
    }
}

/// Cuts `text` by the first step, and each piece by the others. One level deep per step.
fn apply<'t>(steps: &[Step], text: &'t str, each: &mut dyn FnMut(&'t str)) {
    let Some((step, rest)) = steps.split_first() else { return each(text) };
    if rest.is_empty() {
        return step.cut(text, each);
    }
    step.cut(text, &mut |piece| apply(rest, piece, each));
}

impl Step {
    fn cut<'t>(&self, text: &'t str, each: &mut dyn FnMut(&'t str)) {
        match self {
            Step::Gpt2 => words(text, gpt2_word, each),
            Step::Llama3 { max_digits } => words(text, |text| llama3_word(text, *max_digits), each),
            Step::Runs(runs) => runs.cut(text, each),
        }
    }
}

/// Cuts off one word after the other; `word` gives the length of the first, which is never 0.
fn words<'t>(mut text: &'t str, word: impl Fn(&str) -> usize, each: &mut dyn FnMut(&'t str)) {
    while !text.is_empty() {
        let (first, rest) = text.split_at(word(text));
        each(first);
        text = rest;
    }
}

impl Runs {
    fn cut<'t>(&self, text: &'t str, each: &mut dyn FnMut(&'t str)) {
        let (mut start, mut at) = (0, 0);
        while let Some(character) = text[at..].chars().next() {
            match self.match_len(&text[at..]) {
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

    /// The length of the match that starts here, 0 for none.
    fn match_len(&self, text: &str) -> usize {
        let space = match text.chars().next() {
            Some(first) if self.leading_space && class_of(first) == Class::Space => first.len_utf8(),
            _ => 0,
        };
        let (mut len, mut count) = (space, 0);
        for character in text[space..].chars().take(self.longest).take_while(|&c| (self.class)(c)) {
            len += character.len_utf8();
            count += 1;
        }
        if count < self.shortest { 0 } else { len }
    }
}

/// The length in bytes of the characters of one class that `text` starts with.
fn run_len(text: &str, class: Class) -> usize {
    text.find(|c| class_of(c) != class).unwrap_or(text.len())
}

/// The length of the English contraction that `text` starts with, 0 for none.
fn contraction_len(text: &str, any_case: bool) -> usize {
    let mut chars = text.chars();
    if chars.next() != Some('\'') {
        return 0;
    }
    // The long s is the one character outside ASCII that equals an ASCII letter here without regard to case.
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

/// The length of a run of white space that is no word's: without its last character when a word follows.
fn space_len(text: &str) -> usize {
    let run = run_len(text, Class::Space);
    let last = text[..run].chars().next_back().map_or(0, char::len_utf8);
    if run == text.len() || run == last { run } else { run - last }
}

/// The length of the first word of a text that is not empty, by [`Step::Gpt2`].
fn gpt2_word(text: &str) -> usize {
    let contraction = contraction_len(text, false);
    if contraction > 0 {
        return contraction;
    }
    let space = usize::from(text.starts_with(' '));
    match text[space..].chars().next().map(class_of) {
        None | Some(Class::Space) => space_len(text),
        Some(class) => space + run_len(&text[space..], class),
    }
}

/// The length of the first word of a text that is not empty, by [`Step::Llama3`].
fn llama3_word(text: &str, max_digits: usize) -> usize {
    let contraction = contraction_len(text, true);
    if contraction > 0 {
        return contraction;
    }
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return 0 };
    let after_first = first.len_utf8();
    let class = class_of(first);
    if class == Class::Letter {
        return run_len(text, Class::Letter);
    }
    let second = chars.next().map(class_of);
    if class != Class::Number && !is_newline(first) && second == Some(Class::Letter) {
        return after_first + run_len(&text[after_first..], Class::Letter);
    }
    match class {
        Class::Number => {
            text.chars().take(max_digits).take_while(|&c| is_number(c)).map(char::len_utf8).sum()
        }
        Class::Other => with_newlines(text, run_len(text, Class::Other)),
        _ if first == ' ' && second == Some(Class::Other) => {
            with_newlines(text, 1 + run_len(&text[1..], Class::Other))
        }
        _ => {
            let run = &text[..run_len(text, Class::Space)];
            run.rfind(is_newline).map_or_else(|| space_len(text), |last| last + 1)
        }
    }
}

/// Adds the newlines that follow the first `len` bytes.
fn with_newlines(text: &str, len: usize) -> usize {
    len + text[len..].find(|c| !is_newline(c)).unwrap_or(text.len() - len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fancy_regex::Regex;
    use proptest::prelude::*;

    const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
    const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    /// The regular expressions of each rule, as the models' own tokenizers apply them one after the other.
    const ORACLES: &[(&str, &[&str])] = &[
        ("default", &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
        ("gpt-2", &[GPT2]),
        ("llama-bpe", &[LLAMA3]),
        ("glm4", &[LLAMA3]),
        ("qwen2", &[QWEN2]),
        ("falcon", &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
        ("starcoder", &[r"\p{N}", GPT2]),
        ("deepseek-coder", &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\u{d7ff}]+", r"\p{N}"]),
    ];

    /// Cuts pieces at a regular expression's matches, keeping what is between.
    fn cut_by<'t>(regex: &Regex, pieces: Vec<&'t str>) -> Vec<&'t str> {
        let mut out = Vec::new();
        for piece in pieces {
            let mut at = 0;
            for found in regex.find_iter(piece).map(Result::unwrap) {
                out.extend([&piece[at..found.start()], found.as_str()]);
                at = found.end();
            }
            out.push(&piece[at..]);
        }
        out.retain(|piece| !piece.is_empty());
        out
    }

    fn split(name: &str, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        PreTokenizer::by_name(Some(name)).unwrap().split(text, |word| words.push(word.to_owned()));
        words
    }

    /// Text made of what the rules look at: every class, contractions in any case, all kinds of spaces.
    fn texts() -> impl Strategy<Value = String> {
        let parts = prop_oneof![
            4 => "[ \t\r\n]",
            3 => "[a-zA-Z]",
            2 => "'[sStTmMdDſ]|'[rRvVlL][eElL]?|'",
            2 => "[0-9]{1,5}",
            2 => "[!-/:-@\\[-`{-~]",
            1 => "[\u{85}\u{a0}\u{2003}\u{2028}\u{3000}\u{b}\u{c}]",
            1 => "[éßſжǅ한一龥ࠀ가\u{d7ff}\u{300}\u{1f999}\u{200d}½Ⅷ٣〇「」—€\u{0}\u{7f}K]",
            1 => any::<char>().prop_map(String::from),
        ];
        prop::collection::vec(parts, 0..24).prop_map(|parts| parts.concat())
    }

    #[test]
    fn every_rule_has_an_oracle() {
        for rule in KNOWN {
            assert!(ORACLES.iter().any(|(name, _)| rule.names.contains(name)), "{:?}", rule.names);
        }
    }

    #[test]
    fn llama3_examples() {
        assert_eq!(
            split("llama-bpe", "I'LL go,\r\n\n  x12345"),
            ["I", "'LL", " go", ",\r\n\n", " ", " x", "123", "45"]
        );
        assert_eq!(split("qwen2", "a  \n \n b 12"), ["a", "  \n \n", " b", " ", "1", "2"]);
    }

    #[test]
    fn an_unknown_name_has_no_rule() {
        assert!(PreTokenizer::by_name(Some("gpt2")).is_none());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn each_rule_equals_its_regular_expressions(text in texts()) {
            thread_local! {
                static REGEXES: Vec<(&'static str, Vec<Regex>)> = ORACLES
                    .iter()
                    .map(|(name, steps)| (*name, steps.iter().map(|step| Regex::new(step).unwrap()).collect()))
                    .collect();
            }
            REGEXES.with(|regexes| {
                for (name, steps) in regexes {
                    let expected = steps.iter().fold(vec![text.as_str()], |pieces, step| cut_by(step, pieces));
                    let expected: Vec<&str> = expected.into_iter().filter(|piece| !piece.is_empty()).collect();
                    prop_assert_eq!(split(name, &text), expected, "{}", name);
                }
                Ok(())
            })?;
        }
    }
}
