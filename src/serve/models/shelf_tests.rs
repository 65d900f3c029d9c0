//! The shelf on a clock that the test moves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::shelf::{Shelf, Stage};
use super::{KeepAlive, Loaded, ModelNames};
use crate::{Engine, EngineOptions, Model, SamplerParams, SessionOptions};

fn loaded(id: &str) -> Stage {
    let session = SessionOptions { n_ctx: 64, n_sequences: 1, n_tokens: None, ..SessionOptions::default() };
    let options = EngineOptions { session, ..EngineOptions::default() };
    let engine = Engine::start(&Model::demo().unwrap(), options).unwrap();
    let names = ModelNames { id: id.into(), aliases: vec![format!("{id}-alias")] };
    Stage::Ready(Arc::new(Loaded::new(engine, names, SamplerParams::default())))
}

/// Seconds after the start.
fn at(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

const MINUTE: KeepAlive = KeepAlive::For(Duration::from_secs(60));

#[test]
fn the_least_recently_used_idle_one_goes_first() {
    let (mut shelf, start) = (Shelf::default(), Instant::now());
    let numbers = ["a", "b", "c"].map(|id| shelf.add(id, loaded(id), MINUTE, start));
    for (number, second) in [(1, 1), (2, 2), (0, 3), (1, 4)] {
        shelf.numbered(numbers[number]).unwrap().uses += 1;
        shelf.release(numbers[number], at(start, second));
    }
    shelf.numbered(numbers[2]).unwrap().uses += 1;
    assert_eq!(shelf.take_least_recent().unwrap().0, numbers[0], "c answers, b was used later");
    assert_eq!(shelf.take_least_recent().unwrap().0, numbers[1]);
    assert!(shelf.take_least_recent().is_none(), "c still answers");
    shelf.release(numbers[2], at(start, 5));
    assert_eq!(shelf.take_least_recent().unwrap().0, numbers[2]);
    assert_eq!(shelf.n_held(), 3, "their memory is not free yet");
    shelf.remove(numbers[0]);
    assert_eq!(shelf.n_held(), 2);
}

#[test]
fn time_runs_from_the_end_of_the_last_use() {
    let (mut shelf, start) = (Shelf::default(), Instant::now());
    let a = shelf.add("a", loaded("a"), MINUTE, start);
    assert_eq!(shelf.next_expiry(), Some(at(start, 60)));
    shelf.numbered(a).unwrap().uses += 2;
    assert_eq!(shelf.next_expiry(), None);
    assert!(shelf.take_expired(at(start, 1000)).is_none(), "it answers");
    shelf.release(a, at(start, 100));
    assert!(shelf.take_expired(at(start, 1000)).is_none(), "one answer is left");
    shelf.release(a, at(start, 200));
    assert!(shelf.take_expired(at(start, 259)).is_none());
    assert_eq!(shelf.next_expiry(), Some(at(start, 260)));
    assert_eq!(shelf.take_expired(at(start, 260)).unwrap().0, a);
    assert!(shelf.take_expired(at(start, 260)).is_none(), "it ends already");
}

#[test]
fn times_have_their_extremes() {
    let (mut shelf, start) = (Shelf::default(), Instant::now());
    let a = shelf.add("a", loaded("a"), KeepAlive::Forever, start);
    assert_eq!(shelf.next_expiry(), None);
    shelf.numbered(a).unwrap().keep = KeepAlive::For(Duration::MAX);
    assert_eq!(shelf.next_expiry(), None);
    shelf.numbered(a).unwrap().keep = KeepAlive::For(Duration::ZERO);
    assert_eq!(shelf.take_expired(start).unwrap().0, a);
}

#[test]
fn pinned_models_are_found_by_aliases() {
    let (mut shelf, start) = (Shelf::default(), Instant::now());
    let a = shelf.add("a", loaded("a"), KeepAlive::For(Duration::ZERO), start);
    assert!(shelf.named("a-alias").is_none());
    shelf.numbered(a).unwrap().is_pinned = true;
    assert_eq!(shelf.named("a-alias").unwrap().number, a);
}

#[test]
fn pinned_models_stay() {
    let (mut shelf, start) = (Shelf::default(), Instant::now());
    let a = shelf.add("a", loaded("a"), KeepAlive::For(Duration::ZERO), start);
    shelf.numbered(a).unwrap().is_pinned = true;
    assert!(shelf.take_least_recent().is_none() && shelf.take_expired(at(start, 9)).is_none());
    assert!(!shelf.can_end());
}
