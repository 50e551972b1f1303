//! Cron jobs.

use kedge_meta::field::{Error, ErrorList, Path};
use serde_json::Value;

use super::super::validation::{At, Report};
use super::{job, schedule};
use crate::strategy::{Context, Strategy};
use crate::value::ValueExt;

/// Jobs are called after the cron job and eleven more characters.
const MAX_NAME: usize = 63 - 11;

pub(crate) struct CronJob;

impl Strategy for CronJob {
    fn validate(&self, _ctx: &Context<'_>, object: &Value) -> ErrorList {
        let mut errors = spec(object, None);
        if object.name().len() > MAX_NAME {
            let path = Path::new("metadata").child("name");
            errors.push(Error::invalid(&path, object.name(), "must be no more than 52 characters"));
        }
        errors
    }

    fn validate_update(&self, _ctx: &Context<'_>, new: &Value, old: &Value) -> ErrorList {
        spec(new, Some(old))
    }
}

fn spec(object: &Value, old: Option<&Value>) -> ErrorList {
    let mut errors = ErrorList::new();
    let at = At::field(object, "spec");
    let (text, zone) = (at.child("schedule"), at.child("timeZone"));
    if errors.need_text(&text) {
        if let Err(why) = schedule::check(text.text()) {
            errors.push(text.invalid(why));
        }
        let had_zone = old.is_some_and(|old| old.text(&["spec", "schedule"]).contains("TZ"));
        if text.text().contains("TZ") {
            if !had_zone {
                errors.push(text.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead"));
            } else if zone.is_set() {
                errors.push(text.invalid("cannot use both timeZone field and TZ or CRON_TZ in schedule"));
            }
        }
    }
    errors.non_negative(&at.child("startingDeadlineSeconds"));
    if old.is_none_or(|old| At::field(old, "spec").child("timeZone").value != zone.value) {
        time_zone(&zone, &mut errors);
    }
    errors.need_one_of(&at.child("concurrencyPolicy"), &["Allow", "Forbid", "Replace"]);
    let job_spec = at.child("jobTemplate").child("spec");
    job::spec(&job_spec, &mut errors);
    if job_spec.child("selector").is_set() {
        errors.push(job_spec.child("selector").invalid("`selector` will be auto-generated"));
    }
    if job_spec.child("manualSelector").is_true() {
        errors.push(job_spec.child("manualSelector").not_supported(&["false", "nil"]));
    }
    errors.non_negative(&at.child("successfulJobsHistoryLimit"));
    errors.non_negative(&at.child("failedJobsHistoryLimit"));
    errors
}

fn time_zone(at: &At<'_>, errors: &mut ErrorList) {
    if !at.is_set() {
        return;
    }
    let name = at.text();
    if name.is_empty() {
        errors.push(at.invalid("timeZone must be nil or non-empty string"));
        return;
    }
    let plain = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b))
    };
    if !name.split('/').all(plain) {
        errors.push(at.invalid(format!("unknown time zone {name}")));
        return;
    }
    if name.eq_ignore_ascii_case("local") {
        let rule = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.push(at.invalid(rule));
    } else if kedge_base::time::zone(name).is_none() {
        errors.push(at.invalid(format!("unknown time zone {name}")));
    }
}
