//! Links of answers: what means the backend by its own path is led through the proxy.

/// What links of one answer are judged by.
#[derive(Debug, Clone)]
pub(super) struct Links {
    /// The path of the proxy, without a slash at its end.
    pub prefix: String,
    /// `host:port` of the backend.
    pub backend: String,
    /// The host that the client asked.
    pub requested: String,
}

impl Links {
    /// The link as it must be written, if not as it is. Those to other hosts and relative ones stay.
    pub(super) fn rewrite(&self, link: &str) -> Option<String> {
        let after_scheme = without_scheme(link);
        let (authority, tail) = match after_scheme.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
            None => ("", after_scheme),
        };
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let other_host = !host.is_empty() && host != self.backend && host != self.requested;
        if other_host || !tail.starts_with('/') {
            return None;
        }
        // The client reaches the host that it asked by the same name again.
        let start = match !host.is_empty() && host == self.requested {
            true => &link[..link.len() - tail.len()],
            false => "",
        };
        let prefix = if tail.starts_with(&self.prefix) { "" } else { &self.prefix };
        let new = format!("{start}{prefix}{tail}");
        (new != link).then_some(new)
    }
}

/// What follows `scheme:`, if there is one.
fn without_scheme(link: &str) -> &str {
    let Some((scheme, rest)) = link.split_once(':') else { return link };
    let mut letters = scheme.bytes();
    let first = letters.next().is_some_and(|b| b.is_ascii_alphabetic());
    let is_scheme = first && letters.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if is_scheme { rest } else { link }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_backend_lead_through_the_proxy() {
        let links = Links {
            prefix: "/api/v1/namespaces/a/pods/p/proxy".into(),
            backend: "10.0.0.1:80".into(),
            requested: "localhost:8001".into(),
        };
        let through = |rest: &str| Some(format!("/api/v1/namespaces/a/pods/p/proxy{rest}"));
        assert_eq!(links.rewrite("/"), through("/"));
        assert_eq!(links.rewrite("/x/y/?a=b#c"), through("/x/y/?a=b#c"));
        assert_eq!(links.rewrite("/a%2Fb:c"), through("/a%2Fb:c"));
        assert_eq!(links.rewrite("http://10.0.0.1:80/x"), through("/x"));
        assert_eq!(links.rewrite("//10.0.0.1:80/x"), through("/x"));
        let named = "http://localhost:8001/api/v1/namespaces/a/pods/p/proxy/x";
        assert_eq!(links.rewrite("http://localhost:8001/x").as_deref(), Some(named));
        for stays in [
            "x/y",
            "../x",
            "",
            "#top",
            "?a=b",
            "mailto:me@example.com",
            "javascript:go('/x')",
            "data:text/html,/x",
            "https://example.com/x",
            "//example.com/x",
            "http://10.0.0.1:81/x",
            "http://10.0.0.1:80",
            "/api/v1/namespaces/a/pods/p/proxy/x",
            named,
        ] {
            assert_eq!(links.rewrite(stays), None, "{stays}");
        }
    }
}
