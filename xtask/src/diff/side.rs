//! One of the servers: sends the steps of scenarios to it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use kedge_client::{ClusterAccess, HttpsTransport, Transport};
use serde_json::{Value, json};

use super::answer::Answer;
use super::normal;
use super::scenario::{Body, Scenario, Step, merge};

/// Far longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_BODY: usize = 64 << 20;
/// Who the writes are of, in `managedFields`.
const AGENT: &str = "letter/1";
/// Not a request, but milliseconds for informers of the server to see what was written.
const WAIT: &str = "WAIT";

/// A server, and the administrator's way to it.
pub struct Side {
    admin: HttpsTransport,
    anonymous: HttpsTransport,
    /// Five characters that are in all names of this run.
    tag: String,
}

/// What a scenario knows of its server.
struct Known {
    values: BTreeMap<&'static str, String>,
    last: Value,
}

impl Side {
    pub fn connect(kubeconfig: &Path, tag: &str) -> anyhow::Result<Self> {
        let access = ClusterAccess::from_file(kubeconfig)?;
        let nobody =
            ClusterAccess { client_certificate: Vec::new(), client_key: Vec::new(), token: None, ..access.clone() };
        Ok(Self { admin: HttpsTransport::new(&access)?, anonymous: HttpsTransport::new(&nobody)?, tag: tag.to_owned() })
    }

    /// Sends a scenario; the answers to its steps, in order.
    ///
    /// # Errors
    /// When an answer does not come.
    pub async fn play(&self, scenario: &Scenario) -> anyhow::Result<Vec<(String, Answer)>> {
        let slug: String = scenario.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let namespace = format!("n-{}-{}", slug.to_ascii_lowercase(), self.tag);
        let values = BTreeMap::from([("ns", namespace), ("t", self.tag.clone())]);
        let mut known = Known { values, last: Value::Null };
        if scenario.steps.iter().any(|step| step.path.contains("{ns}")) {
            self.prepare(&mut known).await?;
        }
        let mut answers = Vec::new();
        for step in &scenario.steps {
            let name = format!("{}/{}", scenario.name, step.name);
            if step.verb == WAIT {
                tokio::time::sleep(Duration::from_millis(step.path.parse()?)).await;
                continue;
            }
            let sent = tokio::time::timeout(PATIENCE, self.send(step, &mut known)).await;
            answers.push((name.clone(), sent.with_context(|| format!("{name}: no answer"))?.context(name)?));
        }
        Ok(answers)
    }

    /// The scenario's namespace, with what its pods need.
    async fn prepare(&self, known: &mut Known) -> anyhow::Result<()> {
        let namespace = json!({"metadata": {"name": "{ns}"}});
        self.send(&Step::new("", "POST", "/api/v1/namespaces").json(&namespace), known).await?;
        let account = json!({"metadata": {"name": "default"}});
        let path = "/api/v1/namespaces/{ns}/serviceaccounts";
        self.send(&Step::new("", "POST", path).json(&account), known).await?;
        Ok(())
    }

    async fn send(&self, step: &Step, known: &mut Known) -> anyhow::Result<Answer> {
        let path = known.fill(&step.path);
        let body = match &step.body {
            Body::None => String::new(),
            Body::Raw(text) => known.fill(text),
            Body::Last(patch) => {
                let mut body = known.last.clone();
                let patch: Value = serde_json::from_str(&known.fill(&patch.to_string()))?;
                if !patch.is_null() {
                    merge(&mut body, &patch);
                }
                body.to_string()
            }
        };
        let mut request = Request::builder().method(step.verb.as_str()).uri(path.as_str());
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", AGENT.parse()?);
        if !body.is_empty() {
            headers.insert("content-type", "application/json".parse()?);
        }
        let mut own = HeaderMap::new();
        for (name, value) in &step.headers {
            own.append(http::HeaderName::try_from(name.as_str())?, known.fill(value).parse()?);
        }
        for name in own.keys() {
            headers.remove(name);
        }
        headers.extend(own);
        if let Some(into) = request.headers_mut() {
            *into = headers;
        }
        let request = request.body(Bytes::from(body))?;
        let answer = match step.anonymous {
            // Upstream closes connections of those who have no name.
            true => match self.anonymous.send(request.clone()).await {
                Err(_) => self.anonymous.send(request).await,
                sent => sent,
            },
            false => self.admin.send(request).await,
        };
        let answer = answer.map_err(|err| anyhow!("{err}"))?;
        let (head, body) = answer.into_parts();
        let body = read(body).await?;
        known.learn(&body);
        let watch = path.contains("watch=") || path.contains("/watch/");
        Ok(normal::answer(head.status.as_u16(), &head.headers, &body, watch, &self.tag))
    }
}

/// A body that is not too large.
pub(crate) async fn read(mut body: kedge_client::Body) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|err| anyhow!("{err}"))?;
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        ensure!(bytes.len() <= MAX_BODY, "the answer is too large");
    }
    Ok(bytes)
}

// === impl Known ===

impl Known {
    fn fill(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in &self.values {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        text
    }

    fn learn(&mut self, body: &[u8]) {
        let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
        let places = [
            ("uid", "/metadata/uid"),
            ("rv", "/metadata/resourceVersion"),
            ("continue", "/metadata/continue"),
            ("token", "/status/token"),
        ];
        for (name, place) in places {
            if let Some(text) = value.pointer(place).and_then(Value::as_str).filter(|text| !text.is_empty()) {
                self.values.insert(name, text.to_owned());
            }
        }
        if value["kind"] != "Status" {
            self.last = value;
        }
    }
}
