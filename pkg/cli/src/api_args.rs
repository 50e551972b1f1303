//! `--kube-apiserver-arg`: settings that upstream's API server has as flags.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use kedge_base::time::go_duration;

/// A setting that is understood.
struct Known {
    name: &'static str,
    /// What its value looks like.
    form: &'static str,
    check: fn(&str) -> Result<(), String>,
}

/// The version of the API that is not served by default and can be.
const STORAGE_MIGRATION: &str = "storagemigration.k8s.io/v1beta1";

/// Types of authorizers.
const MODES: [&str; 5] = ["AlwaysAllow", "AlwaysDeny", "Webhook", "RBAC", "Node"];
/// What is not said beside a file of authorizers.
const AUTHORIZATION: [&str; 5] = [
    "authorization-mode",
    "authorization-webhook-cache-authorized-ttl",
    "authorization-webhook-cache-unauthorized-ttl",
    "authorization-webhook-config-file",
    "authorization-webhook-version",
];

const KNOWN: [Known; 52] = [
    Known { name: "admission-control-config-file", form: "FILE", check: given },
    Known { name: "anonymous-auth", form: "true|false", check: parses::<bool> },
    Known { name: "api-audiences", form: "AUDIENCE[,AUDIENCE]", check: given },
    Known { name: "audit-log-compress", form: "true|false", check: parses::<bool> },
    Known { name: "audit-log-format", form: "json|legacy", check: one_of::<LogFormat> },
    Known { name: "audit-log-maxage", form: "DAYS", check: parses::<u32> },
    Known { name: "audit-log-maxbackup", form: "COUNT", check: parses::<u32> },
    Known { name: "audit-log-maxsize", form: "MEGABYTES", check: parses::<u32> },
    Known { name: "audit-log-mode", form: "blocking|batch", check: one_of::<LogMode> },
    Known { name: "audit-log-path", form: "FILE", check: given },
    Known { name: "audit-policy-file", form: "FILE", check: given },
    Known { name: "audit-webhook-batch-buffer-size", form: "COUNT", check: count },
    Known { name: "audit-webhook-batch-max-size", form: "COUNT", check: count },
    Known { name: "audit-webhook-batch-max-wait", form: "DURATION", check: duration },
    Known { name: "audit-webhook-batch-throttle-burst", form: "COUNT", check: count },
    Known { name: "audit-webhook-batch-throttle-qps", form: "COUNT", check: count },
    Known { name: "audit-webhook-config-file", form: "FILE", check: given },
    Known { name: "audit-webhook-initial-backoff", form: "DURATION", check: duration },
    Known { name: "audit-webhook-mode", form: "batch", check: one_of::<WebhookMode> },
    Known { name: "authentication-config", form: "FILE", check: given },
    Known { name: "authentication-token-webhook-cache-ttl", form: "DURATION", check: duration },
    Known { name: "authentication-token-webhook-config-file", form: "FILE", check: given },
    Known { name: "authentication-token-webhook-version", form: "v1|v1beta1", check: one_of::<ReviewVersion> },
    Known { name: "authorization-config", form: "FILE", check: given },
    Known { name: "authorization-mode", form: "MODE[,MODE]", check: given },
    Known { name: "authorization-webhook-cache-authorized-ttl", form: "DURATION", check: duration },
    Known { name: "authorization-webhook-cache-unauthorized-ttl", form: "DURATION", check: duration },
    Known { name: "authorization-webhook-config-file", form: "FILE", check: given },
    Known { name: "authorization-webhook-version", form: "v1|v1beta1", check: one_of::<ReviewVersion> },
    Known { name: "disable-admission-plugins", form: "NAME[,NAME]", check: given },
    Known { name: "enable-admission-plugins", form: "NAME[,NAME]", check: given },
    Known { name: "enable-priority-and-fairness", form: "true|false", check: parses::<bool> },
    Known { name: "encryption-provider-config", form: "FILE", check: given },
    Known { name: "max-mutating-requests-inflight", form: "COUNT", check: count },
    Known { name: "max-requests-inflight", form: "COUNT", check: count },
    Known { name: "oidc-ca-file", form: "FILE", check: given },
    Known { name: "oidc-client-id", form: "ID", check: given },
    Known { name: "oidc-groups-claim", form: "CLAIM", check: given },
    Known { name: "oidc-groups-prefix", form: "PREFIX", check: anything },
    Known { name: "oidc-issuer-url", form: "https://ISSUER", check: https },
    Known { name: "oidc-required-claim", form: "CLAIM=VALUE", check: claims },
    Known { name: "oidc-signing-algs", form: "ALGORITHM[,ALGORITHM]", check: given },
    Known { name: "oidc-username-claim", form: "CLAIM", check: given },
    Known { name: "oidc-username-prefix", form: "PREFIX", check: anything },
    Known { name: "runtime-config", form: "VERSION[=true|false]", check: versions },
    Known { name: "service-account-extend-token-expiration", form: "true|false", check: given },
    Known { name: "service-account-issuer", form: "ISSUER", check: given },
    Known { name: "service-account-key-file", form: "FILE", check: given },
    Known { name: "service-account-lookup", form: "true", check: given },
    Known { name: "service-account-max-token-expiration", form: "DURATION", check: given },
    Known { name: "service-account-signing-key-file", form: "FILE", check: given },
    Known { name: "token-auth-file", form: "FILE", check: given },
];

/// The settings that are given, in their order.
#[derive(Debug, Clone, Copy)]
pub struct ApiServerArgs<'a>(pub &'a [String]);

impl<'a> ApiServerArgs<'a> {
    /// Checks all of them.
    ///
    /// # Errors
    /// Which is wrong, and what would be right.
    pub fn check(self) -> Result<(), String> {
        for setting in self.0 {
            let (name, value) = setting.split_once('=').unwrap_or((setting, ""));
            let Some(known) = KNOWN.iter().find(|known| known.name == name.trim_start_matches('-')) else {
                let all: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
                return Err(format!(
                    "--kube-apiserver-arg {setting:?} is not supported; these settings are: {}",
                    all.join(", ")
                ));
            };
            (known.check)(value)
                .map_err(|why| format!("--kube-apiserver-arg {setting:?}: {why}; give {name}={}", known.form))?;
        }
        self.check_issuers()?;
        self.check_modes().map_err(|why| format!("--kube-apiserver-arg {why}"))
    }

    /// Checks what concerns several of them.
    fn check_issuers(self) -> Result<(), String> {
        let is_given = |name| self.values(name).next().is_some();
        let [issuer, client, file] = ["oidc-issuer-url", "oidc-client-id", "authentication-config"].map(is_given);
        if issuer != client {
            return Err("--kube-apiserver-arg oidc-issuer-url and oidc-client-id are given together".into());
        }
        if file && issuer {
            return Err("--kube-apiserver-arg authentication-config and oidc-issuer-url exclude each other".into());
        }
        if file && is_given("anonymous-auth") {
            return Err("--kube-apiserver-arg anonymous-auth is part of authentication-config, which is given".into());
        }
        Ok(())
    }

    /// Checks who decides what users may do; upstream's rules, in its words.
    fn check_modes(self) -> Result<(), String> {
        let is_given = |name| self.values(name).next().is_some();
        if is_given("authorization-config") {
            if AUTHORIZATION.iter().any(|name| is_given(name)) {
                return Err("authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined".into());
            }
            return Ok(());
        }
        let (modes, webhook) = (self.modes(), is_given("authorization-webhook-config-file"));
        if let Some(mode) = modes.iter().find(|mode| !MODES.contains(&mode.as_str())) {
            let all = MODES.join(",");
            return Err(format!("authorization-mode {mode:?} is not a valid mode; these are: {all}"));
        }
        let asks = modes.iter().any(|mode| mode == "Webhook");
        if asks && !webhook {
            return Err("authorization-mode Webhook's authorization config file not passed; give authorization-webhook-config-file=FILE".into());
        }
        if webhook && !asks {
            return Err("cannot specify authorization-webhook-config-file without mode Webhook".into());
        }
        let repeated = modes.iter().enumerate().any(|(at, mode)| modes[..at].contains(mode));
        if repeated { Err(format!("authorization-mode {modes:?} has mode specified more than once")) } else { Ok(()) }
    }

    fn modes(self) -> Vec<String> {
        let given = self.values("authorization-mode").flat_map(|modes| modes.split(','));
        given.map(|mode| mode.trim().to_owned()).collect()
    }

    /// Settings of authorization; what is not said is none.
    pub fn authorization(self) -> AuthorizationArgs {
        AuthorizationArgs {
            file: self.file("authorization-config"),
            modes: self.modes(),
            webhook: self.file("authorization-webhook-config-file"),
            version: self.last("authorization-webhook-version"),
            authorized: self.duration("authorization-webhook-cache-authorized-ttl"),
            unauthorized: self.duration("authorization-webhook-cache-unauthorized-ttl"),
        }
    }

    /// Settings of authentication.
    pub fn authentication(self) -> AuthenticationArgs {
        let text = |name| self.values(name).next_back().unwrap_or_default().to_owned();
        let list = |name| self.values(name).flat_map(|all| all.split(',')).map(|one| one.trim().to_owned()).collect();
        let required = self.values("oidc-required-claim").flat_map(|all| all.split(',')).filter_map(claim);
        let oidc = self.values("oidc-issuer-url").next_back().map(|issuer| OidcArgs {
            issuer: issuer.to_owned(),
            client: text("oidc-client-id"),
            username_claim: text("oidc-username-claim"),
            username_prefix: text("oidc-username-prefix"),
            groups_claim: text("oidc-groups-claim"),
            groups_prefix: text("oidc-groups-prefix"),
            required: required.collect(),
            algorithms: list("oidc-signing-algs"),
            authority: self.file("oidc-ca-file"),
        });
        AuthenticationArgs {
            file: self.file("authentication-config"),
            oidc,
            tokens: self.file("token-auth-file"),
            anonymous: self.last("anonymous-auth").unwrap_or(false),
            webhook: self.file("authentication-token-webhook-config-file").map(|file| TokenWebhookArgs {
                file,
                // As upstream, when nobody says.
                version: self.last("authentication-token-webhook-version").unwrap_or_else(|| "v1beta1".to_owned()),
                kept_for: self.duration("authentication-token-webhook-cache-ttl").unwrap_or(Duration::from_secs(120)),
            }),
        }
    }

    /// The values of a setting, those that are given last at the end.
    fn values(self, name: &'static str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.0.iter().filter_map(move |setting| {
            let (given, value) = setting.split_once('=')?;
            (given.trim_start_matches('-') == name).then_some(value)
        })
    }

    /// The last value of a setting, where it has one.
    fn last<T: FromStr>(self, name: &'static str) -> Option<T> {
        self.values(name).next_back()?.parse().ok()
    }

    /// The user's own encryption configuration.
    pub fn encryption_config(self) -> Option<PathBuf> {
        self.values("encryption-provider-config").next_back().map(PathBuf::from)
    }

    /// What is said to admission plugins.
    pub fn admission_config(self) -> Option<PathBuf> {
        self.file("admission-control-config-file")
    }

    /// The admission plugins to turn on, and those to turn off.
    pub fn admission_plugins(self) -> (Vec<String>, Vec<String>) {
        let named =
            |name| self.values(name).flat_map(|names| names.split(',')).map(|name| name.trim().to_owned()).collect();
        (named("enable-admission-plugins"), named("disable-admission-plugins"))
    }

    /// The file of a setting.
    fn file(self, name: &'static str) -> Option<PathBuf> {
        self.values(name).next_back().map(PathBuf::from)
    }

    /// Settings of the audit.
    pub fn audit(self) -> AuditArgs {
        AuditArgs {
            policy: self.file("audit-policy-file"),
            log: self.values("audit-log-path").next_back().map(str::to_owned),
            size: self.last("audit-log-maxsize"),
            backups: self.last("audit-log-maxbackup"),
            days: self.last("audit-log-maxage"),
            compress: self.last("audit-log-compress").unwrap_or_default(),
            legacy: self.values("audit-log-format").next_back() == Some("legacy"),
            webhook: self.file("audit-webhook-config-file"),
            buffer: self.last("audit-webhook-batch-buffer-size"),
            batch: self.last("audit-webhook-batch-max-size"),
            wait: self.duration("audit-webhook-batch-max-wait"),
            qps: self.last("audit-webhook-batch-throttle-qps"),
            burst: self.last("audit-webhook-batch-throttle-burst"),
            backoff: self.duration("audit-webhook-initial-backoff"),
        }
    }

    fn duration(self, name: &'static str) -> Option<Duration> {
        self.values(name).next_back().and_then(go_duration)
    }

    /// How many requests are served at a time, of those that read and of those that write.
    pub fn in_flight(self) -> (Option<usize>, Option<usize>) {
        (self.last("max-requests-inflight"), self.last("max-mutating-requests-inflight"))
    }

    /// Whether priority and fairness is on.
    pub fn fairness(self) -> bool {
        self.last("enable-priority-and-fairness").unwrap_or(true)
    }

    /// Whether migrations of storage versions are served and carried out, which they are not by default.
    pub fn storage_migration(self) -> bool {
        let settings = self.values("runtime-config").flat_map(|versions| versions.split(','));
        settings.filter_map(|one| version(one).ok()).next_back().unwrap_or(false)
    }
}

/// What is said of the audit; what is not, is as usual.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditArgs {
    pub policy: Option<PathBuf>,
    pub log: Option<String>,
    pub size: Option<u64>,
    pub backups: Option<usize>,
    pub days: Option<u64>,
    pub compress: bool,
    pub legacy: bool,
    pub webhook: Option<PathBuf>,
    pub buffer: Option<usize>,
    pub batch: Option<usize>,
    pub wait: Option<Duration>,
    pub qps: Option<f64>,
    pub burst: Option<u32>,
    pub backoff: Option<Duration>,
}

/// Who is believed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuthenticationArgs {
    pub file: Option<PathBuf>,
    pub oidc: Option<OidcArgs>,
    pub tokens: Option<PathBuf>,
    pub anonymous: bool,
    pub webhook: Option<TokenWebhookArgs>,
}

/// A webhook that knows tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenWebhookArgs {
    pub file: PathBuf,
    pub version: String,
    pub kept_for: Duration,
}

/// Who decides what users may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizationArgs {
    pub file: Option<PathBuf>,
    pub modes: Vec<String>,
    pub webhook: Option<PathBuf>,
    pub version: Option<String>,
    pub authorized: Option<Duration>,
    pub unauthorized: Option<Duration>,
}

/// An issuer of tokens.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OidcArgs {
    pub issuer: String,
    pub client: String,
    pub username_claim: String,
    pub username_prefix: String,
    pub groups_claim: String,
    pub groups_prefix: String,
    pub required: Vec<(String, String)>,
    pub algorithms: Vec<String>,
    pub authority: Option<PathBuf>,
}

fn anything(_: &str) -> Result<(), String> {
    Ok(())
}

fn https(value: &str) -> Result<(), String> {
    if value.starts_with("https://") { Ok(()) } else { Err("the scheme must be https".into()) }
}

fn claim(text: &str) -> Option<(String, String)> {
    text.split_once('=').map(|(claim, value)| (claim.trim().to_owned(), value.trim().to_owned()))
}

fn claims(value: &str) -> Result<(), String> {
    let all = value.split(',').all(|one| claim(one).is_some_and(|(claim, _)| !claim.is_empty()));
    if all { Ok(()) } else { Err("it is no claim with a value".into()) }
}

/// Values of which there are only some.
trait Choice {
    const ALL: &'static [&'static str];
}

struct LogFormat;
struct LogMode;
struct WebhookMode;
struct ReviewVersion;

impl Choice for LogFormat {
    const ALL: &'static [&'static str] = &["json", "legacy"];
}

/// Events wait for room in front of the file in both; that a request fails for its event is not supported.
impl Choice for LogMode {
    const ALL: &'static [&'static str] = &["blocking", "batch"];
}

impl Choice for ReviewVersion {
    const ALL: &'static [&'static str] = &["v1", "v1beta1"];
}

impl Choice for WebhookMode {
    const ALL: &'static [&'static str] = &["batch"];
}

fn one_of<C: Choice>(value: &str) -> Result<(), String> {
    if C::ALL.contains(&value) { Ok(()) } else { Err(format!("{value:?} is not supported")) }
}

fn duration(value: &str) -> Result<(), String> {
    go_duration(value).map(drop).ok_or_else(|| format!("{value:?} is no duration such as 30s"))
}

fn given(value: &str) -> Result<(), String> {
    if value.is_empty() { Err("it has no value".into()) } else { Ok(()) }
}

fn parses<T: FromStr<Err: Display>>(value: &str) -> Result<(), String> {
    value.parse::<T>().map(drop).map_err(|why| why.to_string())
}

/// Without any slot nothing could be served, and more than these nobody has memory for.
fn count(value: &str) -> Result<(), String> {
    match value.parse::<usize>() {
        Ok(1..=100_000) => Ok(()),
        Ok(_) => Err("it lies not between 1 and 100000".into()),
        Err(why) => Err(why.to_string()),
    }
}

fn versions(value: &str) -> Result<(), String> {
    value.split(',').try_for_each(|one| version(one).map(drop))
}

/// One part of `runtime-config`: whether the version that can be switched on is on.
fn version(text: &str) -> Result<bool, String> {
    let (version, value) = text.trim().split_once('=').unwrap_or((text.trim(), "true"));
    if version != STORAGE_MIGRATION {
        return Err(format!("{version:?} cannot be switched; {STORAGE_MIGRATION} can"));
    }
    value.parse().map_err(|_| format!("{value:?} is neither true nor false"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn checked(setting: &str) -> Result<(), String> {
        ApiServerArgs(&[setting.to_owned()]).check()
    }

    #[test]
    fn the_last_of_a_setting_counts() {
        let args = ["max-requests-inflight=7", "--max-requests-inflight=9", "enable-priority-and-fairness=false"];
        let args = args.map(str::to_owned);
        let args = ApiServerArgs(&args);
        args.check().unwrap();
        assert_eq!(args.in_flight(), (Some(9), None));
        assert!(!args.fairness() && ApiServerArgs(&[]).fairness());
    }

    #[test]
    fn a_file_of_authorizers_and_flags_of_them_exclude_each_other() {
        let checked = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|one| (*one).to_owned()).collect();
            ApiServerArgs(&settings).check()
        };
        for (settings, wanted) in [
            (
                &["authorization-config=/a", "authorization-webhook-version=v1"][..],
                "can not be specified when --authorization-mode or --authorization-webhook-* flags are defined",
            ),
            (&["authorization-mode=ABAC"], "authorization-mode \"ABAC\" is not a valid mode"),
            (&["authorization-mode=Node,Webhook"], "Webhook's authorization config file not passed"),
            (&["authorization-webhook-config-file=/a"], "without mode Webhook"),
            (&["authorization-mode=RBAC", "authorization-mode=Node,RBAC"], "has mode specified more than once"),
            (&["authorization-webhook-version=v2"], "give authorization-webhook-version=v1|v1beta1"),
        ] {
            let why = checked(settings).unwrap_err();
            assert!(why.contains(wanted), "{settings:?}: {why}");
        }
        checked(&["authorization-config=/a", "anonymous-auth=true"]).unwrap();
        let settings = [
            "authorization-mode=Node,Webhook",
            "--authorization-mode=RBAC",
            "authorization-webhook-config-file=/a",
            "authorization-webhook-cache-authorized-ttl=0s",
            "authentication-token-webhook-config-file=/t",
        ];
        checked(&settings).unwrap();
        let settings = settings.map(str::to_owned);
        let args = ApiServerArgs(&settings);
        let authorization = args.authorization();
        assert_eq!(authorization.modes, ["Node", "Webhook", "RBAC"]);
        assert_eq!((authorization.authorized, authorization.unauthorized), (Some(Duration::ZERO), None));
        let webhook = args.authentication().webhook.unwrap();
        assert_eq!((webhook.version.as_str(), webhook.kept_for), ("v1beta1", Duration::from_secs(120)));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        for (setting, wanted) in [
            ("v=3", "encryption-provider-config"),
            ("max-requests-inflight=0", "between 1 and 100000; give max-requests-inflight=COUNT"),
            ("max-requests-inflight=many", "invalid digit"),
            ("max-requests-inflight", "give max-requests-inflight=COUNT"),
            ("enable-priority-and-fairness=1", "give enable-priority-and-fairness=true|false"),
            ("encryption-provider-config=", "it has no value"),
            ("audit-log-mode=blocking-strict", "give audit-log-mode=blocking|batch"),
            ("audit-webhook-batch-max-wait=soon", "no duration"),
            ("oidc-issuer-url=http://a", "must be https"),
            ("oidc-issuer-url=https://a", "oidc-client-id are given together"),
            ("oidc-required-claim=a", "give oidc-required-claim=CLAIM=VALUE"),
            ("runtime-config=api/all=true", STORAGE_MIGRATION),
        ] {
            let why = checked(setting).unwrap_err();
            assert!(why.contains(wanted), "{setting}: {why}");
        }
    }
}
