//! What a request is about, from its method and path.

use http::Method;

/// A path has at most this many bytes.
const MAX_PATH: usize = 8 << 10;

/// What a request is about. Empty fields do not apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestInfo {
    pub is_resource: bool,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; else the method in lower case.
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
}

impl RequestInfo {
    /// Reads method, path and query. Nothing is refused here but what cannot be decoded.
    pub fn parse(method: &Method, uri: &http::Uri) -> Option<Self> {
        if uri.path().len() > MAX_PATH {
            return None;
        }
        let query = uri.query().map(parse_query).unwrap_or_default();
        let path = decode(uri.path())?;
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
        info.resource_parts(rest);
        info.resource_verb(method);
        Some(info)
    }

    fn resource_parts(&mut self, mut parts: &[&str]) {
        // The old form `/api/v1/watch/pods` of a watch.
        if let ["watch", rest @ ..] = parts
            && !rest.is_empty()
        {
            self.query.push(("watch".into(), "true".into()));
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
    }

    fn resource_verb(&mut self, method: &Method) {
        let watching = matches!(self.param("watch"), "true" | "1");
        let verb = match method.as_str() {
            "POST" => "create",
            "GET" | "HEAD" if watching && self.subresource.is_empty() => "watch",
            "GET" | "HEAD" if self.name.is_empty() => "list",
            "GET" | "HEAD" => "get",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" if self.name.is_empty() => "deletecollection",
            "DELETE" => "delete",
            _ => return,
        };
        self.verb = verb.to_owned();
    }

    /// The first value of a query parameter; empty when it is not there.
    pub fn param(&self, name: &str) -> &str {
        self.query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str()).unwrap_or_default()
    }

    /// A query parameter as a boolean, as Go reads them in queries: anything but `false` and `0` is true.
    pub fn flag(&self, name: &str) -> bool {
        self.optional_flag(name).unwrap_or_default()
    }

    /// The same, if it is there at all.
    pub fn optional_flag(&self, name: &str) -> Option<bool> {
        let (_, value) = self.query.iter().find(|(k, _)| k == name)?;
        Some(!matches!(value.to_lowercase().as_str(), "false" | "0"))
    }

    /// The name that authorizers are asked about: that of the path, or the one name that a list, watch or deletion of a
    /// collection is restricted to.
    pub fn authorized_name(&self) -> String {
        if !self.name.is_empty() || !matches!(self.verb.as_str(), "list" | "watch" | "deletecollection") {
            return self.name.clone();
        }
        let selector = kedge_meta::fields::Selector::parse(self.param("fieldSelector")).unwrap_or_default();
        selector.requires("metadata.name").unwrap_or_default().to_owned()
    }

    /// Whether the request may take as long as the client likes.
    pub fn is_long_running(&self) -> bool {
        let streams = matches!(self.subresource.as_str(), "attach" | "exec" | "portforward" | "proxy");
        self.is_resource && (self.verb == "watch" || streams || (self.subresource == "log" && self.flag("follow")))
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
}
