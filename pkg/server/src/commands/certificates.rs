//! `kedge certificate`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use http::Method;
use kedge_base::{SharedClock, system_clock};
use kedge_certs::inventory::{self, Listed, Standing};
use kedge_certs::rotation;
use kedge_client::Client;
use serde::{Deserialize, Serialize};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use super::{CommandError, collect, own_kubeconfig};
use crate::start::now;

const PATH: &str = "/kedge/v1/certificates";
const AUTHORITIES: &str = "/kedge/v1/authorities";

/// What was renewed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// The names of files; none, when there was nothing to renew.
    pub files: Vec<String>,
    /// Where those before them are.
    pub backup: PathBuf,
    /// Whether they are in use already; else the next start issues them.
    pub in_use: bool,
}

fn tls_dir(data_dir: &Path) -> Result<PathBuf, CommandError> {
    let dir = data_dir.join("server/tls");
    if dir.is_dir() { Ok(dir) } else { Err(CommandError::NoCertificates(dir)) }
}

fn files_of(services: &[String]) -> Result<Vec<String>, CommandError> {
    inventory::files_of(services).map_err(CommandError::Service)
}

/// The certificates of services, or of all of them.
///
/// # Errors
/// When a service is none, or a file cannot be read.
pub fn check_certificates(data_dir: &Path, services: &[String]) -> Result<Vec<Listed>, CommandError> {
    let files = files_of(services)?;
    let listed = inventory::list(&tls_dir(data_dir)?, &files, now(&system_clock()));
    listed.map_err(|err| CommandError::Server(err.into()))
}

/// Renews the certificates of services, or of all of them: the server that runs on the data directory uses them at once; when none
/// runs, the next one issues them.
///
/// # Errors
/// When a service is none, or neither is possible.
pub async fn rotate_certificates(data_dir: &Path, services: &[String]) -> Result<Rotated, CommandError> {
    let files = files_of(services)?;
    let online = match Client::from_kubeconfig(&own_kubeconfig(data_dir)) {
        Ok(client) => ask(&client, &files).await,
        Err(err) => Err(CommandError::Kubeconfig(err)),
    };
    match online {
        Err(CommandError::Kubeconfig(_)) => {}
        // Only who refuses connections surely is not there: one that does not answer may still do what it is asked.
        Err(CommandError::Client(err)) if is_refused(&err) => {}
        other => return other,
    }
    let clock: SharedClock = system_clock();
    let dir = tls_dir(data_dir)?;
    let failed = |err: kedge_certs::Error| CommandError::Server(err.into());
    let backup = inventory::back_up(&dir, now(&clock)).map_err(failed)?;
    let files = inventory::remove(&dir, &files).map_err(failed)?;
    Ok(Rotated { files, backup, in_use: false })
}

/// Puts other authorities in the place of the cluster's: those of a directory, or new ones that are certified by those that there
/// are. Returns the files that change when servers are started again.
///
/// # Errors
/// When the directory cannot be read, or the server cannot be asked or refuses.
pub async fn rotate_authorities(
    data_dir: &Path,
    from: Option<&Path>,
    force: bool,
) -> Result<Vec<String>, CommandError> {
    let files = from.map(rotation::given).transpose().map_err(|err| CommandError::Server(err.into()))?;
    if let (Some(from), Some(true)) = (from, files.as_ref().map(rotation::Files::is_empty)) {
        return Err(CommandError::NoAuthorities(from.to_owned()));
    }
    let client = Client::from_kubeconfig(&own_kubeconfig(data_dir))?;
    let body = json!({ "files": files, "force": force }).to_string();
    let response = client.open(Method::POST, AUTHORITIES, body.into()).await.map_err(CommandError::Client)?;
    #[derive(Deserialize)]
    struct Answer {
        files: Vec<String>,
    }
    let answer: Answer =
        serde_json::from_slice(&collect(response).await?).map_err(|e| CommandError::Answer(e.to_string()))?;
    Ok(answer.files)
}

/// Whether nobody listens there.
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused)
}

async fn ask(client: &Client, files: &[String]) -> Result<Rotated, CommandError> {
    let body = json!({ "files": files }).to_string();
    let response = client.open(Method::POST, PATH, body.into()).await.map_err(CommandError::Client)?;
    let bytes = collect(response).await?;
    serde_json::from_slice(&bytes).map_err(|e| CommandError::Answer(e.to_string()))
}

/// The certificates, a line each.
pub fn certificate_lines(listed: &[Listed]) -> String {
    let mut out = String::new();
    for one in listed {
        let at = rfc3339(one.expiry_time);
        let how = match one.status {
            Standing::Ok => format!("is ok, expires at {at}"),
            Standing::Warning => format!("will expire within {} days at {at}", kedge_certs::RENEW_DAYS),
            Standing::Expired => format!("expired at {at}"),
            Standing::NotYetValid => format!("is not valid before {at}"),
        };
        // A text takes all that is written to it.
        let _ = writeln!(out, "{}: certificate {} ({}) {how}", one.filename, one.subject, one.usages.join(","));
    }
    out
}

/// The certificates as JSON, with the names that k3s has for its fields.
pub fn certificate_json(listed: &[Listed]) -> String {
    let entry = |one: &Listed| {
        json!({
            "Filename": one.filename,
            "Subject": one.subject,
            "Issuer": one.issuer,
            "Usages": one.usages,
            "ExpiryTime": rfc3339(one.expiry_time),
            // In nanoseconds, as Go writes durations.
            "ResidualTime": one.residual.whole_seconds().saturating_mul(1_000_000_000),
            "Status": one.status.name(),
        })
    };
    json!({ "Certificates": listed.iter().map(entry).collect::<Vec<_>>() }).to_string()
}

/// The certificates as a table.
pub fn certificate_table(listed: &[Listed]) -> String {
    const HEAD: [&str; 6] = ["FILENAME", "SUBJECT", "USAGES", "EXPIRES", "RESIDUAL TIME", "STATUS"];
    let row = |one: &Listed| {
        let texts =
            [&one.filename, &one.subject, &one.usages.join(","), &date(one.expiry_time), &residual(one.residual)];
        let mut row = texts.map(|text| text.to_owned()).to_vec();
        row.push(one.status.name().to_owned());
        row
    };
    let line = |text: fn(&str) -> String| HEAD.iter().map(|head| text(head)).collect::<Vec<_>>();
    let mut rows = vec![line(str::to_owned), line(|head| "-".repeat(head.len()))];
    rows.extend(listed.iter().map(row));
    let widths: Vec<usize> =
        (0..HEAD.len()).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default()).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        out += cells.collect::<Vec<_>>().join("   ").trim_end();
        out.push('\n');
    }
    out
}

fn rfc3339(time: OffsetDateTime) -> String {
    let timestamp = jiff::Timestamp::from_second(time.unix_timestamp()).unwrap_or_default();
    kedge_base::time::rfc3339(timestamp)
}

fn date(time: OffsetDateTime) -> String {
    let timestamp = jiff::Timestamp::from_second(time.unix_timestamp()).unwrap_or_default();
    timestamp.strftime("%b %d, %Y %H:%M UTC").to_string()
}

/// About how long that is, in the largest unit.
fn residual(left: Duration) -> String {
    const DAY: i64 = 86_400;
    const UNITS: [(&str, i64); 7] = [
        ("year", 360 * DAY),
        ("month", 30 * DAY),
        ("week", 7 * DAY),
        ("day", DAY),
        ("hour", 3_600),
        ("minute", 60),
        ("second", 1),
    ];
    let seconds = left.whole_seconds().abs();
    let Some((unit, length)) = UNITS.into_iter().find(|(_, length)| seconds >= *length) else { return "now".into() };
    match seconds / length {
        1 => format!("1 {unit}"),
        many => format!("{many} {unit}s"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn listed() -> Listed {
        Listed {
            filename: "client-admin.crt".into(),
            subject: "system:admin".into(),
            issuer: "ca".into(),
            usages: vec!["ClientAuth"],
            expiry_time: OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap(),
            residual: Duration::days(365),
            status: Standing::Ok,
        }
    }

    #[test]
    fn tables_are_aligned() {
        let table = certificate_table(&[listed()]);
        let wanted = "\
FILENAME           SUBJECT        USAGES       EXPIRES                  RESIDUAL TIME   STATUS
--------           -------        ------       -------                  -------------   ------
client-admin.crt   system:admin   ClientAuth   Jan 15, 2027 08:00 UTC   1 year          OK
";
        assert_eq!(table, wanted);
    }

    #[test]
    fn lines_say_how_it_stands() {
        let warned = Listed { status: Standing::Warning, ..listed() };
        let lines = certificate_lines(&[listed(), warned]);
        let (first, second) = lines.trim_end().split_once('\n').unwrap();
        assert_eq!(
            first,
            "client-admin.crt: certificate system:admin (ClientAuth) is ok, expires at 2027-01-15T08:00:00Z"
        );
        assert!(second.ends_with("will expire within 120 days at 2027-01-15T08:00:00Z"), "{second}");
    }

    #[test]
    fn what_is_left_is_said_in_the_largest_unit() {
        let said = |seconds| residual(Duration::seconds(seconds));
        assert_eq!([0, 1, 90, 7_200, 86_400].map(said), ["now", "1 second", "1 minute", "2 hours", "1 day"]);
        assert_eq!([15 * 86_400, 245 * 86_400, 3_650 * 86_400].map(said), ["2 weeks", "8 months", "10 years"]);
    }
}
