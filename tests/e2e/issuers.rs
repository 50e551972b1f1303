//! Who is believed beside the cluster itself: issuers of tokens, tokens in a file, and, where that is wanted, nobody.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::support::http::Http;
use crate::support::webhook::{Reply, Webhook};
use crate::support::{TestCluster, eventually};

/// An issuer of tokens, with what it publishes.
struct Issuer {
    hook: Webhook,
    key: EcdsaKeyPair,
}

impl Issuer {
    fn start() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random).unwrap();
        let (x, y) = key.public_key().as_ref()[1..].split_at(32);
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "x": encode(x), "y": encode(y)}]});
        let url = Arc::new(Mutex::new(String::new()));
        let known = url.clone();
        let hook = Webhook::start(move |path, _| {
            let url = known.lock().unwrap().clone();
            match path {
                "/.well-known/openid-configuration" => {
                    Reply::Raw(200, json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string())
                }
                "/keys" => Reply::Raw(200, keys.to_string()),
                _ => Reply::Raw(404, String::new()),
            }
        });
        *url.lock().unwrap() = format!("https://127.0.0.1:{}", hook.port());
        Self { hook, key }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.hook.port())
    }

    fn authority(&self) -> String {
        String::from_utf8(STANDARD.decode(self.hook.bundle()).unwrap()).unwrap()
    }

    /// A token with these claims over usual ones.
    fn token(&self, over: &Value) -> String {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let mut claims = json!({"iss": self.url(), "aud": "kedge", "sub": "jane", "exp": now + 600});
        for (claim, value) in over.as_object().unwrap() {
            claims[claim] = value.clone();
        }
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&json!({"alg": "ES256", "kid": "k"})), encode(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// What kubectl says to one who has nothing but a token.
pub(crate) fn with_token(cluster: &TestCluster, token: &str, args: &[&str]) -> Result<String, String> {
    let own = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let bare: String = own.lines().filter(|line| !line.contains("client-")).map(|line| format!("{line}\n")).collect();
    let kubeconfig = cluster.file("bare.yaml", &bare);
    let flag = format!("--kubeconfig={}", kubeconfig.display());
    let token = format!("--token={token}");
    let out = cluster.kubectl(&[&[flag.as_str(), token.as_str()], args].concat());
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if out.status.success() { Ok(text(&out.stdout)) } else { Err(text(&out.stderr)) }
}

#[test]
fn an_issuer_of_the_configuration_is_believed() {
    let issuer = Issuer::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("authentication.yaml");
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
        "jwt": [{
            "issuer": {"url": issuer.url(), "audiences": ["kedge"], "certificateAuthority": issuer.authority()},
            "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}, "groups": {"expression": "claims.?roles.orValue([])"}},
            "userValidationRules": [{"expression": "!user.groups.exists(group, group.startsWith('system:'))", "message": "reserved"}],
        }],
        "anonymous": {"enabled": true, "conditions": [{"path": "/version"}]},
    });
    std::fs::write(&file, configuration.to_string()).unwrap();
    let cluster =
        TestCluster::control_plane_with(&[&format!("--kube-apiserver-arg=authentication-config={}", file.display())]);
    let token = issuer.token(&json!({"roles": ["viewers"]}));
    let whoami = with_token(&cluster, &token, &["auth", "whoami", "-o", "json"]).unwrap();
    let user = &serde_json::from_str::<Value>(&whoami).unwrap()["status"]["userInfo"];
    assert_eq!(
        (&user["username"], &user["groups"]),
        (&json!("oidc:jane"), &json!(["viewers", "system:authenticated"]))
    );
    let why = with_token(&cluster, &token, &["get", "configmaps"]).unwrap_err();
    assert!(why.contains("User \"oidc:jane\" cannot list resource \"configmaps\""), "{why}");
    cluster.ok(&["create", "clusterrolebinding", "viewers", "--clusterrole=view", "--group=viewers"]);
    assert!(with_token(&cluster, &token, &["get", "configmaps"]).is_ok());
    for (over, why) in [
        (json!({"exp": 1_000_000_000}), "token is expired"),
        (json!({"aud": "other"}), "expected audience"),
        (json!({"roles": ["system:masters"]}), "reserved"),
    ] {
        let token = issuer.token(&over);
        let said = with_token(&cluster, &token, &["get", "configmaps"]).unwrap_err();
        assert!(said.contains("You must be logged in to the server"), "{over}: {said}");
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let review = cluster.file("review.json", &review.to_string());
        let review = cluster.ok(&["create", "-f", review.to_str().unwrap(), "-o", "json"]);
        let status = &serde_json::from_str::<Value>(&review).unwrap()["status"];
        assert!(status["error"].as_str().unwrap().contains(why), "{status}");
    }
    // Nobody may ask for what the configuration names, and for nothing else.
    let http = Http::of(&cluster);
    assert_eq!(http.ask_as_nobody("--http2", "/version", &[]).code, 200);
    assert_eq!(http.ask_as_nobody("--http2", "/api", &[]).code, 401);
    // Service accounts are known as before.
    let own = cluster.ok(&["create", "token", "default"]);
    assert!(
        with_token(&cluster, own.trim(), &["auth", "whoami"])
            .unwrap()
            .contains("system:serviceaccount:default:default")
    );
}

#[test]
fn an_issuer_of_the_flags_is_believed_as_is_a_file_of_tokens() {
    let issuer = Issuer::start();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str, content: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let settings = [
        format!("oidc-issuer-url={}", issuer.url()),
        "oidc-client-id=kedge".to_owned(),
        format!("oidc-ca-file={}", path("ca.pem", &issuer.authority())),
        "oidc-signing-algs=ES256".to_owned(),
        "oidc-groups-claim=roles".to_owned(),
        "oidc-groups-prefix=role:".to_owned(),
        "oidc-required-claim=hd=example.com".to_owned(),
        format!("token-auth-file={}", path("tokens.csv", "s3cret,joe,7,\"dev,ops\"\n")),
        "anonymous-auth=true".to_owned(),
    ];
    let flags: Vec<String> = settings.iter().map(|setting| format!("--kube-apiserver-arg={setting}")).collect();
    let cluster = TestCluster::control_plane_with(&flags.iter().map(String::as_str).collect::<Vec<_>>());
    let user = |token: &str| {
        let whoami = with_token(&cluster, token, &["auth", "whoami", "-o", "json"])?;
        Ok::<_, String>(serde_json::from_str::<Value>(&whoami).unwrap()["status"]["userInfo"].clone())
    };
    let jane = user(&issuer.token(&json!({"hd": "example.com", "roles": "dev"}))).unwrap();
    assert_eq!(jane["username"], format!("{}#jane", issuer.url()));
    assert_eq!(jane["groups"], json!(["role:dev", "system:authenticated"]));
    assert!(user(&issuer.token(&json!({"hd": "other"}))).is_err());
    let joe = user("s3cret").unwrap();
    assert_eq!(
        (&joe["username"], &joe["uid"], &joe["groups"]),
        (&json!("joe"), &json!("7"), &json!(["dev", "ops", "system:authenticated"]))
    );
    assert!(user("s3cre").is_err());
    let http = Http::of(&cluster);
    let nobody = http.ask_as_nobody("--http2", "/api/v1/pods", &[]);
    assert_eq!(nobody.code, 403);
    assert!(nobody.body.contains("User \\\"system:anonymous\\\" cannot list resource \\\"pods\\\""), "{}", nobody.body);
    assert!(!cluster.log().contains("s3cret"));
}

#[test]
fn issuers_come_and_go_while_the_server_runs() {
    let issuer = Issuer::start();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("authentication.yaml");
    let configured = |issuers: &[&Issuer], url: Option<&str>, anonymous: bool| {
        let jwt = |issuer: &&Issuer| {
            let own = issuer.url();
            json!({
                "issuer": {"url": url.unwrap_or(&own), "audiences": ["kedge"], "certificateAuthority": issuer.authority()},
                "claimMappings": {"username": {"claim": "sub", "prefix": "oidc:"}},
            })
        };
        let configuration = json!({
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
            "jwt": issuers.iter().map(jwt).collect::<Vec<_>>(), "anonymous": {"enabled": anonymous},
        });
        // Replaced as a whole, as who writes such files does it.
        let next = dir.path().join("next");
        std::fs::write(&next, configuration.to_string()).unwrap();
        std::fs::rename(&next, &file).unwrap();
    };
    configured(&[], None, false);
    let cluster =
        TestCluster::control_plane_with(&[&format!("--kube-apiserver-arg=authentication-config={}", file.display())]);
    let token = issuer.token(&json!({}));
    let reloads = |status: &str, count: usize| {
        let wanted = format!("status=\"{status}\"}} {count}\n");
        eventually(&wanted, || {
            let metrics = cluster.ok(&["get", "--raw", "/metrics"]);
            let name = "apiserver_authentication_config_controller_automatic_reloads_total{";
            let all: String = metrics.lines().filter(|line| line.starts_with(name)).map(|l| format!("{l}\n")).collect();
            if all.contains(&wanted) { Ok(()) } else { Err(all) }
        });
    };
    assert!(with_token(&cluster, &token, &["auth", "whoami"]).is_err());
    configured(&[&issuer], None, false);
    reloads("success", 1);
    assert!(with_token(&cluster, &token, &["auth", "whoami"]).unwrap().contains("oidc:jane"));
    // What cannot be used leaves everything as it is: anonymous requests are as they were at the start.
    configured(&[], None, true);
    reloads("failure", 1);
    assert!(cluster.log().contains("anonymous: Forbidden: changed from initial configuration file"));
    configured(&[&issuer], Some("http://issuer.example.com"), false);
    reloads("failure", 2);
    assert!(with_token(&cluster, &token, &["auth", "whoami"]).unwrap().contains("oidc:jane"));
    configured(&[], None, false);
    reloads("success", 2);
    assert!(with_token(&cluster, &token, &["auth", "whoami"]).is_err());
}
