//! What a request is about, from its method and path.

use std::num::IntErrorKind;

use http::Method;
use kedge_meta::fields::Selector;
use kedge_meta::{Status, UserInfo, labels};

/// A path has at most this many bytes.
const MAX_PATH: usize = 64 << 10;

/// What a request is about. Empty fields do not apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    pub is_resource: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or nothing for other methods; of what is no
    /// resource the method in lower case.
    pub verb: String,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub name: String,
    pub subresource: String,
    /// What follows the subresource: the path to proxy to.
    pub rest: String,
    pub path: String,
    /// The decoded query, in order.
    pub query: Vec<(String, String)>,
    /// Whether it is a patch that applies a configuration; the media type of the body says so.
    pub applies: bool,
}

impl RequestInfo {
    /// Reads method, path and query. Nothing is refused here but what is too long.
    pub fn parse(method: &Method, uri: &http::Uri) -> Option<Self> {
        if uri.path().len() > MAX_PATH {
            return None;
        }
        let query = uri.query().map(parse_query).unwrap_or_default();
        // Other bytes are nobody's name, but what is proxied may have them.
        let path = percent_encoding::percent_decode_str(uri.path()).decode_utf8_lossy().into_owned();
        let mut info =
            Self { path: path.clone(), query, verb: method.as_str().to_ascii_lowercase(), ..Self::default() };
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let rest = match segments.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => {
                info.version = (*version).to_owned();
                rest
            }
            ["apis", group, version, rest @ ..] if !rest.is_empty() => {
                info.group = (*group).to_owned();
                info.version = (*version).to_owned();
                rest
            }
            _ => return Some(info),
        };
        info.is_resource = true;
        let watched = info.resource_parts(rest);
        info.resource_verb(method, watched);
        Some(info)
    }

    /// Returns whether that is the old form `/api/v1/watch/pods` of a watch, which may also name one object.
    fn resource_parts(&mut self, mut parts: &[&str]) -> bool {
        let mut watched = false;
        if let ["watch", rest @ ..] = parts
            && !rest.is_empty()
        {
            watched = true;
            parts = rest;
        }
        if let ["namespaces", namespace, rest @ ..] = parts {
            let of_namespace = matches!(rest, [] | ["status" | "finalize", ..]);
            self.namespace = (*namespace).to_owned();
            if !of_namespace {
                parts = rest;
            }
        }
        let mut parts = parts.iter();
        let mut next = || parts.next().map(|s| (*s).to_owned()).unwrap_or_default();
        self.resource = next();
        self.name = next();
        self.subresource = next();
        self.rest = parts.copied().collect::<Vec<_>>().join("/");
        watched
    }

    fn resource_verb(&mut self, method: &Method, watched: bool) {
        let verb = match method.as_str() {
            // Whatever else is asked there is refused.
            _ if watched => "watch",
            "POST" => "create",
            "GET" | "HEAD" if self.name.is_empty() && self.flag("watch") => "watch",
            "GET" | "HEAD" if self.name.is_empty() => "list",
            "GET" | "HEAD" => "get",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" if self.name.is_empty() => "deletecollection",
            "DELETE" => "delete",
            // Nothing that anybody could be allowed by name.
            _ => "",
        };
        self.verb = verb.to_owned();
    }

    /// The first value of a query parameter; empty when it is not there.
    pub fn param(&self, name: &str) -> &str {
        self.query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str()).unwrap_or_default()
    }

    /// All values of a query parameter.
    pub fn params<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.query.iter().filter(move |(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    /// A query parameter as a boolean, as upstream reads them in queries: where it is, anything but `false` and `0` is
    /// true, also nothing.
    pub fn flag(&self, name: &str) -> bool {
        self.optional_flag(name).unwrap_or_default()
    }

    /// The same, if it is there at all.
    pub fn optional_flag(&self, name: &str) -> Option<bool> {
        let (_, value) = self.query.iter().find(|(k, _)| k == name)?;
        Some(!(value == "0" || value.eq_ignore_ascii_case("false")))
    }

    /// A query parameter as a number, if it is there at all.
    ///
    /// # Errors
    /// 400 in the words of Go's parser.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.params(name).next() else { return Ok(None) };
        text.parse().map(Some).map_err(|err: std::num::ParseIntError| {
            let why = match err.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {why}"))
        })
    }

    /// The name that authorizers are asked about: that of the path, or the one name that a list or watch is restricted to.
    pub fn authorized_name(&self) -> String {
        if !self.name.is_empty() || !matches!(self.verb.as_str(), "list" | "watch") {
            return self.name.clone();
        }
        let selector = Selector::parse(self.param("fieldSelector")).unwrap_or_default();
        let name = selector.requires("metadata.name").unwrap_or_default();
        let is_segment = !matches!(name, "." | "..") && !name.contains(['/', '%']);
        if is_segment { name.to_owned() } else { String::new() }
    }

    /// The field selector that authorizers are asked about, where one counts and can be read.
    pub(crate) fn authorized_fields(&self) -> Option<Selector> {
        let text = self.counting_selector("fieldSelector");
        text.and_then(|text| Selector::parse(text).ok())
    }

    /// The label selector that authorizers are asked about, where one counts and can be read.
    pub(crate) fn authorized_labels(&self) -> Option<labels::Selector> {
        let text = self.counting_selector("labelSelector");
        text.and_then(|text| labels::Selector::parse(text).ok())
    }

    /// A selector of a request about many objects, if it has one.
    fn counting_selector(&self, name: &str) -> Option<&str> {
        let counts = matches!(self.verb.as_str(), "list" | "watch" | "deletecollection");
        Some(self.param(name)).filter(|text| counts && !text.is_empty())
    }

    /// What authorizers are asked about the request of a user; `name` is [`Self::authorized_name`].
    pub(crate) fn authorization<'a>(&'a self, user: &'a UserInfo, name: &'a str) -> kedge_auth::Request<'a> {
        kedge_auth::Request {
            user: Some(user),
            verb: &self.verb,
            group: &self.group,
            version: &self.version,
            resource: &self.resource,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name,
            fields: None,
            labels: None,
            path: &self.path,
            is_resource: self.is_resource,
        }
    }

    /// Whether it opens or reads a stream, or may: upstream takes all logs for such, also those that end.
    pub(crate) fn streams(&self) -> bool {
        let streams = matches!(self.subresource.as_str(), "attach" | "exec" | "log" | "portforward" | "proxy");
        // Once `proxy` was a verb within the path, and upstream reads it so still.
        self.is_resource && (streams || self.resource == "proxy") && self.verb != "watch"
    }

    /// Whether the request may take as long as the client likes.
    pub fn is_long_running(&self) -> bool {
        (self.is_resource && self.verb == "watch") || self.streams()
    }
}

fn decode(text: &str) -> Option<String> {
    percent_encoding::percent_decode_str(text).decode_utf8().ok().map(|t| t.into_owned())
}

fn parse_query(query: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        Some((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
    };
    query.split('&').filter(|p| !p.is_empty()).filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(method: Method, uri: &str) -> RequestInfo {
        RequestInfo::parse(&method, &uri.parse().unwrap()).unwrap()
    }

    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        let info = parse(Method::GET, "/api/v1/namespaces/a/pods/b/log?follow=true");
        assert_eq!((&*info.namespace, &*info.resource, &*info.name, &*info.subresource), ("a", "pods", "b", "log"));
        assert!(info.is_long_running());
        let info = parse(Method::GET, "/api/v1/namespaces/a");
        assert_eq!((&*info.namespace, &*info.resource, &*info.name, &*info.verb), ("a", "namespaces", "a", "get"));
        let info = parse(Method::PUT, "/api/v1/namespaces/a/finalize");
        assert_eq!((&*info.resource, &*info.subresource), ("namespaces", "finalize"));
        let info = parse(Method::DELETE, "/apis/apps/v1/namespaces/a/deployments?labelSelector=a%3Db");
        assert_eq!((&*info.verb, info.param("labelSelector")), ("deletecollection", "a=b"));
        assert_eq!(parse(Method::GET, "/apis/apps/v1/deployments?watch=1").verb, "watch");
        assert!(!parse(Method::GET, "/apis/apps/v1").is_resource);
        assert!(!parse(Method::GET, "/api/v1").is_resource);
        let info = parse(Method::GET, "/api/v1/namespaces/a/services/s:80/proxy/x/y");
        assert_eq!((&*info.subresource, &*info.rest), ("proxy", "x/y"));
        let info = parse(Method::GET, "/api/v1/namespaces/a/secrets?watch=1&fieldSelector=metadata.name%3Ds");
        assert_eq!((&*info.name, &*info.authorized_name()), ("", "s"));
    }
    /// Whatever a client of Go, Java or Python writes for "yes" is one.
    #[test]
    fn booleans_are_read_by_one_rule() {
        for yes in ["watch", "watch=", "watch=1", "watch=true", "watch=True", "watch=TRUE", "watch=yes", "watch=t"] {
            assert_eq!(parse(Method::GET, &format!("/api/v1/pods?{yes}")).verb, "watch", "{yes}");
        }
        for no in ["", "watch=0", "watch=false", "watch=False", "watch=FALSE", "watch=false&watch=true", "other=1"] {
            assert_eq!(parse(Method::GET, &format!("/api/v1/pods?{no}")).verb, "list", "{no}");
        }
        assert_eq!(parse(Method::GET, "/api/v1/pods?a=0").optional_flag("b"), None);
        assert_eq!(parse(Method::GET, "/api/v1/pods?b").optional_flag("b"), Some(true));
    }

    /// One object is watched through the list, or by the old form of the path.
    #[test]
    fn an_object_is_got_whatever_the_query_says() {
        assert_eq!(parse(Method::GET, "/api/v1/namespaces/a/pods/p?watch=1").verb, "get");
        let info = parse(Method::GET, "/api/v1/watch/namespaces/a/pods/p");
        assert_eq!((&*info.verb, &*info.name), ("watch", "p"));
        assert_eq!(parse(Method::GET, "/api/v1/watch/pods?watch=0").verb, "watch");
    }

    #[test]
    fn numbers_are_refused_in_the_words_of_gos_parser() {
        let number = |query: &str| parse(Method::GET, &format!("/api/v1/pods?{query}")).number("limit");
        assert_eq!(number("a=1").unwrap(), None);
        assert_eq!((number("limit=5").unwrap(), number("limit=-5&limit=x").unwrap()), (Some(5), Some(-5)));
        for (query, said) in [
            ("limit=x", "parsing \"x\": invalid syntax"),
            ("limit", "parsing \"\": invalid syntax"),
            ("limit=1.5", "parsing \"1.5\": invalid syntax"),
            ("limit=9223372036854775808", "parsing \"9223372036854775808\": value out of range"),
        ] {
            let refused = number(query).unwrap_err();
            assert_eq!((refused.code, refused.message), (400, format!("strconv.ParseInt: {said}")));
        }
    }

    #[test]
    fn a_selected_name_is_authorized_as_one_where_nothing_is_deleted() {
        let name = |method, name: &str| {
            parse(method, &format!("/api/v1/namespaces/a/secrets?fieldSelector=metadata.name%3D{name}"))
                .authorized_name()
        };
        assert_eq!(name(Method::GET, "s"), "s");
        assert_eq!(name(Method::DELETE, "s"), "", "upstream wants the right to delete all");
        assert_eq!(name(Method::GET, ".."), "");
    }
}
