//! Values with a form of their own.

use std::fmt;
use std::str::FromStr;

use kedge_meta::Cidr;

/// The range of pods: an IPv4 one, such as `10.42.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodCidr(pub Cidr);

impl FromStr for PodCidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Cidr>() {
            Ok(cidr) if !cidr.is_ipv6() => sized(cidr).map(Self),
            _ => Err("expected an IPv4 range such as 10.0.0.0/16".to_owned()),
        }
    }
}

impl fmt::Display for PodCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The ranges of services: one, or one of each family, the first being the one that services have when they do not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCidrs(pub Vec<Cidr>);

impl ServiceCidrs {
    /// The range of pods that can reach services: the IPv4 one, where there is one, else the only one.
    pub fn reachable(&self) -> Option<&Cidr> {
        self.0.iter().find(|cidr| !cidr.is_ipv6()).or(self.0.first())
    }
}

impl FromStr for ServiceCidrs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = |text: &str| match text.trim().parse::<Cidr>() {
            Ok(cidr) => sized(cidr),
            Err(_) => Err("expected a range such as 10.0.0.0/16 or fd00::/112, or one of each family".to_owned()),
        };
        let cidrs = text.split(',').map(read).collect::<Result<Vec<_>, _>>()?;
        match cidrs.as_slice() {
            [_] => {}
            [first, second] if first.is_ipv6() != second.is_ipv6() => {}
            _ => return Err("expected one range, or one of each family".to_owned()),
        }
        Ok(Self(cidrs))
    }
}

impl fmt::Display for ServiceCidrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

/// A range of a size that can be used.
fn sized(cidr: Cidr) -> Result<Cidr, String> {
    match (cidr.is_ipv6(), cidr.bits()) {
        (false, 8..=28) | (true, 64..=124) => Ok(cidr),
        (false, _) => Err("the prefix must be from /8 to /28".into()),
        (true, _) => Err("the prefix of an IPv6 range must be from /64 to /124".into()),
    }
}

/// Ports from the first to the second, inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange(pub u16, pub u16);

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = |t: &str| t.trim().parse::<u16>().ok().filter(|p| *p > 0);
        let pair = text.split_once('-').and_then(|(a, b)| Some((parse(a)?, parse(b)?)));
        match pair {
            Some((first, last)) if first <= last => Ok(Self(first, last)),
            _ => Err("expected a range of ports such as 30000-32767".into()),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// A file mode in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl FromStr for FileMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o777 => Ok(Self(mode)),
            _ => Err("expected an octal file mode such as 0600".into()),
        }
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}
