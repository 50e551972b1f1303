//! Ingresses.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::names;
use serde_json::Value;

use super::super::validation::{At, Report};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const BAD_SEQUENCES: &[&str] = &["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDS: &[&str] = &["/..", "/."];

pub(crate) struct Ingress;

impl Strategy for Ingress {
    fn validate(&self, ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = self.validate_update(ctx, object, object);
        let annotation = object.text(&["metadata", "annotations", CLASS_ANNOTATION]);
        let class = object.text(&["spec", "ingressClassName"]);
        if !annotation.is_empty() && !class.is_empty() && annotation != class {
            let path = Path::new("annotations").child(CLASS_ANNOTATION);
            errors.push(Error::invalid(&path, annotation, "must match `ingressClassName` when both are specified"));
        }
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, _old: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        let spec = At::field(new, "spec");
        let (rules, default) = (spec.child("rules"), spec.child("defaultBackend"));
        if rules.len() == 0 && !default.is_set() {
            let detail = "either `defaultBackend` or `rules` must be specified";
            errors.push(Error::invalid(&spec.path, rules.value, detail));
        }
        if default.is_set() {
            backend(&default, &mut errors);
        }
        rules.items().for_each(|at| rule(&at, &mut errors));
        for tls in spec.child("tls").items() {
            tls.child("hosts").items().for_each(|at| host(&at, &mut errors));
            errors.name(&tls.child("secretName"), names::is_dns1123_subdomain);
        }
        errors.name(&spec.child("ingressClassName"), names::is_dns1123_subdomain);
        errors
    }
}

fn host(at: &At<'_>, errors: &mut ErrorList) {
    match at.text().strip_prefix("*.") {
        Some(rest) if names::is_dns1123_subdomain(rest).is_empty() => {}
        None if !at.text().contains('*') => errors.complaints(at, names::is_dns1123_subdomain(at.text())),
        _ => errors.push(at.invalid(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist \
             of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. \
             '*.example.com', regex used for validation is \
             '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        )),
    }
}

fn rule(at: &At<'_>, errors: &mut ErrorList) {
    let name = at.child("host");
    if !name.text().is_empty() {
        if name.text().parse::<std::net::IpAddr>().is_ok() {
            errors.push(name.invalid("must be a DNS name, not an IP address"));
        }
        host(&name, errors);
    }
    let http = at.child("http");
    if !http.is_set() {
        return;
    }
    let paths = http.child("paths");
    if paths.len() == 0 {
        errors.push(paths.required(""));
    }
    paths.items().for_each(|path| http_path(&path, errors));
}

fn http_path(at: &At<'_>, errors: &mut ErrorList) {
    let (kind, path) = (at.child("pathType"), at.child("path"));
    if !kind.is_set() {
        errors.push(kind.required("pathType must be specified"));
        return;
    }
    let absolute = path.text().starts_with('/');
    match kind.text() {
        "Exact" | "Prefix" => {
            if !absolute {
                errors.push(path.invalid("must be an absolute path"));
            }
            for bad in BAD_SEQUENCES.iter().filter(|bad| path.text().contains(**bad)) {
                errors.push(path.invalid(format!("must not contain '{bad}'")));
            }
            for bad in BAD_ENDS.iter().filter(|bad| path.text().ends_with(**bad)) {
                errors.push(path.invalid(format!("cannot end with '{bad}'")));
            }
        }
        "ImplementationSpecific" if !path.text().is_empty() && !absolute => {
            errors.push(path.invalid("must be an absolute path"));
        }
        "ImplementationSpecific" => {}
        _ => errors.push(kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"])),
    }
    backend(&at.child("backend"), errors);
}

fn backend(at: &At<'_>, errors: &mut ErrorList) {
    let (service, resource) = (at.child("service"), at.child("resource"));
    let told = |detail: &str| Error::invalid(&at.path, "", detail);
    match (resource.is_set(), service.is_set()) {
        (true, true) => errors.push(told("cannot set both resource and service backends")),
        (true, false) => {
            errors.need_text(&resource.child("kind"));
            errors.need_text(&resource.child("name"));
        }
        (false, true) => {
            errors.need_name(&service.child("name"), names::is_dns1123_label);
            let (name, number) = (service.child("port").child("name"), service.child("port").child("number"));
            match (name.text(), number.int().unwrap_or_default()) {
                ("", 0) => errors.push(at.required("port name or number is required")),
                ("", port) => errors.complaints(&number, names::is_valid_port_num(port)),
                (port, 0) => errors.complaints(&name, names::is_valid_port_name(port)),
                _ => errors.push(told("cannot set both port name & port number")),
            }
        }
        (false, false) => errors.push(told("resource or service backend is required")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_has_a_host_and_a_backend() {
        let object = json!({"r": {"host": "*.a.b", "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "s", "port": {"number": 80}}}},
            {"path": "x/../", "pathType": "Exact", "backend": {}}, {"path": "/"}]}},
            "bad": {"host": "a.*.b"}});
        let mut errors = ErrorList::new();
        rule(&At::field(&object, "r"), &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "r.http.paths[1].path: Invalid value: \"x/../\": must be an absolute path",
                "r.http.paths[1].path: Invalid value: \"x/../\": must not contain '/../'",
                "r.http.paths[1].backend: Invalid value: \"\": resource or service backend is required",
                "r.http.paths[2].pathType: Required value: pathType must be specified",
            ]
        );
        errors.clear();
        rule(&At::field(&object, "bad"), &mut errors);
        assert_eq!(errors.len(), 1);
    }
}
