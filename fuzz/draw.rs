//! Inputs of a fuzz target, each a function of its number: real templates, grammars, schemas, vocabularies and files, and
//! the worst cases that are known, changed by words of the target's dictionary and by pieces of each other.

#[path = "tree.rs"]
mod tree;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rfgraph::gguf::Gguf;
use rfgraph::text::VocabData;
use serde_json::Value;

/// Bytes that an input may have beyond the one it is made of.
const GROWTH: usize = 4096;

/// Inputs made of a known worst case, which is slow: one of this many.
const WORST: usize = 64;

/// Changes of an input are 1, 2 or 4.
const CHANGES: usize = 3;

/// A generator of numbers: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `n`; 0 if there is none.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    /// A small number, seldom a large one: below `2^n`, each power as likely as another.
    fn small(&mut self, n: usize) -> usize {
        let power = self.below(n + 1);
        self.below(1 << power)
    }

    fn pick<'t, T>(&mut self, items: &'t [T]) -> Option<&'t T> {
        items.get(self.below(items.len()))
    }
}

/// The material of a target's inputs.
pub struct Source {
    words: Vec<Vec<u8>>,
    /// Groups of real inputs; each group is as likely as another.
    usual: Vec<Vec<Vec<u8>>>,
    worst: Vec<Vec<u8>>,
    /// The real inputs that are JSON, as values.
    values: Vec<Value>,
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

/// The files of a folder with this extension, in order.
fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut paths: Vec<_> =
        paths.filter(|path| path.is_file() && path.extension().unwrap_or_default() == extension).collect();
    paths.sort();
    Ok(paths)
}

/// The words of a dictionary of libFuzzer: quoted, with `\"`, `\\` and `\xAB`.
fn dictionary(text: &str) -> Vec<Vec<u8>> {
    let word = |line: &str| {
        let quoted = line.trim().strip_prefix('"')?.strip_suffix('"')?;
        let mut rest = quoted.as_bytes();
        let mut word = Vec::new();
        while let Some((&first, after)) = rest.split_first() {
            let byte;
            (byte, rest) = match (first, after) {
                (b'\\', [b'x', digits @ ..]) => {
                    let number = std::str::from_utf8(digits.get(..2)?).ok()?;
                    (u8::from_str_radix(number, 16).ok()?, &digits[2..])
                }
                (b'\\', [escaped, rest @ ..]) => (*escaped, rest),
                (first, rest) => (first, rest),
            };
            word.push(byte);
        }
        Some(word)
    };
    text.lines().filter_map(word).collect()
}

/// The schemas of the suite.
fn schemas(root: &Path) -> Result<Vec<Value>, String> {
    let text = read(&root.join("tests/fixtures/text/schemas/schemas.jsonl"))?;
    let lines = String::from_utf8_lossy(&text).into_owned();
    Ok(lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get("schema").cloned())
        .collect())
}

/// The regular expressions of a schema.
fn patterns(schema: &Value, found: &mut Vec<Vec<u8>>) {
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(text) if key == "pattern" => found.push(text.clone().into_bytes()),
                    Value::Object(names) if key == "patternProperties" => {
                        found.extend(names.keys().map(|name| name.clone().into_bytes()));
                    }
                    _ => {}
                }
                patterns(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| patterns(item, found)),
        _ => {}
    }
}

/// Pieces of a file's vocabulary in the form that the body reads: settings, a text, merges, tokens.
fn vocabularies(file: &Path) -> Vec<Vec<u8>> {
    let Ok(file) = Gguf::open(file) else { return Vec::new() };
    let Ok(data) = VocabData::from_metadata(file.metadata()) else { return Vec::new() };
    let model = ["llama", "gpt2", "bert", "t5"].iter().position(|model| *model == data.model).unwrap_or(0);
    let merges: Vec<&str> = data.merges.iter().take(15).map(String::as_str).collect();
    let own: Vec<&str> = merges.iter().flat_map(|merge| merge.split(' ')).collect();
    let joined: Vec<String> = merges.iter().map(|merge| merge.replace(' ', "")).collect();
    let chunks = data.tokens.chunks(60).step_by(1 + data.tokens.len() / 600);
    chunks
        .enumerate()
        .map(|(i, tokens)| {
            let head = [model as u8, merges.len() as u8, i as u8, 1 + (i as u8 % 4) * 8, 0, 1, 2, 0];
            let text = "Once upon a time 🦙, 347 + 285 isn't <s> 한국어.";
            let parts = [text].into_iter().chain(merges.iter().copied()).chain(own.iter().copied());
            let parts =
                parts.chain(joined.iter().map(String::as_str)).chain(tokens.iter().map(String::as_str));
            [&head[..], parts.collect::<Vec<_>>().join("\0").as_bytes()].concat()
        })
        .collect()
}

/// Snippets of templates, with the variables that they use, behind a template that writes every message.
fn snippets(root: &Path) -> Result<Vec<Vec<u8>>, String> {
    let text = read(&root.join("tests/fixtures/text/snippets.jsonl"))?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let variables: BTreeMap<String, Value> = lines
        .next()
        .and_then(|line| serde_json::from_str(line).ok())
        .ok_or("the snippets have no variables")?;
    let with_variables = |line: &str| {
        let (snippet, _) = serde_json::from_str::<(String, Value)>(line).ok()?;
        let words: Vec<&str> = snippet.split(|c: char| !c.is_alphanumeric()).collect();
        let used = variables.iter().filter(|(name, _)| words.contains(&name.as_str()));
        let sets: String = used.map(|(name, value)| format!("{{% set {name} = {value} %}}")).collect();
        Some(
            format!("{{% for m in messages %}}{{{{ m.content }}}}{{% endfor %}}{sets}{snippet}").into_bytes(),
        )
    };
    Ok(lines.filter_map(with_variables).collect())
}

fn contents(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, String> {
    paths.iter().map(|path| read(path)).collect()
}

/// The real inputs of a target, in groups.
fn usual(target: &str, root: &Path) -> Result<Vec<Vec<Vec<u8>>>, String> {
    let text = root.join("tests/fixtures/text");
    Ok(match target {
        "schema" => vec![schemas(root)?.iter().map(|schema| schema.to_string().into_bytes()).collect()],
        "pattern" => {
            let mut found = Vec::new();
            schemas(root)?.iter().for_each(|schema| patterns(schema, &mut found));
            vec![found]
        }
        "template" => vec![contents(&files(&text.join("templates/real"), "jinja")?)?, snippets(root)?],
        "vocabulary" => {
            let folders = [text.clone(), text.join("trained")];
            let paths: Vec<_> =
                folders.iter().map(|folder| files(folder, "gguf")).collect::<Result<_, _>>()?;
            paths.iter().flatten().map(|path| vocabularies(path)).collect()
        }
        "gguf" => {
            let made = contents(&files(&root.join("tests/fixtures/gguf"), "gguf")?)?;
            vec![made, contents(&files(&root.join("fuzz/seeds/gguf"), "")?)?]
        }
        _ => vec![contents(&files(&root.join("fuzz/grammars"), target)?)?],
    })
}

impl Source {
    /// The material of a target's inputs, read in the root of the repository.
    ///
    /// # Errors
    /// A file is missing.
    pub fn of(target: &str, root: &Path) -> Result<Source, String> {
        let words = read(&root.join(format!("fuzz/dictionaries/{target}.dict")))?;
        let seeds = files(&root.join("fuzz/seeds").join(target), "")?;
        let worst = contents(&seeds)?;
        let words = dictionary(&String::from_utf8_lossy(&words));
        let values = if target == "schema" { schemas(root)? } else { Vec::new() };
        Ok(Source { words, usual: usual(target, root)?, worst, values })
    }

    /// The input of this number.
    pub fn input(&self, index: u64) -> Vec<u8> {
        let mut random = Random(index.wrapping_mul(0xD129_0EBE_7A5B_2F63));
        if random.below(2) == 0
            && let Some(value) = random.pick(&self.values)
        {
            let mut value = value.clone();
            for _ in 0..1 << random.below(CHANGES) {
                let other = random.pick(&self.values).unwrap_or(&Value::Null);
                tree::change(&mut value, other, &mut random);
            }
            return value.to_string().into_bytes();
        }
        let base = match random.below(4) {
            0 => None,
            _ if random.below(WORST) == 0 => random.pick(&self.worst),
            _ => random.pick(&self.usual).and_then(|group| random.pick(group)),
        };
        let mut input = match base {
            Some(base) => base.clone(),
            None => {
                let n = random.small(6);
                (0..n).filter_map(|_| random.pick(&self.words)).flatten().copied().collect()
            }
        };
        let longest = input.len() + GROWTH;
        for _ in 0..1 << random.below(CHANGES) {
            self.change(&mut input, &mut random);
            input.truncate(longest);
        }
        input
    }

    /// A piece of a real input, or a word.
    fn piece(&self, kind: usize, first: Option<u8>, random: &mut Random) -> &[u8] {
        let of_a_kind = |byte: &u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => b'a',
            b'0'..=b'9' | b'-' => b'0',
            byte => *byte,
        };
        for _ in 0..8 {
            let other = random.pick(&self.usual).and_then(|group| random.pick(group));
            let Some(other) = other else { break };
            let (begin, end) = span(other, kind, random);
            if first.is_none() || other[begin..end].first().map(of_a_kind) == first.as_ref().map(of_a_kind) {
                return &other[begin..end];
            }
        }
        random.pick(&self.words).map_or(&[], Vec::as_slice)
    }

    /// Changes one place of an input.
    fn change(&self, input: &mut Vec<u8>, random: &mut Random) {
        const NUMBERS: &[&str] =
            &["0", "-1", "7", "1e300", "-0.0", "99999", "9223372036854775808", "0.1", "2147483648"];
        let kind = random.below(3);
        let (begin, end) = span(input, kind, random);
        match random.below(12) {
            // Another piece of the same kind in its place, so that the input often remains well formed.
            0..5 => {
                let piece = self.piece(kind, input.get(begin).copied(), random).to_vec();
                drop(input.splice(begin..end, piece));
            }
            5 => {
                let piece = self.piece(kind, None, random).to_vec();
                drop(input.splice(begin..begin, piece));
            }
            6 => drop(input.splice(begin..begin, random.pick(&self.words).into_iter().flatten().copied())),
            7 => {
                let word = random.pick(&self.words).map_or(&[][..], Vec::as_slice);
                let end = input.len().min(begin + word.len());
                drop(input.splice(begin..end, word.iter().copied()));
            }
            8 => drop(input.drain(begin..end)),
            9 => {
                let copies = input[begin..end].repeat(1 + random.small(8));
                drop(input.splice(begin..begin, copies.into_iter().take(GROWTH)));
            }
            10 => {
                let is_digit = |byte: &u8| byte.is_ascii_digit();
                let begin = begin + input[begin..].iter().position(is_digit).unwrap_or(0);
                let digits = input[begin..].iter().take_while(|byte| is_digit(byte)).count();
                let number = random.pick(NUMBERS).into_iter().flat_map(|text| text.bytes());
                drop(input.splice(begin..begin + digits, number));
            }
            _ => {
                if let Some(byte) = input.get_mut(begin) {
                    *byte = byte.wrapping_add(1 << random.below(8));
                }
            }
        }
    }
}

/// A piece of a text, by `kind`: what brackets or quotes hold with them, a word, or any bytes.
fn span(text: &[u8], kind: usize, random: &mut Random) -> (usize, usize) {
    let begin = random.below(text.len() + 1);
    let rest = &text[begin..];
    match kind {
        0 => {
            let is_open = |byte: &u8| matches!(byte, b'(' | b'[' | b'{' | b'"');
            let Some(open) = rest.iter().position(is_open) else { return (begin, begin) };
            let inner = &rest[open..];
            let length = if inner[0] == b'"' {
                inner[1..].iter().position(|&byte| byte == b'"').map_or(1, |at| at + 2)
            } else {
                closed(inner)
            };
            (begin + open, begin + open + length)
        }
        1 => {
            let kind = |byte: u8| (byte.is_ascii_alphanumeric() || byte == b'_', byte.is_ascii_whitespace());
            let first = rest.first().map(|&byte| kind(byte));
            let length = rest.iter().take_while(|&&byte| Some(kind(byte)) == first).count();
            (begin, begin + length)
        }
        _ => (begin, begin + random.small(8).min(rest.len())),
    }
}

/// The length of a text's first bracket with all that it holds; 1 if it is not closed.
fn closed(text: &[u8]) -> usize {
    let mut depth = 0usize;
    for (i, byte) in text.iter().enumerate() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    1
}
