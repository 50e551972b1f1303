//! Which standard a namespace holds its pods to, as its labels say.

use std::fmt;

use kedge_meta::field::{Error, ErrorList, Path};
use serde::Deserialize;
use serde_json::{Map, Value};

const PREFIX: &str = "pod-security.kubernetes.io/";

/// A standard. The later, the stricter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// The minor version of Kubernetes that a standard is of; the largest is the latest.
pub(super) type Minor = u32;
pub(super) const LATEST: Minor = Minor::MAX;

/// A standard as of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standard {
    pub level: Level,
    pub minor: Minor,
}

/// `PodSecurityDefaults`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

const NONE: Standard = Standard { level: Level::Privileged, minor: LATEST };

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        if self.minor == LATEST { write!(f, "{level}:latest") } else { write!(f, "{level}:v1.{}", self.minor) }
    }
}

/// What is refused, noted for the audit, and warned about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub enforce: Standard,
    pub audit: Standard,
    pub warn: Standard,
}

impl Policy {
    /// What the labels of a namespace say, and what is wrong with them. What cannot be read is refused strictly, and noted and warned
    /// about not at all.
    pub(super) fn of(labels: Option<&Map<String, Value>>, defaults: Self) -> (Self, ErrorList) {
        let mut policy = defaults;
        let mut errors = ErrorList::new();
        let mut reader = Labels { labels, errors: &mut errors };
        let enforced = reader.read("enforce", &mut policy.enforce, Level::Restricted);
        reader.read("audit", &mut policy.audit, Level::Privileged);
        reader.read("warn", &mut policy.warn, Level::Privileged);
        // What is enforced is warned about as well, in workloads too.
        let silent = reader.text("warn").is_none();
        if silent && enforced && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if reader.text("warn-version").is_none() {
                policy.warn.minor = policy.enforce.minor;
            }
        }
        (policy, errors)
    }

    /// What counts where nobody says anything: nothing is asked of pods.
    pub(super) const OPEN: Self = Self { enforce: NONE, audit: NONE, warn: NONE };

    /// What a configuration has for namespaces that say nothing.
    ///
    /// # Errors
    /// What is wrong with it, by path.
    pub(super) fn configured(defaults: &Defaults) -> Result<Self, String> {
        let mut policy = Self::OPEN;
        let mut wrong = Vec::new();
        for (mode, level, version, standard) in [
            ("enforce", &defaults.enforce, &defaults.enforce_version, &mut policy.enforce),
            ("audit", &defaults.audit, &defaults.audit_version, &mut policy.audit),
            ("warn", &defaults.warn, &defaults.warn_version, &mut policy.warn),
        ] {
            match (level.as_str(), parse_level(level)) {
                ("", _) => {}
                (_, Some(level)) => standard.level = level,
                (text, None) => wrong.push(format!(
                    "defaults.{mode}: Invalid value: {text:?}: must be one of privileged, baseline, restricted"
                )),
            }
            match (version.as_str(), parse_version(version)) {
                ("", _) => {}
                (_, Some(minor)) => standard.minor = minor,
                (text, None) => wrong
                    .push(format!("defaults.{mode}-version: Invalid value: {text:?}: must be \"latest\" or \"v1.x\"")),
            }
        }
        if wrong.is_empty() { Ok(policy) } else { Err(wrong.join(", ")) }
    }

    /// Whether nothing is asked of pods.
    pub(super) fn is_open(&self) -> bool {
        [self.enforce, self.audit, self.warn].iter().all(|standard| standard.level == Level::Privileged)
    }
}

struct Labels<'a> {
    labels: Option<&'a Map<String, Value>>,
    errors: &'a mut ErrorList,
}

impl Labels<'_> {
    fn text(&self, mode: &str) -> Option<&str> {
        self.labels?.get(&format!("{PREFIX}{mode}"))?.as_str()
    }

    fn wrong(&mut self, mode: &str, value: &str, why: &str) {
        let path = Path::new("metadata").child("labels").key(&format!("{PREFIX}{mode}"));
        self.errors.push(Error::invalid(&path, value, why));
    }

    /// Reads level and version of a mode. Returns whether a level is there that can be read.
    fn read(&mut self, mode: &str, standard: &mut Standard, otherwise: Level) -> bool {
        let level = self.text(mode).map(str::to_owned);
        let known = level.as_deref().map(parse_level);
        match (&level, known) {
            (Some(_), Some(Some(level))) => standard.level = level,
            (Some(text), _) => {
                standard.level = otherwise;
                self.wrong(mode, text, "must be one of privileged, baseline, restricted");
            }
            (None, _) => {}
        }
        let versioned = format!("{mode}-version");
        if let Some(text) = self.text(&versioned).map(str::to_owned) {
            match parse_version(&text) {
                Some(minor) => standard.minor = minor,
                None => {
                    standard.minor = LATEST;
                    self.wrong(&versioned, &text, "must be \"latest\" or \"v1.x\"");
                }
            }
        }
        matches!(known, Some(Some(_)))
    }
}

fn parse_level(text: &str) -> Option<Level> {
    match text {
        "privileged" => Some(Level::Privileged),
        "baseline" => Some(Level::Baseline),
        "restricted" => Some(Level::Restricted),
        _ => None,
    }
}

pub(super) fn parse_version(text: &str) -> Option<Minor> {
    if text == "latest" {
        return Some(LATEST);
    }
    let digits = text.strip_prefix("v1.")?;
    let canonical = digits == "0" || !digits.starts_with('0');
    let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // No version is that high: larger than every number is as good as the latest but one.
    (canonical && all).then(|| digits.parse().unwrap_or(LATEST - 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn of(labels: Value) -> (String, Vec<String>) {
        let labels = labels.as_object().unwrap().iter().map(|(k, v)| (format!("{PREFIX}{k}"), v.clone())).collect();
        let (policy, errors) = Policy::of(Some(&labels), Policy::OPEN);
        let shown = format!("{} {} {}", policy.enforce, policy.audit, policy.warn);
        (shown, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn labels_say_what_is_asked() {
        assert!(Policy::of(None, Policy::OPEN).0.is_open());
        for (labels, shown) in [
            (json!({}), "privileged:latest privileged:latest privileged:latest"),
            (json!({"enforce": "baseline"}), "baseline:latest privileged:latest baseline:latest"),
            (
                json!({"enforce": "baseline", "enforce-version": "v1.33"}),
                "baseline:v1.33 privileged:latest baseline:v1.33",
            ),
            (
                json!({"enforce": "baseline", "enforce-version": "v1.3", "warn-version": "v1.4"}),
                "baseline:v1.3 privileged:latest baseline:v1.4",
            ),
            (
                json!({"enforce": "restricted", "warn": "privileged"}),
                "restricted:latest privileged:latest privileged:latest",
            ),
            (json!({"audit": "restricted"}), "privileged:latest restricted:latest privileged:latest"),
        ] {
            assert_eq!(of(labels.clone()), (shown.to_owned(), Vec::new()), "{labels}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_strictly_and_named() {
        let (shown, errors) = of(json!({"enforce": "bogus", "warn": "x", "audit-version": "1.36"}));
        assert_eq!(shown, "restricted:latest privileged:latest privileged:latest");
        let key = |mode: &str| format!("metadata.labels[{PREFIX}{mode}]: Invalid value:");
        assert_eq!(
            errors,
            [
                format!("{} \"bogus\": must be one of privileged, baseline, restricted", key("enforce")),
                format!("{} \"1.36\": must be \"latest\" or \"v1.x\"", key("audit-version")),
                format!("{} \"x\": must be one of privileged, baseline, restricted", key("warn")),
            ]
        );
        for bad in ["v1", "v1.", "v1.01", "v2.0", "v1.x", "v1.-1", ""] {
            assert_eq!(parse_version(bad), None, "{bad}");
        }
        assert_eq!(parse_version("v1.99999999999999999999"), Some(LATEST - 1));
    }
}
