//! Metrics: histograms, and Prometheus' text form.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

/// Families of metrics, written out.
#[derive(Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a family.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A sample of the family.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        if !labels.is_empty() {
            let _ = write!(self.0, "{{{}}}", written(labels));
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A sample whose labels are written out already.
    pub fn line(&mut self, name: &str, labels: &str, value: f64) {
        let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
    }

    /// A family of one sample.
    pub fn single(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// All of it.
    pub fn into_text(self) -> String {
        self.0
    }
}

/// Labels as they are written between their braces.
pub fn written(labels: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (label, value) in labels {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let _ = write!(text, "{}{label}=\"{value}\"", if text.is_empty() { "" } else { "," });
    }
    text
}

/// A histogram of `N` buckets and the one above them all.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [f64; N],
    counts: [AtomicU64; N],
    above: AtomicU64,
    /// The sum, in millionths.
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    /// Nothing yet, with buckets up to each of `bounds`.
    pub fn new(bounds: &'static [f64; N]) -> Self {
        Self {
            bounds,
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            above: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts.get(at).unwrap_or(&self.above).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    /// Writes it out under a name and labels.
    pub fn show(&self, out: &mut Exposition, name: &str, labels: &str) {
        let mut total = 0;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            total += count.load(Ordering::Relaxed);
            out.line(&format!("{name}_bucket"), &format!("{labels},le=\"{}\"", bucket(*bound)), total as f64);
        }
        total += self.above.load(Ordering::Relaxed);
        out.line(&format!("{name}_bucket"), &format!("{labels},le=\"+Inf\""), total as f64);
        out.line(&format!("{name}_sum"), labels, self.sum.load(Ordering::Relaxed) as f64 / 1e6);
        out.line(&format!("{name}_count"), labels, total as f64);
    }
}

/// A bound as Go writes it.
fn bucket(bound: f64) -> String {
    if bound < 1e6 { bound.to_string() } else { format!("1e+{:02}", bound.log10().round()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut out = Exposition::default();
        out.sample("x", &[("a", "b\"c\\\n"), ("d", "e")], 1.5);
        out.sample("y", &[], 2.0);
        assert_eq!(out.into_text(), "x{a=\"b\\\"c\\\\\\n\",d=\"e\"} 1.5\ny 2\n");
    }
}
