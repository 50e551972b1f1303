//! `v1.PodLogOptions`: read from the query, checked, and written for the kubelet in one form.

use kedge_meta::field::{Error, ErrorList, Path};
use kedge_meta::{GroupKind, Status};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::input::request_info::RequestInfo;

const STREAMS: [&str; 3] = ["All", "Stderr", "Stdout"];

/// The query for the kubelet.
///
/// # Errors
/// 400 for what is no number or time, 422 for options that make no sense.
pub(super) fn kubelet_query(info: &RequestInfo) -> Result<String, Status> {
    let mut query = Vec::new();
    for flag in ["follow", "previous", "timestamps"].into_iter().filter(|flag| info.flag(flag)) {
        query.push(format!("{flag}=true"));
    }
    let number = |name: &str| info.number(name);
    let (seconds, tail, limit) = (number("sinceSeconds")?, number("tailLines")?, number("limitBytes")?);
    let time = info.params("sinceTime").next().filter(|time| !time.is_empty() && *time != "null");
    if let Some(time) = time {
        kedge_base::time::parse(time).map_err(|err| Status::bad_request(format!("parsing time {time:?}: {err}")))?;
    }
    let stream = info.params("stream").next().unwrap_or(STREAMS[0]);
    let mut errors = ErrorList::new();
    if let Some(tail) = tail.filter(|tail| *tail < 0) {
        errors.push(Error::invalid(&Path::new("tailLines"), tail, "must be greater than or equal to 0"));
    }
    if let Some(limit) = limit.filter(|limit| *limit < 1) {
        errors.push(Error::invalid(&Path::new("limitBytes"), limit, "must be greater than 0"));
    }
    // Upstream calls the options as a whole by an empty step.
    let whole = Path::new("[]");
    match (seconds, time) {
        (Some(_), Some(_)) => {
            let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
            errors.push(Error::forbidden(&whole, why));
        }
        (Some(seconds), None) if seconds < 1 => {
            errors.push(Error::invalid(&Path::new("sinceSeconds"), seconds, "must be greater than 0"));
        }
        _ => {}
    }
    if !STREAMS.contains(&stream) {
        errors.push(Error::not_supported(&Path::new("stream"), stream, &STREAMS));
    }
    if stream != STREAMS[0] && tail.is_some() {
        let why = "`tailLines` and specific `stream` are mutually exclusive for now";
        errors.push(Error::forbidden(&whole, why));
    }
    if !errors.is_empty() {
        return Err(Status::invalid(&GroupKind::new("", "PodLogOptions"), &info.name, &errors));
    }
    for (name, value) in [("sinceSeconds", seconds), ("tailLines", tail), ("limitBytes", limit)] {
        query.extend(value.map(|value| format!("{name}={value}")));
    }
    query.extend(time.map(|time| format!("sinceTime={}", utf8_percent_encode(time, NON_ALPHANUMERIC))));
    query.push(format!("stream={stream}"));
    Ok(query.join("&"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn query(text: &str) -> Result<String, Status> {
        let uri = format!("/api/v1/namespaces/a/pods/p/log?{text}").parse().unwrap();
        kubelet_query(&RequestInfo::parse(&http::Method::GET, &uri).unwrap())
    }

    #[test]
    fn the_kubelet_is_told_in_one_form() {
        assert_eq!(query("").unwrap(), "stream=All");
        let all = "follow=True&previous=yes&timestamps&tailLines=5&limitBytes=9&sinceSeconds=3&pretty=true";
        let told = "follow=true&previous=true&timestamps=true&sinceSeconds=3&tailLines=5&limitBytes=9&stream=All";
        assert_eq!(query(all).unwrap(), told);
        assert_eq!(query("follow=False&previous=0").unwrap(), "stream=All");
        let since = query("sinceTime=2026-01-01T00:00:00Z").unwrap();
        assert_eq!(since, "sinceTime=2026%2D01%2D01T00%3A00%3A00Z&stream=All");
    }

    #[test]
    fn options_that_make_no_sense_are_refused() {
        for (text, code, said) in [
            ("tailLines=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax"),
            ("sinceTime=x", 400, "parsing time \"x\""),
            ("tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
            ("limitBytes=0", 422, "limitBytes: Invalid value: 0: must be greater than 0"),
            ("sinceSeconds=0", 422, "sinceSeconds: Invalid value: 0: must be greater than 0"),
            ("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z", 422, "at most one of `sinceTime` or `sinceSeconds`"),
            ("stream=x", 422, "stream: Unsupported value: \"x\""),
            ("stream=Stdout&tailLines=1", 422, "mutually exclusive for now"),
        ] {
            let refused = query(text).unwrap_err();
            assert_eq!(refused.code, code, "{text}");
            assert!(refused.message.contains(said), "{text}: {}", refused.message);
        }
    }
}
