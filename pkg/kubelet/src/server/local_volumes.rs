//! `/kedge/v1/local-volumes?path=…`: POST makes the directory of a volume, DELETE removes it.

use std::path::PathBuf;

use http::{Method, StatusCode};
use tracing::info;

use super::Server;
use super::query::Query;
use super::reply::{self, Reply};
use crate::files::{MAKE_VOLUME, REMOVE_VOLUME};
use crate::local_volumes;

pub(super) async fn serve(server: &Server, method: &Method, query: &Query) -> Reply {
    let path = PathBuf::from(query.get("path").unwrap_or_default());
    if let Err(why) = local_volumes::check(&path) {
        return reply::text(StatusCode::BAD_REQUEST, why);
    }
    let (files, target) = (&server.kubelet.files, path.clone());
    let done = match *method {
        Method::POST => files.of_path(MAKE_VOLUME, &path, move || local_volumes::make(&target)).await,
        Method::DELETE => files.of_path(REMOVE_VOLUME, &path, move || local_volumes::remove(&target)).await,
        _ => return reply::text(StatusCode::METHOD_NOT_ALLOWED, "a directory is made by POST and removed by DELETE"),
    };
    match done {
        Ok(Ok(())) => {
            info!(path = %path.display(), %method, "directory of a volume");
            reply::json("{}")
        }
        Ok(Err(error)) => reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{}: {error}", path.display())),
        Err(error) => reply::text(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}
