//! What the events of the last moments look like to watchers, encoded once.
//!
//! All watchers of a resource take an event at about the same time, so its encoding is worth keeping for as long as that, and for no
//! longer: it is as large as the object. Whoever comes later encodes it anew.
//!
//! Invariant: all encodings that are kept take at most [`BYTES`] together, and are [`COUNT`] at most.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::watch::{EventKind, WatchEvent};

const BYTES: usize = 1 << 20;
const COUNT: usize = 1_024;

/// The encodings of one event.
pub(crate) type Encoded = Mutex<Vec<(EventKind, Bytes)>>;

/// The encodings that are kept, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: VecDeque<(Weak<WatchEvent>, usize)>,
    bytes: usize,
}

impl Frames {
    /// The encoding of an event as that kind.
    pub(crate) fn get(&self, event: &Arc<WatchEvent>, kind: EventKind, encode: impl FnOnce() -> Bytes) -> Bytes {
        let mut encoded = event.encoded.lock();
        if let Some((_, frame)) = encoded.iter().find(|(known, _)| *known == kind) {
            return frame.clone();
        }
        // Others that want the same wait meanwhile: it is copied together within microseconds.
        let frame = encode();
        encoded.push((kind, frame.clone()));
        drop(encoded);
        self.keep(event, frame.len());
        frame
    }

    fn keep(&self, event: &Arc<WatchEvent>, bytes: usize) {
        // One that is larger than all room would drive out all others, and then itself.
        if bytes > BYTES / 2 {
            *event.encoded.lock() = Vec::new();
            return;
        }
        let mut gone = Vec::new();
        {
            let mut state = self.state.lock();
            state.kept.push_back((Arc::downgrade(event), bytes));
            state.bytes += bytes;
            while state.bytes > BYTES || state.kept.len() > COUNT {
                let Some((event, bytes)) = state.kept.pop_front() else { break };
                state.bytes -= bytes;
                gone.push(event);
            }
        }
        for event in gone.iter().filter_map(Weak::upgrade) {
            *event.encoded.lock() = Vec::new();
        }
    }

    /// How many are kept, and their bytes.
    #[cfg(test)]
    fn kept(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.kept.len(), state.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(frames: &Arc<Frames>) -> Arc<WatchEvent> {
        Arc::new(WatchEvent::new("a".into(), None, None, None, 1, frames.clone()))
    }

    fn text(n: usize) -> Bytes {
        vec![b'x'; n].into()
    }

    #[test]
    fn an_event_is_encoded_once_for_all_who_take_it_together() {
        let frames = Arc::new(Frames::default());
        let event = event(&frames);
        let first = frames.get(&event, EventKind::Added, || text(5));
        let again = frames.get(&event, EventKind::Added, || panic!("it is known"));
        assert_eq!(first.as_ptr(), again.as_ptr());
        assert_eq!(frames.get(&event, EventKind::Deleted, || text(7)).len(), 7, "another kind is another text");
        assert_eq!(frames.kept(), (2, 12));
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_and_number() {
        let frames = Arc::new(Frames::default());
        let (old, large) = (event(&frames), event(&frames));
        frames.get(&old, EventKind::Added, || text(10));
        frames.get(&large, EventKind::Added, || text(BYTES / 2));
        let larger = event(&frames);
        frames.get(&larger, EventKind::Added, || text(BYTES / 2));
        assert_eq!(frames.kept(), (2, BYTES));
        assert_eq!(frames.get(&old, EventKind::Added, || text(11)).len(), 11, "it was let go and is made anew");
        assert!(large.encoded.lock().is_empty());
        let events: Vec<_> = (0..2 * COUNT).map(|_| event(&frames)).collect();
        events.iter().for_each(|event| drop(frames.get(event, EventKind::Modified, || text(1))));
        assert_eq!(frames.kept(), (COUNT, COUNT));
        let huge = event(&frames);
        frames.get(&huge, EventKind::Added, || text(2 * BYTES));
        assert_eq!(frames.kept(), (COUNT, COUNT), "it drives out nobody");
        assert!(huge.encoded.lock().is_empty());
    }
}
