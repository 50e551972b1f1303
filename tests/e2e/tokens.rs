//! Tokens that are kept in secrets: those of service accounts, and those by which nodes and tools begin.

use std::path::PathBuf;
use std::process::Output;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::etcd::Etcd;
use crate::support::{TestCluster, eventually};

/// kubectl with a token and nothing else.
fn as_bearer(cluster: &TestCluster, token: &str, args: &[&str]) -> Output {
    let authority: PathBuf = cluster.data_dir().join("server/tls/server-ca.crt");
    let server = format!("--server=https://127.0.0.1:{}", cluster.port());
    let authority = format!("--certificate-authority={}", authority.display());
    let token = format!("--token={token}");
    let mut all = vec!["--kubeconfig=/dev/null", &server, &authority, &token];
    all.extend(args);
    cluster.kubectl(&all)
}

/// Who a token stands for, and what kubectl was warned of; else why it is refused.
fn whoami(cluster: &TestCluster, token: &str) -> Result<(serde_json::Value, String), String> {
    let out = as_bearer(cluster, token, &["auth", "whoami", "-o", "json"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if !out.status.success() {
        return Err(said);
    }
    let review: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    Ok((review["status"]["userInfo"].clone(), said))
}

fn token_of(cluster: &TestCluster, secret: &str) -> String {
    eventually("a token in the secret", || {
        let secret = cluster.json(&["secret", secret]);
        let token = secret["data"]["token"].as_str().ok_or(secret.to_string())?;
        Ok(String::from_utf8(STANDARD.decode(token).unwrap()).unwrap())
    })
}

fn refused(cluster: &TestCluster, token: &str) {
    eventually("that the token is refused", || match whoami(cluster, token) {
        Err(said) if said.contains("Unauthorized") || said.contains("must be logged in") => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

const SECRET: &str = "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\nmetadata:\n  name: s\n  \
    annotations: {kubernetes.io/service-account.name: robot}\n";

#[test]
fn a_secret_for_an_account_is_filled_and_its_token_taken_while_it_is_there() {
    let mut cluster = TestCluster::control_plane();
    let lacking = SECRET.replace("annotations: {kubernetes.io/service-account.name: robot}", "labels: {}");
    let path = cluster.file("lacking.yaml", &lacking);
    let said = cluster.fails(&["create", "-f", &path.to_string_lossy()]);
    assert!(said.contains("metadata.annotations[kubernetes.io/service-account.name]: Required value"), "{said}");

    cluster.ok(&["create", "serviceaccount", "robot"]);
    cluster.apply(SECRET);
    let token = token_of(&cluster, "s");
    let (secret, account) = (cluster.json(&["secret", "s"]), cluster.json(&["serviceaccount", "robot"]));
    let authority = std::fs::read_to_string(cluster.data_dir().join("server/tls/server-ca.crt")).unwrap();
    assert_eq!(secret["data"]["ca.crt"], STANDARD.encode(authority));
    assert_eq!(secret["data"]["namespace"], STANDARD.encode("default"));
    let uid = &account["metadata"]["uid"];
    assert_eq!(secret["metadata"]["annotations"]["kubernetes.io/service-account.uid"], *uid);

    let (user, warned) = whoami(&cluster, &token).unwrap();
    assert_eq!((&user["username"], &user["uid"]), (&"system:serviceaccount:default:robot".into(), uid));
    let groups = ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"];
    assert_eq!((&user["groups"], &user["extra"]), (&serde_json::json!(groups), &serde_json::Value::Null));
    assert!(!warned.contains("Warning"), "{warned}");
    // The day of its use is noted before the answer, and since when that is done.
    let today = cluster.json(&["secret", "s"])["metadata"]["labels"]["kubernetes.io/legacy-token-last-used"].clone();
    let since = "kube-apiserver-legacy-service-account-token-tracking";
    let since = cluster.json(&["-n", "kube-system", "configmap", since])["data"]["since"].clone();
    assert_eq!(today.as_str().unwrap().len(), "2026-01-01".len());
    assert!(since.as_str().unwrap() <= today.as_str().unwrap(), "{since}");

    let said = cluster.ok(&["describe", "serviceaccount", "robot"]);
    assert!(said.contains("Name:                robot"), "{said}");
    let said = cluster.ok(&["describe", "secret", "s"]);
    assert!(said.contains(&token) && said.contains("namespace:  7 bytes"), "{said}");
    let found = cluster.ok(&["get", "secret", "s", "--no-headers"]);
    assert!(found.contains("kubernetes.io/service-account-token   3"), "{found}");

    // Also after the server was killed.
    cluster.kill();
    cluster.start();
    whoami(&cluster, &token).unwrap();
    // What was taken out comes back, and the token stays.
    cluster.ok(&["patch", "secret", "s", "--type=json", "-p", r#"[{"op":"remove","path":"/data/ca.crt"}]"#]);
    cluster.wait_for(
        secret["data"]["ca.crt"].as_str().unwrap(),
        &["get", "secret", "s", "-o", r"jsonpath={.data.ca\.crt}"],
    );
    whoami(&cluster, &token).unwrap();

    // One that the account names is one that was made for it.
    cluster.ok(&["patch", "serviceaccount", "robot", "-p", r#"{"secrets":[{"name":"s"},{"name":"other"}]}"#]);
    let (_, warned) = whoami(&cluster, &token).unwrap();
    assert!(warned.contains("Warning: Use tokens from the TokenRequest API or manually created"), "{warned}");
    cluster.ok(&["label", "secret", "s", "kubernetes.io/legacy-token-invalid-since=2026-01-01"]);
    refused(&cluster, &token);
    cluster.ok(&["label", "secret", "s", "kubernetes.io/legacy-token-invalid-since-"]);
    whoami(&cluster, &token).unwrap();

    cluster.ok(&["delete", "secret", "s"]);
    refused(&cluster, &token);
    cluster.wait_for("other", &["get", "serviceaccount", "robot", "-o", "jsonpath={.secrets[*].name}"]);
}

#[test]
fn tokens_go_with_their_account_and_do_not_come_back_with_its_name() {
    let cluster = TestCluster::control_plane();
    cluster.ok(&["create", "serviceaccount", "robot"]);
    cluster.apply(SECRET);
    let token = token_of(&cluster, "s");
    cluster.ok(&["delete", "serviceaccount", "robot"]);
    cluster.ok(&["create", "serviceaccount", "robot"]);
    let gone = || {
        let out = cluster.kubectl(&["get", "secret", "s"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        if said.contains("NotFound") { Ok(()) } else { Err(said) }
    };
    eventually("that the secret is gone", gone);
    refused(&cluster, &token);
    // One that names an account that there is not goes at once.
    cluster.apply(&SECRET.replace("robot", "nobody"));
    eventually("that the secret is gone", gone);
    // And one for the new account gets a token of its own.
    cluster.apply(SECRET);
    assert_ne!(token_of(&cluster, "s"), token);
}

#[test]
fn a_bootstrap_token_is_a_credential_until_its_end() {
    let cluster = TestCluster::control_plane();
    let printed =
        cluster.kedge(&["token", "create", "--description", "for a rack", "--groups", "system:bootstrappers:rack"]);
    let (authority, token) = printed.trim().split_once("::").unwrap();
    assert!(authority.starts_with("K10") && authority.len() == 67, "{printed}");
    let (user, _) = whoami(&cluster, token).unwrap();
    let id = token.split('.').next().unwrap();
    assert_eq!(user["username"], format!("system:bootstrap:{id}"));
    let groups = ["system:bootstrappers", "system:bootstrappers:rack", "system:authenticated"];
    assert_eq!(user["groups"], serde_json::json!(groups));
    let wrong = format!("{id}.{}", "0".repeat(16));
    assert!(whoami(&cluster, &wrong).is_err());

    let listed = cluster.kedge(&["token", "list"]);
    let row: Vec<&str> =
        listed.lines().nth(1).unwrap().split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(
        (row[0], row[3], row[4], row[5]),
        (id, "authentication,signing", "for a rack", "system:bootstrappers:rack")
    );
    assert!(row[1].ends_with('h') && !listed.contains(token), "{listed}");
    assert!(cluster.kedge(&["token", "list", "-o", "json"]).contains(token));

    // A review says the same.
    let review = format!("apiVersion: authentication.k8s.io/v1\nkind: TokenReview\nspec: {{token: {token}}}\n");
    let path = cluster.file("review.yaml", &review);
    let said = cluster.ok(&["create", "-f", &path.to_string_lossy(), "-o", "json"]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&said["status"]["authenticated"], &said["status"]["user"]["username"]),
        (&true.into(), &user["username"])
    );

    let again = cluster.kedge_output(&["token", "create", token]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("already exists"), "{again:?}");
    assert_eq!(cluster.kedge(&["token", "delete", id]), format!("bootstrap token {id:?} deleted\n"));
    assert!(whoami(&cluster, token).is_err());

    let generated = cluster.kedge(&["token", "generate"]);
    let short = cluster.kedge(&["token", "create", generated.trim(), "--ttl", "5s"]);
    assert!(short.trim().ends_with(generated.trim()), "{short}");
    whoami(&cluster, generated.trim()).unwrap();
    refused(&cluster, generated.trim());
    cluster.wait_for(
        "",
        &["-n", "kube-system", "get", "secrets", "--field-selector=type=bootstrap.kubernetes.io/token", "-o", "name"],
    );
}

#[test]
fn what_is_said_of_the_cluster_is_signed_with_bootstrap_tokens() {
    let cluster = TestCluster::control_plane();
    let info = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cluster-info, namespace: kube-public}\ndata: {kubeconfig: \"\"}\n";
    cluster.apply(info);
    cluster.kedge(&["token", "create", "joshua.0123456789abcdef"]);
    let keys =
        ["-n", "kube-public", "get", "configmap", "cluster-info", "-o", "jsonpath={.data.jws-kubeconfig-joshua}"];
    let signed = eventually("a signature", || {
        let signature = cluster.ok(&keys);
        if signature.is_empty() { Err(signature) } else { Ok(signature) }
    });
    assert!(signed.starts_with("eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9.."), "{signed}");
    cluster.ok(&["-n", "kube-public", "patch", "configmap", "cluster-info", "-p", r#"{"data":{"kubeconfig":"x"}}"#]);
    eventually("another signature", || match cluster.ok(&keys) {
        again if again == signed || again.is_empty() => Err(again),
        _ => Ok(()),
    });
    cluster.kedge(&["token", "delete", "joshua.0123456789abcdef"]);
    cluster.wait_for("", &keys);
}

/// Tokens of a cluster whose keys and issuer these were, and of the one that takes their place.
#[test]
fn tokens_of_several_issuers_and_keys_are_taken() {
    let mut cluster = TestCluster::control_plane();
    cluster.ok(&["create", "serviceaccount", "robot"]);
    let first = cluster.ok(&["create", "token", "robot"]);
    let rsa = cluster.data_dir().join("rsa.pem");
    let made = std::process::Command::new("openssl").args(["genrsa", "-out"]).arg(&rsa).arg("2048").output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let own = cluster.data_dir().join("server/tls/service.key");
    assert!(own.exists());
    let settings = [
        "service-account-issuer=https://new.example".to_owned(),
        "service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("service-account-signing-key-file={}", rsa.display()),
        format!("service-account-key-file={}", own.display()),
        "api-audiences=https://kubernetes.default.svc.cluster.local,mine".to_owned(),
        "service-account-max-token-expiration=2h".to_owned(),
    ];
    let flags: Vec<&str> = settings.iter().flat_map(|setting| ["--kube-apiserver-arg", setting.as_str()]).collect();
    assert!(cluster.stop());
    cluster.start_again_with(&flags);
    whoami(&cluster, first.trim()).unwrap();
    let out = cluster.kubectl(&["create", "token", "robot", "--duration=3h"]);
    let warned = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(warned.contains("requested expiration of 10800 seconds shortened to 7200 seconds"), "{warned}");
    let second = String::from_utf8_lossy(&out.stdout).trim().to_owned();
    whoami(&cluster, &second).unwrap();
    // What is signed, and for whom: no padding, which the decoder of the tests wants.
    let part = |token: &str, at: usize| {
        let text = token.split('.').nth(at).unwrap().to_owned();
        base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap()
    };
    let claims: serde_json::Value = serde_json::from_slice(&part(&second, 1)).unwrap();
    assert_eq!((&claims["iss"], &claims["aud"][1]), (&"https://new.example".into(), &"mine".into()));
    assert!(String::from_utf8(part(&second, 0)).unwrap().contains("RS256"));
    let keys: serde_json::Value = serde_json::from_str(&cluster.ok(&["get", "--raw", "/openid/v1/jwks"])).unwrap();
    let names: Vec<&str> = keys["keys"].as_array().unwrap().iter().map(|key| key["alg"].as_str().unwrap()).collect();
    assert_eq!(names, ["RS256", "ES256"]);
    let document = cluster.ok(&["get", "--raw", "/.well-known/openid-configuration"]);
    assert!(document.contains(r#""id_token_signing_alg_values_supported":["ES256","RS256"]"#), "{document}");

    // Without the old key its tokens are nobody's.
    let only = ["--kube-apiserver-arg", settings[0].as_str(), "--kube-apiserver-arg", settings[2].as_str()];
    let key_file = format!("service-account-key-file={}", rsa.display());
    assert!(cluster.stop());
    cluster.set_flags(&[&["--disable-agent", "--kube-apiserver-arg", &key_file], &only[..]].concat());
    cluster.start();
    refused(&cluster, first.trim());
}

#[test]
fn the_clusters_token_is_rotated_while_a_server_runs() {
    let etcd = Etcd::one();
    let mut a = TestCluster::control_plane_with(&["--datastore-endpoint", &etcd.endpoints()]);
    let file = a.data_dir().join("server/token");
    let read = || std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let first = read();
    let wrong = a.kedge_output(&["token", "rotate", "--token", "another", "--new-token", "second"]);
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("not the one that the server has"), "{wrong:?}");
    assert_eq!(read(), first);
    let said = a.kedge(&["token", "rotate", "--token", &first, "--new-token", "second"]);
    assert!(said.contains("Token rotated, restart kedge nodes with new token"), "{said}");
    assert!(read().ends_with("::server:second"), "{}", read());
    // It goes on, also with what is sealed with the token.
    a.ok(&["create", "secret", "generic", "s"]);
    a.kedge(&["secrets-encrypt", "enable"]);
    a.kill();
    a.start();
    a.ok(&["get", "secret", "s"]);
    let refused =
        TestCluster::refused(&["--disable-agent", "--datastore-endpoint", &etcd.endpoints(), "--token", &first]);
    assert!(refused.contains("another token"), "{refused}");
    let b = TestCluster::control_plane_with(&["--datastore-endpoint", &etcd.endpoints(), "--token", "second"]);
    b.ok(&["get", "secret", "s"]);
    drop(b);
    // One that was cut off after it was sealed and before its file was there.
    a.kedge(&["token", "rotate", "--new-token", "third"]);
    a.kill();
    std::fs::write(&file, "second\n").unwrap();
    std::fs::write(a.data_dir().join("server/token.coming"), "third\n").unwrap();
    a.start();
    assert!(read().ends_with("::server:third") && !a.data_dir().join("server/token.coming").exists());
}
