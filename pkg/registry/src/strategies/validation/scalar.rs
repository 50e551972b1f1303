//! Rules for single values: ports, quantities, percentages, addresses, environment names.

use kedge_meta::field::ErrorList;
use kedge_meta::names;
use kedge_meta::quantity::Quantity;

use super::{At, Report};

pub(crate) const POSITIVE: &str = "must be greater than zero";

/// A port by number, or by the name of a container's port.
pub(crate) fn port_or_name(at: &At<'_>, errors: &mut ErrorList) {
    match at.int() {
        Some(number) => errors.complaints(at, names::is_valid_port_num(number)),
        None => errors.complaints(at, names::is_valid_port_name(at.text())),
    }
}

/// The quantity of a field; none for what cannot be read, which decoding has refused already.
pub(crate) fn quantity(at: &At<'_>) -> Option<Quantity> {
    match at.value {
        serde_json::Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => Quantity::parse(at.text()).ok(),
    }
}

pub(crate) fn non_negative_quantity(at: &At<'_>, errors: &mut ErrorList) {
    if quantity(at).is_some_and(|amount| amount.is_negative()) {
        errors.push(at.invalid("must be greater than or equal to 0"));
    }
}

/// A number that is not negative, or a percentage.
pub(crate) fn number_or_percent(at: &At<'_>, errors: &mut ErrorList) {
    match at.int() {
        Some(_) => errors.non_negative(at),
        None if !is_percent(at.text()) => errors.push(at.invalid(
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
             regex used for validation is '[0-9]+%')",
        )),
        None => {}
    }
}

fn is_percent(text: &str) -> bool {
    text.strip_suffix('%').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The percentage that a field names, if it names one.
pub(crate) fn percent(at: &At<'_>) -> Option<u32> {
    at.text().strip_suffix('%')?.parse().ok()
}

/// No more than everything.
pub(crate) fn at_most_all(at: &At<'_>, errors: &mut ErrorList) {
    if percent(at).is_some_and(|percent| percent > 100) {
        errors.push(at.invalid("must not be greater than 100%"));
    }
}

/// An address of either family.
pub(crate) fn ip(at: &At<'_>, errors: &mut ErrorList) {
    if at.text().parse::<std::net::IpAddr>().is_err() {
        errors.push(at.invalid("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
    }
}

/// An address range such as `10.0.0.0/8`.
pub(crate) fn cidr(at: &At<'_>, errors: &mut ErrorList) {
    let parsed = at.text().split_once('/').and_then(|(address, bits)| {
        let address: std::net::IpAddr = address.parse().ok()?;
        let bits: u8 = bits.parse().ok()?;
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(())
    });
    if parsed.is_none() {
        errors.push(at.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
    }
}

/// What an environment variable may be called: any printable ASCII but the equals sign.
pub(crate) fn env_name(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".into()]
}

/// User and group numbers.
pub(crate) fn id(at: &At<'_>, errors: &mut ErrorList) {
    errors.range(at, 0, i64::from(i32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ranges_and_percentages() {
        let object = json!({"a": "10.0.0.0/8", "b": "10.0.0.0/33", "c": "50%", "d": "50", "e": "101%", "f": -1});
        let mut errors = ErrorList::new();
        cidr(&At::field(&object, "a"), &mut errors);
        number_or_percent(&At::field(&object, "c"), &mut errors);
        assert!(errors.is_empty());
        cidr(&At::field(&object, "b"), &mut errors);
        number_or_percent(&At::field(&object, "d"), &mut errors);
        at_most_all(&At::field(&object, "e"), &mut errors);
        number_or_percent(&At::field(&object, "f"), &mut errors);
        assert_eq!(errors.len(), 4);
        assert_eq!(env_name("A B"), Vec::<String>::new());
        assert_eq!(env_name("A=B").len(), 1);
    }
}
