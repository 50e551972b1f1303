//! Addresses and networks.

use std::net::{IpAddr, Ipv4Addr};

use crate::address::{parse_ip, parse_prefix};
use crate::error::EvalError;
use crate::functions::Functions;
use crate::value::{Cidr, Evaluated, Opaque, Value, quote};

pub(super) fn declare_ip(functions: &mut Functions) {
    functions.declare("string_to_ip", "ip(string) -> net.IP", |_, args| match args {
        [Value::String(text)] => Ok(Value::opaque(Opaque::Ip(read_ip(text)?))),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("ip_family", "net.IP.family() -> int", |_, args| {
        Ok(Value::Int(if ip(args, 0)?.is_ipv4() { 4 } else { 6 }))
    });
    functions.declare("ip_is_canonical", "ip.isCanonical(string) -> bool", |_, args| match args {
        [Value::String(text)] => Ok(Value::Bool(read_ip(text)?.to_string() == **text)),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("ip_is_unspecified", "net.IP.isUnspecified() -> bool", |_, args| {
        Ok(Value::Bool(ip(args, 0)?.is_unspecified()))
    });
    functions.declare("ip_is_loopback", "net.IP.isLoopback() -> bool", |_, args| {
        Ok(Value::Bool(ip(args, 0)?.is_loopback()))
    });
    functions.declare("ip_is_link_local_multicast", "net.IP.isLinkLocalMulticast() -> bool", |_, args| {
        Ok(Value::Bool(match ip(args, 0)? {
            IpAddr::V4(it) => it.octets()[..3] == [224, 0, 0],
            IpAddr::V6(it) => it.segments()[0] & 0xff0f == 0xff02,
        }))
    });
    functions.declare("ip_is_link_local_unicast", "net.IP.isLinkLocalUnicast() -> bool", |_, args| {
        Ok(Value::Bool(is_link_local(ip(args, 0)?)))
    });
    functions.declare("ip_is_global_unicast", "net.IP.isGlobalUnicast() -> bool", |_, args| {
        let ip = ip(args, 0)?;
        let special = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_link_local(ip);
        Ok(Value::Bool(!special && ip != IpAddr::V4(Ipv4Addr::BROADCAST)))
    });
    functions.declare("is_ip", "isIP(string) -> bool", |_, args| match args {
        [Value::String(text)] => Ok(Value::Bool(read_ip(text).is_ok())),
        _ => Err(EvalError::no_such_overload()),
    });
    functions
        .declare("ip_to_string", "string(net.IP) -> string", |_, args| Ok(Value::string(ip(args, 0)?.to_string())));
}

pub(super) fn declare_cidr(functions: &mut Functions) {
    functions.declare("string_to_cidr", "cidr(string) -> net.CIDR", |_, args| match args {
        [Value::String(text)] => read_cidr(text),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("cidr_contains_ip_string", "net.CIDR.containsIP(string) -> bool", |_, args| match args {
        [_, Value::String(text)] => {
            // Upstream does not say why it is no address.
            let other = read_ip(text).map_err(|_| EvalError::no_such_overload())?;
            Ok(Value::Bool(contains(cidr(args, 0)?, other)))
        }
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("cidr_contains_ip_ip", "net.CIDR.containsIP(net.IP) -> bool", |_, args| {
        Ok(Value::Bool(contains(cidr(args, 0)?, ip(args, 1)?)))
    });
    functions.declare("cidr_contains_cidr_string", "net.CIDR.containsCIDR(string) -> bool", |_, args| match args {
        [_, Value::String(text)] => {
            let other = [read_cidr(text)?];
            Ok(Value::Bool(covers(cidr(args, 0)?, cidr(&other, 0)?)))
        }
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("cidr_contains_cidr", "net.CIDR.containsCIDR(net.CIDR) -> bool", |_, args| {
        Ok(Value::Bool(covers(cidr(args, 0)?, cidr(args, 1)?)))
    });
    functions
        .declare("cidr_ip", "net.CIDR.ip() -> net.IP", |_, args| Ok(Value::opaque(Opaque::Ip(cidr(args, 0)?.address))));
    functions.declare("cidr_prefix_length", "net.CIDR.prefixLength() -> int", |_, args| {
        Ok(Value::Int(i64::from(cidr(args, 0)?.bits)))
    });
    functions.declare("cidr_masked", "net.CIDR.masked() -> net.CIDR", |_, args| {
        let cidr = cidr(args, 0)?;
        Ok(Value::opaque(Opaque::Cidr(Cidr { address: masked(cidr.address, cidr.bits), ..cidr })))
    });
    functions.declare("is_cidr", "isCIDR(string) -> bool", |_, args| match args {
        [Value::String(text)] => Ok(Value::Bool(read_cidr(text).is_ok())),
        _ => Err(EvalError::no_such_overload()),
    });
    functions.declare("cidr_to_string", "string(net.CIDR) -> string", |_, args| {
        Ok(Value::string(cidr(args, 0)?.to_string()))
    });
}

fn ip(args: &[Value<'_>], n: usize) -> Result<IpAddr, EvalError> {
    match args.get(n) {
        Some(Value::Opaque(it)) => match &**it {
            Opaque::Ip(ip) => Ok(*ip),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn cidr(args: &[Value<'_>], n: usize) -> Result<Cidr, EvalError> {
    match args.get(n) {
        Some(Value::Opaque(it)) => match &**it {
            Opaque::Cidr(cidr) => Ok(*cidr),
            _ => Err(EvalError::no_such_overload()),
        },
        _ => Err(EvalError::no_such_overload()),
    }
}

fn read_ip(text: &str) -> Result<IpAddr, EvalError> {
    let shown = quote(text);
    let (ip, zone) = parse_ip(text).map_err(|why| {
        EvalError::new(format!("IP Address {shown} parse error during conversion from string: {why}"))
    })?;
    if zone {
        return Err(EvalError::new(format!("IP address {shown} with zone value is not allowed")));
    }
    if is_mapped(ip) {
        return Err(EvalError::new(format!("IPv4-mapped IPv6 address {shown} is not allowed")));
    }
    Ok(ip)
}

fn read_cidr<'a>(text: &str) -> Evaluated<'a> {
    let wrong =
        |why: String| EvalError::new(format!("network address parse error during conversion from string: {why}"));
    let again = |why: String| format!("network address parse error during conversion from string: {why}");
    let (address, bits) = parse_prefix(text).map_err(|why| wrong(again(why)))?;
    if is_mapped(address) {
        return Err(wrong(format!("IPv4-mapped IPv6 address {} is not allowed", quote(text))));
    }
    Ok(Value::opaque(Opaque::Cidr(Cidr { address, bits })))
}

fn is_mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(it) if it.to_ipv4_mapped().is_some())
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(it) => it.is_link_local(),
        IpAddr::V6(it) => it.segments()[0] & 0xffc0 == 0xfe80,
    }
}

/// The address with only its first bits.
fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(it) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((it.to_bits() & mask).into())
        }
        IpAddr::V6(it) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((it.to_bits() & mask).into())
        }
    }
}

fn contains(network: Cidr, ip: IpAddr) -> bool {
    network.address.is_ipv4() == ip.is_ipv4() && masked(network.address, network.bits) == masked(ip, network.bits)
}

fn covers(network: Cidr, other: Cidr) -> bool {
    network.bits <= other.bits && contains(network, other.address)
}
