//! Limits of a generation that are kept while its tokens are chosen: thoughts that end in time, answers that do not end
//! too early.

use rfgraph::engine::{GenerateOptions, Generation, Next, Stop};
use rfgraph::model::RowOutput;
use rfgraph::sampling::{Sampler, SamplerParams};
use rfgraph::text::{
    ANSWER_MARKERS, AnswerFormat, AnswerPlace, EncodeOptions, MarkerRole, Part, PartKind, Tokenizer,
};

use crate::answers::{DEMO, real_templates};

/// A generation whose model always prefers this token.
struct Stubborn<'t> {
    tokenizer: &'t Tokenizer,
    logits: Vec<f32>,
}

impl Stubborn<'_> {
    fn new(tokenizer: &Tokenizer, token: u32, second: u32) -> Stubborn<'_> {
        let mut logits = vec![0.0; tokenizer.n_vocab()];
        (logits[token as usize], logits[second as usize]) = (9.0, 5.0);
        Stubborn { tokenizer, logits }
    }

    fn run(
        &self,
        format: &AnswerFormat,
        prompt: &[u32],
        options: GenerateOptions,
    ) -> (Vec<Part>, Stop, usize) {
        let sampler = Sampler::new(SamplerParams::greedy(), self.tokenizer.n_vocab()).unwrap();
        let generation = Generation::new(self.tokenizer, sampler, options).unwrap();
        let mut generation = generation.in_parts(format.parser(prompt));
        let mut parts = Vec::new();
        let stop = loop {
            let advance = generation.advance(RowOutput::Logits(&self.logits)).unwrap();
            advance.deltas.iter().for_each(|delta| Part::collect(&mut parts, delta));
            if let Next::Stopped(stop) = advance.next {
                break stop;
            }
        };
        (parts, stop, generation.tokens().len())
    }
}

/// A token of the demo's vocabulary that is one letter.
fn letter(tokenizer: &Tokenizer) -> u32 {
    let plain = EncodeOptions { add_special: false, parse_special: false };
    *tokenizer.encode("a", plain).last().unwrap()
}

/// The beginning of an answer that is inside of thoughts.
fn opened(tokenizer: &Tokenizer, format: &AnswerFormat) -> Option<Vec<u32>> {
    let parsed = EncodeOptions { add_special: false, parse_special: true };
    let opens = ANSWER_MARKERS.iter().filter(|row| row.role == MarkerRole::Thoughts).map(|row| row.open);
    let opens = opens.chain(["<|start|>assistant<|channel|>analysis<|message|>"]);
    let mut prompts = opens.map(|open| tokenizer.encode(open, parsed));
    prompts.find(|prompt| format.parser(prompt).place() == AnswerPlace::Thoughts)
}

#[test]
fn thoughts_end_at_their_budget_and_the_answer_goes_on() {
    let mut n = 0;
    for (name, _, tokenizer) in real_templates() {
        let format = AnswerFormat::of(&tokenizer);
        let Some(prompt) = opened(&tokenizer, &format) else { continue };
        let a = letter(&tokenizer);
        let model = Stubborn::new(&tokenizer, a, a);
        for budget in [0, 1, 7] {
            let limits = GenerateOptions {
                max_thoughts: Some(budget),
                max_tokens: Some(120),
                ..GenerateOptions::default()
            };
            let (parts, stop, _) = model.run(&format, &prompt, limits);
            assert_eq!(stop, Stop::Limit, "{name}");
            let text = |kind| {
                let parts = parts.iter().filter(|part| part.kind == kind);
                parts.map(|part| part.text.as_str()).collect::<String>()
            };
            assert_eq!(text(PartKind::Thoughts), "a".repeat(budget), "{name}: {parts:?}");
            assert!(text(PartKind::Text).starts_with("aaa"), "{name}: {parts:?}");
        }
        let limits = GenerateOptions { max_tokens: Some(30), ..GenerateOptions::default() };
        let (parts, ..) = model.run(&format, &prompt, limits);
        assert!(
            parts.iter().all(|part| part.kind == PartKind::Thoughts),
            "{name}: without a budget they go on"
        );
        n += 1;
    }
    assert!(n > 15, "{n} templates with thoughts");
}

/// A budget changes nothing where there are no thoughts.
#[test]
fn a_budget_of_thoughts_leaves_plain_answers() {
    let tokenizer = Tokenizer::new(DEMO.clone()).unwrap();
    let a = letter(&tokenizer);
    let limits = GenerateOptions { max_thoughts: Some(0), max_tokens: Some(5), ..GenerateOptions::default() };
    let model = Stubborn::new(&tokenizer, a, a);
    let (parts, ..) = model.run(&AnswerFormat::plain(&tokenizer), &[], limits);
    assert_eq!(parts[0].text, "aaaaa");
}

#[test]
fn an_answer_ends_neither_too_early_nor_too_late() {
    let tokenizer = Tokenizer::new(DEMO.clone()).unwrap();
    let (a, end) = (letter(&tokenizer), tokenizer.end_tokens()[0]);
    let format = AnswerFormat::plain(&tokenizer);
    for least in [0, 1, 6] {
        let limits =
            || GenerateOptions { min_tokens: least, max_tokens: Some(9), ..GenerateOptions::default() };
        let (parts, stop, n) = Stubborn::new(&tokenizer, end, a).run(&format, &[], limits());
        assert_eq!((stop, n), (Stop::EndOfGeneration, least), "{parts:?}");
        // A stop token ends the answer as the model's own does.
        let letters = EncodeOptions { add_special: false, parse_special: false };
        let b = *tokenizer.encode("b", letters).last().unwrap();
        let limits = GenerateOptions { stop_tokens: vec![b], ..limits() };
        let (parts, stop, n) = Stubborn::new(&tokenizer, b, a).run(&format, &[], limits);
        assert_eq!((stop, n), (Stop::EndOfGeneration, least), "{parts:?}");
    }
}
