//! Probes, lifecycle hooks and what both can do.

use kedge_meta::field::ErrorList;

use super::scalar::port_or_name;
use super::{At, Report};

/// What a probe is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Liveness,
    Readiness,
    Startup,
}

/// A probe that is there; `grace` is the pod's time to terminate.
pub(crate) fn probe(at: &At<'_>, kind: Kind, grace: Option<i64>, errors: &mut ErrorList) {
    if !at.is_set() {
        return;
    }
    handler(at, grace, errors);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        errors.non_negative(&at.child(field));
    }
    let own_grace = at.child("terminationGracePeriodSeconds");
    if own_grace.int().is_some_and(|seconds| seconds <= 0) {
        errors.push(own_grace.invalid("must be greater than 0"));
    }
    let successes = at.child("successThreshold");
    if kind == Kind::Readiness {
        if own_grace.is_set() {
            errors.push(own_grace.invalid("must not be set for readinessProbes"));
        }
    } else if successes.int().is_some_and(|count| count != 1) {
        errors.push(successes.invalid("must be 1"));
    }
}

/// What happens after a start and before a stop.
pub(crate) fn lifecycle(at: &At<'_>, grace: Option<i64>, errors: &mut ErrorList) {
    for hook in ["postStart", "preStop"].map(|name| at.child(name)).into_iter().filter(At::is_set) {
        handler(&hook, grace, errors);
    }
}

fn handler(at: &At<'_>, grace: Option<i64>, errors: &mut ErrorList) {
    let mut handlers = 0;
    for name in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let action = at.child(name);
        if !action.is_set() {
            continue;
        }
        handlers += 1;
        if handlers > 1 {
            errors.push(action.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        match name {
            "exec" if action.child("command").len() == 0 => errors.push(action.child("command").required("")),
            "httpGet" => http_get(&action, errors),
            "tcpSocket" | "grpc" => port_or_name(&action.child("port"), errors),
            "sleep" => sleep(&action, grace, errors),
            _ => {}
        }
    }
    if handlers == 0 {
        errors.push(at.required("must specify a handler type"));
    }
}

fn http_get(at: &At<'_>, errors: &mut ErrorList) {
    errors.need_text(&at.child("path"));
    port_or_name(&at.child("port"), errors);
    errors.one_of(&at.child("scheme"), &["HTTP", "HTTPS"]);
    for header in at.child("httpHeaders").items() {
        let name = header.child("name").text();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            let rule = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', \
                        regex used for validation is '[-A-Za-z0-9]+')";
            errors.push(kedge_meta::field::Error::invalid(&at.child("httpHeaders").path, name, rule));
        }
    }
}

fn sleep(at: &At<'_>, grace: Option<i64>, errors: &mut ErrorList) {
    let seconds = at.child("seconds").int().unwrap_or_default();
    if let Some(grace) = grace.filter(|grace| seconds < 0 || seconds > *grace) {
        let rule = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        errors.push(kedge_meta::field::Error::invalid(&at.path, seconds, rule));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_probe_does_one_thing() {
        let object = json!({"livenessProbe": {"httpGet": {"path": "/", "port": 0, "scheme": "HTTP"},
            "exec": {"command": ["true"]}, "successThreshold": 2, "periodSeconds": -1}, "startupProbe": {}});
        let mut errors = ErrorList::new();
        probe(&At::field(&object, "livenessProbe"), Kind::Liveness, None, &mut errors);
        probe(&At::field(&object, "startupProbe"), Kind::Startup, None, &mut errors);
        let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "livenessProbe.httpGet: Forbidden: may not specify more than 1 handler type",
                "livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
                "livenessProbe.successThreshold: Invalid value: 2: must be 1",
                "startupProbe: Required value: must specify a handler type",
            ]
        );
    }
}
