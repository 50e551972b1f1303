//! Which tokens of others are believed.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use kedge_base::{Shutdown, VirtualClock};
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

use super::*;

const ISSUER: &str = "https://issuer.example.com";
const NOW: i64 = 1_900_000_000;
/// A key and a token that `openssl` has signed with it.
const MODULUS: &str = "tlAz8x3dBJgZ7iEEVVoFJZnDwyl9cnnC-KxmmboNnOaxEUpDsNw-eFMmRwJmeixpEuJt4pufZa5e5MmV0N95QGHp6edqjsm0HfaOjkfP0HdFCD\
     PfWN7pYVFnhIe8I2-hm2Uu-A6RWPpGKXgOYXb6Bk8Oo0So-3ysp0cR01mctVU_lSM1CIFwIQrtDTXkDYMQcWaOdA0eaucZQodhnuimYExGegQK\
     zLRC3SIpqilyKNHOd9yFDWNh24vTnYO4ZnjFAsCOETgCX-DKiA7HSSHDZsYoMxgpt7y54skkRRtRIkjOUYg0dezmCoXbHjWS3qp3t98bMBlky7\
     y_PgIisy5Vbw";
const SIGNED: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InIifQ.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlLmNvbSIsInN1YiI6ImphbmUiLCJhdWQiOiJ\
     rZWRnZSIsImV4cCI6MjAwMDAwMDAwMH0.rd8B_3Q4uNX53vvADE8u7VNEyHKHRuxRJZjnBcfnWT-O7sAFxlHL8WwBBN5v-nC1N-2NuQ2UKAJCJ\
     kwDkliwd5wb8ucaMzcFnfdj0L_gtXap11HahRM6k2ySMGA8cxHAe9Xu0kl-XvQ-HZPHQdmIlCkzkeJSX88t0gyFeHJoTHn2gzbS2U8n_-pHlGQ\
     2ecw6N8jip3PAbLkLLTTVqlmJw5v-HG5lS94cYSCVH0MT2gvlwWfBE9zcPBBga_R4Nfu4dGNLR-eX_M6oVO9Pg09kiIPzKbM9j_p4O-Mmz8TMk\
     BPilvOkuHqDpHoYp_elGA2I4N5FDlzNIdM2r8wM6piVwQ";

/// Publishes documents and counts how often it is asked.
#[derive(Default)]
struct Pages {
    pages: Mutex<HashMap<String, String>>,
    asked: AtomicUsize,
    /// Held while nothing is answered.
    slow: tokio::sync::Mutex<()>,
}

#[async_trait]
impl Fetch for Pages {
    async fn get(&self, url: &str, _: &str) -> Result<Bytes, String> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        drop(self.slow.lock().await);
        self.pages.lock().get(url).map(|page| Bytes::from(page.clone())).ok_or_else(|| format!("{url}: 404"))
    }
}

struct Setup {
    pages: Arc<Pages>,
    clock: VirtualClock,
    jwt: Jwt,
}

/// A key of the issuer, and its public form.
struct Signer {
    key: EcdsaKeyPair,
    name: &'static str,
}

impl Signer {
    fn new(name: &'static str) -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap();
        Self { key, name }
    }

    fn public(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = self.key.public_key().as_ref()[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": self.name, "x": encode(x), "y": encode(y)})
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// A token with these claims over usual ones.
    fn token(&self, over: &Value) -> String {
        let mut claims = json!({"iss": ISSUER, "aud": "kedge", "sub": "jane", "exp": NOW + 60});
        for (claim, value) in over.as_object().unwrap() {
            claims[claim] = value.clone();
        }
        self.sign(&json!({"alg": "ES256", "kid": self.name}), &claims)
    }
}

fn setup(mappings: &Value, keys: &[Value]) -> Setup {
    let pages = Arc::new(Pages::default());
    let document = json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys")});
    pages.pages.lock().insert(format!("{ISSUER}/.well-known/openid-configuration"), document.to_string());
    publish(&pages, keys);
    let mut config = json!({
        "issuer": {"url": ISSUER, "audiences": ["kedge"]},
        "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}},
    });
    for (field, value) in mappings.as_object().unwrap() {
        config[field] = value.clone();
    }
    let clock = VirtualClock::new(jiff::Timestamp::UNIX_EPOCH);
    let shared: SharedClock = Arc::new(clock.clone());
    let config: JwtAuthenticator = serde_json::from_value(config).unwrap();
    let tasks = TaskGroup::new("test", Shutdown::new());
    let jwt = Jwt::new(&config, &[], pages.clone(), (&shared, &tasks)).unwrap();
    Setup { pages, clock, jwt }
}

fn publish(pages: &Pages, keys: &[Value]) {
    pages.pages.lock().insert(format!("{ISSUER}/keys"), json!({ "keys": keys }).to_string());
}

#[tokio::test]
async fn a_token_of_the_issuer_is_believed_and_read() {
    let signer = Signer::new("a");
    let mappings = json!({
        "claimMappings": {
            "username": {"expression": "'corp:' + claims.sub"},
            "groups": {"claim": "roles", "prefix": "role:"},
            "uid": {"claim": "id"},
            "extra": [{"key": "example.com/tenant", "valueExpression": "claims.?tenant.orValue('')"}],
        },
        "claimValidationRules": [{"claim": "hd", "requiredValue": "example.com"}, {"expression": "claims.level > 2", "message": "too low"}],
        "userValidationRules": [{"expression": "!user.username.endsWith('root')", "message": "not root"}],
    });
    let Setup { jwt, .. } = setup(&mappings, &[signer.public()]);
    let claims = json!({"roles": ["dev", "ops"], "id": "7", "hd": "example.com", "level": 3, "tenant": "t"});
    let user = jwt.authenticate(&signer.token(&claims), NOW).await.unwrap().unwrap();
    assert_eq!((user.name.as_str(), user.uid.as_str()), ("corp:jane", "7"));
    assert_eq!(user.groups, ["role:dev", "role:ops", "system:authenticated"]);
    assert_eq!(user.extra["example.com/tenant"], ["t"]);
    for (over, wanted) in [
        (json!({"level": 1}), "validation expression 'claims.level > 2' failed: too low"),
        (json!({"hd": "other"}), "required claim hd value does not match. Got = other, want = example.com"),
        (json!({"sub": "root"}), "failed: not root"),
        (json!({"id": null}), "parse uid claim"),
        (json!({"roles": null}), "no list of strings"),
    ] {
        let mut claims = claims.clone();
        claims.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        let why = jwt.authenticate(&signer.token(&claims), NOW).await.unwrap_err();
        assert!(why.contains(wanted), "{why}");
    }
    let mut elsewhere = claims;
    elsewhere.as_object_mut().unwrap().remove("roles");
    assert_eq!(
        jwt.authenticate(&signer.token(&elsewhere), NOW).await.unwrap().unwrap().groups,
        ["system:authenticated"]
    );
    elsewhere["_claim_names"] = json!({"roles": "source"});
    let why = jwt.authenticate(&signer.token(&elsewhere), NOW).await.unwrap_err();
    assert!(why.contains("distributed claims are not supported"), "{why}");
}

#[tokio::test]
async fn what_is_not_for_us_or_not_in_time_is_refused() {
    let signer = Signer::new("a");
    let Setup { jwt, .. } = setup(&json!({}), &[signer.public()]);
    let user = jwt.authenticate(&signer.token(&json!({"aud": ["other", "kedge"]})), NOW).await.unwrap().unwrap();
    assert_eq!(user.name, "oidc:jane");
    for (over, wanted) in [
        (json!({"aud": "other"}), "expected audience"),
        (json!({"aud": null}), "expected audience"),
        (json!({"exp": NOW - 1}), "token is expired"),
        (json!({"exp": null}), "token is expired"),
        (json!({"nbf": NOW + 301}), "before the nbf"),
        (json!({"sub": 7}), "it is no string"),
    ] {
        let why = jwt.authenticate(&signer.token(&over), NOW).await.unwrap_err();
        assert!(why.contains(wanted), "{over}: {why}");
    }
    for none in
        [signer.token(&json!({"iss": "https://other"})), "nonsense".to_owned(), "a.b.c".to_owned(), String::new()]
    {
        assert_eq!(jwt.authenticate(&none, NOW).await, Ok(None), "it is none of ours");
    }
}

/// The classic ones: a token without a signature, one that is "signed" with the public key as a shared secret, one of somebody else's key.
#[tokio::test]
async fn what_nobody_has_signed_is_refused() {
    let (signer, other) = (Signer::new("a"), Signer::new("a"));
    let Setup { jwt, .. } = setup(&json!({}), &[signer.public()]);
    let claims = json!({"iss": ISSUER, "aud": "kedge", "sub": "root", "exp": NOW + 60});
    for algorithm in ["none", "HS256", "ES512", "RS256", "es256", ""] {
        let token = signer.sign(&json!({"alg": algorithm, "kid": "a"}), &claims);
        assert!(jwt.authenticate(&token, NOW).await.is_err(), "{algorithm}");
    }
    let why = jwt.authenticate(&other.token(&json!({})), NOW).await.unwrap_err();
    assert!(why.contains("failed to verify signature"), "{why}");
    let token = signer.sign(&json!({"alg": "ES256", "kid": "a", "crit": ["x"]}), &claims);
    assert!(jwt.authenticate(&token, NOW).await.unwrap_err().contains("crit"), "what must be understood is not");
    let whole = signer.token(&json!({}));
    let (signed, _) = whole.rsplit_once('.').unwrap();
    assert!(jwt.authenticate(&format!("{signed}."), NOW).await.is_err());
}

#[tokio::test]
async fn keys_are_asked_for_once_and_again_when_they_do_not_fit() {
    let (first, second) = (Signer::new("a"), Signer::new("b"));
    let Setup { pages, clock, jwt } = setup(&json!({}), &[first.public()]);
    let asked = || pages.asked.load(Ordering::Relaxed);
    let (token, newer) = (first.token(&json!({})), second.token(&json!({})));
    let many = futures::future::join_all((0..20).map(|_| jwt.authenticate(&token, NOW))).await;
    assert!(many.into_iter().all(|user| user.unwrap().is_some()));
    assert_eq!(asked(), 2, "the document and the keys");
    // Whoever sends nonsense does not make the issuer busy.
    publish(&pages, &[first.public(), second.public()]);
    for _ in 0..50 {
        assert!(jwt.authenticate(&newer, NOW).await.is_err());
    }
    assert_eq!(asked(), 2);
    clock.advance(PAUSE);
    assert!(jwt.authenticate(&newer, NOW).await.unwrap().is_some());
    assert!(jwt.authenticate(&token, NOW).await.unwrap().is_some());
    assert_eq!(asked(), 3, "where the keys are is known");
}

#[tokio::test]
async fn an_issuer_is_believed_of_itself_alone_and_may_come_later() {
    let signer = Signer::new("a");
    let Setup { pages, clock, jwt } = setup(&json!({}), &[signer.public()]);
    let at = format!("{ISSUER}/.well-known/openid-configuration");
    let document = pages.pages.lock().remove(&at).unwrap();
    let token = signer.token(&json!({}));
    assert!(jwt.authenticate(&token, NOW).await.unwrap_err().contains("not initialized"));
    pages
        .pages
        .lock()
        .insert(at.clone(), json!({"issuer": "https://evil", "jwks_uri": "https://evil/keys"}).to_string());
    clock.advance(PAUSE);
    assert!(jwt.authenticate(&token, NOW).await.unwrap_err().contains("issuer did not match"));
    pages
        .pages
        .lock()
        .insert(at.clone(), json!({"issuer": ISSUER, "jwks_uri": "http://issuer.example.com/keys"}).to_string());
    clock.advance(PAUSE);
    assert!(jwt.authenticate(&token, NOW).await.unwrap_err().contains("not https"));
    pages.pages.lock().insert(at, document);
    clock.advance(PAUSE);
    assert!(jwt.authenticate(&token, NOW).await.unwrap().is_some());
}

#[tokio::test]
async fn rsa_signatures_are_verified() {
    let key = json!({"kty": "RSA", "kid": "r", "n": MODULUS, "e": "AQAB"});
    let Setup { jwt, .. } = setup(&json!({}), &[key]);
    assert_eq!(jwt.authenticate(SIGNED, NOW).await.unwrap().unwrap().name, "oidc:jane");
    let changed = SIGNED.replacen('j', "k", 1);
    assert!(!matches!(jwt.authenticate(&changed, NOW).await, Ok(Some(_))));
}

#[test]
fn algorithms_that_nobody_knows_are_refused() {
    let config: JwtAuthenticator = serde_json::from_value(json!({
        "issuer": {"url": ISSUER, "audiences": ["k"]}, "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
    }))
    .unwrap();
    let clock: SharedClock = Arc::new(VirtualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let tasks = TaskGroup::new("test", Shutdown::new());
    let refused = Jwt::new(&config, &["HS256".to_owned()], Arc::new(Pages::default()), (&clock, &tasks));
    assert_eq!(refused.err().unwrap(), "oidc: unsupported signing alg: \"HS256\"");
}

/// Whoever sent nonsense in the name of an issuer and went away once kept everybody from its keys for ten seconds, again and again.
#[tokio::test]
async fn who_goes_away_keeps_nobody_from_the_keys() {
    let signer = Signer::new("a");
    let Setup { pages, jwt, .. } = setup(&json!({}), &[signer.public()]);
    let hangs = pages.slow.lock().await;
    let nonsense = Signer::new("a").token(&json!({}));
    let mut gone = Box::pin(jwt.authenticate(&nonsense, NOW));
    assert!(futures::poll!(gone.as_mut()).is_pending());
    drop(gone);
    let token = signer.token(&json!({}));
    let mut waits = Box::pin(jwt.authenticate(&token, NOW));
    assert!(futures::poll!(waits.as_mut()).is_pending());
    drop(hangs);
    assert!(waits.await.unwrap().is_some());
    assert_eq!(pages.asked.load(Ordering::Relaxed), 2, "one has asked for both");
}

/// An issuer that did not answer once held every request that came with a token of its name, one after the other, for half a minute each.
#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_an_issuer_that_hangs() {
    let signer = Signer::new("a");
    let Setup { pages, jwt, .. } = setup(&json!({}), &[signer.public()]);
    let _hangs = pages.slow.lock().await;
    let token = signer.token(&json!({}));
    let began = tokio::time::Instant::now();
    let all = futures::future::join_all((0..200).map(|_| jwt.authenticate(&token, NOW))).await;
    assert!(all.iter().all(|one| one.as_ref().is_err_and(|why| why.contains("not initialized"))));
    assert!(began.elapsed() <= PATIENCE, "{:?}", began.elapsed());
    assert_eq!(pages.asked.load(Ordering::Relaxed), 1);
}
