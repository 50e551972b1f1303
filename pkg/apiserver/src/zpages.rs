//! `/statusz` and `/flagz`: what a server is and what it was started with, for people as text, for programs as an object.

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use kedge_base::process;
use kedge_meta::Status;
use serde_json::{Map, Value, json};

use crate::body::Body;
use crate::input::negotiate;
use crate::output::respond;
use crate::server::ApiServer;

const PATHS: [&str; 7] = ["/flagz", "/healthz", "/livez", "/metrics", "/readyz", "/statusz", "/version"];
const COMPONENT: &str = "apiserver";
/// Upstream's words.
const FOR_PEOPLE: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";
const OLD: &str = "This version of the {} endpoint is deprecated. Please use a newer version.";

/// `/statusz`.
pub(crate) fn status(server: &ApiServer, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let now = server.clock.now();
    let started = process::figures().map_err(Status::internal)?.started as i64;
    let up = (now.as_second() - started).max(0);
    let start_time = jiff::Timestamp::from_second(started).map_err(Status::internal)?;
    let Some(page) = Page::asked(headers, "Statusz")? else {
        let started = start_time.strftime("%a %b %d %H:%M:%S UTC %Y");
        return Ok(respond::page(
            StatusCode::OK,
            format!(
                "\n{COMPONENT} statusz\n{FOR_PEOPLE}\n\nStarted: {started}\nUp: {} hr {:02} min {:02} sec\nGo version: \nBinary version: {BINARY}\nEmulation version: {EMULATION}\nPaths: {}\n",
                up / 3_600,
                up / 60 % 60,
                up % 60,
                PATHS.join(" ")
            ),
        ));
    };
    page.object(json!({
        "startTime": kedge_base::time::rfc3339(start_time),
        "uptimeSeconds": up,
        "goVersion": "",
        "binaryVersion": BINARY,
        "emulationVersion": EMULATION,
        "paths": PATHS,
    }))
}

const BINARY: &str = "1.36.2";
const EMULATION: &str = "1.36";

/// `/flagz`.
pub(crate) fn flags(server: &ApiServer, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    let Some(page) = Page::asked(headers, "Flagz")? else {
        let mut text = format!("\n{COMPONENT} flagz\n{FOR_PEOPLE}\n");
        for (name, value) in &server.flags {
            text.push_str(&format!("{name}:{value}\n"));
        }
        return Ok(respond::page(StatusCode::OK, text));
    };
    let flags: Map<String, Value> = server.flags.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    page.object(json!({ "flags": flags }))
}

/// The object that a program asked for.
struct Page {
    kind: &'static str,
    version: &'static str,
    yaml: bool,
}

impl Page {
    /// None for text.
    fn asked(headers: &HeaderMap, kind: &'static str) -> Result<Option<Self>, Status> {
        let asked = negotiate::page(headers, kind)?;
        Ok(asked.map(|(yaml, version)| Self { kind, version, yaml }))
    }

    fn object(self, content: Value) -> Result<Response<Body>, Status> {
        let Self { kind, version, yaml } = self;
        let mut object = json!({
            "kind": kind,
            "apiVersion": format!("config.k8s.io/{version}"),
            "metadata": { "name": COMPONENT },
        });
        if let (Some(object), Value::Object(content)) = (object.as_object_mut(), content) {
            object.extend(content);
        }
        let (mut response, form) = if yaml {
            (respond::page(StatusCode::OK, kedge_schema::to_yaml(&object)), "yaml")
        } else {
            (respond::raw_json(StatusCode::OK, &object), "json")
        };
        let media = format!("application/{form};g=config.k8s.io;v={version};as={kind}");
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::try_from(media).map_err(Status::internal)?);
        if version == "v1alpha1" {
            respond::warn(&mut response, &[OLD.replace("{}", &kind.to_lowercase())]);
        }
        Ok(response)
    }
}
