//! A webhook that is asked, kept answers of, and that fails.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use kedge_base::VirtualClock;
use kedge_base::exposition::Exposition;
use kedge_meta::{Reason, Status};
use kedge_webhook::{CallError, Failure};
use serde_json::json;

use super::*;
use crate::webhook::testing::Scripted;

struct Fixture {
    authorizer: WebhookAuthorizer,
    reviewer: Arc<Scripted>,
    clock: Arc<VirtualClock>,
    meters: Arc<AuthorizationMeters>,
}

fn behaviour() -> Behaviour {
    Behaviour {
        name: "w".into(),
        version: Version::V1,
        timeout: Duration::from_secs(3),
        authorized: Duration::from_secs(300),
        unauthorized: Duration::from_secs(30),
        denies_on_failure: false,
        conditions: Vec::new(),
    }
}

fn fixture(behaviour: Behaviour, reviewer: Arc<Scripted>) -> Fixture {
    let clock = Arc::new(VirtualClock::new("2026-01-01T00:00:00Z".parse().unwrap()));
    let (meters, shared): (Arc<AuthorizationMeters>, SharedClock) = (Arc::default(), clock.clone());
    let authorizer = WebhookAuthorizer::new(behaviour, reviewer.clone(), &meters, &shared);
    Fixture { authorizer, reviewer, clock, meters }
}

impl Fixture {
    async fn asked(&self, request: &Request<'_>) -> Decision {
        self.authorizer.authorize(request).await
    }

    fn times(&self) -> usize {
        self.reviewer.asked.lock().len()
    }

    fn metrics(&self) -> String {
        let mut out = Exposition::default();
        self.meters.show(&mut out);
        out.into_text()
    }
}

fn user(name: &str) -> UserInfo {
    UserInfo { name: name.into(), ..UserInfo::default() }
}

fn pods<'a>(user: &'a UserInfo, verb: &'a str) -> Request<'a> {
    Request { user: Some(user), verb, version: "v1", resource: "pods", is_resource: true, ..Request::default() }
}

#[tokio::test]
async fn answers_are_decisions() {
    for (status, wanted) in [
        (json!({"allowed": true, "reason": "r"}), Decision::Allow("r".into())),
        (json!({"allowed": false, "denied": true, "reason": "r"}), Decision::Deny("r".into())),
        (json!({"allowed": false, "reason": "r"}), Decision::NoOpinion("r".into())),
        (json!({}), Decision::NoOpinion(String::new())),
    ] {
        let fixture = fixture(behaviour(), Scripted::new(move |_, _| Ok(json!({"status": status}))));
        let jane = user("jane");
        assert_eq!(fixture.asked(&pods(&jane, "get")).await, wanted);
        let sent = fixture.reviewer.asked.lock()[0].clone();
        assert_eq!(
            sent,
            json!({"kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1", "metadata": {},
                "spec": {"user": "jane", "resourceAttributes": {"verb": "get", "version": "v1", "resource": "pods"}},
                "status": {"allowed": false}})
        );
    }
    let both = fixture(behaviour(), Scripted::new(|_, _| Ok(json!({"status": {"allowed": true, "denied": true}}))));
    let jane = user("jane");
    assert!(matches!(both.asked(&pods(&jane, "get")).await, Decision::Failed { denied: true, .. }));
}

#[tokio::test]
async fn an_answer_is_kept_for_the_very_same_question_and_for_its_time() {
    let allows = |_: usize, review: &Value| Ok(json!({"status": {"allowed": review["spec"]["user"] == "jane"}}));
    let fixture = fixture(behaviour(), Scripted::new(allows));
    let (jane, joe) = (user("jane"), user("joe"));
    let allowed = Decision::Allow(String::new());
    assert_eq!(fixture.asked(&pods(&jane, "get")).await, allowed);
    assert_eq!(fixture.authorizer.authorize(&pods(&jane, "get")).now(), Some(allowed.clone()), "it is known");
    // Whoever differs in anything is asked about.
    let mut others = vec![user("jane"); 3];
    others[0].uid = "1".into();
    others[1].groups = vec!["dev".into()];
    others[2].extra = [("k".to_owned(), vec!["v".to_owned()])].into();
    for other in &others {
        assert_eq!(fixture.asked(&pods(other, "get")).await, allowed);
    }
    assert_eq!(fixture.asked(&pods(&joe, "get")).await, Decision::NoOpinion(String::new()));
    let requests = [
        pods(&jane, "list"),
        Request { namespace: "a", ..pods(&jane, "get") },
        Request { name: "a", ..pods(&jane, "get") },
        Request { subresource: "a", ..pods(&jane, "get") },
        Request { group: "a", ..pods(&jane, "get") },
        Request { version: "a", ..pods(&jane, "get") },
        Request { path: "a", is_resource: false, ..pods(&jane, "get") },
    ];
    for request in &requests {
        fixture.asked(request).await;
    }
    assert_eq!(fixture.times(), 5 + requests.len());
    let once_more = async |wanted: usize| {
        let before = fixture.times();
        fixture.asked(&pods(&jane, "get")).await;
        fixture.asked(&pods(&joe, "get")).await;
        assert_eq!(fixture.times() - before, wanted);
    };
    once_more(0).await;
    fixture.clock.advance(Duration::from_secs(30));
    once_more(1).await;
    fixture.clock.advance(Duration::from_secs(280));
    once_more(2).await;
}

#[tokio::test]
async fn what_is_large_or_not_to_be_kept_is_asked_about_each_time() {
    let allows = |_: usize, _: &Value| Ok(json!({"status": {"allowed": true}}));
    let (jane, long) = (user("jane"), "x".repeat(CONTROLLED));
    let fixture_of = |behaviour| fixture(behaviour, Scripted::new(allows));
    let large = fixture_of(behaviour());
    let never = fixture_of(Behaviour { authorized: Duration::ZERO, ..behaviour() });
    for _ in 0..2 {
        large.asked(&Request { name: &long, ..pods(&jane, "get") }).await;
        never.asked(&pods(&jane, "get")).await;
    }
    assert_eq!((large.times(), never.times()), (2, 2));
}

#[tokio::test]
async fn who_cannot_be_asked_has_no_opinion_or_refuses() {
    let late = |_: usize, _: &Value| Err(CallError::Unanswered { url: "https://w".into(), why: Failure::Deadline });
    let jane = user("jane");
    for denied in [false, true] {
        let fixture = fixture(Behaviour { denies_on_failure: denied, ..behaviour() }, Scripted::new(late));
        let error = "Post \"https://w\": context deadline exceeded".to_owned();
        let wanted = Decision::Failed { denied, reason: String::new(), error };
        assert_eq!(fixture.asked(&pods(&jane, "get")).await, wanted);
        assert_eq!(fixture.asked(&pods(&jane, "get")).await, wanted, "failures are not kept");
        assert_eq!(fixture.times(), 2, "who is late is not asked again");
        let metrics = fixture.metrics();
        let evaluations = "apiserver_authorization_webhook_evaluations_total{name=\"w\",result=\"timeout\"} 2";
        assert!(metrics.contains(evaluations), "{metrics}");
        assert_eq!(metrics.contains("fail_open_total{name=\"w\",result=\"timeout\"} 2"), !denied, "{metrics}");
    }
    let nonsense = fixture(behaviour(), Scripted::new(|_, _| Ok(json!({"status": {"allowed": "yes"}}))));
    assert!(matches!(nonsense.asked(&pods(&jane, "get")).await, Decision::Failed { denied: false, .. }));
}

#[tokio::test]
async fn who_is_broken_for_a_moment_is_asked_again() {
    let recovers = |number: usize, _: &Value| match number {
        0 => Err(CallError::Refused(Box::new(Status::failure(500, Reason::InternalError, "")))),
        _ => Ok(json!({"status": {"allowed": true}})),
    };
    let Fixture { authorizer, reviewer, clock, .. } = fixture(behaviour(), Scripted::new(recovers));
    let asking = tokio::spawn(async move {
        let jane = user("jane");
        authorizer.authorize(&pods(&jane, "get")).await
    });
    while clock.sleepers() == 0 {
        tokio::task::yield_now().await;
    }
    clock.advance(Duration::from_secs(1));
    assert_eq!(asking.await.unwrap(), Decision::Allow(String::new()));
    assert_eq!(reviewer.asked.lock().len(), 2);
}

#[tokio::test]
async fn conditions_say_whether_it_is_asked() {
    let conditions = |texts: &[&str]| texts.iter().map(|text| Condition::compile(text).unwrap()).collect();
    let allows = |_: usize, _: &Value| Ok(json!({"status": {"allowed": true}}));
    let jane = user("jane");
    for denies_on_failure in [false, true] {
        let conditions = conditions(&["request.resourceAttributes.verb == 'get'"]);
        let fixture = fixture(Behaviour { conditions, denies_on_failure, ..behaviour() }, Scripted::new(allows));
        assert_eq!(fixture.asked(&pods(&jane, "get")).await, Decision::Allow(String::new()));
        assert_eq!(fixture.asked(&pods(&jane, "list")).await, Decision::NoOpinion(String::new()));
        let path = Request { user: Some(&jane), verb: "get", path: "/x", ..Request::default() };
        assert!(matches!(fixture.asked(&path).await, Decision::Failed { denied, .. } if denied == denies_on_failure));
        assert_eq!(fixture.times(), 1);
        let metrics = fixture.metrics();
        for wanted in ["exclusions_total{", "evaluation_errors_total{", "evaluation_seconds_count{"] {
            let count = if wanted.starts_with("evaluation_seconds") { 3 } else { 1 };
            let line = format!("match_condition_{wanted}type=\"Webhook\",name=\"w\"}} {count}");
            assert!(metrics.contains(&line), "{line}: {metrics}");
        }
    }
}
