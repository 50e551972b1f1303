//! The syntax of cron schedules, as upstream's parser has it. Invariant: it only judges, it computes no times.

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const NAMED: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

struct Field {
    low: u32,
    high: u32,
    names: &'static [&'static str],
    /// The number of the first name.
    first: u32,
}

const FIELDS: [Field; 5] = [
    Field { low: 0, high: 59, names: &[], first: 0 },
    Field { low: 0, high: 23, names: &[], first: 0 },
    Field { low: 1, high: 31, names: &[], first: 0 },
    Field { low: 1, high: 12, names: MONTHS, first: 1 },
    Field { low: 0, high: 6, names: DAYS, first: 0 },
];

/// What is wrong with a schedule, in upstream's words.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let rest = ["TZ=", "CRON_TZ="].iter().find_map(|prefix| schedule.strip_prefix(prefix));
    let schedule = rest.map_or(schedule, |rest| rest.split_once(' ').map_or("", |(_, schedule)| schedule).trim());
    if schedule.is_empty() {
        return Err("empty spec string".into());
    }
    if schedule.starts_with('@') {
        return named(schedule);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    fields.iter().zip(&FIELDS).try_for_each(|(text, field)| text.split(',').try_for_each(|part| range(part, field)))
}

fn named(schedule: &str) -> Result<(), String> {
    if NAMED.contains(&schedule) {
        return Ok(());
    }
    match schedule.strip_prefix("@every ") {
        Some(period) if kedge_base::time::go_duration(period).is_some() => Ok(()),
        Some(period) => Err(format!("failed to parse duration {schedule}: time: invalid duration {period:?}")),
        None => Err(format!("unrecognized descriptor: {schedule}")),
    }
}

fn range(part: &str, field: &Field) -> Result<(), String> {
    let mut steps = part.split('/');
    let (span, step) = (steps.next().unwrap_or_default(), steps.next());
    if steps.next().is_some() {
        return Err(format!("too many slashes: {part}"));
    }
    let mut ends = span.split('-');
    let (start, end) = (ends.next().unwrap_or_default(), ends.next());
    if ends.next().is_some() {
        return Err(format!("too many hyphens: {part}"));
    }
    let (low, high) = if matches!(start, "*" | "?") {
        (field.low, field.high)
    } else {
        let low = number(start, field)?;
        let high = match (end, step) {
            (Some(end), _) => number(end, field)?,
            (None, Some(_)) => field.high,
            (None, None) => low,
        };
        (low, high)
    };
    if step.map(plain_number).transpose()? == Some(0) {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    if low < field.low {
        return Err(format!("beginning of range ({low}) below minimum ({}): {part}", field.low));
    }
    if high > field.high {
        return Err(format!("end of range ({high}) above maximum ({}): {part}", field.high));
    }
    if low > high {
        return Err(format!("beginning of range ({low}) beyond end of range ({high}): {part}"));
    }
    Ok(())
}

fn number(text: &str, field: &Field) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    match field.names.iter().position(|name| *name == lower).and_then(|at| u32::try_from(at).ok()) {
        Some(at) => Ok(at + field.first),
        None => plain_number(text),
    }
}

fn plain_number(text: &str) -> Result<u32, String> {
    let told = |why: &str| format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: {why}");
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => u32::try_from(number).map_err(|_| told("value out of range")),
        Err(_) => Err(told("invalid syntax")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn schedules_are_judged() {
        for good in ["* * * * *", "*/5 0-23/2 1,15 jan-mar MON", "@daily", "@every 1h30m", "0 0 ? * 0"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * * * 5-1", "beginning of range (5) beyond end of range (1): 5-1"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(check(bad), Err(why.to_owned()), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_schedule_makes_it_panic(text in ".{0,40}") {
            let _ = check(&text);
        }
    }
}
