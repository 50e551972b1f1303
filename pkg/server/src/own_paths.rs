//! `/kedge/v1/`: administration of a running server, for the commands of this binary.
//!
//! ```text
//! POST snapshots    {"name": …, "dir": …, "node": …}
//!                                    saves a snapshot; lines of progress, then {"saved": …} or {"error": …}
//! GET  encryption                    how the encryption of secrets stands
//! POST encryption   {"action": …}    enable, disable or rotate-keys
//! POST certificates {"files": […]}   renews leaves, which are in use then
//! POST authorities  {"files": {…}, "force": …}
//!                                    puts other authorities in the place of the cluster's, new ones without files
//! PUT  token        {"token": …, "newToken": …}
//!                                    puts another token in the place of the cluster's; both may be left out
//! ```
//! Requests pass the whole chain of the API server, and only its administrators may make them: no role allows these paths.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};
use kedge_apiserver::{Body, BodyError, OwnPaths};
use kedge_base::{SharedClock, TaskGroup, blocking};
use kedge_certs::inventory;
use kedge_certs::rotation::Files;
use kedge_meta::Status;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::authority_rotation::AuthorityRotation;
use crate::commands::Rotated;
use crate::encryption::{Action, EncryptionStatus, SecretsEncryption};
use crate::error::Error;
use crate::renewal::Renewal;
use crate::snapshots::SnapshotService;
use crate::start::now;
use crate::token_rotation::TokenRotation;

/// What these paths begin with.
pub(crate) const PREFIX: &str = "/kedge/v1/";
/// Lines of progress that may wait for a slow client; more are left out.
const LINES: usize = 16;

/// The paths of a server.
pub(crate) struct Administration {
    pub(crate) snapshots: Arc<SnapshotService>,
    pub(crate) encryption: Arc<SecretsEncryption>,
    pub(crate) token: Arc<TokenRotation>,
    pub(crate) authorities: Arc<AuthorityRotation>,
    pub(crate) tasks: TaskGroup,
    pub(crate) certificates: Certificates,
    /// Whether the encryption is managed here, not by a file of the user's own.
    pub(crate) managed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaveRequest {
    name: Option<String>,
    /// An absolute path; none for the server's own directory.
    dir: Option<PathBuf>,
    /// None for the server's own name.
    node: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EncryptionRequest {
    action: Action,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateRequest {
    files: Vec<String>,
}

/// Those that this server uses, and where they are.
pub(crate) struct Certificates {
    pub(crate) dir: PathBuf,
    pub(crate) renewal: Renewal,
    pub(crate) clock: SharedClock,
}

impl Certificates {
    /// Renews those with these names; those before them are kept beside their place.
    async fn rotate(&self, files: &[String]) -> Result<Rotated, Error> {
        let (dir, now) = (self.dir.clone(), now(&self.clock));
        let backup = blocking::unbounded("copy certificates", move || inventory::back_up(&dir, now)).await;
        let backup = backup.map_err(|err| Error::Tls(err.to_string()))??;
        let files = self.renewal.rotate(files).await?;
        Ok(Rotated { files, backup, in_use: true })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TokenRequest {
    token: Option<String>,
    new_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthoritiesRequest {
    files: Option<Files>,
    #[serde(default)]
    force: bool,
}

#[async_trait]
impl OwnPaths for Administration {
    fn prefix(&self) -> &str {
        PREFIX
    }

    async fn handle(&self, method: &Method, path: &str, body: Bytes) -> Result<Response<Body>, Status> {
        match (method, path.strip_prefix(PREFIX).unwrap_or_default()) {
            (&Method::POST, "snapshots") => {
                let request: SaveRequest = parse(&body)?;
                if request.dir.as_ref().is_some_and(|dir| !dir.is_absolute()) {
                    return Err(Status::bad_request("the directory of a snapshot must be an absolute path"));
                }
                Ok(self.save(request))
            }
            (_, "encryption") if !self.managed => {
                let why = "the encryption of secrets is configured by a file of its own, with --kube-apiserver-arg encryption-provider-config";
                Err(Status::bad_request(why))
            }
            (&Method::GET, "encryption") => Ok(json_answer(&json!(self.encryption.status().await))),
            (&Method::POST, "encryption") => {
                let EncryptionRequest { action } = parse(&body)?;
                Ok(json_answer(&json!(self.change(action).await?)))
            }
            (&Method::POST, "certificates") => {
                let RotateRequest { files } = parse(&body)?;
                Ok(json_answer(&json!(self.certificates.rotate(&files).await.map_err(Status::internal)?)))
            }
            (&Method::PUT, "token") => {
                self.rotate(parse(&body)?).await?;
                Ok(json_answer(&json!({})))
            }
            (&Method::POST, "authorities") => {
                let files = self.rotate_authorities(parse(&body)?).await?;
                Ok(json_answer(&json!({ "files": files })))
            }
            (_, "snapshots" | "encryption" | "certificates" | "authorities" | "token") => {
                Err(Status::method_not_allowed())
            }
            _ => Err(Status::unknown_path()),
        }
    }
}

impl Administration {
    async fn change(&self, action: Action) -> Result<EncryptionStatus, Status> {
        let encryption = self.encryption.clone();
        self.apart("encryption", async move { encryption.change(action).await }).await
    }

    async fn rotate(&self, TokenRequest { token, new_token }: TokenRequest) -> Result<(), Status> {
        let rotation = self.token.clone();
        let rotated = async move { rotation.rotate(token.as_deref(), new_token.as_deref()).await };
        self.apart("token", rotated).await
    }

    async fn rotate_authorities(&self, asked: AuthoritiesRequest) -> Result<Vec<String>, Status> {
        let authorities = self.authorities.clone();
        self.apart("authorities", async move { authorities.rotate(asked.files, asked.force).await }).await
    }

    /// In a task of its own: a client that goes away, or waits no longer, does not leave work half done.
    async fn apart<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Status> {
        let (answer, answered) = oneshot::channel();
        self.tasks.spawn(what, async move {
            let done = work.await;
            if let Err(err) = &done {
                warn!(what, error = %err, "nothing, or not all, was changed");
            }
            // Nobody waits any more: it is done all the same.
            let _ = answer.send(done);
        });
        match answered.await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(err @ (Error::Encryption(_) | Error::Token(_) | Error::Rotation(_) | Error::Waiting(_)))) => {
                Err(Status::bad_request(err.to_string()))
            }
            Ok(Err(err)) => Err(Status::internal(err)),
            Err(_) => Err(Status::internal(format!("the change of the {what} ended without a result"))),
        }
    }

    /// Saves in a task of its own: a client that goes away does not leave half a snapshot.
    fn save(&self, request: SaveRequest) -> Response<Body> {
        let SaveRequest { name, dir, node } = request;
        let (lines, body) = mpsc::channel(LINES);
        let (service, snapshots) = (self.snapshots.clone(), self.snapshots.in_place(dir, node));
        self.tasks.spawn("snapshot", async move {
            let progress = lines.clone();
            let mut told = |what: &str, done: usize, total: Option<usize>| {
                // A client that reads slowly is told less.
                let _ = progress.try_send(line(&json!({"progress": what, "done": done, "total": total})));
            };
            let last = match service.save_to(&snapshots, name.as_deref(), &mut told).await {
                Ok(saved) => json!({ "saved": saved }),
                Err(err) => json!({ "error": err.to_string() }),
            };
            // Nobody listens any more: the snapshot is there all the same.
            let _ = lines.send(line(&last)).await;
        });
        let mut response = Response::new(Lines(body).boxed_unsync());
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
        response
    }
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Status> {
    serde_json::from_slice(body).map_err(|e| Status::bad_request(format!("the request cannot be read: {e}")))
}

fn line(value: &Value) -> Bytes {
    format!("{value}\n").into()
}

fn json_answer(value: &Value) -> Response<Body> {
    let body = Full::new(line(value)).map_err(|never| -> BodyError { match never {} });
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// Lines as a body.
struct Lines(mpsc::Receiver<Bytes>);

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
