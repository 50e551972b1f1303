//! A small server on the loopback answers, redirects or refuses.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

async fn serve(answers: Vec<String>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    port
}

fn target(port: u16, scheme: &str) -> Target {
    let action = HTTPGetAction {
        path: Some("/a".into()),
        port: IntOrString::Int(port.into()),
        scheme: Some(scheme.into()),
        ..HTTPGetAction::default()
    };
    Target::new(&action, &Container::default(), "127.0.0.1", "probe").unwrap()
}

#[tokio::test]
async fn an_answer_and_a_redirect() {
    let ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    let to = "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n";
    let port = serve(vec![to.into(), ok.into()]).await;
    let answer = get(&target(port, "HTTP"), LIMIT).await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "hi"));
    let away = "HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Length: 0\r\n\r\n";
    let port = serve(vec![away.into()]).await;
    assert_eq!(get(&target(port, "HTTP"), LIMIT).await.unwrap().status, 302);
}

#[tokio::test]
async fn errors_read_as_go_writes_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = get(&target(port, "HTTP"), LIMIT).await.unwrap_err().to_string();
    let want = format!("Get \"http://127.0.0.1:{port}/a\": dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert_eq!(error, want);
}

#[tokio::test]
async fn plain_http_behind_https_is_recognised() {
    let port = serve(vec!["HTTP/1.1 400 Bad Request\r\n\r\n".into()]).await;
    let error = get(&target(port, "HTTPS"), LIMIT).await.unwrap_err();
    assert!(matches!(error, GetError::PlainAnswer { .. }), "{error}");
}

#[test]
fn ports_by_number_and_name() {
    let spec = json!({"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 80}]}]});
    let container = &crate::pod::testing::pod(spec).spec.unwrap().containers[0];
    let of = |port| resolve_port(&port, container);
    assert_eq!(of(IntOrString::Int(8080)), Ok(8080));
    assert_eq!(of(IntOrString::String("web".into())), Ok(80));
    assert!(of(IntOrString::String("x".into())).is_err() && of(IntOrString::Int(0)).is_err());
}
