//! The engine's thread turn by turn on a simulated clock, and the whole engine with many callers.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use proptest::prelude::*;

use super::clock::Clock;
use super::handle::job_of;
use super::job::MOST_UNREAD;
use super::shared::{Command, Shared};
use super::worker::Worker;
use super::*;
use crate::model::{Model, ModelError, Pooling, Session, SessionOptions};
use crate::sampling::{SamplerParams, Temperature, TopK};
use crate::text::{Message, Tokenizer};

/// A device with constant rates: a step takes this time and some more for each row of a prompt.
struct Simulated {
    now: Duration,
    step: Duration,
    row: Duration,
}

impl Clock for Simulated {
    fn now(&self) -> Duration {
        self.now
    }

    fn stepped(&mut self, _: usize, prompt_rows: usize) {
        self.now += self.step + self.row * prompt_rows as u32;
    }

    fn waited(&mut self, time: Duration) {
        self.now += time;
    }
}

/// An engine without its thread: the test takes one turn after another.
struct Turns {
    worker: Worker<Simulated>,
    commands: Sender<Command>,
    shared: Arc<Shared>,
    model: Model,
    tokenizer: Tokenizer,
    n_ctx: usize,
}

const STEP: Duration = Duration::from_millis(2);
const ROW: Duration = Duration::from_millis(1);

impl Turns {
    fn new(n_ctx: usize, n_sequences: usize, n_tokens: usize) -> Turns {
        let session = SessionOptions {
            n_ctx,
            n_sequences,
            n_tokens: Some(n_tokens),
            ubatch: Some(512),
            deterministic: true,
            ..SessionOptions::default()
        };
        Turns::with(EngineOptions { session, ..EngineOptions::default() })
    }

    fn with(options: EngineOptions) -> Turns {
        let model = Model::demo().unwrap();
        let session = Session::new(&model, &options.session).unwrap();
        let n_ctx = session.states().n_ctx();
        let (commands, received) = channel();
        let shared = Arc::new(Shared::default());
        let clock = Simulated { now: Duration::ZERO, step: STEP, row: ROW };
        let worker = Worker::new(session, clock, options, received, Arc::clone(&shared));
        let tokenizer = model.tokenizer().unwrap();
        Turns { worker, commands, shared, model, tokenizer, n_ctx }
    }

    fn submit(&self, request: Request) -> Reply {
        let (job, reply) = job_of(&self.model, &self.tokenizer, self.n_ctx, request).unwrap();
        self.shared.enter_queue(usize::MAX).unwrap();
        self.commands.send(Command::Submit(Box::new(job))).unwrap();
        reply
    }

    fn turn(&mut self) {
        self.worker.turn().unwrap();
    }

    /// Takes turns until no request is left, and returns the number of turns.
    fn finish(&mut self) -> usize {
        self.turn();
        let mut turns = 1;
        while self.stats().running + self.stats().waiting > 0 {
            self.turn();
            turns += 1;
            assert!(turns < 100_000, "requests never end: {:?}", self.stats());
        }
        turns
    }

    /// A turn that may find no request, which would wait for one: a request of one token makes it go on.
    fn turn_without_work(&mut self) {
        let (job, reply) = job_of(&self.model, &self.tokenizer, self.n_ctx, limited(vec![5], 1)).unwrap();
        drop(reply);
        self.shared.enter_queue(usize::MAX).unwrap();
        self.commands.send(Command::Submit(Box::new(job))).unwrap();
        self.worker.turn().unwrap();
    }

    fn stats(&self) -> Stats {
        self.worker.present()
    }

    fn now(&self) -> Duration {
        self.worker.now()
    }
}

fn prompt(tokenizer: &Tokenizer, question: &str) -> Vec<u32> {
    let template = Model::demo().unwrap().chat_template(tokenizer).unwrap();
    tokenizer.encode_chat(&template.render(&[Message::new("user", question)], true).unwrap())
}

fn greedy() -> SamplerParams {
    SamplerParams { temperature: Temperature::fixed(0.0), ..SamplerParams::default() }
}

/// Rules out the demo's end tokens, so that an answer has as many tokens as its limit.
fn endless() -> Vec<(u32, f32)> {
    let tokenizer = Model::demo().unwrap().tokenizer().unwrap();
    let ends = (0..1792).filter(|&token| tokenizer.is_end_of_generation(token));
    ends.map(|token| (token, f32::NEG_INFINITY)).collect()
}

fn limited(tokens: Vec<u32>, most: usize) -> Request {
    let biased = SamplerParams { logit_bias: endless(), ..greedy() };
    Request::answer(tokens, biased).limits(GenerateOptions { max_tokens: Some(most), ..Default::default() })
}

/// Any tokens without a meaning.
fn text(seed: u32, n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| 300 + (i * 7 + seed * 131) % 1000).collect()
}

fn texts(reply: &mut Reply) -> Vec<TextEvent> {
    let events = std::iter::from_fn(|| reply.try_recv());
    events.filter_map(|event| if let Event::Text(text) = event { Some(text) } else { None }).collect()
}

fn summary(reply: Reply) -> Summary {
    let last = reply.last();
    let Some(Event::Finished(summary)) = last else { panic!("{last:?}") };
    summary
}

#[test]
fn thirty_two_callers_get_their_own_answers() {
    let model = Model::demo().unwrap();
    let session =
        SessionOptions { n_ctx: 256, n_sequences: 12, n_tokens: Some(1024), ..SessionOptions::default() };
    let engine = Engine::start(&model, EngineOptions { session, ..EngineOptions::default() }).unwrap();
    let threads: Vec<_> = (0..32u32)
        .map(|i| {
            let engine = engine.clone();
            std::thread::spawn(move || {
                let (a, b) = (100 + 17 * i, 3 + 29 * i % 300);
                let tokens = prompt(engine.tokenizer(), &format!("What is {a} + {b}?"));
                let (answer, summary) =
                    engine.submit(Request::answer(tokens, greedy())).unwrap().text().unwrap();
                assert_eq!((answer, summary.stop), ((a + b).to_string(), Some(Stop::EndOfGeneration)));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    engine.stop();
    let stats = engine.stats();
    assert_eq!((stats.finished, stats.running, stats.waiting), (32, 0, 0));
    assert_eq!(stats.free_tokens, stats.total_tokens);
    let error = engine.submit(Request::answer(vec![1], greedy())).unwrap_err();
    assert!(matches!(error, EngineError::Stopped { .. }), "{error}");
}

/// A running answer waits at most twice the time of a step for its next token, whatever prompts arrive.
#[test]
fn prompts_do_not_stall_running_answers() {
    let mut turns = Turns::new(2048, 4, 8192);
    let mut running = turns.submit(limited(text(1, 20), 400));
    while texts(&mut running).is_empty() {
        turns.turn();
    }
    let long: Vec<Reply> = (2..4).map(|seed| turns.submit(limited(text(seed, 1900), 2))).collect();
    let (mut last, mut longest) = (turns.now(), Duration::ZERO);
    let mut tokens = 0;
    while turns.stats().finished < 2 {
        turns.turn();
        let n = texts(&mut running).len();
        tokens += n;
        if n > 0 {
            longest = longest.max(turns.now() - last);
            last = turns.now();
        }
    }
    assert!(tokens > 50, "{tokens} tokens beside 3,800 of prompts");
    let step_time = EngineOptions::default().step_time;
    assert!(longest <= step_time * 2, "{longest:?}");
    // Prompts get the rest of the time: 3,800 rows of 1 ms do not take much longer than they must.
    assert!(turns.now() < Duration::from_millis(3800 + 3800 / 2), "{:?}", turns.now());
    long.into_iter().for_each(|reply| assert_eq!(summary(reply).generated_tokens, 2));
}

#[test]
fn a_dropped_reply_cancels_in_every_phase() {
    let mut turns = Turns::new(1024, 2, 4096);
    let answer = turns.submit(limited(text(1, 10), 500));
    turns.turn();
    turns.turn();
    let in_prompt = turns.submit(limited(text(2, 1000), 5));
    turns.turn();
    let waiting = turns.submit(limited(text(3, 10), 5));
    turns.turn();
    assert_eq!((turns.stats().running, turns.stats().waiting), (2, 1));
    drop((answer, in_prompt, waiting));
    turns.turn_without_work();
    let stats = turns.stats();
    assert_eq!((stats.running, stats.waiting), (0, 0));
    assert_eq!([stats.cancelled_answer, stats.cancelled_prompt, stats.cancelled_waiting], [1, 1, 2]);
    assert_eq!(stats.free_tokens, stats.total_tokens);
}

#[test]
fn a_full_queue_refuses_requests() {
    let model = Model::demo().unwrap();
    let session = SessionOptions { n_ctx: 512, n_sequences: 1, n_tokens: None, ..SessionOptions::default() };
    let options = EngineOptions { session, max_queue: 2, ..EngineOptions::default() };
    let engine = Engine::start(&model, options).unwrap();
    let mut first = engine.submit(limited(text(1, 4), 500)).unwrap();
    // The first request has left the queue when it has an event.
    first.next();
    let waiting: Vec<Reply> = (0..2).map(|i| engine.submit(limited(text(2 + i, 4), 1)).unwrap()).collect();
    let error = engine.submit(limited(text(9, 4), 1)).unwrap_err();
    assert!(matches!(error, EngineError::Busy { waiting: 2, most: 2 }), "{error}");
    drop(first);
    let finished = waiting.into_iter().map(summary).filter(|summary| summary.generated_tokens == 1);
    assert_eq!(finished.count(), 2);
    assert!(engine.submit(limited(text(9, 4), 1)).is_ok());
}

#[test]
fn requests_that_cannot_be_computed_are_refused_at_once() {
    let model = Model::demo().unwrap();
    let session = SessionOptions { n_ctx: 64, n_sequences: 2, n_tokens: None, ..SessionOptions::default() };
    let engine = Engine::start(&model, EngineOptions { session, ..EngineOptions::default() }).unwrap();
    let refused = |tokens: Vec<u32>| match engine.submit(Request::answer(tokens, greedy())) {
        Err(EngineError::Model(error)) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(*refused(vec![]), ModelError::NoTokens { .. }));
    assert!(matches!(*refused(vec![1792]), ModelError::Token { token: 1792, n_vocab: 1792 }));
    assert!(matches!(*refused(text(1, 65)), ModelError::ContextFull { wanted: 65, n_ctx: 64, .. }));
    // The context ends an answer, and is not an error.
    let (_, summary) = engine.submit(limited(text(1, 64), 50)).unwrap().text().unwrap();
    assert_eq!((summary.stop, summary.generated_tokens), (Some(Stop::ContextFull), 1));
}

#[test]
fn a_reader_that_does_not_read_pauses_only_its_own_request() {
    let session = SessionOptions { n_ctx: 512, n_sequences: 4, n_tokens: Some(2048), ..Default::default() };
    let reader_timeout = Duration::from_secs(1);
    let mut turns = Turns::with(EngineOptions { session, reader_timeout, ..EngineOptions::default() });
    let unread = turns.submit(limited(text(1, 10), 400));
    let mut read = turns.submit(limited(text(2, 10), 300));
    let mut got = 0;
    for _ in 0..310 {
        turns.turn();
        got += texts(&mut read).len();
    }
    assert_eq!(got, 300, "the other request went on");
    assert_eq!((turns.stats().running, turns.stats().finished), (1, 1));
    let before = turns.now();
    while turns.stats().failed == 0 {
        turns.turn();
        assert!(turns.now() - before < Duration::from_secs(2), "{:?}", turns.stats());
    }
    let events: Vec<Event> = unread.collect();
    assert!(events.len() <= MOST_UNREAD);
    assert!(
        matches!(events.last(), Some(Event::Failed(EngineError::SlowReader { .. }))),
        "{:?}",
        events.last()
    );
    assert_eq!(turns.stats().free_tokens, turns.stats().total_tokens);
}

/// The older request is still in its prompt while the younger one decodes: a step lists the younger one first.
#[test]
fn a_failed_step_ends_its_requests_alone() {
    let mut turns = Turns::new(512, 4, 2048);
    let scored = turns.submit(limited(text(1, 300), 3).prompt_logprobs(1));
    let decoding = turns.submit(limited(text(2, 20), 200));
    for _ in 0..3 {
        turns.turn();
    }
    assert_eq!(turns.stats().running, 2);
    assert!(turns.worker.failing_turn().is_some(), "one failure does not stop the engine");
    for reply in [scored, decoding] {
        assert!(matches!(reply.last(), Some(Event::Failed(EngineError::Model(_)))));
    }
    let later = turns.submit(limited(text(3, 20), 4));
    turns.finish();
    assert_eq!(summary(later).generated_tokens, 4);
    assert_eq!((turns.stats().failed, turns.stats().free_tokens), (2, turns.stats().total_tokens));
}

#[test]
fn an_engine_stops_after_three_failed_steps() {
    let mut turns = Turns::new(512, 4, 2048);
    for failure in 1..=3 {
        let reply = turns.submit(limited(text(1, 20), 10));
        assert_eq!(turns.worker.failing_turn().is_some(), failure < 3);
        assert!(matches!(reply.last(), Some(Event::Failed(_))));
    }
    let stopped = turns.shared.stopped();
    assert!(matches!(stopped, Some(EngineError::Stopped { reason }) if reason.contains("3 steps in a row")));
}

#[test]
fn a_prefix_is_computed_once_for_requests_of_one_salt() {
    let mut turns = Turns::new(512, 4, 2048);
    let request = |salt| limited(text(1, 200), 3).salt(salt);
    let replies = [1, 1, 2].map(|salt| turns.submit(request(salt)));
    turns.finish();
    // All but the last whole block that leaves a token to compute.
    assert_eq!(replies.map(|reply| summary(reply).cached_tokens), [0, 192, 0]);
}

#[test]
fn prompt_logprobs_are_those_of_the_session() {
    let tokens = text(1, 100);
    let mut turns = Turns::new(256, 2, 512);
    let reply = turns.submit(limited(tokens.clone(), 0).prompt_logprobs(3));
    turns.finish();
    let events: Vec<Event> = reply.collect();
    let scores = events.iter().find_map(|event| match event {
        Event::PromptLogprobs(scores) => Some(scores.clone()),
        _ => None,
    });
    let scores = scores.unwrap();
    assert_eq!(scores.iter().map(|score| score.token).collect::<Vec<_>>(), tokens[1..]);
    let options = SessionOptions { n_ctx: 256, deterministic: true, ..SessionOptions::default() };
    let mut session = Session::new(&turns.model, &options).unwrap();
    let id = session.open().unwrap();
    let mut expected = Vec::new();
    session
        .all_logits(id, &tokens, |logits| {
            if let Some(&token) = tokens.get(expected.len() + 1) {
                expected.push(crate::sampling::TokenLogprobs::new(logits, token, 3));
            }
        })
        .unwrap();
    assert_eq!(scores, expected);
}

#[test]
fn embeddings_are_those_of_the_session() {
    for pooling in Pooling::ALL {
        let tokens = text(3, 70);
        let mut turns = Turns::new(256, 2, 512);
        // A text that was answered before is computed again, since each of its rows is needed.
        let replies = [
            turns.submit(limited(tokens.clone(), 2)),
            turns.submit(Request::embedding(tokens.clone(), pooling)),
        ];
        turns.finish();
        let [_, reply] = replies;
        let events: Vec<Event> = reply.collect();
        let found = events.iter().find_map(|event| match event {
            Event::Embedding(vector) => Some(vector.clone()),
            _ => None,
        });
        let options = SessionOptions { n_ctx: 256, deterministic: true, ..SessionOptions::default() };
        let mut session = Session::new(&turns.model, &options).unwrap();
        assert_eq!(found.unwrap(), session.embed(&tokens, pooling).unwrap(), "{pooling:?}");
    }
}

/// A request of a random schedule.
#[derive(Clone, Debug)]
struct Drawn {
    /// Turns before it is submitted.
    after: usize,
    seed: u32,
    n_prompt: usize,
    n_answer: usize,
    temperature: f32,
    /// Turns after which the reply is dropped.
    dropped: Option<usize>,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let dropped = prop_oneof![4 => Just(None), 1 => (0usize..30).prop_map(Some)];
    (0usize..6, 0u32..3, 1usize..150, 1usize..60, prop_oneof![Just(0.0f32), Just(0.9)], dropped).prop_map(
        |(after, seed, n_prompt, n_answer, temperature, dropped)| Drawn {
            after,
            seed,
            n_prompt,
            n_answer,
            temperature,
            dropped,
        },
    )
}

impl Drawn {
    fn request(&self) -> Request {
        let sampling = SamplerParams {
            temperature: Temperature::fixed(self.temperature),
            seed: u64::from(self.seed),
            logit_bias: endless(),
            // Without top-k the sampler reads all logits, and the requests of a step share threads.
            top_k: TopK { k: [0, 40][self.seed as usize % 2] },
            ..SamplerParams::default()
        };
        let limits = GenerateOptions { max_tokens: Some(self.n_answer), ..GenerateOptions::default() };
        Request::answer(text(self.seed, self.n_prompt), sampling).limits(limits)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    /// Promise P11: an answer is its own, whatever else is computed, in a pool so small that requests are put aside.
    #[test]
    fn answers_do_not_depend_on_the_schedule(requests in prop::collection::vec(drawn(), 2..10)) {
        let mut turns = Turns::new(256, 4, 320);
        let mut replies = Vec::new();
        let (mut n_turns, mut dropped) = (0usize, Vec::new());
        for request in &requests {
            for _ in 0..request.after {
                if turns.stats().running + turns.stats().waiting > 0 {
                    turns.turn();
                    n_turns += 1;
                }
            }
            replies.push(Some((turns.submit(request.request()), Vec::new())));
            dropped.push(request.dropped.map(|after| n_turns + after));
            turns.turn();
            n_turns += 1;
        }
        while turns.stats().running + turns.stats().waiting > 0 {
            for (reply, at) in replies.iter_mut().zip(&dropped) {
                if at.is_some_and(|at| at <= n_turns) {
                    *reply = None;
                } else if let Some((reply, tokens)) = reply {
                    tokens.extend(texts(reply).into_iter().filter_map(|text| text.token));
                }
            }
            turns.turn_without_work();
            n_turns += 1;
            prop_assert!(n_turns < 20_000, "requests never end: {:?}", turns.stats());
        }
        prop_assert_eq!(turns.stats().free_tokens, turns.stats().total_tokens);
        for (request, reply) in requests.iter().zip(replies) {
            let Some((mut reply, mut tokens)) = reply else { continue };
            tokens.extend(texts(&mut reply).into_iter().filter_map(|text| text.token));
            let mut alone = Turns::new(256, 1, 256);
            let mut reply = alone.submit(request.request());
            let mut expected = Vec::new();
            alone.turn();
            loop {
                expected.extend(texts(&mut reply).into_iter().filter_map(|text| text.token));
                if alone.stats().running == 0 {
                    break;
                }
                alone.turn();
            }
            prop_assert_eq!(tokens, expected);
        }
    }
}

/// The oldest request is never put aside, and those that are go on with the same answer.
#[test]
fn a_short_pool_puts_the_youngest_aside() {
    let mut turns = Turns::new(256, 3, 256);
    let replies: Vec<Reply> = (0..3).map(|seed| turns.submit(limited(text(seed, 40), 60))).collect();
    let mut replies: Vec<(Reply, usize)> = replies.into_iter().map(|reply| (reply, 0)).collect();
    let mut last = Vec::new();
    for _ in 0..1000 {
        if turns.stats().running + turns.stats().waiting == 0 && turns.stats().finished > 0 {
            break;
        }
        turns.turn();
        for (reply, n) in &mut replies {
            while let Some(event) = reply.try_recv() {
                match event {
                    Event::Text(_) => *n += 1,
                    Event::Finished(summary) => last.push(summary),
                    _ => {}
                }
            }
        }
    }
    assert_eq!(replies.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [60, 60, 60]);
    assert!(turns.stats().put_aside > 0, "the pool of this test was large enough");
    assert_eq!(last.len(), 3);
    assert_eq!(last[0].times_put_aside, 0, "the first to finish is the oldest");
    assert!(last.iter().any(|summary| summary.times_put_aside > 0));
}
