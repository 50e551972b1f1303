//! Addresses as Go's `net/netip` reads them, with its errors.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::value::quote;

/// An address, and whether it has a zone.
pub(crate) fn parse_ip(text: &str) -> Result<(IpAddr, bool), String> {
    let wrong = |why: &str, at: &str| {
        let place = if at.is_empty() { String::new() } else { format!(" (at {})", quote(at)) };
        Err(format!("ParseAddr({}): {why}{place}", quote(text)))
    };
    let parsed = match text.find(['.', ':', '%']).map(|at| text.as_bytes()[at]) {
        Some(b'.') => v4(text).map(|ip| (IpAddr::V4(ip), false)),
        Some(b':') => v6(text),
        Some(_) => Err(("missing IPv6 address", String::new())),
        None => Err(("unable to parse IP", String::new())),
    };
    parsed.or_else(|(why, at)| wrong(why, &at))
}

type Wrong = (&'static str, String);

fn v4(text: &str) -> Result<Ipv4Addr, Wrong> {
    let (mut octets, mut place, mut value, mut digits) = ([0_u8; 4], 0, 0_u32, 0);
    for (at, b) in text.bytes().enumerate() {
        match b {
            b'0'..=b'9' => {
                if digits == 1 && value == 0 {
                    return Err(("IPv4 field has octet with leading zero", String::new()));
                }
                value = value * 10 + u32::from(b - b'0');
                digits += 1;
                if value > 255 {
                    return Err(("IPv4 field has value >255", String::new()));
                }
            }
            b'.' => {
                if at == 0 || at == text.len() - 1 || text.as_bytes()[at - 1] == b'.' {
                    return Err(("IPv4 field must have at least one digit", text[at..].to_owned()));
                }
                if place == 3 {
                    return Err(("IPv4 address too long", String::new()));
                }
                octets[place] = value as u8;
                (place, value, digits) = (place + 1, 0, 0);
            }
            _ => return Err(("unexpected character", text.get(at..).unwrap_or_default().to_owned())),
        }
    }
    if place < 3 {
        return Err(("IPv4 address too short", String::new()));
    }
    octets[3] = value as u8;
    Ok(octets.into())
}

fn v6(text: &str) -> Result<(IpAddr, bool), Wrong> {
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    if zone == Some("") {
        return Err(("zone must be a non-empty string", String::new()));
    }
    if let Ok(ip) = address.parse::<Ipv6Addr>() {
        return Ok((IpAddr::V6(ip), zone.is_some()));
    }
    Err(why_not_v6(address))
}

/// What is wrong with an address that is none, found as Go finds it: from the left.
fn why_not_v6(text: &str) -> Wrong {
    let (mut rest, mut groups, mut ellipsis) = (text, 0, false);
    if let Some(after) = rest.strip_prefix("::") {
        (rest, ellipsis) = (after, true);
    }
    while groups < 8 && !rest.is_empty() {
        let length = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
        if length > 4 {
            return ("each group must have 4 or less digits", rest.to_owned());
        }
        if length == 0 {
            return ("each colon-separated field must have at least one digit", rest.to_owned());
        }
        let after = &rest[length..];
        if after.starts_with('.') {
            return v4(rest)
                .err()
                .unwrap_or(("embedded IPv4 address must replace the final 2 fields of the address", rest.to_owned()));
        }
        groups += 1;
        if after.is_empty() {
            rest = after;
            break;
        }
        let Some(next) = after.strip_prefix(':') else { return ("unexpected character, want colon", after.to_owned()) };
        if next.is_empty() {
            return ("colon must be followed by more characters", after.to_owned());
        }
        rest = next;
        if let Some(next) = rest.strip_prefix(':') {
            if ellipsis {
                return ("multiple :: in address", rest.to_owned());
            }
            (ellipsis, rest) = (true, next);
        }
    }
    if !rest.is_empty() {
        return ("trailing garbage after address", rest.to_owned());
    }
    if groups < 8 && !ellipsis {
        return ("address string too short", String::new());
    }
    ("the :: must expand to at least one field of zeros", String::new())
}

/// An address with the number of its bits that are a network's.
pub(crate) fn parse_prefix(text: &str) -> Result<(IpAddr, u8), String> {
    let wrong = |why: String| format!("netip.ParsePrefix({}): {why}", quote(text));
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| wrong("no '/'".to_owned()))?;
    let (ip, zone) = parse_ip(address).map_err(wrong)?;
    if zone {
        return Err(wrong("IPv6 zones cannot be present in a prefix".to_owned()));
    }
    let bad = || wrong(format!("bad bits after slash: {}", quote(bits)));
    let digits =
        !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) && (bits.len() == 1 || !bits.starts_with('0'));
    if !digits {
        return Err(bad());
    }
    let most = if ip.is_ipv4() { 32 } else { 128 };
    match bits.parse::<u8>() {
        Ok(bits) if bits <= most => Ok((ip, bits)),
        _ => Err(wrong("prefix length out of range".to_owned())),
    }
}
