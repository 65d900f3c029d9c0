//! The engine's thread: it owns the session, admits requests and computes one step after another.
//!
//! A step has one row of every running answer, and then rows of prompts, the oldest request first, as many as fit the
//! time of a step. Memory is one pool: if it is short, the youngest request is put aside, and goes on when there is
//! room again. So a running answer never fails for lack of room, and the oldest always goes on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::EngineOptions;
use super::clock::Clock;
use super::deliver::{deliver, deliveries};
use super::job::{Job, Phase};
use super::options::{Stats, StepReport};
use super::pace::Pace;
use super::reply::EngineError;
use super::shared::{Command, Shared};
use crate::model::{BLOCK_SIZE, ModelError, Rows, Session};

/// The wait for a command while every request waits for its reader.
const READERS_WAIT: Duration = Duration::from_millis(5);

/// The number of failed steps in a row after which the engine stops.
const MOST_FAILURES: usize = 3;

pub(super) struct Worker<C> {
    session: Session,
    clock: C,
    options: EngineOptions,
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    /// Requests without a sequence, in the order of submission.
    queue: VecDeque<Job>,
    /// Requests with a sequence, in the order of submission.
    active: Vec<Job>,
    pace: Pace,
    stats: Stats,
    n_submitted: u64,
    /// Failed steps in a row.
    failures: usize,
}

/// Rows of a step: the number of a request in the list of active ones, and the number of its rows.
type Chosen = Vec<(usize, usize)>;

impl<C: Clock> Worker<C> {
    pub fn new(
        session: Session,
        clock: C,
        options: EngineOptions,
        commands: Receiver<Command>,
        shared: Arc<Shared>,
    ) -> Worker<C> {
        Worker {
            session,
            clock,
            options,
            commands,
            shared,
            queue: VecDeque::new(),
            active: Vec::new(),
            pace: Pace::default(),
            stats: Stats::default(),
            n_submitted: 0,
            failures: 0,
        }
    }

    /// A turn whose step cannot be computed.
    #[cfg(test)]
    pub fn failing_turn(&mut self) -> Option<()> {
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command)?;
        }
        self.admit();
        let chosen = self.choose();
        self.step_failed(&chosen, ModelError::AnswerOver)
    }

    #[cfg(test)]
    pub fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Works until all handles of the engine are dropped and all requests are done, or the engine is told to stop.
    pub fn run(&mut self) {
        while let Some(()) = self.turn() {}
    }

    /// One round: new requests, cancelled ones, one step. `None` if the engine's work is over.
    pub fn turn(&mut self) -> Option<()> {
        if self.queue.is_empty() && self.active.is_empty() {
            self.publish();
            match self.commands.recv() {
                Ok(command) => self.obey(command)?,
                Err(_) => return None,
            }
        }
        while let Ok(command) = self.commands.try_recv() {
            self.obey(command)?;
        }
        self.drop_cancelled();
        self.admit();
        self.publish();
        let chosen = self.choose();
        if !chosen.is_empty() {
            return self.step(chosen);
        }
        if !self.active.is_empty() {
            match self.commands.recv_timeout(READERS_WAIT) {
                Ok(command) => self.obey(command)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    self.clock.waited(READERS_WAIT)
                }
            }
        }
        Some(())
    }

    fn obey(&mut self, command: Command) -> Option<()> {
        match command {
            Command::Submit(mut job) => {
                job.submitted(self.n_submitted, self.clock.now());
                self.n_submitted += 1;
                self.queue.push_back(*job);
                Some(())
            }
            Command::Stop => {
                self.stop("it was told to stop");
                None
            }
        }
    }

    /// Ends all requests.
    fn stop(&mut self, reason: &str) {
        self.shared.stop(reason);
        let error = || EngineError::Stopped { reason: reason.to_string() };
        self.queue.drain(..).chain(self.active.drain(..)).for_each(|job| job.fail(error()));
        while let Ok(command) = self.commands.try_recv() {
            if let Command::Submit(job) = command {
                job.fail(error());
            }
        }
        self.publish();
    }

    /// Ends requests whose replies were dropped.
    fn drop_cancelled(&mut self) {
        let stats = &mut self.stats;
        let mut count = |job: &Job| {
            match job.phase() {
                Phase::Waiting => stats.cancelled_waiting += 1,
                Phase::Prompt => stats.cancelled_prompt += 1,
                Phase::Answer => stats.cancelled_answer += 1,
            }
            tracing::debug!(request = job.number, phase = ?job.phase(), "cancelled: the reply was dropped");
        };
        let shared = &self.shared;
        self.queue.retain(|job| {
            let cancelled = job.is_cancelled();
            if cancelled {
                count(job);
                if job.is_new() {
                    shared.left_queue();
                }
            }
            !cancelled
        });
        let session = &mut self.session;
        self.active.retain(|job| {
            let cancelled = job.is_cancelled();
            if cancelled {
                count(job);
                close(session, job);
            }
            !cancelled
        });
    }

    /// Opens sequences for waiting requests, the oldest first, while there is room.
    fn admit(&mut self) {
        let n_sequences = self.session.states().n_sequences();
        let mut at = 0;
        while at < self.queue.len() && self.active.len() < n_sequences {
            if self.waits_for_a_prefix(&self.queue[at]) {
                at += 1;
            } else if self.fits(&self.queue[at]) {
                let Some(job) = self.queue.remove(at) else { break };
                self.open(job);
            } else {
                break;
            }
        }
    }

    /// True if another request computes a prefix of this one's prompt now, which then need not be computed twice.
    fn waits_for_a_prefix(&self, job: &Job) -> bool {
        let in_prompt = |other: &&Job| other.salt == job.salt && other.left() > 1 && other.shares_prefix();
        let prompts = self.active.iter().filter(in_prompt);
        let common = |other: &Job| {
            let most = &job.tokens[..job.tokens.len().saturating_sub(1)];
            let same = most.iter().zip(&other.tokens).take_while(|(a, b)| a == b).count();
            same / BLOCK_SIZE * BLOCK_SIZE
        };
        let Some(common) = prompts.map(common).max().filter(|&common| common > 0) else { return false };
        job.shares_prefix() && common > self.session.states().findable(job.salt, &job.tokens)
    }

    /// True if there is room for a request beside the active ones: for all tokens that they have, and for one more
    /// block for each.
    fn fits(&self, job: &Job) -> bool {
        let promised: usize = self.active.iter().map(|job| job.left().next_multiple_of(BLOCK_SIZE)).sum();
        let wanted = job.tokens.len().next_multiple_of(BLOCK_SIZE) + BLOCK_SIZE;
        self.active.is_empty() || self.session.states().free_tokens() >= promised + wanted
    }

    fn open(&mut self, mut job: Job) {
        let prefix = if job.shares_prefix() { &job.tokens[..] } else { &[] };
        let (id, held) = match self.session.open_salted(job.salt, prefix) {
            Ok(opened) => opened,
            Err(error) => return self.fail(&job, error),
        };
        if job.is_new() {
            self.shared.left_queue();
            self.stats.prompt_tokens += job.n_prompt as u64;
            self.stats.cached_tokens += held as u64;
        }
        let (request, n) = (job.number, job.tokens.len());
        if job.is_new() && tracing::enabled!(target: "rfgraph::prefix", tracing::Level::INFO) {
            let end = match job.shares_prefix() {
                true => self.session.states().prefix_end(job.salt, &job.tokens, held).to_string(),
                false => "it was not looked for, as all rows are wanted".into(),
            };
            tracing::info!(target: "rfgraph::prefix", request, tokens = n, found = held, "the prefix ends: {end}");
        }
        tracing::debug!(request, tokens = n, held, "admitted: the states hold the start of its tokens");
        job.admitted(id, held, self.clock.now());
        let at = self.active.partition_point(|other| other.number < job.number);
        self.active.insert(at, job);
    }

    /// The rows of the next step.
    fn choose(&mut self) -> Chosen {
        let now = self.clock.now();
        self.drop_slow_readers(now);
        let mut chosen = Chosen::new();
        let most = self.session.max_rows();
        let readable: Vec<bool> = self.active.iter_mut().map(|job| job.readable(now).is_ok()).collect();
        for (i, job) in self.active.iter().enumerate() {
            if readable[i] && job.decodes() && chosen.len() < most {
                chosen.push((i, 1));
            }
        }
        let decodes = !chosen.is_empty();
        let mut left = self
            .pace
            .prompt_rows(self.options.step_time, decodes, self.session.ubatch())
            .min(most - chosen.len());
        for (i, job) in self.active.iter().enumerate().filter(|(i, job)| readable[*i] && !job.decodes()) {
            if left == 0 {
                break;
            }
            let Some(id) = job.sequence else { continue };
            let most = left.min(job.most_rows());
            // A sequence of the list is open.
            let Ok(n) = self.session.next_chunk(id, job.left(), most) else { continue };
            chosen.push((i, n));
            left -= n.min(left);
        }
        chosen
    }

    fn drop_slow_readers(&mut self, now: Duration) {
        let limit = self.options.reader_timeout;
        let mut at = 0;
        while at < self.active.len() {
            match self.active[at].readable(now) {
                Err(since) if now.saturating_sub(since) >= limit => {
                    let job = self.active.remove(at);
                    job.fail(EngineError::SlowReader { waited: limit });
                    self.stats.failed += 1;
                    close(&mut self.session, &job);
                }
                _ => at += 1,
            }
        }
    }

    /// Computes the chosen rows. If memory is short, the youngest request is put aside, and the next turn chooses again.
    fn step(&mut self, chosen: Chosen) -> Option<()> {
        let before = self.clock.now();
        let rows = chosen.iter().filter_map(|&(i, n)| {
            let job = &self.active[i];
            job.sequence.map(|id| job.rows(id, n))
        });
        let rows: Vec<Rows<'_>> = rows.collect();
        match self.session.step(&rows).map(|_| ()) {
            Ok(()) => {}
            Err(ModelError::CacheFull { .. }) if self.active.len() > 1 => {
                self.put_youngest_aside();
                return Some(());
            }
            Err(error) => return self.step_failed(&chosen, error),
        }
        self.failures = 0;
        self.report(&chosen, before);
        self.deliver(&chosen);
        Some(())
    }

    fn put_youngest_aside(&mut self) {
        let Some(mut job) = self.active.pop() else { return };
        close(&mut self.session, &job);
        job.put_aside();
        self.stats.put_aside += 1;
        tracing::info!(request = job.number, tokens = job.tokens.len(), "put aside: memory is short");
        let at = self.queue.partition_point(|other| other.number < job.number);
        self.queue.insert(at, job);
    }

    /// Ends the requests of a failed step. Their sequences are closed; others go on.
    fn step_failed(&mut self, chosen: &[(usize, usize)], error: ModelError) -> Option<()> {
        tracing::error!("a step failed: {error}");
        let error = EngineError::from(error);
        // Decoding requests were chosen before older ones in their prompts.
        let mut requests: Vec<usize> = chosen.iter().map(|&(i, _)| i).collect();
        requests.sort_unstable();
        for &i in requests.iter().rev() {
            let job = self.active.remove(i);
            job.fail(error.clone());
            self.stats.failed += 1;
            close(&mut self.session, &job);
        }
        self.failures += 1;
        if self.failures < MOST_FAILURES {
            return Some(());
        }
        self.stop(&format!("{MOST_FAILURES} steps in a row failed, the last with: {error}"));
        None
    }

    fn report(&mut self, chosen: &[(usize, usize)], before: Duration) {
        let prompts = chosen.iter().filter(|(i, _)| !self.active[*i].decodes());
        let prompt_rows: usize = prompts.map(|(_, n)| n).sum();
        let decode_rows = chosen.iter().map(|(_, n)| n).sum::<usize>() - prompt_rows;
        self.clock.stepped(decode_rows, prompt_rows);
        let time = self.clock.now().saturating_sub(before);
        self.pace.observe(prompt_rows, time);
        self.stats.steps += 1;
        if let Some(on_step) = &self.options.on_step {
            on_step(&StepReport { decode_rows, prompt_rows, time });
        }
    }

    /// Gives each request the outputs of its rows, and closes those that are over.
    fn deliver(&mut self, chosen: &[(usize, usize)]) {
        let (now, n_ctx) = (self.clock.now(), self.session.states().n_ctx());
        let n_vocab = self.session.model().architecture().shape().n_vocab;
        let outputs = match self.session.outputs() {
            Ok(outputs) => outputs,
            Err(error) => {
                self.step_failed(chosen, error);
                return;
            }
        };
        let mut deliveries = deliveries(&mut self.active, chosen);
        deliver(&mut deliveries, outputs, n_vocab, n_ctx, now);
        self.stats.generated_tokens +=
            deliveries.iter().map(|delivery| delivery.n_chosen as u64).sum::<u64>();
        let over: Vec<usize> = deliveries.iter().filter(|d| d.is_over).map(|d| d.at).collect();
        for &at in over.iter().rev() {
            let job = self.active.remove(at);
            self.stats.finished += 1;
            close(&mut self.session, &job);
        }
    }

    fn fail(&mut self, job: &Job, error: ModelError) {
        self.stats.failed += 1;
        if job.is_new() {
            self.shared.left_queue();
        }
        job.fail(error.into());
    }

    /// The present counts.
    pub fn present(&self) -> Stats {
        let states = self.session.states();
        Stats {
            running: self.active.len(),
            waiting: self.queue.len(),
            free_tokens: states.free_tokens(),
            total_tokens: states.layout().n_slots(),
            ..self.stats
        }
    }

    /// Makes the present counts visible.
    fn publish(&self) {
        self.shared.set_stats(self.present());
        self.shared.set_running(self.active.iter().filter_map(Job::running));
    }
}

fn close(session: &mut Session, job: &Job) {
    if let Some(id) = job.sequence {
        // An open sequence can be closed.
        let _ = session.close(id);
    }
}
