//! Which form of answer a client accepts, and in which form it sends a body; the rules are upstream's, down to what it ignores.

use std::cmp::Reverse;

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use kedge_meta::Status;
use kedge_schema::{ResourceInfo, SchemaRef};

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Yaml,
    Protobuf,
}

/// What of an object is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Table,
    /// Of a single object.
    Metadata,
    /// Of a list.
    MetadataList,
}

/// The negotiated answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub format: Format,
    pub shape: Shape,
    /// The version of `meta.k8s.io` that names the shape.
    pub version: &'static str,
}

impl Accepted {
    const JSON: Self = Self { format: Format::Json, shape: Shape::Object, version: "v1" };

    /// The version of the shape with its group.
    pub(crate) fn meta_version(&self) -> String {
        format!("meta.k8s.io/{}", self.version)
    }
}

/// What an endpoint can answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offer {
    /// Whether it shows tables, and metadata alone.
    table: bool,
    metadata: bool,
    /// Whether its objects have a protobuf form.
    protobuf: bool,
    stream: bool,
}

impl Offer {
    /// Errors and discovery: what they are.
    pub(crate) const PLAIN: Self = Self { table: false, metadata: false, protobuf: true, stream: false };
    /// What is answered and not kept.
    pub(crate) const ANSWER: Self = Self { metadata: true, ..Self::PLAIN };

    /// An object that stands for a part of another.
    pub(crate) const PART: Self = Self { table: true, ..Self::ANSWER };

    /// The objects of a resource.
    pub(crate) fn objects(resource: &ResourceInfo) -> Self {
        let protobuf = matches!(resource.schema, SchemaRef::Builtin(_));
        Self { table: true, metadata: true, protobuf, stream: false }
    }

    /// A stream of them.
    pub(crate) fn stream(resource: &ResourceInfo) -> Self {
        Self { stream: true, ..Self::objects(resource) }
    }

    fn allows(self, format: Format, shape: Shape) -> bool {
        match shape {
            Shape::Object => self.protobuf || format != Format::Protobuf,
            // Tables have no protobuf form.
            Shape::Table => self.table && format != Format::Protobuf,
            Shape::Metadata | Shape::MetadataList => self.metadata,
        }
    }

    /// What a path offers before anybody looks at what is shown.
    fn representations(self) -> &'static [&'static str] {
        if self.stream { &STREAMED } else { &TYPES }
    }

    fn refusal(self) -> Status {
        match self.stream {
            true => Status::not_acceptable(&[
                "application/json;stream=watch",
                "application/vnd.kubernetes.protobuf;stream=watch",
            ]),
            false => Status::not_acceptable(&TYPES),
        }
    }
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// In upstream's order, in which wildcards are tried.
const TYPES: [&str; 3] = ["application/json", "application/yaml", PROTOBUF];
/// Paths of lists, which may be watched.
const STREAMED: [&str; 5] =
    [TYPES[0], TYPES[1], TYPES[2], "application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const FORMATS: [Format; 3] = [Format::Json, Format::Yaml, Format::Protobuf];

/// The answer that the Accept header prefers of those that are offered.
///
/// # Errors
/// 406 when there is none.
pub(crate) fn accepted(headers: &HeaderMap, offer: Offer) -> Result<Accepted, Status> {
    let Some(accept) = headers.get(ACCEPT) else { return Ok(Accepted::JSON) };
    let accept = accept.to_str().unwrap_or_default();
    if accept.is_empty() {
        return Ok(Accepted::JSON);
    }
    // Paths are routed by the bare media type first.
    let routed = |clause: &str| {
        let kind = clause.split(';').next().unwrap_or_default().trim();
        kind == "*/*" || TYPES.contains(&kind)
    };
    if !accept.split(',').any(routed) {
        return Err(Status::not_acceptable_here(offer.representations()));
    }
    let mut clauses: Vec<Clause<'_>> = accept.split(',').filter_map(Clause::parse).collect();
    clauses.sort_by_key(|clause| (Reverse(clause.quality), clause.kind == "*", clause.subtype == "*"));
    let found = clauses.iter().find_map(|clause| clause.choose(offer)).ok_or_else(|| offer.refusal())?;
    // As upstream: a stream is refused only once its form has been chosen.
    if offer.stream && found.format == Format::Yaml { Err(offer.refusal()) } else { Ok(found) }
}

/// Whether the client wants JSON for people to read.
pub(crate) fn is_pretty(headers: &HeaderMap, query: Option<&str>) -> bool {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if accept_has(text(ACCEPT), "pretty", "1") {
        return true;
    }
    let asked = query.unwrap_or_default().split('&').filter_map(|pair| pair.strip_prefix("pretty="));
    match asked.clone().next().filter(|value| !value.is_empty()) {
        Some(value) => matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        None => ["curl", "Wget", "Mozilla/5.0"].iter().any(|agent| text(http::header::USER_AGENT).starts_with(agent)),
    }
}

/// What is asked for of a page about the server itself: an object of that kind, as YAML or not, in one of its versions; none for text.
///
/// # Errors
/// 406 in upstream's words.
pub(crate) fn page(headers: &HeaderMap, kind: &str) -> Result<Option<(bool, &'static str)>, Status> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).filter(|accept| !accept.trim().is_empty());
    let Some(accept) = accept else { return Ok(None) };
    let mut clauses: Vec<Clause<'_>> = accept.split(',').filter_map(Clause::parse).collect();
    clauses.sort_by_key(|clause| std::cmp::Reverse(clause.quality));
    for clause in clauses {
        let yaml = match (clause.kind, clause.subtype) {
            ("*" | "text", "*") | ("text", "plain") => return Ok(None),
            ("application", "json") => false,
            ("application", "yaml") => true,
            _ => continue,
        };
        if clause.parameter("g") == Some("config.k8s.io")
            && clause.parameter("as") == Some(kind)
            && let Some(version) = ["v1alpha1", "v1beta1"].into_iter().find(|v| clause.parameter("v") == Some(v))
        {
            return Ok(Some((yaml, version)));
        }
    }
    Err(Status::not_acceptable(&["application/json", "application/yaml", "text/plain"]))
}

fn accept_has(accept: &str, name: &str, value: &str) -> bool {
    accept.contains(name) && accept.split([',', ';']).any(|part| part.trim().split_once('=') == Some((name, value)))
}

/// An entry of the Accept header.
struct Clause<'a> {
    kind: &'a str,
    subtype: &'a str,
    /// In thousandths.
    quality: u32,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Clause<'a> {
    /// What is malformed is passed over.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.trim().split(';');
        let (kind, subtype) = match parts.next()?.split_once('/') {
            Some((kind, subtype)) if !subtype.contains('/') => (kind.trim(), subtype.trim()),
            None if text.trim().split(';').next()?.trim() == "*" => ("*", "*"),
            _ => return None,
        };
        let mut clause = Self { kind, subtype, quality: 1_000, parameters: Vec::new() };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim() {
                "q" => clause.quality = (value.trim().parse::<f32>().unwrap_or_default().max(0.0) * 1_000.0) as u32,
                _ if value.contains('=') => {}
                name => clause.parameters.push((name, value.trim())),
            }
        }
        Some(clause)
    }

    fn choose(&self, offer: Offer) -> Option<Accepted> {
        let matches = |offered: &str| match offered.split_once('/') {
            Some((kind, subtype)) => {
                (self.kind == kind && (self.subtype == subtype || self.subtype == "*"))
                    || (self.kind == "*" && self.subtype == "*")
            }
            None => false,
        };
        let (shape, version) = self.shape(offer)?;
        let formats = TYPES.iter().zip(FORMATS).filter(|(offered, _)| matches(offered));
        let mut formats = formats.map(|(_, format)| format).filter(|format| {
            // YAML has no form for streams; who asks for one by name does not get it.
            offer.allows(*format, shape) && !(self.parameter("stream").is_some() && *format == Format::Yaml)
        });
        Some(Accepted { format: formats.next()?, shape, version })
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// The shape asked for, if it is one that exists.
    fn shape(&self, offer: Offer) -> Option<(Shape, &'static str)> {
        if self.parameter("stream").is_some_and(|stream| !stream.is_empty() && stream != "watch") {
            return None;
        }
        if self.parameter("sv").is_some_and(|version| !version.is_empty() && (version != "v1" || !offer.metadata)) {
            return None;
        }
        let asked = ["as", "g", "v"].map(|name| self.parameter(name));
        if asked.iter().all(Option::is_none) {
            return Some((Shape::Object, "v1"));
        }
        let version = match asked[2]? {
            "v1" => "v1",
            "v1beta1" => "v1beta1",
            _ => return None,
        };
        match (asked[0]?, asked[1]?) {
            ("Table", "meta.k8s.io") => Some((Shape::Table, version)),
            ("PartialObjectMetadata", "meta.k8s.io") => Some((Shape::Metadata, version)),
            ("PartialObjectMetadataList", "meta.k8s.io") => Some((Shape::MetadataList, version)),
            _ => None,
        }
    }
}

/// The media type of the body in lower case, without parameters.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyFormat {
    Json,
    Yaml,
    Protobuf,
}

/// How the body of a request is encoded.
///
/// # Errors
/// 415 for a form that is not understood.
pub(crate) fn body_format(headers: &HeaderMap) -> Result<BodyFormat, Status> {
    match content_type(headers).as_str() {
        "" | "application/json" => Ok(BodyFormat::Json),
        "application/yaml" => Ok(BodyFormat::Yaml),
        PROTOBUF => Ok(BodyFormat::Protobuf),
        _ => Err(Status::unsupported_media_type(&TYPES)),
    }
}

/// A configuration to be applied.
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OBJECTS: Offer = Offer { table: true, metadata: true, protobuf: true, stream: false };

    fn accept(text: &str) -> Result<(Format, Shape, &'static str), u16> {
        offered(text, OBJECTS)
    }

    fn offered(text: &str, offer: Offer) -> Result<(Format, Shape, &'static str), u16> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, text.parse().unwrap());
        let found = accepted(&headers, offer).map_err(|status| status.code)?;
        Ok((found.format, found.shape, found.version))
    }

    #[test]
    fn the_best_entry_that_is_served_wins() {
        let plain = |format| Ok((format, Shape::Object, "v1"));
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(kubectl), Ok((Format::Json, Shape::Table, "v1")));
        let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accept(old), Ok((Format::Json, Shape::Table, "v1beta1")));
        assert_eq!(accept("application/vnd.kubernetes.protobuf, */*"), plain(Format::Protobuf));
        assert_eq!(accept("*/*, application/vnd.kubernetes.protobuf"), plain(Format::Protobuf));
        assert_eq!(accept("application/json;q=0.4, application/yaml;q=0.9"), plain(Format::Yaml));
        assert_eq!(accept("application/xml, */*;q=0.1"), plain(Format::Json));
        for nothing in [
            "text/plain",
            // Routes know no wildcard but one.
            "application/*",
            "*",
            "APPLICATION/JSON",
            "application/json;as=Table;v=v2;g=meta.k8s.io",
            "application/json;as=Table;v=v1",
            "/",
        ] {
            assert_eq!(accept(nothing), Err(406), "{nothing}");
        }
    }

    #[test]
    fn what_has_no_such_form_goes_to_the_next_entry() {
        let table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(accept(table), Err(406));
        assert_eq!(accept(&format!("{table},application/json")), Ok((Format::Json, Shape::Object, "v1")));
        let custom = Offer { protobuf: false, ..OBJECTS };
        assert_eq!(offered("application/vnd.kubernetes.protobuf", custom), Err(406));
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
        assert_eq!(offered(metadata, custom), Ok((Format::Protobuf, Shape::Metadata, "v1")));
        assert_eq!(offered(metadata, Offer::PLAIN), Err(406));
        let stream = Offer { stream: true, ..OBJECTS };
        assert_eq!(offered("application/yaml", stream), Err(406));
        assert_eq!(offered("application/json;stream=watch", stream), Ok((Format::Json, Shape::Object, "v1")));
        assert_eq!(offered("application/json;stream=other", stream), Err(406));
    }

    #[test]
    fn people_get_lines() {
        let headers = |agent: &'static str| HeaderMap::from_iter([(http::header::USER_AGENT, agent.parse().unwrap())]);
        assert!(is_pretty(&headers("curl/8"), None) && is_pretty(&headers("Mozilla/5.0 (X11)"), None));
        assert!(!is_pretty(&headers("curl/8"), Some("pretty=false")) && !is_pretty(&headers("kubectl/1"), None));
        assert!(
            is_pretty(&headers("kubectl/1"), Some("a=b&pretty=true")) && !is_pretty(&headers("x"), Some("pretty="))
        );
        let accepting = HeaderMap::from_iter([(ACCEPT, "application/json;pretty=1".parse().unwrap())]);
        assert!(is_pretty(&accepting, None));
    }

    #[test]
    fn bodies_are_named_in_any_case() {
        let of = |text: &str| {
            body_format(&HeaderMap::from_iter([(CONTENT_TYPE, text.parse().unwrap())])).map_err(|status| status.code)
        };
        assert_eq!(of("APPLICATION/JSON; charset=utf-8"), Ok(BodyFormat::Json));
        assert_eq!(of("*/*"), Err(415));
    }
}
