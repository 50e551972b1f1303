//! Containerd's own event service, for versions that lack CRI's `GetContainerEvents`.
//!
//! Only what a wake-up needs is decoded: the topic, and of the event the id of the container, which is field 1 of
//! every task event.

use futures::StreamExt;
use futures::stream::BoxStream;
use prost::Message;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;

use crate::Error;

/// Containerd's namespace for CRI objects.
const NAMESPACE: &str = "k8s.io";

#[derive(Clone, PartialEq, Message)]
struct SubscribeRequest {
    #[prost(string, repeated, tag = "1")]
    filters: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(string, tag = "3")]
    topic: String,
    #[prost(message, optional, tag = "4")]
    event: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct TaskEvent {
    #[prost(string, tag = "1")]
    container_id: String,
}

/// Subscribes to the task events of the CRI namespace.
pub(crate) async fn subscribe(channel: Channel) -> Result<BoxStream<'static, Result<String, Error>>, Error> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| tonic::Status::unavailable(format!("containerd is not reachable: {error}")))?;
    let filters = ["/tasks/exit", "/tasks/start", "/tasks/oom", "/tasks/paused", "/tasks/delete"]
        .iter()
        .map(|topic| format!("namespace=={NAMESPACE},topic==\"{topic}\""))
        .collect();
    let codec = tonic_prost::ProstCodec::<SubscribeRequest, Envelope>::default();
    let path = PathAndQuery::from_static("/containerd.services.events.v1.Events/Subscribe");
    let stream =
        grpc.server_streaming(tonic::Request::new(SubscribeRequest { filters }), path, codec).await?.into_inner();
    Ok(stream.map(|event| event.map(|envelope| container_of(&envelope)).map_err(Error::from)).boxed())
}

/// The id an event speaks of; empty when the event is not understood, which still is a reason to look.
fn container_of(envelope: &Envelope) -> String {
    envelope
        .event
        .as_ref()
        .and_then(|any| TaskEvent::decode(any.value.as_slice()).ok())
        .map(|event| event.container_id)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_event_that_is_not_understood_still_wakes() {
        let envelope = Envelope {
            namespace: NAMESPACE.into(),
            topic: "/tasks/exit".into(),
            event: Some(Any { type_url: "x".into(), value: vec![0xff, 0xff] }),
        };
        assert_eq!(container_of(&envelope), "");
        let value = TaskEvent { container_id: "abc".into() }.encode_to_vec();
        let envelope = Envelope { event: Some(Any { type_url: "x".into(), value }), ..envelope };
        assert_eq!(container_of(&envelope), "abc");
    }
}
