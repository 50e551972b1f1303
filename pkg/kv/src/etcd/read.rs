//! Reads of ranges, in pages of one revision.

use kedge_etcdpb::etcdserverpb as pb;

use super::Shared;
use super::caller::Kind;
use super::convert;
use super::status::Subject;
use crate::api::{Range, RangeResult};
use crate::check;
use crate::error::Error;

/// How often a list is begun anew when its revision is compacted meanwhile.
const MAX_RESTARTS: u32 = 5;

impl Shared {
    /// Reads a range; a large one in pages, all of the revision of the first.
    pub(super) async fn range(&self, range: Range) -> Result<RangeResult, Error> {
        check::range(&range)?;
        if range.count_only || range.keys.is_single() || (range.limit != 0 && range.limit <= self.page) {
            return self.page(&range).await;
        }
        let mut restarts = 0;
        loop {
            match self.pages(&range).await {
                // The caller asked for the newest state, and there is a newer one by now.
                Err(Error::Compacted { .. }) if range.revision.is_none() && restarts < MAX_RESTARTS => restarts += 1,
                outcome => return outcome,
            }
        }
    }

    async fn pages(&self, range: &Range) -> Result<RangeResult, Error> {
        let mut next = Range { limit: self.page, ..range.clone() };
        let mut all = self.page(&next).await?;
        let mut left = all.remaining();
        next.revision = Some(all.revision);
        loop {
            let wanted = if range.limit == 0 { left } else { left.min(range.limit - all.kvs.len()) };
            let Some(last) = all.kvs.last().filter(|_| wanted > 0) else { return Ok(all) };
            next.keys.start = [&last.key[..], &[0]].concat().into();
            next.limit = self.page.min(wanted);
            let page = self.page(&next).await?;
            left = page.remaining();
            if page.kvs.is_empty() && left > 0 {
                return Err(Error::Protocol("an empty page with more to come".into()));
            }
            all.kvs.extend(page.kvs);
        }
    }

    async fn page(&self, range: &Range) -> Result<RangeResult, Error> {
        let request = convert::range_request(range)?;
        let subject = Subject { revision: range.revision.unwrap_or(0), ..Subject::default() };
        let answer = self.caller.call(Kind::Read, subject, |to| {
            let request = to.request(request.clone());
            async move { to.kv().range(request).await }
        });
        Ok(convert::range_result(answer.await?, range.revision))
    }

    /// The newest revision, agreed with the other members.
    pub(super) async fn newest(&self, limit: std::time::Duration) -> Result<u64, Error> {
        let request = pb::RangeRequest { key: vec![0].into(), count_only: true, limit: 1, ..Default::default() };
        let answer = self.caller.call_within(limit, Kind::Read, Subject::default(), |to| {
            let request = to.request(request.clone());
            async move { to.kv().range(request).await }
        });
        Ok(convert::range_result(answer.await?, None).revision)
    }
}
