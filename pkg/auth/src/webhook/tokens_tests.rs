//! Tokens that a webhook is asked about.
#![allow(clippy::unwrap_used)]

use kedge_base::{Shutdown, VirtualClock};
use kedge_webhook::{CallError, Failure};
use serde_json::Value;

use super::*;
use crate::webhook::testing::Scripted;

fn tokens(reviewer: Arc<Scripted>, kept_for: u64) -> (WebhookTokens, Arc<VirtualClock>) {
    let clock = Arc::new(VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
    let shared: SharedClock = clock.clone();
    let tasks = TaskGroup::new("test", Shutdown::new());
    let kept_for = Duration::from_secs(kept_for);
    (WebhookTokens::new(reviewer, Version::V1, kept_for, (&shared, &tasks)), clock)
}

fn own(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

fn jane(number: usize, review: &Value) -> Result<Value, CallError> {
    let _number = number;
    let known = review["spec"]["token"] == "good";
    Ok(json!({"status": {"authenticated": known, "user": {"username": "jane", "uid": "1", "groups": ["dev"],
        "extra": {"example.com/a": ["b"]}}}}))
}

#[tokio::test]
async fn a_token_stands_for_whom_the_webhook_says() {
    let reviewer = Scripted::new(jane);
    let (tokens, _) = tokens(reviewer.clone(), 120);
    let found = tokens.authenticate("good", &own(&["api"]), &own(&["api"])).await.unwrap().unwrap();
    assert_eq!((found.user.name.as_str(), found.user.uid.as_str()), ("jane", "1"));
    assert_eq!(found.user.groups, ["dev", "system:authenticated"]);
    assert_eq!((found.user.extra["example.com/a"].clone(), found.audiences), (own(&["b"]), own(&["api"])));
    assert_eq!(tokens.authenticate("bad", &own(&["api"]), &own(&["api"])).await, Ok(None));
    let sent = reviewer.asked.lock()[0].clone();
    assert_eq!(
        sent,
        json!({"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {},
            "spec": {"token": "good", "audiences": ["api"]}, "status": {"user": {}}})
    );
}

#[tokio::test]
async fn a_token_counts_for_audiences_that_were_asked_about() {
    let status = |audiences: &[&str]| Status {
        authenticated: true,
        user: User { username: "jane".into(), ..User::default() },
        audiences: own(audiences),
        ..Status::default()
    };
    let judged = |known: &[&str], wanted: &[&str]| {
        let found = status(known).judged(&own(wanted), &own(&["api", "api2"])).unwrap();
        found.map(|found| found.audiences)
    };
    assert_eq!(judged(&[], &["api2", "x"]), Some(own(&["api2"])), "who knows of none speaks of ours");
    assert_eq!(judged(&["x"], &["api2", "x"]), Some(own(&["x"])));
    assert_eq!(judged(&["y"], &["api", "x"]), None);
    assert_eq!(judged(&[], &["x"]), None);
    let nobody = Status { user: User::default(), ..status(&[]) };
    assert!(nobody.judged(&own(&["api"]), &own(&["api"])).is_err());
    let refused = Status { authenticated: false, error: "no".into(), ..status(&[]) };
    assert_eq!(refused.judged(&own(&["api"]), &own(&["api"])), Err("no".to_owned()));
}

#[tokio::test]
async fn answers_are_kept_by_token_and_audiences_and_errors_are_not() {
    let reviewer = Scripted::new(jane);
    let (tokens, clock) = tokens(reviewer.clone(), 120);
    let asked = async |token: &str, audience: &str| {
        let _found = tokens.authenticate(token, &own(&[audience]), &own(&["api"])).await;
        reviewer.asked.lock().len()
    };
    assert_eq!([asked("good", "api").await, asked("good", "api").await], [1, 1]);
    assert_eq!([asked("bad", "api").await, asked("bad", "api").await], [2, 2], "also that nobody is meant");
    assert_eq!(asked("good", "other").await, 3);
    clock.advance(Duration::from_secs(120));
    assert_eq!(asked("good", "api").await, 4);
    let fails = Scripted::new(|_, _| Err(CallError::Unanswered { url: "https://w".into(), why: Failure::Eof }));
    let (tokens, _) = super::tests::tokens(fails.clone(), 120);
    for _ in 0..2 {
        let why = tokens.authenticate("good", &own(&["api"]), &own(&["api"])).await.unwrap_err();
        assert!(why.contains("EOF") && !why.contains("good"), "{why}");
    }
    assert_eq!(fails.asked.lock().len(), 2);
}

#[tokio::test]
async fn many_with_one_token_make_it_asked_once_and_nothing_is_left() {
    let reviewer = Scripted::new(jane);
    let (tokens, _) = tokens(reviewer.clone(), 0);
    let (wanted, ours) = (own(&["api"]), own(&["api"]));
    let all = (0..20).map(|_| tokens.authenticate("good", &wanted, &ours));
    assert!(futures::future::join_all(all).await.into_iter().all(|found| found.unwrap().is_some()));
    assert_eq!(reviewer.asked.lock().len(), 1);
    assert!(tokens.0.running.lock().is_empty());
    tokens.authenticate("good", &wanted, &ours).await.unwrap();
    assert_eq!(reviewer.asked.lock().len(), 2, "nothing is kept");
}
