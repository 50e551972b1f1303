//! The gRPC health protocol: `grpc.health.v1.Health/Check`.

use std::time::Duration;

use kedge_base::time;
use prost::Message;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};

use super::handler::Outcome;
use crate::http_get::authority;

#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}

impl ServingStatus {
    fn name(self) -> &'static str {
        match self {
            ServingStatus::Unknown => "UNKNOWN",
            ServingStatus::Serving => "SERVING",
            ServingStatus::NotServing => "NOT_SERVING",
            ServingStatus::ServiceUnknown => "SERVICE_UNKNOWN",
        }
    }
}

/// Asks a service, or with an empty name the server as a whole.
pub(super) async fn check(host: &str, port: u16, service: &str, limit: Duration) -> Outcome {
    let address = authority(host, port);
    let timeout = format!("{}s", limit.as_secs());
    let endpoint = match Endpoint::from_shared(format!("http://{address}")) {
        Ok(endpoint) => endpoint.connect_timeout(limit),
        Err(error) => return Outcome::Error(error.to_string()),
    };
    let channel = match time::timeout(limit, endpoint.connect()).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => {
            return Outcome::Failure(format!(
                "error: failed to connect service at {address:?}: {}",
                root_cause(&error)
            ));
        }
        Err(_) => {
            return Outcome::Failure(format!(
                "timeout: failed to connect service {address:?} within {timeout}: context deadline exceeded"
            ));
        }
    };
    match time::timeout(limit, ask(channel, service)).await {
        Ok(Ok(ServingStatus::Serving)) => Outcome::Success,
        Ok(Ok(status)) => Outcome::Failure(format!("service unhealthy (responded with {:?})", status.name())),
        Ok(Err(status)) => Outcome::Failure(match status.code() {
            tonic::Code::Unimplemented => format!(
                "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
                status.message()
            ),
            tonic::Code::DeadlineExceeded => {
                format!("timeout: health rpc did not complete within {timeout}")
            }
            _ => format!("error: health rpc probe failed: {}", kedge_cri::Error::from(status)),
        }),
        Err(_) => Outcome::Failure(format!("timeout: health rpc did not complete within {timeout}")),
    }
}

async fn ask(channel: Channel, service: &str) -> Result<ServingStatus, tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let mut request = tonic::Request::new(HealthCheckRequest { service: service.to_string() });
    request.metadata_mut().insert("user-agent", MetadataValue::from_static("kube-probe/1.36"));
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let answer = grpc.unary(request, path, codec).await?.into_inner();
    Ok(ServingStatus::try_from(answer.status).unwrap_or(ServingStatus::Unknown))
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
