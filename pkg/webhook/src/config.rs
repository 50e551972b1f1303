//! Where a webhook is: `clientConfig` of a configuration.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::uri::Scheme;
use serde_json::Value;

use crate::trust;

pub(crate) const HTTPS: u16 = 443;

/// What is wrong with a configuration, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("webhook configuration must have either service or URL")]
    NoTarget,
    #[error("Unparsable URL: {0}")]
    Url(String),
    #[error("unable to load root certificates: {0}")]
    Roots(String),
}

/// Where a webhook is, and who has certified it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientConfig {
    pub target: Target,
    /// PEM. Empty: whom the system trusts.
    pub ca_bundle: Vec<u8>,
    /// Whoever answers is taken for the one that is meant.
    pub insecure: bool,
}

/// Where a webhook is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    Url(String),
    Service {
        namespace: String,
        name: String,
        path: String,
        port: u16,
    },
    /// Whoever is at the address of each request, known by this name.
    Addressed {
        server_name: String,
    },
}

/// What of a target a call needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Without a trailing slash, without a query.
    pub url: String,
    /// What the certificate has to say.
    pub server_name: String,
    /// As it is dialled, where that is no service.
    pub address: String,
    pub is_local: bool,
}

impl ClientConfig {
    /// Reads a `clientConfig`.
    ///
    /// # Errors
    /// When it says neither service nor URL, or its bundle is no base64.
    pub fn from_value(config: &Value) -> Result<Self, ConfigError> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let service = &config["service"];
        let target = if service.is_object() {
            let port = service["port"].as_u64().and_then(|port| u16::try_from(port).ok());
            Target::Service {
                namespace: text(&service["namespace"]),
                name: text(&service["name"]),
                path: text(&service["path"]),
                port: port.filter(|port| *port != 0).unwrap_or(HTTPS),
            }
        } else if let Some(url) = config["url"].as_str().filter(|url| !url.is_empty()) {
            Target::Url(url.to_owned())
        } else {
            return Err(ConfigError::NoTarget);
        };
        let bundle = STANDARD.decode(config["caBundle"].as_str().unwrap_or_default());
        let ca_bundle = bundle.map_err(|_| ConfigError::Roots("unable to parse bytes as PEM block".to_owned()))?;
        Ok(Self { target, ca_bundle, insecure: false })
    }

    /// Whether somebody can be called with it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.place()?;
        if self.ca_bundle.is_empty() || self.insecure { Ok(()) } else { trust::bundle(&self.ca_bundle).map(drop) }
    }

    pub(crate) fn place(&self) -> Result<Place, ConfigError> {
        let unparsable = |why: &dyn std::fmt::Display| ConfigError::Url(why.to_string());
        match &self.target {
            Target::Service { namespace, name, path, port } => {
                let server_name = format!("{name}.{namespace}.svc");
                let address = format!("{server_name}:{port}");
                let url = format!("https://{address}{}", joined(path));
                url.parse::<Uri>().map_err(|err| unparsable(&err))?;
                Ok(Place { url, server_name, address, is_local: false })
            }
            Target::Addressed { server_name } => Ok(Place {
                url: String::new(),
                server_name: server_name.clone(),
                address: String::new(),
                is_local: false,
            }),
            Target::Url(url) => {
                let uri: Uri = url.parse().map_err(|err| unparsable(&err))?;
                let authority = uri.authority().ok_or(ConfigError::NoTarget)?;
                if uri.scheme() != Some(&Scheme::HTTPS) {
                    return Err(unparsable(&"'https' is the only allowed URL scheme"));
                }
                let server_name = authority.host().trim_matches(['[', ']']).to_owned();
                let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(HTTPS));
                let is_local = server_name.eq_ignore_ascii_case("localhost")
                    || server_name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
                Ok(Place { url: format!("https://{authority}{}", joined(uri.path())), server_name, address, is_local })
            }
        }
    }
}

/// A path as Go's client joins it: with a slash in front, with none behind, and with none twice.
fn joined(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn place(config: &Value) -> Place {
        ClientConfig::from_value(config).unwrap().place().unwrap()
    }

    #[test]
    fn a_service_is_known_by_its_name_in_the_cluster() {
        let place = place(&json!({"service": {"namespace": "a", "name": "s", "path": "/mutate/"}}));
        assert_eq!(place.url, "https://s.a.svc:443/mutate");
        assert_eq!((&*place.server_name, &*place.address), ("s.a.svc", "s.a.svc:443"));
        let other = json!({"service": {"namespace": "a", "name": "s", "port": 8443}});
        assert_eq!(self::place(&other).url, "https://s.a.svc:8443/");
    }

    #[test]
    fn a_url_keeps_its_host_and_loses_its_trailing_slash() {
        let local = place(&json!({"url": "https://127.0.0.1:9443/a//b/"}));
        assert_eq!(
            (&*local.url, &*local.server_name, local.is_local),
            ("https://127.0.0.1:9443/a/b", "127.0.0.1", true)
        );
        let six = place(&json!({"url": "https://[::1]/x"}));
        assert_eq!((&*six.address, &*six.server_name, six.is_local), ("[::1]:443", "::1", true));
        let other = place(&json!({"url": "https://example.com"}));
        assert_eq!((&*other.url, &*other.address, other.is_local), ("https://example.com/", "example.com:443", false));
    }

    #[test]
    fn what_leads_nowhere_is_refused() {
        assert_eq!(ClientConfig::from_value(&json!({})), Err(ConfigError::NoTarget));
        let plain = ClientConfig::from_value(&json!({"url": "http://example.com"})).unwrap();
        assert!(matches!(plain.place(), Err(ConfigError::Url(_))));
        let bundle = json!({"url": "https://example.com", "caBundle": "%"});
        let said = ClientConfig::from_value(&bundle).unwrap_err().to_string();
        assert_eq!(said, "unable to load root certificates: unable to parse bytes as PEM block");
    }
}
