//! The writer: gathers requests into groups, commits them, applies and reports them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tracing::{error, info};

use super::format::{self, Record};
use super::group::{Context, Group, Request};
use super::log::Log;
use super::space::{Guard, Space};
use super::upkeep::Upkeep;
use super::{Options, Shared};
use crate::api::{Durability, Event};
use crate::error::Error;

/// Requests in one group commit.
const GROUP: usize = 1_024;
/// Bytes after which a group is closed.
const GROUP_BYTES: usize = 4 << 20;
/// Leases ended with one group.
const EXPIRE: usize = 64;
/// Revisions that are reserved at once for relaxed writes, see [`Record::Ceiling`].
const RESERVE: u64 = 10_000;
/// After a refusal for want of space, what the store does by itself is tried again.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    shared: Arc<Shared>,
    /// None: the store is only in memory.
    log: Option<Log>,
    options: Options,
    guard: Guard,
    upkeep: Upkeep,
    frame: BytesMut,
    /// No revision beyond this may be shown before it is durable.
    ceiling: u64,
    /// When what was written without a sync must be made durable.
    sync_due: Option<Duration>,
    /// Nothing is done unasked before.
    retry: Option<Duration>,
}

/// Why the writer woke up.
enum Woken {
    Requests,
    Timer,
    Closed,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, log: Option<Log>, options: Options, ceiling: u64) -> Self {
        let guard = Guard::new(if log.is_some() { options.low_space } else { 0 });
        Self {
            upkeep: Upkeep::new(shared.clone()),
            shared,
            log,
            options,
            guard,
            frame: BytesMut::new(),
            ceiling,
            sync_due: None,
            retry: None,
        }
    }

    /// Works until all senders are gone.
    pub(super) fn run(mut self, runtime: &Runtime, mut requests: mpsc::Receiver<Request>) {
        let _watch = Watch(self.shared.clone());
        let mut taken = Vec::with_capacity(GROUP);
        let mut pending = VecDeque::new();
        loop {
            match runtime.block_on(self.wait(&mut requests, &mut taken)) {
                Woken::Requests => pending.extend(taken.drain(..)),
                Woken::Timer => {}
                Woken::Closed => break,
            }
            loop {
                let group = self.gather(&mut pending);
                self.commit(group);
                if pending.is_empty() {
                    break;
                }
            }
            self.do_what_is_due();
        }
        self.finish();
    }

    async fn wait(&self, requests: &mut mpsc::Receiver<Request>, taken: &mut Vec<Request>) -> Woken {
        let woken = |n| if n > 0 { Woken::Requests } else { Woken::Closed };
        let Some(deadline) = self.deadline() else {
            return woken(requests.recv_many(taken, GROUP).await);
        };
        let clock = &self.options.clock;
        let sleep = clock.sleep(deadline.saturating_sub(clock.monotonic()));
        // A clock that is moved by hand may have moved before the sleep began, which would then end too late.
        let passed = clock.monotonic() >= deadline;
        tokio::select! {
            biased;
            n = requests.recv_many(taken, GROUP) => woken(n),
            () = sleep, if !passed => Woken::Timer,
            () = std::future::ready(()), if passed => Woken::Timer,
        }
    }

    /// When there is something to do without being asked.
    fn deadline(&self) -> Option<Duration> {
        if self.shared.failed.get().is_some() {
            return None;
        }
        let expiry = self.shared.leases.lock().next_expiry();
        let expiry = expiry.map(|at| at.max(self.retry.unwrap_or_default()));
        let trim = self.shared.index.read().trim_due(&self.options.history);
        [self.sync_due, expiry, trim].into_iter().flatten().min()
    }

    fn gather(&mut self, pending: &mut VecDeque<Request>) -> Group {
        let now = self.options.clock.monotonic();
        let (growth, all) = self.refusals(now);
        let index = self.shared.index.read();
        let mut group = Group::on(index.revision());
        format::begin_frame(&mut self.frame);
        while let Some(request) = pending.pop_front() {
            if let Some(err) = &all {
                request.refuse(err);
                continue;
            }
            let leases = self.shared.leases.lock();
            let cx = Context { index: &index, leases: &leases, now, no_space: growth.as_ref() };
            if let Some(later) = group.request(&mut self.frame, &cx, request) {
                pending.push_front(later);
                break;
            }
            if self.frame.len() > GROUP_BYTES {
                break;
            }
        }
        if all.is_none() && self.retry.is_none_or(|retry| retry <= now) {
            self.retry = None;
            let leases = self.shared.leases.lock();
            let cx = Context { index: &index, leases: &leases, now, no_space: None };
            group.expire(&mut self.frame, &cx, EXPIRE);
        }
        let shows_more = group.revision() > index.revision() && group.revision() > self.ceiling;
        if self.log.is_some() && group.durability < Durability::Synced && shows_more {
            // Relaxed writes are shown before they are durable: their revisions must not be given out again.
            let revision = group.revision() + RESERVE;
            group.record(&mut self.frame, Record::Ceiling { revision });
            group.promise(Durability::Synced);
        }
        group
    }

    /// Why values are refused, and why everything is.
    fn refusals(&mut self, now: Duration) -> (Option<Error>, Option<Error>) {
        if let Some(err) = self.shared.failed.get() {
            return (None, Some(Error::Closed(err.to_string())));
        }
        let Some(log) = &self.log else { return (None, None) };
        let space = self.guard.check(&**log.files(), log.dir(), now, log.written);
        self.shared.short_of_space.store(space != Space::Enough, Ordering::Relaxed);
        match space {
            Space::Enough => (None, None),
            Space::Low(free) => (Some(self.guard.refusal(log.dir(), free)), None),
            Space::Out(free) => {
                self.retry = Some(now + RETRY);
                (None, Some(self.guard.refusal(log.dir(), free)))
            }
        }
    }

    fn commit(&mut self, group: Group) {
        let Group { records, waiting, durability, .. } = group;
        let outcome = self.write(&records, durability);
        if outcome.is_ok() {
            self.apply(records);
        }
        for waiting in waiting {
            waiting.answer(outcome.as_ref().copied());
        }
        // Not after a failure either, which makes groups empty: no segment may follow what is on disk then.
        let failed = self.shared.failed.get().is_some();
        if let (false, Ok(()), Some(log)) = (failed, outcome, &mut self.log) {
            let space = self.guard.space();
            match self.upkeep.checkpoint_when_due(log, space, self.ceiling) {
                Ok(true) => self.sync_due = None,
                // A segment may be longer than it is meant to be.
                Ok(false) | Err(Error::NoSpace(_)) => {}
                Err(err) => self.fail(&err),
            }
        }
    }

    /// Hands the frame to the log, and makes it durable if that was promised.
    fn write(&mut self, records: &[Record], durability: Durability) -> Result<(), Error> {
        let Some(log) = &mut self.log else { return Ok(()) };
        if records.is_empty() {
            return Ok(());
        }
        let appended = log.make_room(self.frame.len()).and_then(|()| match durability {
            Durability::Deferred => log.hold(&mut self.frame),
            Durability::Relaxed | Durability::Synced => log.append(&mut self.frame),
        });
        if let Err(full @ Error::NoSpace(_)) = appended {
            self.retry = Some(self.options.clock.monotonic() + RETRY);
            return Err(full);
        }
        let synced = appended.and_then(|()| if durability == Durability::Synced { log.sync() } else { Ok(()) });
        synced.inspect_err(|err| self.fail(err))?;
        if durability == Durability::Synced {
            self.sync_due = None;
            let ceilings = records
                .iter()
                .filter_map(|r| if let Record::Ceiling { revision } = r { Some(*revision) } else { None });
            self.ceiling = ceilings.last().unwrap_or(self.ceiling);
        } else {
            self.sync_due = self.sync_due.or_else(|| Some(self.options.clock.monotonic() + self.options.relaxed));
        }
        Ok(())
    }

    /// What is on disk is unknown from now on: no more writes.
    fn fail(&self, err: &Error) {
        error!(error = %err, "a write failed; the store takes no more writes until the server is started again");
        // Only the first cause is kept.
        let _ = self.shared.failed.set(err.clone());
    }

    fn do_what_is_due(&mut self) {
        let now = self.options.clock.monotonic();
        if self.sync_due.is_some_and(|due| due <= now) {
            self.sync();
        }
        let trim = self.shared.index.read().trim_due(&self.options.history);
        if trim.is_some_and(|due| due <= now) {
            self.shared.index.write().trim(&self.options.history, now);
        }
    }

    fn sync(&mut self) {
        let Some(log) = &mut self.log else { return };
        if self.shared.failed.get().is_some() || self.sync_due.take().is_none() {
            return;
        }
        match log.sync() {
            Ok(()) => {}
            // What is held back waits for space.
            Err(Error::NoSpace(_)) => self.sync_due = Some(self.options.clock.monotonic() + RETRY),
            Err(err) => self.fail(&err),
        }
    }

    /// Applies and reports under the observers' lock, so that a new observer misses nothing.
    fn apply(&mut self, records: Vec<Record>) {
        let now = self.options.clock.monotonic();
        if records.is_empty() {
            return;
        }
        let mut observers = self.shared.observers.lock();
        let mut events: Vec<Event> = Vec::with_capacity(records.len());
        {
            let mut index = self.shared.index.write();
            let mut leases = self.shared.leases.lock();
            for record in records {
                match record {
                    Record::Change(change) => {
                        let event = index.apply(change);
                        leases.follow(&event);
                        events.push(event);
                    }
                    Record::Grant { id, seconds } => leases.grant(id, seconds, now),
                    Record::Revoke { id } => leases.revoke(id),
                    Record::Compaction { revision } => index.compact(revision),
                    Record::Ceiling { .. } | Record::Closed { .. } | Record::Continued => {}
                }
            }
            index.trim(&self.options.history, now);
        }
        observers.report(&events);
    }

    fn finish(mut self) {
        self.upkeep.stop();
        let revision = self.shared.index.read().revision();
        if self.shared.failed.get().is_none()
            && let Some(log) = &mut self.log
            && let Err(err) = close(log, &mut self.frame, revision)
        {
            self.fail(&err);
        }
        // The log goes, and with it the lock on the directory, before anybody is told that the store is closed.
        self.log = None;
        info!(revision, "store closed");
    }
}

/// Notices that the writer panics: what it was doing may be half done, and nothing may be written on it.
struct Watch(Arc<Shared>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // An earlier failure is kept as the cause.
            let _ = self.0.failed.set(Error::Closed("its writer ended unexpectedly".to_owned()));
        }
    }
}

/// Says in the log which revision is the newest, and makes all durable.
fn close(log: &mut Log, frame: &mut BytesMut, revision: u64) -> Result<(), Error> {
    format::begin_frame(frame);
    format::put_record(frame, &Record::Closed { revision });
    log.append(frame)?;
    log.sync()
}
