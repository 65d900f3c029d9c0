//! Random schedules of sequences over both kinds of state, compared with a model that stores everything.

use proptest::prelude::*;

use super::*;
use crate::Remedy;

#[test]
fn contexts_beyond_i32_slots_are_refused() {
    let most = CacheLayout::MAX_N_CTX;
    let layout = CacheLayout::new(most, 1).unwrap();
    assert_eq!(layout.n_slots(), most);
    assert!(i32::try_from(layout.n_slots()).is_ok());
    let refused = [(most + 1, 1), (usize::MAX, 1), (1, usize::MAX), (most, 2), (usize::MAX, usize::MAX)];
    for (n_ctx, n_sequences) in refused {
        let error = CacheLayout::new(n_ctx, n_sequences).unwrap_err();
        assert!(matches!(error, ModelError::Context { .. }), "{error}");
        assert_eq!(error.remedies(), [Remedy::SmallerContext]);
    }
    assert!(CacheLayout::pooled(4096, 1, Some(usize::MAX)).is_err());
}

/// Positions past the layout would be in the next sequence's table.
#[test]
fn a_sequence_stays_in_its_own_table() {
    let mut states = States::new(CacheLayout::new(32, 2).unwrap(), 1000);
    let id = states.open().unwrap();
    assert!(states.reserve(id, 33).is_err() && states.reserve(id, usize::MAX).is_err());
    states.reserve(id, 32).unwrap();
    assert_eq!(states.n_ctx(), 32);
    assert_eq!(states.tables().iter().filter(|&&block| block >= 0).count(), 1);
}

/// A sequence may take all blocks that the others do not hold, and no more.
#[test]
fn one_pool_serves_all_sequences() {
    let mut states = States::new(CacheLayout::pooled(128, 3, Some(160)).unwrap(), 1000);
    let ids = [(); 3].map(|()| states.open().unwrap());
    states.reserve(ids[0], 128).unwrap();
    states.advance(ids[0], &[7; 128]);
    assert_eq!(states.free_tokens(), 32);
    let error = states.reserve(ids[1], 33).unwrap_err();
    assert!(matches!(error, ModelError::CacheFull { needed: 64, free: 32, total: 160 }), "{error}");
    states.reserve(ids[1], 32).unwrap();
    assert!(matches!(states.reserve(ids[2], 1), Err(ModelError::CacheFull { .. })));
    let aside = states.put_aside(ids[0]).unwrap();
    states.reserve(ids[2], 1).unwrap();
    assert_eq!(states.free_tokens(), 96, "what is put aside is free");
    let again = states.open().unwrap();
    let held = states.reuse(again, aside.tokens()).unwrap();
    assert_eq!(held, 96, "all that nothing else has taken is found");
}

/// Each reason why a prefix ends, and the position where it does.
#[test]
fn the_end_of_a_prefix_has_its_reason() {
    let mut states = States::new(CacheLayout::pooled(160, 2, Some(192)).unwrap(), 1000);
    let prompt: Vec<u32> = (0..100).collect();
    let found = |states: &States, salt, tokens: &[u32]| {
        states.prefix_end(salt, tokens, states.findable(salt, tokens))
    };
    assert_eq!(found(&states, 0, &prompt), PrefixEnd::Missing(false));
    let id = states.open().unwrap();
    states.reserve(id, 96).unwrap();
    states.advance(id, &prompt[..96]);
    assert_eq!(found(&states, 0, &prompt), PrefixEnd::Whole, "the last 4 tokens fill no block");
    let longer: Vec<u32> = (0..140).collect();
    assert_eq!(found(&states, 0, &longer), PrefixEnd::Missing(false));
    let mut other = longer.clone();
    other[70] = 999;
    assert_eq!(found(&states, 0, &other), PrefixEnd::Differs(70));
    other[3] = 999;
    assert_eq!(found(&states, 0, &other), PrefixEnd::Differs(3));
    assert_eq!(found(&states, 7, &longer), PrefixEnd::Salted(96));
    states.close(id).unwrap();
    let next = states.open().unwrap();
    states.reserve(next, 160).unwrap();
    states.advance(next, &[5; 160]);
    assert_eq!(found(&states, 0, &longer[..96]), PrefixEnd::Missing(true), "its end was displaced");
}

const N_CTX: usize = 100;
const N_SEQUENCES: usize = 3;

/// A model of a device's memory: each slot of paged state holds the tokens up to the one whose key is stored there,
/// each slot of recurrent state all tokens that were computed into it.
struct Device {
    states: States,
    paged: Vec<Vec<u32>>,
    recurrent: Vec<Vec<u32>>,
    /// The expected tokens of each open sequence.
    held: [Option<(SequenceId, Vec<u32>)>; N_SEQUENCES],
    aside: Vec<(Aside, Vec<u32>)>,
}

/// An operation on a sequence. Tokens are 0 or 1 in runs of a block, so that sequences often share prefixes.
#[derive(Clone, Debug)]
enum Act {
    Open,
    /// Opens a sequence that shares nothing with those of [`Act::Open`].
    OpenSalted,
    Append(Vec<u32>),
    /// Guessed tokens, and how many of them are rewound.
    Guess(Vec<u32>, usize),
    Reuse(Vec<u32>),
    Rewind(usize),
    Fork,
    /// A step whose device failed.
    Fail(usize),
    PutAside,
    Close,
}

fn text(runs: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u32>> {
    let len = prop_oneof![3 => Just(BLOCK_SIZE), 1 => 1..BLOCK_SIZE];
    let runs = prop::collection::vec((0u32..2, len), runs);
    runs.prop_map(|runs| runs.into_iter().flat_map(|(token, n)| vec![token; n]).collect())
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => Just(Act::Open),
        1 => Just(Act::OpenSalted),
        3 => text(1..3).prop_map(Act::Append),
        2 => (text(1..2), 0..BLOCK_SIZE).prop_map(|(tokens, n)| Act::Guess(tokens, n)),
        4 => text(1..5).prop_map(Act::Reuse),
        3 => (0..N_CTX).prop_map(Act::Rewind),
        2 => Just(Act::Fork),
        1 => (1..40usize).prop_map(Act::Fail),
        1 => Just(Act::PutAside),
        1 => Just(Act::Close),
    ]
}

impl Device {
    fn new(recurrent: bool, n_tokens: Option<usize>) -> Device {
        let layout = CacheLayout::pooled(N_CTX, N_SEQUENCES, n_tokens).unwrap();
        let mut states = States::new(layout, N_CTX);
        if recurrent {
            states.with_recurrent();
        }
        Device {
            paged: vec![Vec::new(); layout.n_slots()],
            recurrent: vec![Vec::new(); layout.n_recurrent_slots()],
            states,
            held: [None, None, None],
            aside: Vec::new(),
        }
    }

    /// Computes tokens as a session does. Returns false if there was no room.
    fn append(&mut self, which: usize, tokens: &[u32]) -> bool {
        let Some((id, held)) = self.held[which].clone() else { return false };
        let fits = held.len() + tokens.len() <= N_CTX;
        if let Err(error) = self.states.reserve(id, tokens.len()) {
            let short = matches!(error, ModelError::CacheFull { .. });
            assert!(if fits { short } else { matches!(error, ModelError::ContextFull { .. }) }, "{error}");
            self.states.abandon(id, false);
            return false;
        }
        assert!(fits);
        let text = [&held[..], tokens].concat();
        for position in held.len()..text.len() {
            let slot = self.states.slot(id, position);
            self.assert_unread(id, slot);
            self.paged[usize::try_from(slot).unwrap()] = self.content(id, &text[..=position]);
        }
        if self.states.has_recurrent() {
            let [source, target] = self.states.source_and_target(id);
            let before = usize::try_from(source).map_or(Vec::new(), |source| self.recurrent[source].clone());
            let own = if held.is_empty() { Vec::new() } else { self.content(id, &held) };
            assert_eq!(before, own, "{id:?} goes on from another sequence's state");
            self.recurrent[usize::try_from(target).unwrap()] = self.content(id, &text);
        }
        self.states.advance(id, tokens);
        self.held[which] = Some((id, text));
        true
    }

    /// The content of a slot after these tokens of a sequence: the salt, then the tokens.
    fn content(&self, id: SequenceId, tokens: &[u32]) -> Vec<u32> {
        std::iter::once(self.states.salt(id) as u32).chain(tokens.iter().copied()).collect()
    }

    /// Panics if another sequence reads a slot that this one writes.
    fn assert_unread(&self, id: SequenceId, slot: i32) {
        for (other, tokens) in self.held.iter().flatten().filter(|(other, _)| *other != id) {
            let reads = (0..tokens.len()).any(|p| self.states.slot(*other, p) == slot);
            assert!(!reads, "slot {slot} is written by {id:?} and read by {other:?}");
        }
    }

    /// Rewinds a sequence and returns the number of its remaining tokens.
    fn rewind(&mut self, which: usize, to: usize) -> usize {
        let Some((id, mut held)) = self.held[which].clone() else { return 0 };
        let wanted = to.min(held.len());
        let left = match self.states.rewind(id, to).unwrap() {
            Rewind::Done => wanted,
            Rewind::RecomputeFrom(left) => {
                assert!(left < wanted);
                left
            }
        };
        held.truncate(left);
        self.held[which] = Some((id, held));
        left
    }

    fn act(&mut self, which: usize, act: Act) {
        match (self.held[which].clone(), act) {
            (None, Act::Open) => self.open(which),
            (None, Act::OpenSalted) => {
                self.held[which] = Some((self.states.open_salted(1).unwrap(), Vec::new()));
            }
            (_, Act::Append(tokens)) => drop(self.append(which, &tokens)),
            (Some((id, held)), Act::Guess(tokens, n)) => {
                self.states.mark(id).unwrap();
                if self.append(which, &tokens) {
                    let to = held.len() + tokens.len().saturating_sub(n);
                    let left = self.rewind(which, to);
                    let at_least = if self.states.has_recurrent() { held.len() } else { to };
                    assert!((at_least..=to).contains(&left), "{left} of {to} are left");
                    self.states.mark(id).unwrap();
                }
            }
            (Some((id, held)), Act::Reuse(tokens)) => {
                let n = self.states.reuse(id, &tokens[..tokens.len() - 1]).unwrap();
                let own = held.iter().zip(&tokens).take_while(|(a, b)| a == b).count();
                assert!(n < tokens.len());
                let whole = own.min(tokens.len() - 1) / BLOCK_SIZE * BLOCK_SIZE;
                assert!(self.states.has_recurrent() || n >= whole, "{n} of {own}");
                self.held[which] = Some((id, tokens[..n].to_vec()));
                self.append(which, &tokens[n..]);
            }
            (Some(_), Act::Rewind(to)) => drop(self.rewind(which, to)),
            (Some((id, held)), Act::Fork) => self.fork(id, &held),
            (Some((id, held)), Act::Fail(n)) => self.fail(which, id, held, n),
            (Some((id, held)), Act::PutAside) => {
                let aside = self.states.put_aside(id).unwrap();
                assert_eq!(aside.tokens(), held);
                self.aside.push((aside, held));
                self.held[which] = None;
            }
            (Some((id, _)), Act::Close) => {
                self.states.close(id).unwrap();
                self.held[which] = None;
            }
            _ => {}
        }
        self.check();
    }

    /// Opens a sequence, and continues one that was put aside, if any.
    fn open(&mut self, which: usize) {
        self.held[which] = Some(match self.aside.pop() {
            Some((aside, mut tokens)) => {
                let (id, n) = self.states.go_on(&aside).unwrap();
                tokens.truncate(n);
                (id, tokens)
            }
            None => (self.states.open().unwrap(), Vec::new()),
        });
    }

    fn fork(&mut self, of: SequenceId, held: &[u32]) {
        let Some(free) = self.held.iter().position(Option::is_none) else { return };
        let (id, n) = self.states.fork(of).unwrap();
        // A block is findable only if its parent is, so not every full block may be shared.
        assert!(n.is_multiple_of(BLOCK_SIZE) && n <= held.len());
        self.held[free] = Some((id, held[..n].to_vec()));
    }

    /// A failed step may have written anything to its slots.
    fn fail(&mut self, which: usize, id: SequenceId, held: Vec<u32>, n: usize) {
        if self.states.reserve(id, n).is_err() {
            return;
        }
        for position in held.len()..held.len() + n {
            let slot = self.states.slot(id, position);
            self.assert_unread(id, slot);
            self.paged[usize::try_from(slot).unwrap()] = vec![99];
        }
        if let Ok(target) = usize::try_from(self.states.source_and_target(id)[1]) {
            self.recurrent[target] = vec![99];
        }
        self.states.abandon(id, true);
        let left = self.states.len(id).unwrap();
        assert!(left == held.len() || (left == 0 && self.states.has_recurrent()));
        self.held[which] = Some((id, held[..left].to_vec()));
    }

    /// Checks that every sequence reads its own tokens, and that the holders of a block are the tables that name it.
    fn check(&self) {
        for (id, held) in self.held.iter().flatten() {
            assert_eq!(self.states.len(*id).unwrap(), held.len());
            assert_eq!(&self.states.tokens(*id).unwrap().collect::<Vec<_>>(), held);
            for position in 0..held.len() {
                let slot = usize::try_from(self.states.slot(*id, position)).unwrap();
                assert_eq!(self.paged[slot], self.content(*id, &held[..=position]), "{id:?} at {position}");
            }
            if let Some(recurrent) = &self.states.recurrent {
                let current = recurrent.current(id.0);
                let content = current.map_or(&[][..], |slot| &self.recurrent[slot as usize]);
                assert_eq!(content.get(1..).unwrap_or_default(), held);
                assert!(content.first().is_none_or(|&salt| u64::from(salt) == self.states.salt(*id)));
            }
        }
        let tables = self.states.tables();
        let blocks = 0..self.states.paged.blocks.len() as i32;
        for block in blocks.clone() {
            let holders = tables.iter().filter(|&&entry| entry == block).count();
            assert_eq!(self.states.paged.blocks.holders(block) as usize, holders);
        }
        let idle = blocks.filter(|block| !tables.contains(block)).count();
        assert_eq!(self.states.paged.blocks.check(), idle);
        if let Some(recurrent) = &self.states.recurrent {
            recurrent.check();
        }
    }

    fn find(&self, tokens: &[u32]) -> usize {
        self.states.findable(0, tokens)
    }
}

#[test]
fn a_shared_prefix_is_stored_once_and_findable_after_closing() {
    let mut device = Device::new(false, None);
    let prompt: Vec<u32> = (0..90).collect();
    for which in 0..2 {
        device.act(which, Act::Open);
        device.act(which, Act::Reuse(prompt.clone()));
    }
    // Two blocks are shared, and each sequence has a third block of its own.
    let mut tables = device.states.tables().to_vec();
    let held = tables.iter().filter(|&&block| block >= 0).count();
    tables.sort_unstable();
    tables.dedup();
    assert_eq!((held, tables.len()), (6, 1 + 4));
    device.act(0, Act::Close);
    device.act(1, Act::Close);
    assert_eq!(device.find(&prompt[..65]), 64);
    assert_eq!(device.find(&prompt[..63]), 32);
    assert_eq!(device.find(&[]), 0);
    assert_eq!(device.find(&prompt[1..]), 0);
}

/// Snapshots are at the end of a prompt's whole blocks and at a mark before guesses.
#[test]
fn recurrent_state_is_found_at_snapshots_and_marks() {
    let mut device = Device::new(true, None);
    let prompt: Vec<u32> = (0..70).collect();
    device.act(0, Act::Open);
    for part in [&prompt[..64], &prompt[64..]] {
        device.act(0, Act::Append(part.to_vec()));
    }
    assert_eq!(device.find(&prompt), 64, "a chunk ended there");
    device.act(1, Act::Open);
    device.act(1, Act::Reuse(prompt.clone()));
    assert_eq!(device.rewind(0, 69), 64, "no state of 69 tokens is kept");
    device.act(0, Act::Append(prompt[64..].to_vec()));
    let id = device.held[0].clone().unwrap().0;
    device.states.mark(id).unwrap();
    device.act(0, Act::Append(vec![5; 8]));
    assert_eq!(device.rewind(0, 70), 70, "the mark is there");
    device.check();
}

#[test]
fn the_least_recently_used_block_is_taken_first() {
    let mut device = Device::new(false, None);
    let prompt = |seed: u32| (0..97).map(|i| seed * 1000 + i).collect::<Vec<u32>>();
    // Twelve blocks: the full blocks of three prompts, and a fourth block of the open sequence.
    for seed in [0, 1, 2, 0, 3] {
        device.act(0, Act::Open);
        device.act(0, Act::Reuse(prompt(seed)));
        device.act(0, Act::Close);
    }
    let found = [0, 1, 2, 3].map(|seed| device.find(&prompt(seed)) / BLOCK_SIZE);
    assert_eq!(found, [3, 2, 3, 3], "the end of the oldest goes");
}

/// A chunk of one row that ends a prompt's block makes a snapshot; a single token of an answer does not.
#[test]
fn a_one_row_chunk_of_a_prompt_makes_a_snapshot() {
    let prompt: Vec<u32> = (0..51).collect();
    for (room, found) in [(20, 32), (1, 0)] {
        let mut device = Device::new(true, None);
        device.act(0, Act::Open);
        device.act(0, Act::Append(prompt[..31].to_vec()));
        let id = device.held[0].clone().unwrap().0;
        device.states.reserve(id, room).unwrap();
        device.act(0, Act::Append(prompt[31..32].to_vec()));
        assert_eq!(device.find(&prompt), found, "{room} tokens to come");
    }
}

/// Snapshots whose blocks were taken for other tokens are dropped before findable ones.
#[test]
fn unfindable_snapshots_are_dropped_first() {
    let mut device = Device::new(true, Some(4 * BLOCK_SIZE));
    let prompt = |seed: u32| (0..32).map(|i| seed * 1000 + i).collect::<Vec<u32>>();
    device.act(1, Act::Open);
    device.act(1, Act::Append(prompt(0)));
    device.act(0, Act::Open);
    for seed in 1..3 {
        device.act(0, Act::Append(prompt(seed)));
        device.act(0, Act::Rewind(0));
    }
    // Takes three blocks, also those of prompts 1 and 2. Their snapshots become void, and are newer than prompt 0's.
    device.act(0, Act::Append(vec![9000; 70]));
    device.act(0, Act::Rewind(0));
    device.act(0, Act::Append(prompt(3)));
    assert_eq!([0, 3].map(|seed| device.find(&prompt(seed))), [32, 32]);
}

/// The block of a row without a token, and the blocks after it, cannot be found by tokens.
#[test]
fn blocks_with_embedding_rows_are_never_found() {
    let mut states = States::new(CacheLayout::new(128, 1).unwrap(), 128);
    let id = states.open().unwrap();
    let rows: Vec<u32> = (0..96).map(|i| if i == 40 { EMBEDDING_ROW } else { 7 }).collect();
    states.reserve(id, 96).unwrap();
    states.advance(id, &rows);
    assert!(states.tokens(id).is_err() && states.put_aside(id).is_err());
    assert_eq!(states.common(id, &[&[7; 40][..], &[u32::MAX; 8]].concat()).unwrap(), 40);
    states.close(id).unwrap();
    assert_eq!(states.findable(0, &rows), 32);
    assert_eq!(states.findable(0, &[7; 96]), 32);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// In any schedule each sequence reads the state of its own tokens, no sequence writes a slot that another reads,
    /// and closing all sequences releases all blocks.
    #[test]
    fn sequences_share_state_and_never_disturb_each_other(
        recurrent in any::<bool>(),
        // From one context for all sequences to one for each sequence.
        blocks in 4usize..13,
        acts in prop::collection::vec((0..N_SEQUENCES, act()), 1..60),
    ) {
        let mut device = Device::new(recurrent, Some(blocks * BLOCK_SIZE));
        for (which, act) in acts {
            device.act(which, act);
        }
        (0..N_SEQUENCES).for_each(|which| device.act(which, Act::Close));
        prop_assert_eq!(device.states.paged.blocks.check(), blocks);
        prop_assert!(device.states.tables().iter().all(|&block| block == -1));
    }
}
