//! What is asked for by its name, and rights that stand behind requests and that no request shows by itself.

use anyhow::Context as _;
use serde_json::{Value, json};

use super::ask::{Asker, Told};
use super::routes::Route;
use super::table::Key;
use super::users::Who;

const REQUESTS: &str = include_str!("data/requests.txt");
const RIGHTS: &str = include_str!("data/rights.txt");

/// The requests of the file.
///
/// # Errors
/// When a line is none.
pub fn requests() -> anyhow::Result<Vec<Route>> {
    lines(REQUESTS).map(request).collect()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn request(line: &str) -> anyhow::Result<Route> {
    let mut words = line.splitn(3, ' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else { anyhow::bail!("no request: {line}") };
    let (method, content_type) = match method {
        "GET" => ("GET", ""),
        "POST" => ("POST", "application/json"),
        "PUT" => ("PUT", "application/json"),
        "PATCH" => ("PATCH", "application/merge-patch+json"),
        "DELETE" => ("DELETE", ""),
        other => anyhow::bail!("no method: {other}"),
    };
    let body = match (words.next(), method) {
        (Some(body), _) => body,
        (None, "GET" | "DELETE") => "",
        (None, _) => "{}",
    };
    let of = if body.len() > 2 { format!(" {body}") } else { String::new() };
    // The body is part of what is asked for, and the table has a word of its own for verbs.
    let key = Key { place: format!("request {path}{of}"), verb: method.to_ascii_lowercase() };
    Ok(Route { key, method, path: path.to_owned(), content_type, body: body.to_owned(), controllers: true })
}

/// A right.
#[derive(Debug, Clone)]
pub struct Right {
    pub key: Key,
    attributes: Value,
}

/// The rights of the file.
///
/// # Errors
/// When a line is none.
pub fn rights() -> anyhow::Result<Vec<Right>> {
    let mut all = Vec::new();
    for line in lines(RIGHTS) {
        let words: Vec<&str> = line.split(' ').collect();
        let [verbs, group, resource, namespace, name] = words[..] else { anyhow::bail!("no right: {line}") };
        let text = |word: &str| if word == "-" { String::new() } else { word.to_owned() };
        let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        for verb in verbs.split(',') {
            all.push(Right {
                key: Key { place: format!("right {group} {resource} {namespace} {name}"), verb: verb.to_owned() },
                attributes: json!({"verb": verb, "group": text(group), "resource": plural, "subresource": subresource,
                    "namespace": text(namespace), "name": text(name)}),
            });
        }
    }
    Ok(all)
}

impl Right {
    /// Whether somebody has it, as the server says.
    ///
    /// # Errors
    /// When it says nothing.
    pub async fn of(&self, admin: &Asker, who: &Who) -> anyhow::Result<Told> {
        let (user, groups) = who.identity();
        let spec = json!({"user": user, "groups": groups, "resourceAttributes": self.attributes});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let said = admin.make("POST", path, &json!({"spec": spec})).await?;
        let allowed = said["status"]["allowed"].as_bool().with_context(|| format!("{:?}: {said}", self.key))?;
        Ok(Told { letter: if allowed { b'A' } else { b'F' }, code: 201 })
    }
}
