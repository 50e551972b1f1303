//! Texts with a meaning of their own: quantities, durations, times, regular expressions.

use kedge_base::time;
use kedge_meta::quantity::Quantity;
use kedge_meta::regexp;
use kedge_schema::conform;
use serde_json::{Value, json};

use crate::input;

/// Memory that a pattern of the fuzzer may be compiled to: much smaller than the server's, so that none takes long.
const MAX_PATTERN: usize = 1 << 20;

/// A quantity, a duration and a time, each as such and in a field.
pub fn scalar(data: &[u8]) {
    let Some(text) = input::text(data) else { return };
    quantity(text);
    if let Some(duration) = time::go_duration(text)
        && let Ok(nanos) = i64::try_from(duration.as_nanos())
    {
        let shown = time::go_duration_text(nanos);
        let again = time::go_duration(&shown).map(|again| again.as_nanos());
        assert_eq!(again, Some(duration.as_nanos()), "{text:?} is shown as {shown:?}");
    }
    for (kind, object) in [
        ("ResourceQuota", json!({"spec": {"hard": {"cpu": text}}})),
        ("Secret", json!({"data": {"k": text}, "metadata": {"creationTimestamp": text}})),
        ("Event", json!({"eventTime": text, "firstTimestamp": text, "involvedObject": {}, "metadata": {}})),
        ("Service", json!({"spec": {"ports": [{"port": 1, "targetPort": text}]}})),
    ] {
        canonical(kind, object);
    }
}

/// Canonical forms are fixed points, and both of an object's encodings keep them.
fn canonical(kind: &str, mut object: Value) {
    let Some(ty) = kedge_schema::kind("", "v1", kind) else { return };
    if conform(ty, &mut object, &mut Vec::new()).is_err() {
        return;
    }
    let mut again = object.clone();
    conform(ty, &mut again, &mut Vec::new()).unwrap_or_else(|err| panic!("{object} does not conform again: {err}"));
    assert_eq!(again, object);
    let mut raw = Vec::new();
    kedge_schema::encode::write_protobuf(ty, &object, &mut raw)
        .unwrap_or_else(|err| panic!("{object} cannot be written: {err}"));
    let mut read = kedge_schema::protobuf::decode(ty, &raw).expect("what was written is read");
    conform(ty, &mut read, &mut Vec::new()).unwrap_or_else(|err| panic!("{read} does not conform: {err}"));
    assert_eq!(read, object);
}

fn quantity(text: &str) {
    let Ok(read) = Quantity::parse(text) else { return };
    let shown = read.to_string();
    let again = Quantity::parse(&shown).unwrap_or_else(|err| panic!("{text:?} is shown as {shown:?}: {err}"));
    assert_eq!(again, read, "{text:?} is shown as {shown:?}");
    assert_eq!(read.is_zero(), shown == "0");
    let (whole, millis) = (read.value(), read.milli_value());
    assert!(whole.saturating_abs() <= millis.saturating_abs(), "{text:?}");
    let nothing = read.sub(&read);
    assert!(nothing.is_zero() && !nothing.is_negative());
    assert_eq!(read.add(&Quantity::ZERO), read);
}

/// A pattern and, behind a zero byte, what it is matched with.
pub fn regular_expression(data: &[u8]) {
    let (pattern, sample) = input::halves(data);
    let (Some(pattern), Some(sample)) = (input::text(pattern), input::text(sample)) else { return };
    let Ok(compiled) = regexp::compile_within(pattern, MAX_PATTERN) else { return };
    let found = compiled.find(sample).map(|found| found.range());
    assert_eq!(compiled.is_match(sample), found.is_some());
}
