//! How two answers differ.

use super::answer::{Answer, Content};
use super::node::Node;

/// One place at which two answers are not the same. Nothing is shown as `-`.
#[derive(Debug, Clone)]
pub struct Difference {
    /// `code`, `header.NAME` or a place in the body, such as `body.spec.ports[0]`.
    pub path: String,
    pub ours: String,
    pub theirs: String,
}

/// The differences of ours from theirs, code first.
pub fn compare(ours: &Answer, theirs: &Answer) -> Vec<Difference> {
    let mut found = Found(Vec::new());
    if ours.code != theirs.code {
        // What follows from it is no difference of its own.
        found.unequal("code", &said(ours), &said(theirs));
        return found.0;
    }
    headers(ours, theirs, &mut found);
    match (&ours.content, &theirs.content) {
        (Content::Tree(a), Content::Tree(b)) | (Content::Wire(a), Content::Wire(b)) => found.node("body", a, b),
        (Content::Stream(a), Content::Stream(b)) => found.list("event", a, b),
        (Content::Text(a), Content::Text(b)) => lines(a, b, &mut found),
        (Content::Empty, Content::Empty) => {}
        (a, b) => found.unequal("form", &shape(a), &shape(b)),
    }
    found.0
}

/// A code, and why.
fn said(answer: &Answer) -> String {
    let why = match &answer.content {
        Content::Tree(node) => node.text(&["message"]).unwrap_or_default(),
        Content::Text(text) => text,
        _ => "",
    };
    format!("{} {why}", answer.code)
}

fn headers(ours: &Answer, theirs: &Answer, found: &mut Found) {
    let all = |answer: &Answer, name: &str| {
        let values: Vec<&str> = answer.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
        if values.is_empty() { "-".to_owned() } else { values.join(" && ") }
    };
    let mut names: Vec<&String> = ours.headers.iter().chain(&theirs.headers).map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        found.unequal(&format!("header.{name}"), &all(ours, name), &all(theirs, name));
    }
}

/// The first line that differs is enough.
fn lines(a: &str, b: &str, found: &mut Found) {
    let (mut a, mut b) = (a.lines(), b.lines());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return,
            (a, b) if a == b => {}
            (a, b) => return found.unequal("text", a.unwrap_or("-"), b.unwrap_or("-")),
        }
    }
}

fn shape(content: &Content) -> String {
    match content {
        Content::Empty => "nothing".to_owned(),
        Content::Text(text) => format!("text: {text}"),
        Content::Tree(node) => format!("JSON or YAML: {node}"),
        Content::Stream(events) => format!("{} events", events.len()),
        Content::Wire(_) => "protobuf".to_owned(),
    }
}

struct Found(Vec<Difference>);

impl Found {
    fn unequal(&mut self, path: &str, ours: &str, theirs: &str) {
        if ours != theirs && without_values(ours) != without_values(theirs) {
            self.0.push(Difference { path: path.to_owned(), ours: ours.to_owned(), theirs: theirs.to_owned() });
        }
    }

    fn node(&mut self, path: &str, ours: &Node, theirs: &Node) {
        match (ours, theirs) {
            (Node::Object(a), Node::Object(b)) => self.object(path, a, b),
            (Node::List(a), Node::List(b)) => self.list(path, a, b),
            (a, b) if a == b => {}
            (a, b) => self.unequal(path, &a.to_string(), &b.to_string()),
        }
    }

    fn list(&mut self, path: &str, ours: &[Node], theirs: &[Node]) {
        for i in 0..ours.len().max(theirs.len()) {
            let path = format!("{path}[{i}]");
            match (ours.get(i), theirs.get(i)) {
                (Some(a), Some(b)) => self.node(&path, a, b),
                (a, b) => self.unequal(&path, &shown(a), &shown(b)),
            }
        }
    }

    /// Repeated keys, as protobuf's lists are, are compared one by one.
    fn object(&mut self, path: &str, ours: &[(String, Node)], theirs: &[(String, Node)]) {
        let before = self.0.len();
        let keys = |fields: &[(String, Node)]| -> Vec<String> { fields.iter().map(|(key, _)| key.clone()).collect() };
        let (mine, other) = (keys(ours), keys(theirs));
        if mine == other {
            for ((key, a), (_, b)) in ours.iter().zip(theirs) {
                self.node(&format!("{path}.{key}"), a, b);
            }
            return;
        }
        let mut all: Vec<&String> = mine.iter().chain(&other).collect();
        all.sort_unstable();
        all.dedup();
        for key in all {
            let values = |fields: &[(String, Node)]| -> Vec<Node> {
                fields.iter().filter(|(k, _)| k == key).map(|(_, v)| v.clone()).collect()
            };
            let path = format!("{path}.{key}");
            match (&values(ours)[..], &values(theirs)[..]) {
                ([a], [b]) => self.node(&path, a, b),
                ([], [b]) => self.unequal(&path, "-", &b.to_string()),
                ([a], []) => self.unequal(&path, &a.to_string(), "-"),
                (a, b) => self.list(&path, a, b),
            }
        }
        if before == self.0.len() {
            self.unequal(&format!("{path}: order"), &mine.join(" "), &other.join(" "));
        }
    }
}

/// A text of errors without the structures that it quotes: upstream shows the fields of its internal types, which nobody else has names
/// for; here they are called as in the API.
fn without_values(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("alue: {") {
        let (before, value) = rest.split_at(at + "alue: ".len());
        out.push_str(before);
        out.push_str("{}");
        rest = value.get(structure(value)..).unwrap_or_default();
    }
    out.push_str(rest);
    // The changed lines of such a structure, of which upstream shows so many bytes and no more.
    if let Some(from) = out.find("\\n@@ ") {
        out.truncate(from);
    }
    out
}

/// How long the structure is that a text begins with.
fn structure(text: &str) -> usize {
    let mut depth = 0usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    text.len()
}

fn shown(node: Option<&Node>) -> String {
    node.map_or_else(|| "-".to_owned(), Node::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_that_errors_quote_are_not_compared() {
        let ours = r#"a: Required value, spec.ports[1]: Duplicate value: {\"port\":80,\"x\":{\"y\":1}}, spec: no\n@@ -1 +1 @@\n- \"a\"\n"#;
        let theirs = r#"a: Required value, spec.ports[1]: Duplicate value: {\"Port\":80}, spec: no\n@@ -7 +7 @@\n- \"A\"\n  \"B"#;
        assert_eq!(without_values(ours), without_values(theirs));
        assert_ne!(without_values(ours), without_values(&theirs.replace("a: Required", "d: Required")));
        assert_ne!(without_values("a: Invalid value: {\"x\":1}: no"), without_values("a: Invalid value: 1: no"));
    }
}
