//! Names of signers: a domain and a path, `example.com/signer`.

use kedge_meta::field::{Error, ErrorList};
use kedge_meta::names;

use super::super::validation::At;

const MAX_DOMAIN: usize = 253;
/// A domain, a slash, and in the path the name of a namespaced object: a namespace, a dot, a name.
const MAX: usize = MAX_DOMAIN + 1 + 63 + 1 + 253;

/// Judges a name in upstream's words. Of domain and path one label each is complained about: the others would be said alike.
pub(super) fn validate(signer: &At<'_>, errors: &mut ErrorList) {
    let name = signer.text();
    if name.is_empty() {
        errors.push(signer.required(""));
        return;
    }
    let Some((domain, path)) = name.split_once('/').filter(|(_, path)| !path.contains('/')) else {
        let why = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(signer.invalid(why));
        return;
    };
    if domain.len() > MAX_DOMAIN {
        errors.push(Error::too_long(&signer.path, MAX_DOMAIN));
    }
    labels(signer, domain, names::is_dns1123_label, errors);
    if !domain.contains('.') {
        let why = "should be a domain with at least two segments separated by dots";
        errors.push(Error::invalid(&signer.path, domain, why));
    }
    labels(signer, path, names::is_dns1123_subdomain, errors);
    if name.len() > MAX {
        errors.push(Error::too_long(&signer.path, MAX));
    }
}

/// The first label of a part that breaks the rule for all.
fn labels(signer: &At<'_>, part: &str, rule: fn(&str) -> Vec<String>, errors: &mut ErrorList) {
    let mut wrong = part.split('.').map(|label| (label, rule(label))).filter(|(_, faults)| !faults.is_empty());
    if let Some((label, faults)) = wrong.next() {
        let why = |fault: String| format!("validating label {label:?}: {fault}");
        errors.extend(faults.into_iter().map(|fault| Error::invalid(&signer.path, part, why(fault))));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(name: &str) -> Vec<String> {
        let object = json!({ "signerName": name });
        let mut errors = ErrorList::new();
        validate(&At::field(&object, "signerName"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    /// Once a slash was enough.
    #[test]
    fn a_signer_has_a_domain_and_a_path() {
        for good in ["kubernetes.io/kubelet-serving", "example.com/a.b-c.d", "a.b/c"] {
            assert!(said(good).is_empty(), "{good}: {:?}", said(good));
        }
        let form = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        for (name, why) in [
            ("", "Required value"),
            ("example.com", form),
            ("example.com/a/b", form),
            ("example/a", "\"example\": should be a domain with at least two segments separated by dots"),
            ("Example.com/a", "\"Example.com\": validating label \"Example\": "),
            ("example..com/a", "\"example..com\": validating label \"\": "),
            ("example.com/", "\"\": validating label \"\": "),
            ("example.com/A.b", "\"A.b\": validating label \"A\": "),
        ] {
            let said = said(name);
            assert!(said.len() == 1 && said[0].contains(why), "{name}: {said:?}");
        }
        let long = format!("{}/a", vec!["a"; 128].join("."));
        assert_eq!(said(&long), ["signerName: Too long: may not be more than 253 bytes"]);
        let long = format!("example.com/{}", vec!["a"; 300].join("."));
        assert_eq!(said(&long), ["signerName: Too long: may not be more than 571 bytes"]);
    }
}
