//! The body of a list: written out piece by piece while it is sent, one object at a time, so that a large list is never in
//! memory a second time, neither as trees nor as text.

mod waiting;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt as _;
use kedge_meta::Status;
use kedge_registry::{Served, convert};
use kedge_schema::{TypeId, encode, type_by_name};
use kedge_storage::{Keyed, Object};
use serde_json::Value;

use super::table::{self, ListMeta};
use super::{list, protobuf};
use crate::body::{Body, BodyError, PIECE, full};
use crate::input::negotiate::{Accepted, Format, Shape};
use crate::input::request_info::RequestInfo;
use crate::output::respond;

const END: &[u8] = b"]}\n";

/// How an object becomes an item.
enum Form {
    /// As it is stored, in a list that says for all its items what they are.
    Stored,
    /// As it is stored, and each says what it is: kinds that came while the server runs, as upstream.
    Whole,
    /// In another version.
    Converted(Arc<Served>),
    /// Alone, as an object of this version.
    Metadata(String),
    Row(Box<table::Rows>, Arc<Served>),
}

const ROW: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.TableRow";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const COLUMN: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.TableColumnDefinition";

impl Form {
    /// An object that has been converted.
    fn write_value(&self, mut value: Value, out: &mut Vec<u8>) -> Result<(), Status> {
        match self {
            Self::Row(rows, _) => encode(type_by_name(ROW), &rows.row(&value), out),
            Self::Converted(served) => {
                if served.custom.is_none() {
                    list::without_type(&mut value);
                }
                encode(served.info.schema.builtin(), &value, out)
            }
            Self::Stored | Self::Whole | Self::Metadata(_) => Err(Status::internal("nothing is to be converted")),
        }
    }

    fn write(&self, object: &Object, out: &mut Vec<u8>) -> Result<(), Status> {
        match self {
            Self::Stored => object.write_item(out),
            Self::Whole => object.write_json(out),
            Self::Converted(served) if served.shows(object) && served.custom.is_some() => object.write_json(out),
            Self::Converted(served) if served.shows(object) => object.write_item(out),
            Self::Converted(served) => {
                self.write_value(convert::read(served, object)?, out)?;
            }
            Self::Metadata(version) => {
                let head = format!("{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"{version}\",\"metadata\":");
                out.extend_from_slice(head.as_bytes());
                object.write_metadata(out).map_err(Status::internal)?;
                out.push(b'}');
            }
            Self::Row(_, served) => self.write_value(convert::read(served, object)?, out)?,
        }
        Ok(())
    }
}

fn encode(ty: Option<TypeId>, value: &Value, out: &mut Vec<u8>) -> Result<(), Status> {
    encode::write_json(ty, value, out).map_err(Status::internal)
}

/// A list, as far as it has not been written out.
struct Items {
    form: Form,
    objects: std::vec::IntoIter<Keyed>,
    /// Whether an object was written before the next one.
    begun: bool,
    ended: bool,
}

impl Items {
    /// Appends the next piece; nothing at the end.
    fn write(&mut self, out: &mut Vec<u8>) -> Result<(), Status> {
        while out.len() < PIECE && !self.ended {
            let Some((_, object)) = self.objects.next() else {
                out.extend_from_slice(END);
                self.ended = true;
                break;
            };
            if self.begun {
                out.push(b',');
            }
            self.begun = true;
            self.form.write(&object, out)?;
        }
        Ok(())
    }

    /// Bytes that are still to be written, where that can be told without writing them.
    fn left(&self) -> Option<u64> {
        let size = match self.form {
            Form::Stored => Object::item_len,
            Form::Whole => Object::whole_len,
            _ => return None,
        };
        let items: usize = self.objects.as_slice().iter().map(|(_, object)| size(object) + 1).sum();
        let comma = usize::from(!self.begun && self.objects.len() > 0);
        Some((items - comma + END.len()) as u64)
    }
}

/// A list that is being sent.
struct Sending {
    first: Option<Vec<u8>>,
    items: Items,
    /// Bytes still to be sent, if known.
    left: Option<u64>,
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BodyError>>> {
        let mut piece = self.first.take().unwrap_or_default();
        if piece.is_empty()
            && let Err(status) = self.items.write(&mut piece)
        {
            // The client has been told that all is well: it must see that the list broke off.
            self.items.ended = true;
            return Poll::Ready(Some(Err(BodyError(status.message.into()))));
        }
        self.left = self.left.map(|left| left.saturating_sub(piece.len() as u64));
        Poll::Ready((!piece.is_empty()).then(|| Ok(http_body::Frame::data(piece.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.items.ended
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.left.map_or_else(http_body::SizeHint::new, http_body::SizeHint::with_exact)
    }
}

/// A list that begins with `first`.
fn body(mut first: Vec<u8>, form: Form, objects: Vec<Keyed>) -> Result<Body, Status> {
    let mut items = Items { form, objects: objects.into_iter(), begun: false, ended: false };
    // What cannot be shown is told so as long as the answer has not begun.
    items.write(&mut first)?;
    if items.ended {
        return Ok(full(first));
    }
    let left = items.left().map(|left| left + first.len() as u64);
    Ok(Sending { first: Some(first), items, left }.boxed_unsync())
}

/// The answer to a list, in the form that was asked for.
///
/// # Errors
/// 500 when an object cannot be shown, 400 for a wrong option.
pub(crate) async fn respond(
    info: &RequestInfo,
    served: &Arc<Served>,
    objects: Vec<Keyed>,
    meta: &ListMeta,
    accepted: Accepted,
    now: jiff::Timestamp,
) -> Result<http::Response<Body>, Status> {
    if accepted.shape == Shape::Metadata {
        return Err(list::no_object(info, &served.info));
    }
    if accepted.format == Format::Protobuf {
        return protobuf::list(served, objects, meta, accepted).await;
    }
    let meta = serde_json::to_value(meta).map_err(Status::internal)?;
    let (head, form) = match accepted.shape {
        Shape::Object => {
            let form = match (served.shows_all(), &served.custom) {
                (true, None) => Form::Stored,
                (true, Some(_)) => Form::Whole,
                (false, _) => Form::Converted(served.clone()),
            };
            (head(&served.info.list_kind, &served.info.api_version(), &meta, None)?, form)
        }
        Shape::Metadata | Shape::MetadataList => {
            let version = accepted.meta_version();
            (head("PartialObjectMetadataList", &version, &meta, None)?, Form::Metadata(version))
        }
        Shape::Table => {
            let rows = table::Rows::new(&served.printer, table::Options::from_query(info)?, accepted, now);
            let head = head("Table", &accepted.meta_version(), &meta, Some(&rows))?;
            (head, Form::Row(Box::new(rows), served.clone()))
        }
    };
    let waits = served.waits() && !matches!(form, Form::Metadata(_));
    let body = if waits { waiting::body(head, form, objects).await? } else { body(head, form, objects)? };
    if accepted.format == Format::Json {
        return Ok(respond::encoded(StatusCode::OK, body, Format::Json));
    }
    let text = body.collect().await.map_err(Status::internal)?.to_bytes();
    respond::stored(StatusCode::OK, text.into(), accepted.format)
}

/// All of a list before its items.
fn head(kind: &str, version: &str, meta: &Value, table: Option<&table::Rows>) -> Result<Vec<u8>, Status> {
    let mut head = format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{version}\",\"metadata\":").into_bytes();
    encode(type_by_name(LIST_META), meta, &mut head)?;
    match table {
        Some(rows) => {
            head.extend_from_slice(b",\"columnDefinitions\":[");
            for (at, column) in rows.columns().iter().enumerate() {
                if at > 0 {
                    head.push(b',');
                }
                encode(type_by_name(COLUMN), column, &mut head)?;
            }
            head.extend_from_slice(b"],\"rows\":[");
        }
        None => head.extend_from_slice(b",\"items\":["),
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use http_body::Body as _;
    use serde_json::json;

    use super::*;

    fn object(i: u64) -> Keyed {
        let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{i}")}, "data": "d".repeat(3_000)});
        let object = Object::from_stored("k", Object::encode(None, &value).unwrap(), 7 + i * 13).unwrap();
        (format!("p{i}").into(), Arc::new(object))
    }

    #[tokio::test]
    async fn a_list_comes_in_pieces_of_the_length_that_was_announced() {
        for count in [0, 1, 20, 21, 22, 23, 100] {
            for (form, known) in
                [(Form::Stored, true), (Form::Whole, true), (Form::Metadata("meta.k8s.io/v1".into()), false)]
            {
                let mut body = body(b"{\"items\":[".to_vec(), form, (0..count).map(object).collect()).unwrap();
                let (announced, whole) = (body.size_hint().exact(), count < 22 || !known);
                assert_eq!(announced.is_some(), known || whole);
                let (mut text, mut pieces) = (Vec::new(), 0);
                while !body.is_end_stream() {
                    let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
                    assert!(piece.len() < PIECE + 4_000);
                    text.extend_from_slice(&piece);
                    pieces += 1;
                }
                assert_eq!(announced.unwrap_or(text.len() as u64), text.len() as u64);
                assert_eq!(pieces == 1, whole, "{count} objects in {pieces} pieces");
                let list: Value = serde_json::from_slice(&text).unwrap();
                let items = list["items"].as_array().unwrap();
                let names: Vec<_> = items.iter().map(|i| i["metadata"]["name"].clone()).collect();
                assert_eq!(names, (0..count).map(|i| json!(format!("p{i}"))).collect::<Vec<_>>());
                assert!(items.iter().all(|i| i["metadata"]["resourceVersion"].is_string()));
            }
        }
    }
}
