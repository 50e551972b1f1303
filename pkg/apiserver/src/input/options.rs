//! What a write may be asked for in its query: `metav1.CreateOptions`, `UpdateOptions` and `PatchOptions`.

use std::borrow::Cow;

use http::{HeaderMap, header};
use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::{GroupKind, Status};

use crate::input::request_info::RequestInfo;

/// Longest name of a field manager, in bytes.
const MAX_MANAGER: usize = 128;

/// What is to be done about unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validation {
    Ignore,
    Warn,
    Strict,
}

/// The options of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    /// Whether nothing is to be stored.
    pub dry_run: bool,
    pub validation: Validation,
}

impl WriteOptions {
    /// Reads the options of a request by the kind that its verb takes.
    ///
    /// # Errors
    /// 422 with a cause for each option that is not understood.
    pub(crate) fn of(info: &RequestInfo) -> Result<Self, Status> {
        let kind = match info.verb.as_str() {
            "update" => "UpdateOptions",
            "patch" => "PatchOptions",
            "delete" | "deletecollection" => "DeleteOptions",
            _ => "CreateOptions",
        };
        let mut errors = ErrorList::new();
        if info.applies && info.param("fieldManager").is_empty() {
            errors.push(Error::required(&Path::new("fieldManager"), "is required for apply patch"));
        } else if kind == "PatchOptions" && !info.applies && info.optional_flag("force").is_some() {
            errors.push(Error::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
        }
        if kind != "DeleteOptions" {
            errors.extend(manager(info.param("fieldManager")));
        }
        let dry_run: Vec<&str> = info.params("dryRun").collect();
        if dry_run.iter().any(|value| *value != "All") {
            errors.push(Error::not_supported(&Path::new("dryRun"), &dry_run, &["All"]));
        }
        let validation = match info.param("fieldValidation") {
            _ if kind == "DeleteOptions" => Validation::Ignore,
            "Ignore" => Validation::Ignore,
            "" | "Warn" => Validation::Warn,
            "Strict" => Validation::Strict,
            other => {
                let valid = ["", "Ignore", "Strict", "Warn"];
                errors.push(Error::not_supported(&Path::new("fieldValidation"), other, &valid));
                Validation::Ignore
            }
        };
        if errors.is_empty() {
            return Ok(Self { dry_run: !dry_run.is_empty(), validation });
        }
        Err(Status::invalid(&GroupKind::new("meta.k8s.io", kind), "", &errors))
    }
}

/// The field manager of a write: as the client names it, or what its user agent begins with.
pub(crate) fn field_manager<'a>(info: &'a RequestInfo, headers: &'a HeaderMap) -> Cow<'a, str> {
    let named = info.param("fieldManager");
    if !named.is_empty() {
        return named.into();
    }
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let begin = agent.split('/').next().unwrap_or_default();
    if begin.len() <= MAX_MANAGER && !begin.contains(char::is_control) {
        return begin.into();
    }
    let mut name = String::new();
    for character in begin.chars().filter(|character| !character.is_control()) {
        if name.len() + character.len_utf8() > MAX_MANAGER {
            break;
        }
        name.push(character);
    }
    name.into()
}

/// What the client says of a write itself, for admission.
pub(crate) fn asked(info: &RequestInfo) -> kedge_registry::WriteOptions<'_> {
    kedge_registry::WriteOptions {
        field_manager: info.param("fieldManager"),
        field_validation: info.param("fieldValidation"),
    }
}

/// The numbers among the options of a verb, which are read before anything else.
///
/// # Errors
/// 400 for what is no number.
pub(crate) fn check_numbers(info: &RequestInfo) -> Result<(), Status> {
    let names: &[&str] = match (info.verb.as_str(), info.subresource.as_str()) {
        ("list" | "watch" | "deletecollection", _) => &["timeoutSeconds", "limit"],
        _ => &[],
    };
    names.iter().try_for_each(|name| info.number(name).map(drop))
}

/// What is wrong with the name of a field manager.
fn manager(name: &str) -> ErrorList {
    let path = Path::new("fieldManager");
    let mut errors = ErrorList::new();
    if name.len() > MAX_MANAGER {
        errors.push(Error::too_long(&path, MAX_MANAGER));
    }
    for (at, character) in name.char_indices().filter(|(_, c)| c.is_control()) {
        let code = u32::from(character);
        errors.push(Error::invalid(&path, name, format!("invalid character U+{code:04X} (at position {at})")));
    }
    errors
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(method: http::Method, query: &str) -> Result<WriteOptions, Status> {
        let uri = format!("/api/v1/namespaces/a/pods/b?{query}").parse().unwrap();
        WriteOptions::of(&RequestInfo::parse(&method, &uri).unwrap())
    }

    #[test]
    fn what_is_not_understood_is_refused_under_the_name_of_the_verbs_options() {
        assert!(!options(http::Method::PUT, "").unwrap().dry_run);
        assert!(options(http::Method::PUT, "dryRun=All&dryRun=All").unwrap().dry_run);
        let refused = options(http::Method::PATCH, "dryRun=all&fieldValidation=strict&force=true").unwrap_err();
        assert_eq!(
            refused.message,
            "PatchOptions.meta.k8s.io \"\" is invalid: [force: Forbidden: may not be specified for non-apply patch, \
             dryRun: Unsupported value: [\"all\"]: supported values: \"All\", \
             fieldValidation: Unsupported value: \"strict\": supported values: \"\", \"Ignore\", \"Strict\", \"Warn\"]"
        );
        for (method, kind) in [(http::Method::POST, "Create"), (http::Method::PUT, "Update")] {
            // An option without a value asks for something that does not exist, not for nothing.
            let refused = options(method, "dryRun=").unwrap_err();
            assert_eq!((refused.code, refused.details.unwrap().kind), (422, format!("{kind}Options")));
        }
        let long = format!("fieldManager={}", "m".repeat(129));
        assert!(options(http::Method::PUT, &long).unwrap_err().message.contains("may not be more than 128 bytes"));
    }

    #[test]
    fn who_applies_has_a_name_and_may_use_force() {
        let apply = |query: &str| {
            let uri = format!("/api/v1/namespaces/a/pods/b?{query}").parse().unwrap();
            WriteOptions::of(&RequestInfo { applies: true, ..RequestInfo::parse(&http::Method::PATCH, &uri).unwrap() })
        };
        assert!(apply("fieldManager=me&force=true").is_ok());
        let refused = apply("force=true").unwrap_err();
        assert_eq!(
            (refused.code, &*refused.message),
            (
                422,
                "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
            )
        );
    }

    #[test]
    fn a_client_without_a_name_goes_by_its_user_agent() {
        let name = |query: &str, agent: &[u8]| {
            let info =
                RequestInfo::parse(&http::Method::PUT, &format!("/api/v1/pods?{query}").parse().unwrap()).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, http::HeaderValue::from_bytes(agent).unwrap());
            field_manager(&info, &headers).into_owned()
        };
        assert_eq!(name("fieldManager=me", b"curl/8"), "me");
        assert_eq!(name("", b"kube-controller-manager/v1.36 (linux/amd64) kubernetes/x"), "kube-controller-manager");
        assert_eq!(name("", b"a\tb/1"), "ab");
        assert_eq!(name("", &[b'm'; 200]).len(), 128);
    }
}
