//! `--kubelet-arg name=value`: what of upstream's kubelet flags can be set here.

use std::path::PathBuf;
use std::time::Duration;

use crate::eviction::Thresholds;

/// Upstream's default.
const MAX_PODS: u32 = 110;
/// Upstream's `evictionPressureTransitionPeriod`.
const TRANSITION: Duration = Duration::from_secs(300);
/// Upstream's `imageGCHighThresholdPercent` and `imageGCLowThresholdPercent`.
const IMAGE_GC_HIGH: u8 = 85;
const IMAGE_GC_LOW: u8 = 80;
/// Kernels of small boards run out of process ids far before that.
const MOST_PODS: u32 = 10_000;
const KNOWN: &str = "eviction-hard, eviction-pressure-transition-period, image-gc-high-threshold, \
                     image-gc-low-threshold, max-pods, pod-manifest-path";

/// The kubelet's own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeletArgs {
    /// Pods on this node.
    pub max_pods: u32,
    /// Below what the node is short of something.
    pub eviction_hard: Thresholds,
    /// How long a shortage counts after it was last seen.
    pub pressure_transition: Duration,
    /// Percent of its disk from which on unused images are removed; 100 removes none.
    pub image_gc_high: u8,
    /// Percent down to which they are removed.
    pub image_gc_low: u8,
    /// The directory or file of static pods, in place of the node's own.
    pub static_pods: Option<PathBuf>,
}

impl Default for KubeletArgs {
    fn default() -> Self {
        Self {
            max_pods: MAX_PODS,
            eviction_hard: Thresholds::default(),
            pressure_transition: TRANSITION,
            image_gc_high: IMAGE_GC_HIGH,
            image_gc_low: IMAGE_GC_LOW,
            static_pods: None,
        }
    }
}

/// An argument that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArgError {
    #[error("--kubelet-arg {0:?} is not of the form name=value")]
    Form(String),
    #[error("--kubelet-arg {0:?} is not supported; supported are {KNOWN}")]
    Unknown(String),
    #[error("--kubelet-arg {name}={value}: {why}")]
    Value { name: &'static str, value: String, why: String },
}

impl KubeletArgs {
    /// Reads the arguments; of one given twice the last counts.
    ///
    /// # Errors
    /// [`ArgError`] naming the argument.
    pub fn parse(arguments: &[String]) -> Result<Self, ArgError> {
        let mut args = Self::default();
        for argument in arguments {
            let (name, value) = argument.split_once('=').ok_or_else(|| ArgError::Form(argument.clone()))?;
            args.set(name.trim_start_matches("--").trim(), value.trim())?;
        }
        if args.image_gc_low >= args.image_gc_high {
            let value = args.image_gc_low.to_string();
            let why = format!("it must be lower than image-gc-high-threshold={}", args.image_gc_high);
            return Err(ArgError::Value { name: "image-gc-low-threshold", value, why });
        }
        Ok(args)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), ArgError> {
        let bad = |name, why: String| ArgError::Value { name, value: value.to_owned(), why };
        let percent = |name| {
            let number = value.parse::<u8>().ok().filter(|n| *n <= 100);
            number.ok_or_else(|| bad(name, "expected a number from 0 to 100".into()))
        };
        match name {
            "eviction-hard" => {
                self.eviction_hard = Thresholds::parse(value).map_err(|why| bad("eviction-hard", why))?;
            }
            "eviction-pressure-transition-period" => {
                self.pressure_transition = kedge_base::time::go_duration(value).ok_or_else(|| {
                    bad("eviction-pressure-transition-period", "expected a duration such as 5m or 1m30s".into())
                })?;
            }
            "image-gc-high-threshold" => self.image_gc_high = percent("image-gc-high-threshold")?,
            "image-gc-low-threshold" => self.image_gc_low = percent("image-gc-low-threshold")?,
            "max-pods" => {
                let number = value.parse().ok().filter(|n| (1..=MOST_PODS).contains(n));
                self.max_pods =
                    number.ok_or_else(|| bad("max-pods", format!("expected a number from 1 to {MOST_PODS}")))?;
            }
            "pod-manifest-path" | "static-pod-path" => {
                let path = Some(PathBuf::from(value)).filter(|path| path.is_absolute());
                self.static_pods =
                    Some(path.ok_or_else(|| bad("pod-manifest-path", "expected an absolute path".into()))?);
            }
            other => return Err(ArgError::Unknown(other.to_owned())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(arguments: &[&str]) -> Result<KubeletArgs, String> {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        KubeletArgs::parse(&arguments).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_given_counts_and_the_rest_is_the_default() {
        assert_eq!(parse(&[]).unwrap(), KubeletArgs::default());
        let args = parse(&["max-pods=5", "max-pods=7", "eviction-pressure-transition-period=1m30s"]).unwrap();
        assert_eq!((args.max_pods, args.pressure_transition), (7, Duration::from_secs(90)));
        assert_eq!(parse(&["image-gc-high-threshold=100"]).unwrap().image_gc_high, 100);
    }

    #[test]
    fn mistakes_are_named() {
        for (argument, named) in [
            ("max-pods", "name=value"),
            ("max-pods=many", "max-pods=many: expected a number from 1"),
            ("no-such=1", "\"no-such\" is not supported; supported are eviction-hard"),
            ("pod-manifest-path=manifests", "expected an absolute path"),
            ("image-gc-high-threshold=101", "from 0 to 100"),
            ("image-gc-low-threshold=90", "must be lower than image-gc-high-threshold=85"),
            ("eviction-pressure-transition-period=soon", "such as 5m"),
            ("eviction-hard=nonsense", "--kubelet-arg eviction-hard=nonsense: "),
        ] {
            let err = parse(&[argument]).unwrap_err();
            assert!(err.contains(named), "{argument}: {err}");
        }
    }
}
