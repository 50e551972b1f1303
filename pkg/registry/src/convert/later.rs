//! Conversions that the owners of fields need, where these have to be waited for.
//!
//! Who owns what is worked out in one go, without waiting. Where it meets a conversion that has to be waited for, that is noted, the
//! work is given up, and is done again when the answer is there: it comes to the same place, and goes on.

use std::sync::Arc;

use kedge_meta::Status;
use parking_lot::Mutex;
use serde_json::Value;

use super::{Conversed, Conversion, convert};

/// Conversions that one write may take: each owner of a version of its own costs four.
const MOST: usize = 64;

/// What has been converted for a write so far. It is empty, and costs nothing, for kinds that convert at once.
#[derive(Default)]
pub struct Later(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    /// Objects, the version that each was brought into, and what came of it.
    known: Vec<(Value, String, Result<Value, String>)>,
    wanted: Option<(Value, String)>,
    by: Option<Arc<dyn Conversion>>,
}

impl Clone for Later {
    /// Another write begins anew.
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Later {
    /// The object in the version `to`: at once, from memory, or it is noted as wanted, and fails this time.
    pub(crate) fn convert(&self, by: &Arc<dyn Conversion>, object: &Value, to: &str) -> Result<Value, String> {
        if !by.waits() {
            let mut object = object.clone();
            let done = match by.convert(std::slice::from_mut(&mut object), to) {
                Conversed::Done(done) => done.map_err(|status| status.message),
                Conversed::Waits(_) => Err("it has to be waited for".to_owned()),
            };
            return done.map(|()| object);
        }
        let mut memory = self.0.lock();
        if let Some((_, _, came)) = memory.known.iter().find(|(known, at, _)| at == to && known == object) {
            return came.clone();
        }
        if memory.wanted.is_none() {
            memory.wanted = Some((object.clone(), to.to_owned()));
            memory.by = Some(by.clone());
        }
        Err("it is being converted".to_owned())
    }

    /// Waits for what is wanted. Whether that was anything: then the work is to be done again.
    ///
    /// # Errors
    /// When there are too many conversions.
    pub(crate) async fn came(&self) -> Result<bool, Status> {
        let (wanted, by) = {
            let mut memory = self.0.lock();
            (memory.wanted.take(), memory.by.clone())
        };
        let (Some((object, to)), Some(by)) = (wanted, by) else { return Ok(false) };
        if self.0.lock().known.len() >= MOST {
            return Err(Status::internal("the owners of the object's fields need too many conversions"));
        }
        let mut value = object.clone();
        let done = convert(&*by, std::slice::from_mut(&mut value), &to).await;
        let came = done.map(|()| value).map_err(|status| status.message);
        self.0.lock().known.push((object, to, came));
        Ok(true)
    }
}
