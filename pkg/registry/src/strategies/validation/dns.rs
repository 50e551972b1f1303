//! Name resolution of a pod.

use kedge_meta::field::ErrorList;
use kedge_meta::names;

use super::{At, Report, scalar};

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;

/// The policy and the configuration on top of it.
pub(crate) fn policy(spec: &At<'_>, errors: &mut ErrorList) {
    let (policy, config) = (spec.child("dnsPolicy"), spec.child("dnsConfig"));
    let servers = config.child("nameservers");
    if policy.text() == "None" {
        if !config.is_set() {
            errors.push(config.required("must provide `dnsConfig` when `dnsPolicy` is None"));
            return;
        }
        if servers.len() == 0 {
            errors.push(servers.required("must provide at least one DNS nameserver when `dnsPolicy` is None"));
            return;
        }
    }
    if servers.len() > MAX_NAMESERVERS {
        errors.push(servers.invalid(format!("must not have more than {MAX_NAMESERVERS} nameservers")));
    }
    servers.items().for_each(|server| scalar::ip(&server, errors));
    let searches = config.child("searches");
    if searches.len() > MAX_SEARCHES {
        errors.push(searches.invalid(format!("must not have more than {MAX_SEARCHES} search paths")));
    }
    let characters: usize = searches.items().map(|search| search.text().len() + 1).sum();
    if characters > MAX_SEARCH_CHARACTERS + 1 {
        errors.push(searches.invalid(format!(
            "must not have more than {MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        )));
    }
    for search in searches.items().filter(|search| search.text() != ".") {
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        errors.complaints(&search, names::is_dns1123_subdomain_with_underscores(name));
    }
    for option in config.child("options").items().filter(|option| option.child("name").text().is_empty()) {
        errors.push(option.required("must not be empty"));
    }
}
