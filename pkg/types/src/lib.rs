//! The built-in types as Rust structs, behind functions that are not generic.
//!
//! Serde's code for these types is large and is compiled again in every crate that instantiates it. Here it is
//! instantiated once; dependants call plain functions and rebuild in a second. These structs drop unknown fields:
//! they are for reading, never the form in which an object is stored or written back whole.

use k8s_openapi::api::core::v1::{
    ConfigMap, Container, ContainerPort, LifecycleHandler, Node, NodeStatus, Pod, PodStatus, Secret, Service,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use k8s_openapi;

/// An object that does not have the shape of its kind.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {kind}: {source}")]
pub struct Error {
    action: &'static str,
    kind: &'static str,
    #[source]
    source: serde_json::Error,
}

fn decode<T: DeserializeOwned>(kind: &'static str, json: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|source| Error { action: "decode", kind, source })
}

fn encode<T: Serialize>(kind: &'static str, object: &T) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|source| Error { action: "encode", kind, source })
}

/// One decoder and one encoder a kind, so that serde is instantiated here and nowhere else.
macro_rules! kinds {
    ($($kind:ident: $decode:ident, $encode:ident;)*) => {$(
        #[doc = concat!("Decodes a ", stringify!($kind), " from JSON; unknown fields are dropped.")]
        ///
        /// # Errors
        /// When the JSON is malformed or a field has another type.
        pub fn $decode(json: &[u8]) -> Result<$kind, Error> {
            decode(stringify!($kind), json)
        }

        #[doc = concat!("Encodes a ", stringify!($kind), " as a JSON tree.")]
        ///
        /// # Errors
        /// When a value cannot be expressed in JSON.
        pub fn $encode(object: &$kind) -> Result<Value, Error> {
            encode(stringify!($kind), object)
        }
    )*};
}

kinds! {
    Pod: decode_pod, encode_pod;
    PodStatus: decode_pod_status, encode_pod_status;
    Container: decode_container, encode_container;
    Node: decode_node, encode_node;
    NodeStatus: decode_node_status, encode_node_status;
    ConfigMap: decode_config_map, encode_config_map;
    Secret: decode_secret, encode_secret;
    Service: decode_service, encode_service;
}

/// Encodes a lifecycle hook, as it is kept in a container's annotations.
///
/// # Errors
/// When a value cannot be expressed in JSON.
pub fn encode_lifecycle_handler(handler: &LifecycleHandler) -> Result<Value, Error> {
    encode("LifecycleHandler", handler)
}

/// Encodes a container's ports, as they are kept in its annotations.
///
/// # Errors
/// When a value cannot be expressed in JSON.
pub fn encode_container_ports(ports: &Vec<ContainerPort>) -> Result<Value, Error> {
    encode("ContainerPort", ports)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_pod_survives_the_round_trip() {
        let json = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},
            "spec":{"containers":[{"name":"c","image":"i"}]}}"#;
        let pod = decode_pod(json).unwrap();
        let value = encode_pod(&pod).unwrap();
        assert_eq!(value["spec"]["containers"][0]["image"], "i");
        assert!(decode_pod(b"{\"metadata\":3}").is_err());
    }
}
