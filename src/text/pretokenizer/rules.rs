//! The named pre-tokenizers and their rules.

use super::classes::{LETTER, NEWLINE, NUMBER, PUNCTUATION, contains};
use super::split::{Class, Runs, Step, apply, at_most, exactly, is_space, runs, runs_after};
use super::words::{Words, chameleon_space_len, image_len, last_space_len, line_len, sentinel_len};

/// A rule for cutting text into words, with further settings that depend on its name.
#[derive(Clone, Copy)]
pub struct PreTokenizer {
    names: &'static [&'static str],
    rule: &'static str,
    steps: &'static [Step],
    /// A word that equals a token becomes that token, regardless of the merges.
    pub(in crate::text) whole_words: bool,
    /// True if a text starts with BOS unless the file says otherwise.
    pub(in crate::text) adds_bos: bool,
    /// Words start as characters instead of bytes in GPT-2's alphabet, and a space is written as U+2581.
    pub(in crate::text) characters: bool,
}

/// A rule with default settings.
const fn plain(rule: &'static str, names: &'static [&'static str], steps: &'static [Step]) -> PreTokenizer {
    PreTokenizer { names, rule, steps, whole_words: false, adds_bos: false, characters: false }
}

/// A rule under which a word that equals a token becomes that token.
const fn whole(rule: &'static str, names: &'static [&'static str], steps: &'static [Step]) -> PreTokenizer {
    PreTokenizer { whole_words: true, ..plain(rule, names, steps) }
}

const LLAMA3: &[Step] = &[Step::Words(Words::llama3(3))];
const QWEN2: &[Step] = &[Step::Words(Words::llama3(1))];
const GPT4O: &[Step] = &[Step::Words(Words::gpt4o(3))];
const LINES: &[Step] = &[Step::Match(line_len)];

/// All supported pre-tokenizers, with the values of `tokenizer.ggml.pre` that name them. The first is for files without
/// that key.
pub const PRE_TOKENIZERS: &[PreTokenizer] = &[
    plain(
        "default",
        &["default"],
        &[
            runs(Class::Is(is_mark)),
            Step::Gpt2,
            runs(Class::Set(NUMBER)),
            exactly(3, Class::Is(is_ascii_digit)),
        ],
    ),
    plain(
        "GPT-2",
        &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "roberta-bpe",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
        ],
        &[Step::Gpt2],
    ),
    plain(
        "GPT-2, each digit alone",
        &["starcoder", "smollm", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[exactly(1, Class::Set(NUMBER)), Step::Gpt2],
    ),
    PreTokenizer {
        adds_bos: true,
        ..whole(
            "Llama 3",
            &[
                "llama-bpe",
                "llama3",
                "llama-v3",
                "falcon3",
                "falcon-h1",
                "pixtral",
                "midm-2.0",
                "lfm2",
                "jina-v5-nano",
            ],
            LLAMA3,
        )
    },
    plain("Llama 3", &["dbrx", "smaug-bpe", "chatglm-bpe"], LLAMA3),
    whole("Llama 3", &["glm4", "glm5"], LLAMA3),
    whole(
        "Llama 3, numbers in threes first",
        &["minicpm5"],
        &[at_most(3, Class::Set(NUMBER)), Step::Words(Words::llama3(usize::MAX))],
    ),
    plain("Llama 3, spaces in powers of two", &["jais-2"], &[Step::Words(Words::jais2())]),
    plain(
        "Qwen 2: Llama 3, each digit alone",
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
            "bailingmoe",
            "bailingmoe2",
            "llada-moe",
        ],
        QWEN2,
    ),
    plain("Qwen 3.5: Qwen 2 with marks", &["qwen35"], &[Step::Words(Words::qwen35())]),
    plain("Qwen 2 in each line", &["laguna"], &[Step::Match(line_len), Step::Words(Words::llama3(1))]),
    plain("Qwen 2 without contractions", &["ufakzeka"], &[Step::Words(Words::without_contractions())]),
    plain("Seed-Coder", &["seed-coder"], &[Step::Words(Words::seed_coder())]),
    plain("EXAONE MoE: Qwen 2 with phrases", &["exaone-moe"], &[Step::Words(Words::phrases())]),
    plain("GPT-4o", &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], GPT4O),
    whole("GPT-4o", &["granite-embed-multi-97m"], GPT4O),
    plain(
        "GPT-4o, thousands first",
        &["tiny_aya", "cohere2moe"],
        &[Step::ThousandsAlone, Step::Words(Words::gpt4o(3))],
    ),
    PreTokenizer {
        adds_bos: true,
        ..whole("Tekken: GPT-4o without contractions", &["tekken"], &[Step::Words(Words::tekken())])
    },
    whole(
        "Youtu: Korean, Chinese and Japanese, then GPT-4o",
        &["youtu"],
        &[
            Step::AnyRun(&[
                Runs::of(Class::Beyond(HANGUL)),
                Runs::of(Class::Beyond(CJK_MARKS)),
                Runs::of(Class::Beyond(BOPOMOFO)),
                Runs::of(Class::Beyond(CJK_OR_KANA)),
            ]),
            Step::Words(Words::gpt4o(1)),
        ],
    ),
    plain("Kimi: Chinese, then GPT-4o", &["kimi-k2"], &[Step::Words(Words::kimi())]),
    plain(
        "Falcon: punctuation, then GPT-2",
        &["falcon"],
        &[runs(Class::Is(is_falcon_mark)), Step::Gpt2, exactly(3, Class::Is(is_ascii_digit))],
    ),
    plain(
        "DeepSeek LLM",
        &["deepseek-llm"],
        &[
            exactly(1, Class::Set(NEWLINE)),
            runs_after(is_space, Class::Is(is_deepseek_letter)),
            runs_after(is_space, Class::Is(is_deepseek_mark)),
            Step::Match(last_space_len),
            runs(Class::Beyond(DEEPSEEK_CJK)),
            runs(Class::Set(NUMBER)),
        ],
    ),
    plain(
        "DeepSeek Coder",
        &["deepseek-coder"],
        &[
            exactly(1, Class::Set(NEWLINE)),
            runs_after(is_space, Class::Set(LETTER)),
            runs_after(is_space, Class::Set(PUNCTUATION)),
            runs(Class::Beyond(DEEPSEEK_CJK)),
            exactly(1, Class::Set(NUMBER)),
        ],
    ),
    plain(
        "DeepSeek V3",
        &["deepseek-v3", "hunyuan-dense", "hy_v4", "joyai-llm"],
        &[at_most(3, Class::Set(NUMBER)), runs(Class::Beyond(CJK_OR_KANA)), Step::Words(Words::deepseek3())],
    ),
    plain(
        "DeepSeek V3, each digit and newline alone",
        &["spark2_5"],
        &[
            at_most(3, Class::Set(NUMBER)),
            runs(Class::Beyond(CJK_OR_KANA)),
            Step::Words(Words::spark()),
            exactly(1, Class::Set(NUMBER)),
        ],
    ),
    plain(
        "DeepSeek V3, thousands first",
        &["afmoe"],
        &[Step::Thousands, runs(Class::Beyond(ASIAN)), Step::Words(Words::deepseek3())],
    ),
    plain("Bloom", &["bloom", "poro-chat", "gpt3-finnish"], &[runs_after(is_blank, Class::Is(is_bloom))]),
    plain(
        "Bloom, each digit alone",
        &["viking"],
        &[runs_after(is_blank, Class::Is(is_bloom)), exactly(1, Class::Set(NUMBER))],
    ),
    PreTokenizer {
        adds_bos: true,
        ..plain(
            "Chameleon",
            &["chameleon"],
            &[
                Step::Match(sentinel_len),
                Step::Match(image_len),
                Step::Match(chameleon_space_len),
                exactly(1, Class::Set(NUMBER)),
                exactly(1, Class::Is(is_ascii_or_punctuation)),
                Step::Gpt2,
            ],
        )
    },
    plain("SuperBPE: numbers alone", &["superbpe"], &[runs(Class::Set(NUMBER)), Step::BeforeThousands]),
    PreTokenizer {
        adds_bos: true,
        characters: true,
        ..plain("lines", &["gemma4", "granite-embed-multi-311m"], LINES)
    },
    PreTokenizer { characters: true, ..plain("lines", &["sarvam-moe"], LINES) },
];

/// The supported values of `tokenizer.ggml.pre`, separated by commas.
pub fn known_pre_tokenizers() -> String {
    let names = PRE_TOKENIZERS.iter().flat_map(|rule| rule.names);
    names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

impl PreTokenizer {
    /// The rule for a value of `tokenizer.ggml.pre`, or the default for a file without that key.
    pub fn by_name(name: Option<&str>) -> Option<PreTokenizer> {
        let name = name.unwrap_or("default");
        PRE_TOKENIZERS.iter().find(|rule| rule.names.contains(&name)).copied()
    }

    /// The values of `tokenizer.ggml.pre` that name this rule.
    pub fn names(&self) -> &'static [&'static str] {
        self.names
    }

    /// Short description of the rule: the model whose pattern it follows.
    pub fn rule(&self) -> &'static str {
        self.rule
    }

    /// Passes the words of `text` to `each`, in order and without gaps: their concatenation is `text`.
    pub fn split<'t>(&self, text: &'t str, mut each: impl FnMut(&'t str)) {
        apply(self.steps, text, &mut each);
    }
}

fn is_punctuation(character: char) -> bool {
    PUNCTUATION.has(character)
}

fn is_ascii_digit(character: char) -> bool {
    character.is_ascii_digit()
}

/// `[\p{P}\$\+<=>\^~\|]`
fn is_mark(character: char) -> bool {
    is_punctuation(character) || matches!(character, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|')
}

/// [`is_mark`] or the grave accent: Falcon's punctuation.
fn is_falcon_mark(character: char) -> bool {
    is_mark(character) || character == '`'
}

/// Chameleon's `[\p{P}!-/:-@\[-`{-~]`.
fn is_ascii_or_punctuation(character: char) -> bool {
    is_punctuation(character) || character.is_ascii_punctuation()
}

/// The ASCII space.
fn is_blank(character: char) -> bool {
    character == ' '
}

/// Bloom's `[^(\s|.,!?…。，、।۔،)]`.
fn is_bloom(character: char) -> bool {
    let ends = ['(', '|', '.', ',', '!', '?', '…', '。', '，', '、', '।', '۔', '،', ')'];
    !ends.contains(&character) && !is_space(character)
}

/// DeepSeek's `[一-龥ࠀ-一가-\u{d7ff}]`.
const DEEPSEEK_CJK: &[(u32, u32)] = &[(0x800, 0x9fa5), (0xac00, 0xd7ff)];

/// DeepSeek V3's `[一-龥぀-ゟ゠-ヿ]`.
const CJK_OR_KANA: &[(u32, u32)] = &[(0x3040, 0x30ff), (0x4e00, 0x9fa5)];

/// Youtu's `[가-힣ㄱ-ㆎ]`.
const HANGUL: &[(u32, u32)] = &[(0x3131, 0x318e), (0xac00, 0xd7a3)];

/// Youtu's `[！…“”‘’—：；，、-〿︰-﹏]`.
#[rustfmt::skip]
const CJK_MARKS: &[(u32, u32)] = &[
    (0x2014, 0x2014), (0x2018, 0x2019), (0x201c, 0x201d), (0x2026, 0x2026), (0x3001, 0x303f), (0xfe30, 0xfe4f),
    (0xff01, 0xff01), (0xff0c, 0xff0c), (0xff1a, 0xff1b),
];

/// Youtu's `[ㄅ-ㄯ]`.
const BOPOMOFO: &[(u32, u32)] = &[(0x3105, 0x312f)];

/// The scripts that AFMoE cuts out: Thai, Lao, Myanmar, Hangul, Khmer, Chinese and Japanese.
const ASIAN: &[(u32, u32)] = &[
    (0xe40, 0xe7f),
    (0xe80, 0xeff),
    (0x1000, 0x109f),
    (0x1100, 0x11ff),
    (0x1780, 0x17ff),
    (0x2f00, 0x2fdf),
    (0x3040, 0x309f),
    (0x30a0, 0x30ff),
    (0x3400, 0x4dbf),
    (0x4e00, 0x9fff),
    (0xa9e0, 0xa9ff),
    (0xaa60, 0xaa7f),
    (0xac00, 0xd7af),
    (0xf900, 0xfaff),
    (0xff65, 0xff9f),
];

/// DeepSeek LLM's punctuation: `[!-/:-~！-／：-～‘-‟　-。]`.
fn is_deepseek_mark(character: char) -> bool {
    matches!(character, '!'..='/' | ':'..='~' | '\u{ff01}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff5e}')
        || matches!(character, '\u{2018}'..='\u{201f}' | '\u{3000}'..='\u{3002}')
}

/// DeepSeek LLM's letters: those of scripts with upper and lower case.
fn is_deepseek_letter(character: char) -> bool {
    character.is_ascii_alphabetic() || contains(CASED_LETTERS, character)
}

#[rustfmt::skip]
const CASED_LETTERS: &[(u32, u32)] = &[
    (0xb5, 0xb5), (0xc0, 0xd6), (0xd8, 0xf6), (0xf8, 0x1ba), (0x1bc, 0x1bf), (0x1c4, 0x293), (0x295, 0x2af),
    (0x370, 0x373), (0x376, 0x377), (0x37b, 0x37d), (0x37f, 0x37f), (0x386, 0x386), (0x388, 0x38a),
    (0x38c, 0x38c), (0x38e, 0x3a1), (0x3a3, 0x3f5), (0x3f7, 0x481), (0x48a, 0x52f), (0x531, 0x556),
    (0x10a0, 0x10c5), (0x13a0, 0x13f5), (0x13f8, 0x13fd), (0x1c90, 0x1cba), (0x1cbd, 0x1cbf),
    (0x1d00, 0x1d2b), (0x1d6b, 0x1d77), (0x1d79, 0x1d9a), (0x1e00, 0x1f15), (0x1f18, 0x1f1d),
    (0x1f20, 0x1f45), (0x1f48, 0x1f4d), (0x1f50, 0x1f57), (0x1f59, 0x1f59), (0x1f5b, 0x1f5b),
    (0x1f5d, 0x1f5d), (0x1f5f, 0x1f7d), (0x1f80, 0x1fb4), (0x1fb6, 0x1fbc), (0x1fbe, 0x1fbe),
    (0x1fc2, 0x1fc4), (0x1fc6, 0x1fcc), (0x1fd0, 0x1fd3), (0x1fd6, 0x1fdb), (0x1fe0, 0x1fec),
    (0x1ff2, 0x1ff4), (0x1ff6, 0x1ffc), (0x2102, 0x2102), (0x2107, 0x2107), (0x210a, 0x2113),
    (0x2115, 0x2115), (0x2119, 0x211d), (0x2124, 0x2124), (0x2126, 0x2126), (0x2128, 0x2128),
    (0x212a, 0x212d), (0x212f, 0x2134), (0x2139, 0x2139), (0x213c, 0x213f), (0x2145, 0x2149),
    (0x214e, 0x214e), (0x2183, 0x2184), (0x2c00, 0x2c7b), (0x2c7e, 0x2ce4), (0x2ceb, 0x2cee),
    (0x2cf2, 0x2cf3), (0xa640, 0xa66d), (0xa680, 0xa69b), (0xa722, 0xa76f), (0xa771, 0xa787),
    (0xa78b, 0xa78e), (0xab70, 0xabbf), (0xfb00, 0xfb06), (0xfb13, 0xfb17), (0xff21, 0xff3a),
    (0xff41, 0xff5a), (0x10400, 0x1044f), (0x104b0, 0x104d3), (0x104d8, 0x104fb), (0x10c80, 0x10cb2),
    (0x10cc0, 0x10cf2), (0x118a0, 0x118df), (0x1e900, 0x1e943),
];
