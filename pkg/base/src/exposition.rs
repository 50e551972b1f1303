//! Metrics: histograms, and Prometheus' text form.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};

use parking_lot::Mutex;

/// Sets of labels of a family: names in them come from objects, of which there may be many over time.
const SERIES: usize = 2_048;

/// A part that has families of metrics of its own.
pub trait Shown: Send + Sync {
    /// Writes them. It must not wait for anything but short locks.
    fn show(&self, out: &mut Exposition);
}

static PARTS: LazyLock<Mutex<BTreeMap<&'static str, Weak<dyn Shown>>>> = LazyLock::new(Mutex::default);

/// Shows `part` from now on for as long as it lives, in place of another of that name: a family is written once.
pub fn list<T: Shown + 'static>(name: &'static str, part: &Arc<T>) {
    let part: Weak<T> = Arc::downgrade(part);
    PARTS.lock().insert(name, part);
}

/// Writes the families of all parts that are listed.
pub fn show_listed(out: &mut Exposition) {
    let parts: Vec<Arc<dyn Shown>> = PARTS.lock().values().filter_map(Weak::upgrade).collect();
    parts.iter().for_each(|part| part.show(out));
}

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
        let _ = if labels.is_empty() {
            writeln!(self.0, "{name} {value}")
        } else {
            writeln!(self.0, "{name}{{{labels}}} {value}")
        };
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
        // What is below nothing adds nothing.
        self.sum.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().chain([&self.above]).map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Writes it out under a name and labels.
    pub fn show(&self, out: &mut Exposition, name: &str, labels: &str) {
        let mut total = 0;
        let comma = if labels.is_empty() { "" } else { "," };
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            total += count.load(Ordering::Relaxed);
            out.line(&format!("{name}_bucket"), &format!("{labels}{comma}le=\"{}\"", bucket(*bound)), total as f64);
        }
        total += self.above.load(Ordering::Relaxed);
        out.line(&format!("{name}_bucket"), &format!("{labels}{comma}le=\"+Inf\""), total as f64);
        out.line(&format!("{name}_sum"), labels, self.sum.load(Ordering::Relaxed) as f64 / 1e6);
        out.line(&format!("{name}_count"), labels, total as f64);
    }
}

/// Counters by their labels, as [`written`] has them. Of a family there are only so many.
#[derive(Debug, Default)]
pub struct Counters(Mutex<BTreeMap<Box<str>, u64>>);

impl Counters {
    /// Counts one more.
    pub fn add(&self, labels: String) {
        let mut all = self.0.lock();
        if let Some(count) = all.get_mut(labels.as_str()) {
            *count += 1;
        } else if all.len() < SERIES {
            all.insert(labels.into(), 1);
        }
    }

    /// Writes the family.
    pub fn show(&self, out: &mut Exposition, name: &str, help: &str) {
        out.family(name, "counter", help);
        for (labels, count) in &*self.0.lock() {
            out.line(name, labels, *count as f64);
        }
    }
}

/// Histograms by their labels, as [`written`] has them. Of a family there are only so many.
#[derive(Debug)]
pub struct Histograms<const N: usize> {
    bounds: &'static [f64; N],
    all: Mutex<BTreeMap<Box<str>, Histogram<N>>>,
}

impl<const N: usize> Histograms<N> {
    /// None yet, with buckets up to each of `bounds`.
    pub fn new(bounds: &'static [f64; N]) -> Self {
        Self { bounds, all: Mutex::default() }
    }

    /// Counts a value.
    pub fn observe(&self, labels: String, value: f64) {
        let mut all = self.all.lock();
        if let Some(histogram) = all.get(labels.as_str()) {
            histogram.observe(value);
        } else if all.len() < SERIES {
            all.entry(labels.into()).or_insert_with(|| Histogram::new(self.bounds)).observe(value);
        }
    }

    /// Writes the family.
    pub fn show(&self, out: &mut Exposition, name: &str, help: &str) {
        out.family(name, "histogram", help);
        for (labels, histogram) in &*self.all.lock() {
            histogram.show(out, name, labels);
        }
    }
}

/// A bound as Go writes it.
fn bucket(bound: f64) -> String {
    match bound {
        // Those are whole powers of ten, or five of a small one.
        _ if bound >= 1e6 => format!("1e+{:02}", bound.log10().round()),
        _ if bound > 0.0 && bound < 1e-4 => {
            let power = bound.log10().floor();
            format!("{}e-{:02}", (bound / 10f64.powf(power)).round(), -power)
        }
        _ => bound.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_go_does() {
        assert_eq!(
            [0.0, 0.0000005, 0.001, 0.1, 1.0, 16.384, 1e9].map(bucket),
            ["0", "5e-07", "0.001", "0.1", "1", "16.384", "1e+09"]
        );
    }

    #[test]
    fn families_do_not_grow_for_ever() {
        let (counters, histograms) = (Counters::default(), Histograms::new(&[1.0]));
        for i in 0..SERIES + 10 {
            counters.add(written(&[("name", &i.to_string())]));
            histograms.observe(written(&[("name", &i.to_string())]), 2.0);
        }
        counters.add("name=\"7\"".to_owned());
        let mut out = Exposition::default();
        counters.show(&mut out, "x_total", "Some.");
        histograms.show(&mut out, "y", "Some.");
        let text = out.into_text();
        assert!(text.contains("x_total{name=\"7\"} 2\n") && text.contains("y_bucket{name=\"7\",le=\"1\"} 0\n"));
        assert_eq!(text.lines().filter(|line| line.starts_with("x_total{")).count(), SERIES);
        assert_eq!(text.lines().filter(|line| line.starts_with("y_count{")).count(), SERIES);
    }

    #[test]
    fn of_several_with_one_name_the_last_is_shown_while_it_lives() {
        struct Number(f64);
        impl Shown for Number {
            fn show(&self, out: &mut Exposition) {
                out.sample("a_test_of_exposition", &[], self.0);
            }
        }
        let shown = || {
            let mut out = Exposition::default();
            show_listed(&mut out);
            out.into_text().lines().find(|line| line.starts_with("a_test_of_exposition")).map(str::to_owned)
        };
        let (one, other) = (Arc::new(Number(1.0)), Arc::new(Number(2.0)));
        list("a test of exposition", &one);
        list("a test of exposition", &other);
        assert_eq!(shown().as_deref(), Some("a_test_of_exposition 2"));
        drop(other);
        assert_eq!(shown(), None);
    }

    #[test]
    fn labels_are_escaped() {
        let mut out = Exposition::default();
        out.sample("x", &[("a", "b\"c\\\n"), ("d", "e")], 1.5);
        out.sample("y", &[], 2.0);
        assert_eq!(out.into_text(), "x{a=\"b\\\"c\\\\\\n\",d=\"e\"} 1.5\ny 2\n");
    }
}
