//! Numbers: comparing across kinds, converting, and Go's texts of them.

use std::cmp::Ordering;

const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;

pub(super) fn double_with_int(double: f64, int: i64) -> Option<Ordering> {
    if double < -TWO_TO_63 {
        return Some(Ordering::Less);
    }
    if double > TWO_TO_63 {
        return Some(Ordering::Greater);
    }
    double.partial_cmp(&(int as f64))
}

pub(super) fn double_with_uint(double: f64, uint: u64) -> Option<Ordering> {
    if double < 0.0 {
        return Some(Ordering::Less);
    }
    if double > TWO_TO_64 {
        return Some(Ordering::Greater);
    }
    double.partial_cmp(&(uint as f64))
}

pub(super) fn int_with_uint(int: i64, uint: u64) -> Ordering {
    match i64::try_from(uint) {
        Ok(uint) => int.cmp(&uint),
        Err(_) => Ordering::Less,
    }
}

/// The whole part of a number, where it fits.
pub(crate) fn double_to_int(double: f64) -> Option<i64> {
    // Both ends are left out, as upstream leaves them out.
    (double > -TWO_TO_63 && double < TWO_TO_63).then_some(double as i64)
}

/// The whole part of a number, where it fits.
pub(crate) fn double_to_uint(double: f64) -> Option<u64> {
    (0.0..TWO_TO_64).contains(&double).then_some(double as u64)
}

/// A number as Go's `%g` shows it.
pub(crate) fn general(double: f64) -> String {
    if let Some(text) = special(double) {
        return text.to_owned();
    }
    let shown = format!("{double:e}");
    let exponent: i32 = shown.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    if double != 0.0 && !(-4..6).contains(&exponent) { pad_exponent(&shown) } else { format!("{double}") }
}

/// A number as Go's `%.<precision>e` shows it.
pub(crate) fn exponential(double: f64, precision: usize) -> String {
    match special(double) {
        Some(text) => text.to_owned(),
        None => pad_exponent(&format!("{double:.precision$e}")),
    }
}

fn special(double: f64) -> Option<&'static str> {
    match double {
        d if d.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

/// `1e6` as `1e+06`.
fn pad_exponent(shown: &str) -> String {
    let Some((mantissa, exponent)) = shown.split_once('e') else { return shown.to_owned() };
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
    format!("{mantissa}e{sign}{digits:0>2}")
}
