//! The Watch service.
//!
//! A watch is a range of keys and a place in the history. The [`Hub`] keeps the most recent events once for all watches;
//! what is older is read from the store's own history. So a client that does not read costs a place, not a queue.

mod hub;
mod session;

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::channel::mpsc;
use futures::stream::BoxStream;
use kedge_etcdpb::etcdserverpb as pb;
use tonic::{Request, Response, Status, Streaming};

use crate::Api;
pub(crate) use hub::Hub;
use session::Session;

/// Messages that are made before the client has read those before them.
const AHEAD: usize = 2;
/// Events that are handed out at once; those of one revision are not parted.
const BATCH: usize = 1_000;

pub(crate) struct WatchService(pub(crate) Arc<Api>);

#[async_trait]
impl pb::watch_server::Watch for WatchService {
    type WatchStream = BoxStream<'static, Result<pb::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (out, messages) = mpsc::channel(AHEAD);
        let session = Session::new(self.0.clone(), out).run(request.into_inner());
        // The session is part of the stream, so it ends when the client goes away.
        let running = futures::stream::once(session).filter_map(|()| async { None });
        Ok(Response::new(futures::stream::select(messages, running).boxed()))
    }
}
