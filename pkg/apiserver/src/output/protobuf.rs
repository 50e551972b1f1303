//! Objects, lists and events in protobuf. They are made of the stored JSON, without a tree in between.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use kedge_meta::Status;
use kedge_registry::{Served, convert};
use kedge_schema::encode::{self, protobuf};
use kedge_schema::{TypeId, type_by_name};
use kedge_storage::{Keyed, Object};
use serde_json::{Value, json};

use crate::body::{Body, BodyError, PIECE, full};
use crate::input::negotiate::{Accepted, Format, Shape};
use crate::output::respond;
use crate::output::table::ListMeta;

const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata";
/// The numbers of `metadata` and `items` in every list.
const LIST_FIELDS: [u32; 2] = [1, 2];
/// Those of an event's type and object, and of the bytes that are an embedded object.
const EVENT_FIELDS: [u32; 2] = [1, 2];
const RAW: u32 = 1;
/// Objects that are measured before others get their turn.
const TURN: usize = 64;

/// How the objects of a list become messages.
#[derive(Clone)]
struct Form {
    served: Arc<Served>,
    ty: TypeId,
    metadata: bool,
}

impl Form {
    fn write(&self, object: &Object, out: &mut Vec<u8>) -> Result<(), Status> {
        if self.metadata {
            let mut json = b"{\"metadata\":".to_vec();
            object.write_metadata(&mut json).map_err(Status::internal)?;
            json.push(b'}');
            return text(self.ty, &json, out);
        }
        if !self.served.shows(object) {
            return tree(self.ty, &convert::read(&self.served, object)?, out);
        }
        text(self.ty, &object.to_json(), out)
    }
}

fn text(ty: TypeId, json: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    encode::write_protobuf(ty, &mut serde_json::Deserializer::from_slice(json), out).map_err(Status::internal)
}

fn tree(ty: TypeId, value: &Value, out: &mut Vec<u8>) -> Result<(), Status> {
    encode::write_protobuf(ty, value, out).map_err(Status::internal)
}

/// A type that is built in, so it is there.
fn known(name: &str) -> Result<TypeId, Status> {
    type_by_name(name).ok_or_else(|| Status::internal(format!("{name} is not known")))
}

/// The answer to a list. How long it is stands at its beginning, so that every object is written once to be measured, and once
/// more when it is sent: a large list is never in memory as a whole.
///
/// # Errors
/// 500 when an object cannot be shown.
pub(crate) async fn list(
    served: &Arc<Served>,
    objects: Vec<Keyed>,
    meta: &ListMeta,
    accepted: Accepted,
) -> Result<Response<Body>, Status> {
    let metadata = accepted.shape == Shape::MetadataList;
    let ty = match served.info.schema.builtin() {
        Some(ty) if !metadata => ty,
        _ => known(METADATA)?,
    };
    let form = Form { served: served.clone(), ty, metadata };
    let mut lengths = Vec::with_capacity(objects.len());
    let mut scratch = Vec::new();
    for (at, (_, object)) in objects.iter().enumerate() {
        scratch.clear();
        form.write(object, &mut scratch)?;
        lengths.push(scratch.len());
        if at % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
    }
    let mut head = Vec::new();
    let meta = serde_json::to_value(meta).map_err(Status::internal)?;
    let list_meta = known(LIST_META)?;
    protobuf::delimited(&mut head, LIST_FIELDS[0], |out| tree(list_meta, &meta, out))?;
    let items: usize = lengths.iter().map(|length| protobuf::delimited_len(LIST_FIELDS[1], *length)).sum();
    let (version, kind) = match metadata {
        true => (accepted.meta_version(), "PartialObjectMetadataList"),
        false => (served.info.api_version(), &*served.info.list_kind),
    };
    let mut first = protobuf::envelope_head(&version, kind, head.len() + items);
    first.append(&mut head);
    let left = (first.len() + items + protobuf::TAIL.len()) as u64;
    let sending =
        Sending { first: Some(first), form, objects: objects.into_iter(), lengths: lengths.into_iter(), left };
    Ok(respond::encoded(StatusCode::OK, sending.boxed_unsync(), Format::Protobuf))
}

/// A list that is being sent.
struct Sending {
    first: Option<Vec<u8>>,
    form: Form,
    objects: std::vec::IntoIter<Keyed>,
    lengths: std::vec::IntoIter<usize>,
    /// Bytes still to be sent.
    left: u64,
}

impl Sending {
    fn piece(&mut self) -> Result<Vec<u8>, Status> {
        let mut out = self.first.take().unwrap_or_default();
        while out.len() < PIECE {
            let (Some((_, object)), Some(length)) = (self.objects.next(), self.lengths.next()) else {
                out.extend_from_slice(protobuf::TAIL);
                break;
            };
            let wanted = out.len() + protobuf::delimited_len(LIST_FIELDS[1], length);
            protobuf::delimited(&mut out, LIST_FIELDS[1], |out| self.form.write(&object, out))?;
            if out.len() != wanted {
                return Err(Status::internal("an object has changed its length"));
            }
        }
        Ok(out)
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        match self.piece() {
            Ok(piece) => {
                self.left = self.left.saturating_sub(piece.len() as u64);
                Poll::Ready(Some(Ok(http_body::Frame::data(piece.into()))))
            }
            Err(status) => {
                self.left = 0;
                Poll::Ready(Some(Err(BodyError(status.message.into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left)
    }
}

/// A stored object of the version that is served.
///
/// # Errors
/// 500 when it cannot be shown.
pub(crate) fn stored(served: &Served, ty: TypeId, object: &Object) -> Result<Vec<u8>, Status> {
    let json = object.to_json();
    let source = &mut serde_json::Deserializer::from_slice(&json);
    encode::to_protobuf(ty, &served.info.api_version(), &served.info.kind, source).map_err(Status::internal)
}

/// The answer with a stored object of the version that is served.
///
/// # Errors
/// 500 when it cannot be shown.
pub(crate) fn answer(code: StatusCode, served: &Served, ty: TypeId, object: &Object) -> Result<Response<Body>, Status> {
    Ok(respond::encoded(code, full(stored(served, ty, object)?), Format::Protobuf))
}

/// An event of a watch: its length, and a message without an envelope around an object in one.
pub(crate) fn event(kind: &str, object: &[u8]) -> Bytes {
    let mut out = vec![0; 4];
    protobuf::text(&mut out, EVENT_FIELDS[0], kind);
    protobuf::delimited(&mut out, EVENT_FIELDS[1], |out| protobuf::bytes(out, RAW, object));
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.into()
}

/// The same with an object that says what it is.
pub(crate) fn event_of(kind: &str, object: &Value) -> Bytes {
    match encode::object_to_protobuf(object) {
        Ok(Some(encoded)) => event(kind, &encoded),
        Ok(None) | Err(_) => {
            let status = Status::internal(format!("{} cannot be shown in protobuf", object["kind"]));
            let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": status.message, "code": 500});
            let encoded = encode::object_to_protobuf(&status).ok().flatten().unwrap_or_default();
            event("ERROR", &encoded)
        }
    }
}
