//! An answer, reduced to what must be the same everywhere, and its text in a record.

use std::fmt;

use anyhow::{Context as _, bail};

use super::node::Node;

/// What a server answered, after [`super::normal`].
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub code: u16,
    /// Those that matter; of some of them only that they are there.
    pub headers: Vec<(String, String)>,
    pub content: Content,
}

/// The body.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Empty,
    Text(String),
    /// JSON, or YAML as the same tree.
    Tree(Node),
    /// The events of a watch.
    Stream(Vec<Node>),
    /// Protobuf, fields by their numbers.
    Wire(Node),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.code)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {value}")?;
        }
        match &self.content {
            Content::Empty => writeln!(f, "="),
            Content::Text(text) => writeln!(f, "=T{}", Node::Text(text.clone())),
            Content::Tree(node) => writeln!(f, "=J{node}"),
            Content::Stream(events) => writeln!(f, "=S{}", Node::List(events.clone())),
            Content::Wire(node) => writeln!(f, "=P{node}"),
        }
    }
}

impl Answer {
    /// Reads what `Display` wrote.
    ///
    /// # Errors
    /// When it did not.
    pub fn parse<'a>(lines: &mut impl Iterator<Item = &'a str>) -> anyhow::Result<Self> {
        let code = lines.next().context("no code")?.parse()?;
        let mut headers = Vec::new();
        for line in lines {
            let Some(content) = line.strip_prefix('=') else {
                let (name, value) = line.split_once(": ").with_context(|| format!("no header: {line}"))?;
                headers.push((name.to_owned(), value.to_owned()));
                continue;
            };
            return Ok(Self { code, headers, content: Content::parse(content)? });
        }
        bail!("the answer has no end")
    }
}

impl Content {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let Some((form, rest)) = text.split_at_checked(1) else { return Ok(Self::Empty) };
        let node = Node::parse(rest.as_bytes()).context("the content is no JSON")?;
        Ok(match (form, node) {
            ("T", Node::Text(text)) => Self::Text(text),
            ("J", node) => Self::Tree(node),
            ("S", Node::List(events)) => Self::Stream(events),
            ("P", node) => Self::Wire(node),
            _ => bail!("unknown content {form}"),
        })
    }
}
