//! Who is served when, and that nothing is left over.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use kedge_base::VirtualClock;
use proptest::prelude::*;

use super::*;

const QUEUE: Response = Response::Queue { queues: 8, hand: 2, length: 3 };

fn level(response: Response, limit: usize) -> (Arc<Seats>, VirtualClock) {
    let clock = VirtualClock::new(jiff::Timestamp::UNIX_EPOCH);
    let shared: SharedClock = Arc::new(clock.clone());
    (Seats::new(response, limit, &shared), clock)
}

fn ask(level: &Arc<Seats>, flow: &str, seats: usize) -> Asked {
    level.ask(Asking { schema: "s".into(), flow: flow.into(), seats, what: Arc::default() })
}

fn waits(level: &Arc<Seats>, flow: &str, seats: usize) -> Turn {
    match ask(level, flow, seats) {
        Asked::Waits(turn) => turn,
        _ => unreachable!("a level with queues lets everybody wait, if only for a moment"),
    }
}

/// The seat, if it is there.
fn come(turn: &mut Turn) -> Option<Seat> {
    turn.comes.try_recv().ok()
}

fn counts(level: &Arc<Seats>) -> (usize, usize, usize, usize) {
    level.look(|state, _| (state.waiting, state.seats_waiting, state.executing, state.seats))
}

#[test]
fn who_is_exempt_always_has_a_seat() {
    let (level, _) = level(Response::Exempt, 0);
    let seats: Vec<_> = (0..50).map(|_| ask(&level, "a", 3)).collect();
    assert!(seats.iter().all(|asked| matches!(asked, Asked::Seated(_))));
    assert_eq!(counts(&level), (0, 0, 50, 150));
    drop(seats);
    assert_eq!(counts(&level), (0, 0, 0, 0));
}

#[test]
fn a_level_without_queues_refuses_what_it_has_no_seat_for() {
    let (level, _) = level(Response::Reject, 3);
    let Asked::Seated(two) = ask(&level, "a", 2) else { unreachable!() };
    assert!(matches!(ask(&level, "a", 2), Asked::Refused(Refused::NoSeat)));
    let Asked::Seated(_one) = ask(&level, "a", 1) else { unreachable!() };
    drop(two);
    assert!(matches!(ask(&level, "a", 2), Asked::Seated(_)));
    // What is wider than the whole level is served alone.
    drop(_one);
    assert!(matches!(ask(&level, "a", 9), Asked::Seated(_)));
}

#[test]
fn a_full_queue_refuses_and_what_waits_comes_in_its_turn() {
    let (level, _) = level(QUEUE, 1);
    let mut first = waits(&level, "a", 1);
    let seat = come(&mut first).unwrap();
    // Two queues in the hand of a flow, each with three places.
    let mut waiting: Vec<_> = (0..6).map(|_| waits(&level, "a", 1)).collect();
    assert!(matches!(ask(&level, "a", 1), Asked::Refused(Refused::QueueFull)));
    assert!(waiting.iter_mut().all(|turn| come(turn).is_none()));
    drop((first, seat));
    let served: Vec<_> = waiting.iter_mut().filter_map(come).collect();
    assert_eq!(served.len(), 1);
    assert_eq!(counts(&level), (5, 5, 1, 1));
    drop(waiting);
    assert_eq!(counts(&level), (0, 0, 1, 1), "who goes away leaves its queue");
    drop(served);
    assert_eq!(level.look(|state, _| state.queues.len()), 0, "an empty queue is forgotten");
}

/// One who floods the server does not hold up others: their queues have their turns.
#[test]
fn flows_take_turns() {
    let (level, clock) = level(Response::Queue { queues: 64, hand: 1, length: 50 }, 1);
    let mut holder = waits(&level, "holder", 1);
    let mut seat = come(&mut holder);
    let mut flood: Vec<_> = (0..40).map(|_| waits(&level, "flood", 1)).collect();
    let mut few: Vec<_> = (0..3).map(|_| waits(&level, "other", 1)).collect();
    let mut until_few = 0;
    while !few.is_empty() && until_few < 40 {
        clock.advance(Duration::from_millis(10));
        drop(seat.take());
        seat = flood.iter_mut().find_map(come);
        few.retain_mut(|turn| match come(turn) {
            Some(came) => {
                assert!(seat.replace(came).is_none());
                false
            }
            None => true,
        });
        assert!(seat.is_some());
        until_few += 1;
    }
    assert!(until_few <= 8, "three of the one flow come with about three of the other: {until_few}");
}

#[tokio::test]
async fn who_waits_too_long_is_refused() {
    let (level, clock) = level(QUEUE, 1);
    let first = waits(&level, "a", 1);
    let second = waits(&level, "a", 1);
    let passes = async {
        while clock.sleepers() < 1 {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(15));
    };
    let (late, ()) = tokio::join!(second.seat(Duration::from_secs(15), || Duration::from_secs(60)), passes);
    assert_eq!(late.err(), Some(Refused::TimeOut));
    let seat = first.seat(Duration::from_secs(15), || Duration::from_secs(60)).await.ok().unwrap();
    assert_eq!(counts(&level), (0, 0, 1, 1));
    drop(seat);
    assert_eq!(counts(&level), (0, 0, 0, 0));
    let refused = level.look(|state, _| state.flows.iter().map(|(_, flow)| flow.refused.clone()).collect::<Vec<_>>());
    assert_eq!(refused, [BTreeMap::from([("time-out", 1)])]);
}

/// A seat that comes at the very moment in which somebody goes away was once lost for ever.
#[test]
fn a_seat_that_nobody_takes_any_more_is_given_back() {
    let (level, _) = level(QUEUE, 1);
    let first = waits(&level, "a", 1);
    assert_eq!(counts(&level), (0, 0, 1, 1), "given, but not taken");
    drop(first);
    assert_eq!(counts(&level), (0, 0, 0, 0));
}

#[test]
fn more_seats_let_those_go_on_who_wait() {
    let (level, _) = level(QUEUE, 0);
    let mut turns: Vec<_> = (0..3).map(|_| waits(&level, "a", 1)).collect();
    assert!(turns.iter_mut().all(|turn| come(turn).is_none()));
    assert!(level.set_limit(2) && !level.set_limit(2));
    assert_eq!(turns.iter_mut().filter_map(come).collect::<Vec<_>>().len(), 2);
}

proptest! {
    /// Whatever comes and goes in whatever order, the books are right and nothing is left over.
    #[test]
    fn the_books_are_right(
        limit in 1usize..6,
        steps in proptest::collection::vec((0u8..4, 0usize..4, 1usize..4), 1..120)
    ) {
        let (level, clock) = level(QUEUE, limit);
        let mut waiting: Vec<Turn> = Vec::new();
        let mut seats: Vec<Seat> = Vec::new();
        for (what, which, width) in steps {
            match what {
                0 | 1 => if let Asked::Waits(turn) = ask(&level, &which.to_string(), width) { waiting.push(turn) },
                2 if which < seats.len() => drop(seats.swap_remove(which)),
                3 if which < waiting.len() => drop(waiting.swap_remove(which)),
                _ => clock.advance(Duration::from_millis(which as u64)),
            }
            waiting.retain_mut(|turn| match come(turn) {
                Some(seat) => { seats.push(seat); false }
                None => true,
            });
            let (in_queues, _, executing, taken) = counts(&level);
            prop_assert_eq!((in_queues, executing), (waiting.len(), seats.len()));
            prop_assert!(taken <= limit || executing == 1, "{} of {}", taken, limit);
        }
        drop(seats);
        while !waiting.is_empty() {
            let before = waiting.len();
            waiting.retain_mut(|turn| come(turn).is_none());
            prop_assert!(waiting.len() < before, "somebody waits for ever");
        }
        prop_assert_eq!(counts(&level), (0, 0, 0, 0));
        prop_assert_eq!(level.look(|state, _| state.queues.len()), 0);
    }
}
