//! Random schedules of sequences over both kinds of state, against a model that stores everything.

use proptest::prelude::*;

use super::*;
use crate::Remedy;

#[test]
fn contexts_that_cannot_be_counted_are_refused() {
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

/// Positions past the layout would lie in the next sequence's table.
#[test]
fn a_sequence_stays_in_its_own_table() {
    let mut states = States::new(CacheLayout::new(32, 2).unwrap(), 1000);
    let id = states.open().unwrap();
    assert!(states.reserve(id, 33).is_err() && states.reserve(id, usize::MAX).is_err());
    states.reserve(id, 32).unwrap();
    assert_eq!(states.n_ctx(), 32);
    assert_eq!(states.tables().iter().filter(|&&block| block >= 0).count(), 1);
}

/// A sequence may take all that others leave, and not more.
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

const N_CTX: usize = 100;
const N_SEQUENCES: usize = 3;

/// What a device would hold: for each slot of paged state the tokens up to and with the one whose key lies there, for
/// each slot of recurrent state all tokens that went into it.
struct Device {
    states: States,
    paged: Vec<Vec<u32>>,
    recurrent: Vec<Vec<u32>>,
    /// What each open sequence should hold.
    held: [Option<(SequenceId, Vec<u32>)>; N_SEQUENCES],
    aside: Vec<(Aside, Vec<u32>)>,
}

/// What a sequence does. Tokens are 0 or 1 in runs of a block, so that prefixes are often the same.
#[derive(Clone, Debug)]
enum Act {
    Open,
    Append(Vec<u32>),
    /// Tokens that may be taken back: so many of them are.
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

    /// Computes tokens, as a session does. Gives whether there was room.
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
            self.paged[usize::try_from(slot).unwrap()] = text[..=position].to_vec();
        }
        if self.states.has_recurrent() {
            let [source, target] = self.states.source_and_target(id);
            let before = usize::try_from(source).map_or(Vec::new(), |source| self.recurrent[source].clone());
            assert_eq!(before, held, "{id:?} goes on from another sequence's state");
            self.recurrent[usize::try_from(target).unwrap()] = text.clone();
        }
        self.states.advance(id, tokens);
        self.held[which] = Some((id, text));
        true
    }

    /// No other sequence reads a slot that this one writes.
    fn assert_unread(&self, id: SequenceId, slot: i32) {
        for (other, tokens) in self.held.iter().flatten().filter(|(other, _)| *other != id) {
            let reads = (0..tokens.len()).any(|p| self.states.slot(*other, p) == slot);
            assert!(!reads, "slot {slot} is written by {id:?} and read by {other:?}");
        }
    }

    /// Goes back, and gives how many tokens are left.
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
            (Some((_, held)), Act::Fork) => self.fork(&held),
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

    /// Opens a sequence, or goes on with one that was put aside.
    fn open(&mut self, which: usize) {
        let id = self.states.open().unwrap();
        let mut held = Vec::new();
        if let Some((aside, mut tokens)) = self.aside.pop() {
            let n = self.states.reuse(id, aside.tokens()).unwrap();
            tokens.truncate(n);
            held = tokens;
        }
        self.held[which] = Some((id, held));
    }

    fn fork(&mut self, held: &[u32]) {
        let Some(free) = self.held.iter().position(Option::is_none) else { return };
        let id = self.states.open().unwrap();
        let n = self.states.reuse(id, held).unwrap();
        // A block is found by its tokens only after one that is: fewer may be shared than are full.
        assert!(n.is_multiple_of(BLOCK_SIZE) && n <= held.len());
        self.held[free] = Some((id, held[..n].to_vec()));
    }

    /// A step that failed may have written anything where it was to write.
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

    /// Every sequence reads what it should, and every block is held by those that have it in their table.
    fn check(&self) {
        for (id, held) in self.held.iter().flatten() {
            assert_eq!(self.states.len(*id).unwrap(), held.len());
            assert_eq!(&self.states.tokens(*id).unwrap().collect::<Vec<_>>(), held);
            for position in 0..held.len() {
                let slot = usize::try_from(self.states.slot(*id, position)).unwrap();
                assert_eq!(self.paged[slot], held[..=position], "{id:?} at {position}");
            }
            if let Some(recurrent) = &self.states.recurrent {
                let current = recurrent.current(id.0);
                assert_eq!(current.map_or(&[][..], |slot| &self.recurrent[slot as usize]), held);
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
        self.states.find(tokens).map_or(0, |(_, n)| n)
    }
}

#[test]
fn a_common_prefix_is_held_once_and_found_after_its_end() {
    let mut device = Device::new(false, None);
    let prompt: Vec<u32> = (0..90).collect();
    for which in 0..2 {
        device.act(which, Act::Open);
        device.act(which, Act::Reuse(prompt.clone()));
    }
    // Two blocks are common, and each has its own third.
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

/// The state at the end of a prompt's whole blocks is kept, and a mark before guesses.
#[test]
fn recurrent_state_is_found_where_it_was_kept() {
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
fn what_was_used_longest_ago_is_forgotten_first() {
    let mut device = Device::new(false, None);
    let prompt = |seed: u32| (0..97).map(|i| seed * 1000 + i).collect::<Vec<u32>>();
    // Twelve blocks: three prompts' full ones, and a fourth block of the sequence that is open.
    for seed in [0, 1, 2, 0, 3] {
        device.act(0, Act::Open);
        device.act(0, Act::Reuse(prompt(seed)));
        device.act(0, Act::Close);
    }
    let found = [0, 1, 2, 3].map(|seed| device.find(&prompt(seed)) / BLOCK_SIZE);
    assert_eq!(found, [3, 2, 3, 3], "the end of the oldest goes");
}

/// A chunk of one row that ends a prompt's block keeps its state; a single token of an answer does not.
#[test]
fn a_one_row_chunk_of_a_prompt_keeps_its_state() {
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

/// Snapshots whose blocks were taken for other tokens go before those that can be found.
#[test]
fn void_snapshots_are_given_up_first() {
    let mut device = Device::new(true, Some(4 * BLOCK_SIZE));
    let prompt = |seed: u32| (0..32).map(|i| seed * 1000 + i).collect::<Vec<u32>>();
    device.act(1, Act::Open);
    device.act(1, Act::Append(prompt(0)));
    device.act(0, Act::Open);
    for seed in 1..3 {
        device.act(0, Act::Append(prompt(seed)));
        device.act(0, Act::Rewind(0));
    }
    // Three blocks, those of prompts 1 and 2 among them. Their snapshots are void, and newer than that of prompt 0.
    device.act(0, Act::Append(vec![9000; 70]));
    device.act(0, Act::Rewind(0));
    device.act(0, Act::Append(prompt(3)));
    assert_eq!([0, 3].map(|seed| device.find(&prompt(seed))), [32, 32]);
}

/// A row without a token names nothing: its block, and those after it, are found by no tokens.
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
    assert_eq!(states.find(&rows).map(|(_, n)| n), Some(32));
    assert_eq!(states.find(&[7; 96]).map(|(_, n)| n), Some(32));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever sequences do, each reads its own tokens' state, no sequence writes what another reads, and closing all
    /// releases everything.
    #[test]
    fn sequences_share_state_and_never_disturb_each_other(
        recurrent in any::<bool>(),
        // From one context for all sequences to one for each.
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
