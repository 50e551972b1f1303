//! The server's own account of its memory and tasks: what `/metrics` says.

use super::api::Api;

/// How many owners of memory are shown.
const OWNERS: usize = 10;

/// One answer of `/metrics`.
#[derive(Debug, Default)]
pub struct Account(Vec<Sample>);

#[derive(Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Account {
    /// Asks the server; nothing when it keeps no account.
    pub async fn ask(api: &Api) -> anyhow::Result<Option<Self>> {
        let text = api.text("/metrics").await?;
        Ok(text.map(|text| Self::parse(&String::from_utf8_lossy(&text))))
    }

    /// Reads Prometheus' text format; lines that are none of it are left out.
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(sample).collect())
    }

    /// The figures of a family, each with the values of its labels.
    pub fn family(&self, name: &str) -> Vec<(String, f64)> {
        let of = self.0.iter().filter(|s| s.name == name);
        of.map(|s| (s.labels.iter().map(|(_, v)| v.as_str()).collect::<Vec<_>>().join("/"), s.value)).collect()
    }

    /// The sum of a family, if there is one.
    pub fn total(&self, name: &str) -> Option<f64> {
        let family = self.family(name);
        (!family.is_empty()).then(|| family.iter().map(|(_, value)| value).sum())
    }

    /// The owners of most bytes, and what else is counted, as a table.
    pub fn print(&self, when: &str) {
        let entries = self.family("kedge_memory_entries");
        let mut owners = self.family("kedge_memory_bytes");
        owners.sort_by(|a, b| b.1.total_cmp(&a.1));
        let sum: f64 = owners.iter().map(|(_, bytes)| bytes).sum();
        println!("\n| the server's account {when} | MiB | entries |\n|---|---|---|");
        for (owner, bytes) in owners.iter().take(OWNERS) {
            let of = entries.iter().find(|(name, _)| name == owner).map(|(_, count)| format!("{count:.0}"));
            println!("| {owner} | {:.2} | {} |", bytes / 1_048_576.0, of.unwrap_or_default());
        }
        println!("| all {} owners | {:.2} | |", owners.len(), sum / 1_048_576.0);
        let list = |name: &str| {
            let mut family = self.family(name);
            family.retain(|(_, value)| *value > 0.0);
            family.iter().map(|(of, value)| format!("{of} {value:.0}")).collect::<Vec<_>>().join(", ")
        };
        println!("| tasks: {} | | {:.0} |", list("kedge_tasks"), self.total("kedge_tasks").unwrap_or_default());
        println!("| panics: {} | | {:.0} |", list("kedge_panics_total"), self.panics());
    }

    /// How many tasks have panicked.
    pub fn panics(&self) -> f64 {
        self.total("kedge_panics_total").unwrap_or_default()
    }
}

/// `name{label="value",…} number`.
fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, quoted) = rest.trim_start_matches(',').split_once("=\"")?;
            let (value, after) = unquote(quoted)?;
            labels.push((label.trim().to_owned(), value));
            rest = after;
        }
        rest = &rest[1..];
    }
    // A time stamp may follow.
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The text up to the closing quote, and what follows that.
fn unquote(text: &str) -> Option<(String, &str)> {
    let (mut value, mut characters) = (String::new(), text.char_indices());
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_with_and_without_labels() {
        let text = "# HELP x what\n# TYPE x gauge\nkedge_memory_bytes{owner=\"watch cache\"} 2048\n\
                    kedge_memory_bytes{owner=\"a\\\"b,}c\"} 1e3 1700000000000\nprocess_open_fds 17\n\
                    kedge_panics_total{group=\"g\",task=\"t\"} 2\nnot a sample\n";
        let account = Account::parse(text);
        let owners = [("watch cache".to_owned(), 2048.0), ("a\"b,}c".to_owned(), 1000.0)];
        assert_eq!(account.family("kedge_memory_bytes"), owners);
        assert_eq!(account.total("process_open_fds"), Some(17.0));
        assert_eq!(account.family("kedge_panics_total"), [("g/t".to_owned(), 2.0)]);
        assert_eq!(account.panics(), 2.0);
        assert_eq!(account.total("absent"), None);
    }
}
