//! `--kubelet-arg name=value`: what of upstream's kubelet flags can be set here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::eviction::{Thresholds, periods};

/// Upstream's default.
const MAX_PODS: u32 = 110;
/// Upstream's `evictionPressureTransitionPeriod`.
const TRANSITION: Duration = Duration::from_secs(300);
/// Upstream's `imageGCHighThresholdPercent` and `imageGCLowThresholdPercent`.
const IMAGE_GC_HIGH: u8 = 85;
const IMAGE_GC_LOW: u8 = 80;
/// Kernels of small boards run out of process ids far before that.
const MOST_PODS: u32 = 10_000;
const KNOWN: &str = "eviction-hard, eviction-max-pod-grace-period, eviction-minimum-reclaim, \
                     eviction-pressure-transition-period, eviction-soft, eviction-soft-grace-period, \
                     image-gc-high-threshold, image-gc-low-threshold, image-maximum-gc-age, max-parallel-image-pulls, \
                     max-pods, maximum-dead-containers, maximum-dead-containers-per-container, \
                     minimum-container-ttl-duration, minimum-image-ttl-duration, pod-manifest-path, root-dir, \
                     serialize-image-pulls";
/// Upstream's `imageMinimumGCAge`.
const IMAGE_MIN_AGE: Duration = Duration::from_secs(120);

/// The kubelet's own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubeletArgs {
    /// Pods on this node.
    pub max_pods: u32,
    /// Below what the node is short of something.
    pub eviction_hard: Thresholds,
    /// Below what it is short of something when that lasts.
    pub eviction_soft: Thresholds,
    /// How long it has to last, by signal.
    pub eviction_soft_grace: BTreeMap<&'static str, Duration>,
    /// The longest grace of pods that go because of a soft threshold, in seconds.
    pub eviction_max_pod_grace: i64,
    /// How much more than the threshold is reclaimed.
    pub eviction_minimum_reclaim: Thresholds,
    /// How long a shortage counts after it was last seen.
    pub pressure_transition: Duration,
    /// Percent of its disk from which on unused images are removed; 100 removes none.
    pub image_gc_high: u8,
    /// Percent down to which they are removed.
    pub image_gc_low: u8,
    /// An image must have been there so long before it is removed.
    pub image_min_age: Duration,
    /// An image that was not used for so long is removed; `None` removes none for its age.
    pub image_max_age: Option<Duration>,
    /// Pulls at a time; `None` for no limit.
    pub parallel_pulls: Option<usize>,
    /// Dead attempts that are kept of each container, and of all; less than none is no limit.
    pub dead_per_container: i64,
    pub dead_containers: i64,
    /// A dead container is kept so long.
    pub container_min_age: Duration,
    /// The directory or file of static pods, in place of the node's own.
    pub static_pods: Option<PathBuf>,
    /// Where pods' volumes are kept, in place of the node's own.
    pub root_dir: Option<PathBuf>,
}

impl Default for KubeletArgs {
    fn default() -> Self {
        Self {
            max_pods: MAX_PODS,
            eviction_hard: Thresholds::default(),
            eviction_soft: Thresholds::none(),
            eviction_soft_grace: BTreeMap::new(),
            eviction_max_pod_grace: 0,
            eviction_minimum_reclaim: Thresholds::none(),
            pressure_transition: TRANSITION,
            image_min_age: IMAGE_MIN_AGE,
            image_max_age: None,
            parallel_pulls: Some(1),
            dead_per_container: 1,
            dead_containers: -1,
            container_min_age: Duration::ZERO,
            image_gc_high: IMAGE_GC_HIGH,
            image_gc_low: IMAGE_GC_LOW,
            static_pods: None,
            root_dir: None,
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
        let mut pulls = Pulls::default();
        for argument in arguments {
            let (name, value) = argument.split_once('=').ok_or_else(|| ArgError::Form(argument.clone()))?;
            let (name, value) = (name.trim_start_matches("--").trim(), value.trim());
            if !pulls.set(name, value)? {
                args.set(name, value)?;
            }
        }
        args.parallel_pulls = pulls.at_a_time()?;
        args.check()?;
        Ok(args)
    }

    /// What only shows when all is known.
    fn check(&self) -> Result<(), ArgError> {
        let args = self;
        for signal in [
            "memory.available",
            "nodefs.available",
            "nodefs.inodesFree",
            "imagefs.available",
            "imagefs.inodesFree",
            "pid.available",
        ] {
            let document = args.eviction_soft.document();
            if document.get(signal).is_some() && !args.eviction_soft_grace.contains_key(signal) {
                let value = document[signal].as_str().unwrap_or_default().to_owned();
                let why = format!("grace period must be specified for the soft eviction threshold {signal}");
                return Err(ArgError::Value { name: "eviction-soft", value, why });
            }
        }
        if args.image_gc_low >= args.image_gc_high {
            let value = args.image_gc_low.to_string();
            let why = format!("it must be lower than image-gc-high-threshold={}", args.image_gc_high);
            return Err(ArgError::Value { name: "image-gc-low-threshold", value, why });
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), ArgError> {
        let bad = |name, why: String| ArgError::Value { name, value: value.to_owned(), why };
        let percent = |name| {
            let number = value.parse::<u8>().ok().filter(|n| *n <= 100);
            number.ok_or_else(|| bad(name, "expected a number from 0 to 100".into()))
        };
        let duration = |name| {
            let period = kedge_base::time::go_duration(value);
            period.ok_or_else(|| bad(name, "expected a duration such as 5m or 1m30s".into()))
        };
        let whole = |name| value.parse::<i64>().map_err(|_| bad(name, "expected a whole number".into()));
        match name {
            "eviction-soft" => {
                self.eviction_soft = Thresholds::parse(value).map_err(|why| bad("eviction-soft", why))?;
            }
            "eviction-soft-grace-period" => {
                self.eviction_soft_grace = periods(value).map_err(|why| bad("eviction-soft-grace-period", why))?;
            }
            "eviction-minimum-reclaim" => {
                let read = Thresholds::parse_reclaim(value);
                self.eviction_minimum_reclaim = read.map_err(|why| bad("eviction-minimum-reclaim", why))?;
            }
            "eviction-max-pod-grace-period" => {
                self.eviction_max_pod_grace = whole("eviction-max-pod-grace-period")?;
            }
            "minimum-image-ttl-duration" => self.image_min_age = duration("minimum-image-ttl-duration")?,
            "image-maximum-gc-age" => {
                let age = duration("image-maximum-gc-age")?;
                self.image_max_age = Some(age).filter(|age| !age.is_zero());
            }
            "maximum-dead-containers-per-container" => {
                self.dead_per_container = whole("maximum-dead-containers-per-container")?;
            }
            "maximum-dead-containers" => self.dead_containers = whole("maximum-dead-containers")?,
            "minimum-container-ttl-duration" => self.container_min_age = duration("minimum-container-ttl-duration")?,
            "eviction-hard" => {
                self.eviction_hard = Thresholds::parse(value).map_err(|why| bad("eviction-hard", why))?;
            }
            "eviction-pressure-transition-period" => {
                self.pressure_transition = kedge_base::time::go_duration(value).ok_or_else(|| {
                    bad("eviction-pressure-transition-period", "expected a duration such as 5m or 1m30s".into())
                })?;
            }
            "root-dir" => {
                let path = Some(PathBuf::from(value)).filter(|path| path.is_absolute() && path.parent().is_some());
                self.root_dir = Some(path.ok_or_else(|| bad("root-dir", "expected an absolute path".into()))?);
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

/// How many images are pulled at a time: two arguments that mean something together.
#[derive(Default)]
struct Pulls {
    serial: Option<bool>,
    most: Option<usize>,
}

impl Pulls {
    /// Whether the argument is one of them.
    fn set(&mut self, name: &str, value: &str) -> Result<bool, ArgError> {
        let bad = |name, why: &str| ArgError::Value { name, value: value.to_owned(), why: why.into() };
        match name {
            "serialize-image-pulls" => {
                let serial = value.parse().map_err(|_| bad("serialize-image-pulls", "expected true or false"))?;
                self.serial = Some(serial);
            }
            "max-parallel-image-pulls" => {
                let most = value.parse().ok().filter(|most| *most > 0);
                let most = most.ok_or_else(|| bad("max-parallel-image-pulls", "expected a number from 1 on"))?;
                self.most = Some(most);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn at_a_time(&self) -> Result<Option<usize>, ArgError> {
        match (self.serial, self.most) {
            (Some(true), Some(most)) if most > 1 => Err(ArgError::Value {
                name: "max-parallel-image-pulls",
                value: most.to_string(),
                why: "it must be 1 unless serialize-image-pulls=false".into(),
            }),
            (Some(false), most) => Ok(most),
            // Upstream pulls in parallel, too, when it is told how many at a time.
            (None, Some(most)) => Ok(Some(most)),
            _ => Ok(Some(1)),
        }
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
    fn pulls_are_one_at_a_time_unless_told_otherwise() {
        let pulls = |arguments: &[&str]| parse(arguments).map(|args| args.parallel_pulls);
        assert_eq!(pulls(&[]), Ok(Some(1)));
        assert_eq!(pulls(&["serialize-image-pulls=false"]), Ok(None));
        assert_eq!(pulls(&["serialize-image-pulls=false", "max-parallel-image-pulls=3"]), Ok(Some(3)));
        assert!(pulls(&["serialize-image-pulls=true", "max-parallel-image-pulls=3"]).is_err());
    }

    #[test]
    fn mistakes_are_named() {
        for (argument, named) in [
            ("max-pods", "name=value"),
            ("max-pods=many", "max-pods=many: expected a number from 1"),
            ("no-such=1", "\"no-such\" is not supported; supported are eviction-hard"),
            (
                "eviction-soft=memory.available<1Gi",
                "grace period must be specified for the soft eviction threshold memory.available",
            ),
            ("eviction-soft-grace-period=x", "signal=duration"),
            ("max-parallel-image-pulls=0", "from 1 on"),
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
