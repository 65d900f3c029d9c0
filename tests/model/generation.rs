//! Generation: pieces, limits, interrupts.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};

use rfgraph::engine::{AnswerOptions, Chat, ChatOptions, GenerateOptions, Generation, Stop};
use rfgraph::model::{Model, ModelError, Session, SessionExtras, SessionOptions};
use rfgraph::sampling::{Penalties, Sampler, SamplerParams, Temperature, TokenLogprobs};
use rfgraph::text::EncodeOptions;

use crate::support::sessions::drive;

/// The result of an answer: its pieces, its tokens, the reason to stop, and the number of tokens in the cache
/// afterwards.
type Outcome = (Vec<String>, Vec<u32>, Stop, usize);

/// Continues a text greedily; `each` is called with every piece and may set the flag.
fn generate(n_ctx: usize, max_tokens: Option<usize>, each: impl Fn(usize, &AtomicBool)) -> Outcome {
    let model = Model::demo().unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let options = SessionOptions { n_ctx, ..SessionOptions::default() };
    let choice = ChatOptions { sampling: greedy(), ..ChatOptions::default() };
    let mut chat = Chat::new(&model, &options, &SessionExtras::default(), choice).unwrap();
    let prompt =
        tokenizer.encode("Once upon a time", EncodeOptions { add_special: true, parse_special: true });
    let flag = AtomicBool::new(false);
    let generate = GenerateOptions { max_tokens, ..GenerateOptions::default() };
    let options = AnswerOptions { generate, interrupt: Some(&flag), ..AnswerOptions::default() };
    let pieces = RefCell::new(Vec::new());
    let answer = chat.answer(&prompt, options, |piece| {
        pieces.borrow_mut().push(piece.text.clone());
        each(pieces.borrow().len(), &flag);
        Ok::<(), ModelError>(())
    });
    let (answer, mut pieces) = (answer.unwrap(), pieces.into_inner());
    pieces.retain(|piece| !piece.is_empty());
    assert_eq!(
        pieces.concat(),
        tokenizer.decode(&answer.tokens, false),
        "the pieces are the text of the tokens"
    );
    assert_eq!(pieces.concat(), answer.text);
    let states = chat.session().states();
    let cached = states.len(states.open_sequences().next().unwrap()).unwrap() - prompt.len();
    (pieces, answer.tokens, answer.stop, cached)
}

#[test]
fn a_limit_ends_an_answer() {
    let (pieces, tokens, stop, cached) = generate(512, Some(7), |_, _| ());
    assert_eq!((pieces.len(), tokens.len(), stop), (7, 7, Stop::Limit));
    // The last token was not computed.
    assert_eq!(cached, 6);
    assert_eq!(generate(512, Some(0), |_, _| ()), (vec![], vec![], Stop::Limit, 0));
}

#[test]
fn an_interrupt_ends_an_answer_before_the_next_token() {
    let interrupt = |n, flag: &AtomicBool| flag.store(n == 3, Ordering::Relaxed);
    let (pieces, tokens, stop, cached) = generate(512, None, interrupt);
    assert_eq!((pieces.len(), stop, cached), (3, Stop::Interrupted, 2));
    assert_eq!(tokens, generate(512, Some(3), |_, _| ()).1);
}

#[test]
fn a_full_context_ends_an_answer() {
    let (_, tokens, stop, cached) = generate(16, None, |_, _| ());
    assert_eq!((stop, tokens.len()), (Stop::ContextFull, cached + 1));
    assert_eq!(
        tokens,
        generate(512, Some(tokens.len()), |_, _| ()).1,
        "the context's size changes nothing else"
    );
}

#[test]
fn the_models_end_token_ends_an_answer() {
    let (_, tokens, stop, _) = generate(512, None, |_, _| ());
    assert_eq!(stop, Stop::EndOfGeneration);
    assert!(tokens.len() > 10);
}

/// An answer of the demo model with everything that is reported about it.
struct Told {
    text: String,
    tokens: Vec<u32>,
    logprobs: Vec<TokenLogprobs>,
    stop: Option<Stop>,
}

fn tell(params: SamplerParams, options: GenerateOptions) -> Told {
    let model = Model::demo().unwrap();
    let tokenizer = model.tokenizer().unwrap();
    let mut session =
        Session::new(&model, &SessionOptions { n_ctx: 512, ..SessionOptions::default() }).unwrap();
    let sequence = session.open().unwrap();
    let sampler = Sampler::new(params, tokenizer.n_vocab()).unwrap();
    let mut generation = Generation::new(&tokenizer, sampler, options).unwrap();
    let prompt = tokenizer.encode("Once upon a time", EncodeOptions::default());
    let text = drive(&mut session, sequence, &prompt, &mut generation);
    Told {
        text,
        tokens: generation.tokens().to_vec(),
        logprobs: generation.logprobs().to_vec(),
        stop: generation.stop(),
    }
}

fn greedy() -> SamplerParams {
    SamplerParams::greedy()
}

#[test]
fn a_stop_string_ends_an_answer_and_is_not_shown() {
    let whole = tell(greedy(), GenerateOptions { max_tokens: Some(40), ..GenerateOptions::default() }).text;
    assert!(whole.len() > 60 && whole.is_ascii(), "{whole:?}");
    // The stop string may be at the beginning, at the end, or across token boundaries.
    for start in [0, 1, 20, 37, whole.len() - 9] {
        let stop = whole[start..start + 9].to_string();
        let at = whole.find(&stop).unwrap();
        let stops = vec!["never said".to_string(), stop];
        let told = tell(
            greedy(),
            GenerateOptions { max_tokens: Some(40), stop: stops, ..GenerateOptions::default() },
        );
        assert_eq!((told.text.as_str(), told.stop), (&whole[..at], Some(Stop::StopString)));
    }
    // Text that was held back is returned if something else ends the answer.
    let almost = vec![format!("{}~", &whole[whole.len() - 5..])];
    let told =
        tell(greedy(), GenerateOptions { max_tokens: Some(40), stop: almost, ..GenerateOptions::default() });
    assert_eq!((told.text, told.stop), (whole, Some(Stop::Limit)));
}

#[test]
fn log_probabilities_are_the_models_own() {
    let options = GenerateOptions { max_tokens: Some(12), logprobs: Some(3), ..GenerateOptions::default() };
    let told = tell(greedy(), options.clone());
    let penalties = Penalties { repeat: 1.01, ..Penalties::default() };
    let bent = SamplerParams { logit_bias: vec![(told.tokens[0], -1.0)], penalties, ..greedy() };
    for told in [&told, &tell(bent, options)] {
        assert_eq!(told.logprobs.iter().map(|l| l.token).collect::<Vec<_>>(), told.tokens);
        // The logits of the whole text, computed in one batch.
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
                // Prompts and single tokens use different kernels: logits of about 20 agree to some 2^-10.
                assert!((logprob - exact(id)).abs() < 0.05, "{id}: {logprob}, not {}", exact(id));
            }
        }
    }
}

/// The demo model's text under a schema, greedy or random, is valid.
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
    let constraint = factory.json_schema(&schema.to_string()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let prompt = tokenizer.encode("Once upon a time", EncodeOptions::default());
    for (temperature, seed) in (0..4).map(|seed| (if seed == 0 { 0.0 } else { 1.5 }, seed)) {
        let sequence = session.open().unwrap();
        let temperature = Temperature::fixed(temperature);
        let params = SamplerParams { temperature, seed, ..SamplerParams::default() };
        let sampler = Sampler::new(params, tokenizer.n_vocab()).unwrap();
        let generation = Generation::new(&tokenizer, sampler, GenerateOptions::default()).unwrap();
        let mut generation = generation.constrained(constraint.clone());
        let text = drive(&mut session, sequence, &prompt, &mut generation);
        assert_eq!(generation.stop(), Some(Stop::EndOfGeneration), "{text}");
        let value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        assert!(validator.is_valid(&value), "{text}");
        session.close(sequence).unwrap();
    }
}
