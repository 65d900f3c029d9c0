//! Answers as they are generated: pieces, limits, interrupts.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};

use rfgraph::model::{GenerateOptions, Generation, Model, Session, SessionOptions, Stop};
use rfgraph::text::{EncodeOptions, Sampler, SamplerParams, TokenLogprobs};

/// What a generation gave: its pieces, tokens, reason to stop, and the tokens in the cache after it.
type Outcome = (Vec<String>, Vec<u32>, Option<Stop>, usize);

/// Continues a text greedily; `each` sees every piece and may set the flag.
fn generate(n_ctx: usize, max_tokens: Option<usize>, each: impl Fn(usize, &AtomicBool)) -> Outcome {
    let model = Model::demo().unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let options = SessionOptions { n_ctx, ..SessionOptions::default() };
    let mut session = Session::new(&model, &options).unwrap();
    let sequence = session.open().unwrap();
    let prompt =
        tokenizer.encode("Once upon a time", EncodeOptions { add_special: true, parse_special: true });
    session.prefill(sequence, &prompt).unwrap();
    let greedy = SamplerParams { temperature: 0.0, ..SamplerParams::default() };
    let mut sampler = Sampler::new(greedy, tokenizer.n_vocab()).unwrap();
    let flag = AtomicBool::new(false);
    let options = GenerateOptions { max_tokens, interrupt: Some(&flag), ..GenerateOptions::default() };
    let mut generation = Generation::new(&mut session, sequence, &tokenizer, &mut sampler, options).unwrap();
    let mut pieces = Vec::new();
    while let Some(piece) = generation.next_piece().unwrap() {
        pieces.push(piece.to_string());
        each(pieces.len(), &flag);
    }
    assert_eq!(generation.next_piece().unwrap(), None, "an end is an end");
    let (tokens, stop) = (generation.tokens().to_vec(), generation.stop());
    assert_eq!(pieces.concat(), tokenizer.decode(&tokens, false), "the pieces are the text of the tokens");
    let cached = session.cache().len(sequence).unwrap() - prompt.len();
    (pieces, tokens, stop, cached)
}

#[test]
fn a_limit_ends_it() {
    let (pieces, tokens, stop, cached) = generate(512, Some(7), |_, _| ());
    assert_eq!((pieces.len(), tokens.len(), stop), (7, 7, Some(Stop::Limit)));
    // Nobody asked what follows the last token.
    assert_eq!(cached, 6);
    assert_eq!(generate(512, Some(0), |_, _| ()), (vec![], vec![], Some(Stop::Limit), 0));
}

#[test]
fn an_interrupt_ends_it_before_the_next_token() {
    let interrupt = |n, flag: &AtomicBool| flag.store(n == 3, Ordering::Relaxed);
    let (pieces, tokens, stop, cached) = generate(512, None, interrupt);
    assert_eq!((pieces.len(), stop, cached), (3, Some(Stop::Interrupted), 2));
    assert_eq!(tokens, generate(512, Some(3), |_, _| ()).1);
}

#[test]
fn a_full_context_ends_it() {
    let (_, tokens, stop, cached) = generate(16, None, |_, _| ());
    assert_eq!((stop, tokens.len()), (Some(Stop::ContextFull), cached + 1));
    assert_eq!(
        tokens,
        generate(512, Some(tokens.len()), |_, _| ()).1,
        "the context's size changes nothing else"
    );
}

#[test]
fn the_model_ends_it() {
    let (_, tokens, stop, _) = generate(512, None, |_, _| ());
    assert_eq!(stop, Some(Stop::EndOfGeneration));
    assert!(tokens.len() > 10);
}

/// A session of the demo model after a prompt, what samples, and what is told of the answer.
struct Told {
    text: String,
    tokens: Vec<u32>,
    logprobs: Vec<TokenLogprobs>,
    stop: Option<Stop>,
}

fn tell(params: SamplerParams, options: GenerateOptions<'_>) -> Told {
    let model = Model::demo().unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let mut session =
        Session::new(&model, &SessionOptions { n_ctx: 512, ..SessionOptions::default() }).unwrap();
    let sequence = session.open().unwrap();
    session.prefill(sequence, &tokenizer.encode("Once upon a time", EncodeOptions::default())).unwrap();
    let mut sampler = Sampler::new(params, tokenizer.n_vocab()).unwrap();
    let mut generation = Generation::new(&mut session, sequence, &tokenizer, &mut sampler, options).unwrap();
    let mut text = String::new();
    while let Some(piece) = generation.next_piece().unwrap() {
        text.push_str(piece);
    }
    Told {
        text,
        tokens: generation.tokens().to_vec(),
        logprobs: generation.logprobs().to_vec(),
        stop: generation.stop(),
    }
}

fn greedy() -> SamplerParams {
    SamplerParams { temperature: 0.0, ..SamplerParams::default() }
}

#[test]
fn a_stop_string_ends_it_and_is_not_shown() {
    let whole = tell(greedy(), GenerateOptions { max_tokens: Some(40), ..GenerateOptions::default() }).text;
    assert!(whole.len() > 60 && whole.is_ascii(), "{whole:?}");
    // Wherever it lies: at the beginning, at the end, over the borders of tokens.
    for start in [0, 1, 20, 37, whole.len() - 9] {
        let stop = whole[start..start + 9].to_string();
        let at = whole.find(&stop).unwrap();
        let stops = ["never said".to_string(), stop];
        let told = tell(
            greedy(),
            GenerateOptions { max_tokens: Some(40), stop: &stops, ..GenerateOptions::default() },
        );
        assert_eq!((told.text.as_str(), told.stop), (&whole[..at], Some(Stop::StopString)));
    }
    // Text that was held back comes out where something else ends the answer.
    let almost = [format!("{}~", &whole[whole.len() - 5..])];
    let told =
        tell(greedy(), GenerateOptions { max_tokens: Some(40), stop: &almost, ..GenerateOptions::default() });
    assert_eq!((told.text, told.stop), (whole, Some(Stop::Limit)));
}

#[test]
fn log_probabilities_are_the_models_own() {
    let options = GenerateOptions { max_tokens: Some(12), logprobs: Some(3), ..GenerateOptions::default() };
    let told = tell(greedy(), options);
    let bent = SamplerParams { logit_bias: vec![(told.tokens[0], -1.0)], repeat_penalty: 1.01, ..greedy() };
    for told in [&told, &tell(bent, options)] {
        assert_eq!(told.logprobs.iter().map(|l| l.token).collect::<Vec<_>>(), told.tokens);
        // The logits of the whole text at once.
        let model = Model::demo().unwrap();
        let tokenizer = model.tokenizer().unwrap();
        let mut session =
            Session::new(&model, &SessionOptions { n_ctx: 512, ..SessionOptions::default() }).unwrap();
        let sequence = session.open().unwrap();
        let mut tokens = tokenizer.encode("Once upon a time", EncodeOptions::default());
        let first = tokens.len() - 1;
        tokens.extend(&told.tokens);
        let mut rows: Vec<Vec<f32>> = Vec::new();
        session.all_logits(sequence, &tokens, |row| rows.push(row.to_vec())).unwrap();
        for (row, logprobs) in rows[first..].iter().zip(&told.logprobs) {
            let sum: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
            let exact = |id: u32| f64::from(row[id as usize]) - sum.ln();
            let mut best: Vec<u32> = (0..row.len() as u32).collect();
            best.sort_by(|&a, &b| row[b as usize].total_cmp(&row[a as usize]).then(a.cmp(&b)));
            let ids: Vec<u32> = logprobs.top.iter().map(|&(id, _)| id).collect();
            assert_eq!(ids, best[..3]);
            let all = logprobs.top.iter().copied().chain([(logprobs.token, logprobs.logprob)]);
            for (id, logprob) in all {
                // Prompts and single tokens take other kernels: logits of about 20 agree to some 2^-10.
                assert!((logprob - exact(id)).abs() < 0.05, "{id}: {logprob}, not {}", exact(id));
            }
        }
    }
}

/// What the demo model writes under a schema, greedily and at random, is valid.
#[cfg(feature = "grammar")]
#[test]
fn a_constraint_binds_the_model() {
    use rfgraph::text::ConstraintFactory;
    let model = Model::demo().unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let mut session =
        Session::new(&model, &SessionOptions { n_ctx: 512, ..SessionOptions::default() }).unwrap();
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "friends": {"type": "array", "items": {"enum": ["Tom", "Lily"]}, "maxItems": 3},
            "kind": {"anyOf": [{"const": "pony"}, {"type": "null"}]},
        },
        "required": ["name", "age", "kind"],
        "additionalProperties": false,
    });
    let factory = ConstraintFactory::new(&tokenizer).unwrap();
    let mut constraint = factory.json_schema(&schema.to_string()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let prompt = tokenizer.encode("Once upon a time", EncodeOptions::default());
    for (temperature, seed) in (0..4).map(|seed| (if seed == 0 { 0.0 } else { 1.5 }, seed)) {
        let sequence = session.open().unwrap();
        session.prefill(sequence, &prompt).unwrap();
        let params = SamplerParams { temperature, seed, ..SamplerParams::default() };
        let mut sampler = Sampler::new(params, tokenizer.n_vocab()).unwrap();
        constraint.restart();
        let options = GenerateOptions::default();
        let mut generation = Generation::new(&mut session, sequence, &tokenizer, &mut sampler, options)
            .unwrap()
            .constrained(&mut constraint);
        let mut text = String::new();
        while let Some(piece) = generation.next_piece().unwrap() {
            text.push_str(piece);
        }
        assert_eq!(generation.stop(), Some(Stop::EndOfGeneration), "{text}");
        let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        assert!(validator.is_valid(&value), "{text}");
        session.close(sequence).unwrap();
    }
}
