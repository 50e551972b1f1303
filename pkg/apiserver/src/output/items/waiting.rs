//! A list whose objects have to be converted by somebody else: some are converted at a time, while those before them are sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::FutureExt as _;
use http_body::Frame;
use http_body_util::BodyExt as _;
use kedge_base::BoxFuture;
use kedge_meta::Status;
use kedge_registry::{Served, convert};
use kedge_storage::{Keyed, Object};

use super::{END, Form};
use crate::body::{Body, BodyError, full};

/// Objects, and bytes of them, that are converted at a time.
const MOST: usize = 100;
const MOST_BYTES: usize = 256 << 10;

/// What is left of the list, with the next piece of it.
type Step = (Rest, Result<Vec<u8>, Status>);

/// A list, as far as it has not been written out.
struct Rest {
    form: Form,
    objects: std::vec::IntoIter<Keyed>,
    begun: bool,
    ended: bool,
}

/// A list that is being sent.
struct Sending {
    first: Vec<u8>,
    rest: Option<Rest>,
    step: Option<BoxFuture<'static, Step>>,
}

/// A list that begins with `first`. The first objects are converted before it is answered: who cannot be asked has an error then.
///
/// # Errors
/// What keeps the first objects from being converted. What fails later is met while the list is being sent.
pub(super) async fn body(mut first: Vec<u8>, form: Form, objects: Vec<Keyed>) -> Result<Body, Status> {
    let mut rest = Rest { form, objects: objects.into_iter(), begun: false, ended: false };
    rest.write(&mut first).await?;
    if rest.ended {
        return Ok(full(first));
    }
    Ok(Sending { first, rest: Some(rest), step: None }.boxed_unsync())
}

impl Form {
    fn served(&self) -> Option<Arc<Served>> {
        match self {
            Self::Converted(served) | Self::Row(_, served) => Some(served.clone()),
            Self::Stored | Self::Whole | Self::Metadata(_) => None,
        }
    }
}

impl Rest {
    async fn next(mut self) -> Step {
        let mut out = Vec::new();
        let written = self.write(&mut out).await;
        (self, written.map(|()| out))
    }

    async fn write(&mut self, out: &mut Vec<u8>) -> Result<(), Status> {
        let (mut some, mut bytes) = (Vec::<Arc<Object>>::new(), 0);
        while some.len() < MOST && bytes < MOST_BYTES {
            let Some((_, object)) = self.objects.next() else { break };
            bytes += object.size_hint();
            some.push(object);
        }
        if some.is_empty() {
            self.ended = true;
            out.extend_from_slice(END);
            return Ok(());
        }
        let Some(served) = self.form.served() else { return Err(Status::internal("nothing is to be converted")) };
        for value in convert::read_all(&served, &some).await? {
            if self.begun {
                out.push(b',');
            }
            self.begun = true;
            self.form.write_value(value, out)?;
        }
        Ok(())
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(rest) = self.rest.take_if(|rest| !rest.ended) {
            self.step = Some(Box::pin(rest.next()));
        }
        let Some(step) = &mut self.step else { return Poll::Ready(None) };
        let (rest, written) = ready!(step.poll_unpin(cx));
        self.step = None;
        Poll::Ready(Some(match written {
            Ok(piece) => {
                self.rest = Some(rest);
                let mut whole = std::mem::take(&mut self.first);
                whole.extend_from_slice(&piece);
                Ok(Frame::data(whole.into()))
            }
            // The client has been told that all is well: it must see that the list broke off.
            Err(status) => Err(BodyError(status.message.into())),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.step.is_none() && self.rest.as_ref().is_none_or(|rest| rest.ended)
    }
}
