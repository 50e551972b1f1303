//! Admission of what is created without being stored (evictions, tokens, bindings, reviews), and of connections.

use kedge_meta::{Status, UserInfo};
use kedge_registry::{Attributes, Operation, Options};
use kedge_schema::ResourceInfo;
use serde_json::{Map, Value, json};

use crate::admitted::Admitted;
use crate::input::options::asked;
use crate::input::request_info::RequestInfo;
use crate::server::ApiServer;

/// Who the server is when it writes on its own account.
pub(crate) fn api_server() -> UserInfo {
    UserInfo::new("system:apiserver", &[kedge_auth::MASTERS])
}

/// Passes `object`, which a request creates under a subresource of `resource`, through admission. Returns it as admission
/// left it.
///
/// # Errors
/// The refusal.
pub(crate) async fn create(
    server: &ApiServer,
    admitted: &Admitted,
    resource: &ResourceInfo,
    object: Value,
    dry_run: bool,
) -> Result<Value, Status> {
    let mut attributes = attributes(Operation::Create, admitted, resource);
    attributes.object = object;
    attributes.dry_run = dry_run;
    attributes.options = Options::Write(asked(&admitted.info));
    server.admission.admit(&mut attributes).await?;
    server.admission.validate(&attributes).await?;
    Ok(attributes.object)
}

/// Passes a connection (`exec`, `attach`, `portforward`, `proxy`) through admission, with its options as the object.
///
/// # Errors
/// The refusal; 400 for a dry run, which a connection cannot be, and for options that are not understood.
pub(crate) async fn connect(server: &ApiServer, admitted: &Admitted, resource: &ResourceInfo) -> Result<(), Status> {
    let mut attributes = attributes(Operation::Connect, admitted, resource);
    let Some(options) = connect_options(&admitted.info, attributes.kind().2)? else { return Ok(()) };
    if admitted.info.params("dryRun").next().is_some() {
        return Err(Status::bad_request("dryRun is not supported"));
    }
    attributes.object = options;
    server.admission.admit(&mut attributes).await?;
    server.admission.validate(&attributes).await
}

fn attributes<'a>(operation: Operation, admitted: &'a Admitted, resource: &'a ResourceInfo) -> Attributes<'a> {
    let mut attributes = Attributes::new(operation, resource, &admitted.user);
    attributes.subresource = &admitted.info.subresource;
    attributes.namespace = if resource.namespaced { &admitted.info.namespace } else { "" };
    attributes.name = &admitted.info.name;
    attributes.notes = admitted.notes.clone();
    attributes
}

/// The options of a connection as an object of their kind; none for what is no connection.
fn connect_options(info: &RequestInfo, kind: &str) -> Result<Option<Value>, Status> {
    let mut options = Map::new();
    match kind {
        "PodExecOptions" | "PodAttachOptions" => {
            for name in ["stdin", "stdout", "stderr", "tty"].into_iter().filter(|name| info.flag(name)) {
                options.insert(name.into(), true.into());
            }
            if !info.param("container").is_empty() {
                options.insert("container".into(), info.param("container").into());
            }
            if kind == "PodExecOptions" {
                let command: Vec<&str> = info.params("command").collect();
                options.insert("command".into(), if command.is_empty() { Value::Null } else { json!(command) });
            }
        }
        "PodPortForwardOptions" => {
            let ports: Result<Vec<i32>, _> =
                info.params("ports").flat_map(|text| text.split(',')).map(str::parse).collect();
            let ports = ports.map_err(|_| Status::bad_request("ports must be numbers"))?;
            if !ports.is_empty() {
                options.insert("ports".into(), json!(ports));
            }
        }
        "PodProxyOptions" | "ServiceProxyOptions" | "NodeProxyOptions" => {
            let slash = if info.rest.is_empty() && !info.path.ends_with('/') { "" } else { "/" };
            let path = format!("{slash}{}", info.rest);
            if !path.is_empty() {
                options.insert("path".into(), path.into());
            }
        }
        _ => return Ok(None),
    }
    options.insert("kind".into(), kind.into());
    options.insert("apiVersion".into(), "v1".into());
    Ok(Some(options.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(path: &str, kind: &str) -> Value {
        let uri = format!("/api/v1/namespaces/a/pods/p/{path}").parse().unwrap();
        connect_options(&RequestInfo::parse(&http::Method::POST, &uri).unwrap(), kind).unwrap().unwrap_or_default()
    }

    #[test]
    fn the_options_of_a_connection_are_those_of_its_query() {
        let exec = options("exec?command=a&command=b&stdin=true&tty=false&container=c", "PodExecOptions");
        let wanted = json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdin": true, "container": "c", "command": ["a", "b"]});
        assert_eq!(exec, wanted);
        let attach = options("attach?stdout=1", "PodAttachOptions");
        assert_eq!(attach, json!({"kind": "PodAttachOptions", "apiVersion": "v1", "stdout": true}));
        let ports = options("portforward?ports=80,443&ports=1", "PodPortForwardOptions");
        assert_eq!(ports["ports"], json!([80, 443, 1]));
        assert_eq!(options("proxy/a/b?x=y", "PodProxyOptions")["path"], "/a/b");
        assert_eq!(options("proxy/", "PodProxyOptions")["path"], "/");
        assert_eq!(options("proxy", "PodProxyOptions").get("path"), None);
        assert_eq!(options("log", "Pod"), Value::Null);
        let uri = "/api/v1/namespaces/a/pods/p/portforward?ports=x".parse().unwrap();
        let info = RequestInfo::parse(&http::Method::POST, &uri).unwrap();
        assert_eq!(connect_options(&info, "PodPortForwardOptions").unwrap_err().code, 400);
    }
}
