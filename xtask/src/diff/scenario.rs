//! The language of scenarios.
//!
//! ```text
//! # A comment.
//! scenario NAME
//! STEP: VERB PATH
//!   @Header: value
//!   @anonymous            without the administrator's certificate
//!   @last                 the body is the last answer, with what follows merged into it
//!   {a: 1}                a body in YAML, sent as JSON
//!   <<                    or, after this, as it stands
//! ```
//!
//! Steps of a scenario are sent one after the other. In paths, headers and bodies `{ns}` is the scenario's namespace, `{t}` a tag of
//! this run, and `{uid}`, `{rv}`, `{continue}`, `{token}` what the last answer that had such a thing said.

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// Requests that belong together, in their order.
#[derive(Debug)]
pub struct Scenario {
    pub name: String,
    pub steps: Vec<Step>,
}

/// One request.
#[derive(Debug, Clone, Default)]
pub struct Step {
    pub name: String,
    pub verb: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub anonymous: bool,
    pub body: Body,
}

#[derive(Debug, Clone, Default)]
pub enum Body {
    #[default]
    None,
    Raw(String),
    /// Merged into the last answer.
    Last(Value),
}

impl Step {
    pub fn new(name: &str, verb: &str, path: impl Into<String>) -> Self {
        Self { name: name.to_owned(), verb: verb.to_owned(), path: path.into(), ..Self::default() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn accept(self, kind: &str) -> Self {
        self.header("accept", kind)
    }

    pub fn json(mut self, body: &Value) -> Self {
        self.body = Body::Raw(body.to_string());
        self
    }

    pub fn raw(mut self, body: impl Into<String>) -> Self {
        self.body = Body::Raw(body.into());
        self
    }

    pub fn last(mut self, patch: Value) -> Self {
        self.body = Body::Last(patch);
        self
    }
}

/// The scenarios of a text.
///
/// # Errors
/// What is wrong with it, and where.
pub fn parse(text: &str) -> anyhow::Result<Vec<Scenario>> {
    let mut scenarios: Vec<Scenario> = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("scenario ") {
            scenarios.push(Scenario { name: name.trim().to_owned(), steps: Vec::new() });
            continue;
        }
        let mut inner = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with("  ")) {
            inner.push(&line[2..]);
        }
        let step = step(line, &inner).with_context(|| format!("line {}: {line}", at + 1))?;
        let scenario = scenarios.last_mut().with_context(|| format!("line {}: no scenario yet", at + 1))?;
        ensure!(scenario.steps.iter().all(|s| s.name != step.name), "line {}: {line}: the name is taken", at + 1);
        scenario.steps.push(step);
    }
    Ok(scenarios)
}

fn step(line: &str, inner: &[&str]) -> anyhow::Result<Step> {
    let (name, request) = line.split_once(": ").context("no name")?;
    let (verb, path) = request.trim().split_once(' ').context("no path")?;
    let mut step = Step::new(name, verb, path.trim());
    let (mut last, mut raw, mut body) = (false, false, Vec::new());
    for &line in inner {
        match line.strip_prefix('@').filter(|_| body.is_empty() && !raw) {
            Some("anonymous") => step.anonymous = true,
            Some("last") => last = true,
            Some(header) => {
                let (name, value) = header.split_once(':').context("no header")?;
                step = step.header(name, value.trim());
            }
            None if line == "<<" && body.is_empty() => raw = true,
            None => body.push(line),
        }
    }
    let text = body.join("\n");
    let value = || serde_yaml::from_str::<Value>(&text).context("the body is no YAML");
    step.body = match (last, raw) {
        (true, true) => bail!("a body of the last answer is not raw"),
        (true, false) if text.is_empty() => Body::Last(Value::Null),
        (true, false) => Body::Last(value()?),
        (false, true) => Body::Raw(text),
        (false, false) if text.is_empty() => Body::None,
        (false, false) => Body::Raw(value()?.to_string()),
    };
    Ok(step)
}

/// Puts a value into another: fields of objects one by one, nulls take fields away.
pub fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                if value.is_null() {
                    into.remove(key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, from) => *into = from.clone(),
    }
}
