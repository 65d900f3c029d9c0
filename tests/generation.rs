//! Answers as they are generated: pieces, limits, interrupts.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};

use rfgraph::model::{GenerateOptions, Generation, Model, Session, SessionOptions, Stop};
use rfgraph::text::{EncodeOptions, Sampler, SamplerParams};

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
