//! The table: a line for a place and the verbs that are alike there, a letter for each of the people, and the controllers that may.
//!
//! ```text
//! apps/v1 deployments a get,list,watch | UUUFAAAAAAFFFFFFFF | deployment-controller,…
//! ```
//! A: allowed; F: forbidden, by who asks; R: forbidden later, for what is asked (admission, escalation); U: not authenticated. Among the
//! controllers, which are all forbidden otherwise, `*` is all of them, and `!` follows those with an R.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};

use super::users::{CONTROLLERS, PEOPLE, all};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Such as `apps/v1 deployments a`.
    pub place: String,
    pub verb: String,
}

/// What each of the users was told: letters, people first. Where controllers are not asked, those of the people alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cells(pub Vec<u8>);

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table(pub BTreeMap<Key, Cells>);

const NOBODY: &str = "nobody";
const UNASKED: &str = "-";

impl Table {
    /// Reads a table; what is behind `#` is for people.
    ///
    /// # Errors
    /// When a line is none.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let mut rows = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let mut parts = line.split('|').map(str::trim);
            let (Some(key), Some(people), Some(controllers), None) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                anyhow::bail!("no row: {line}");
            };
            let (place, verbs) = key.rsplit_once(' ').with_context(|| format!("no verb: {line}"))?;
            ensure!(people.len() == PEOPLE.len(), "{} letters: {line}", people.len());
            let mut cells = people.as_bytes().to_vec();
            cells.extend(read(controllers).with_context(|| line.to_owned())?);
            for verb in verbs.split(',') {
                let key = Key { place: place.to_owned(), verb: verb.to_owned() };
                ensure!(rows.insert(key, Cells(cells.clone())).is_none(), "twice: {line}");
            }
        }
        Ok(Self(rows))
    }

    /// The table as text.
    pub fn text(&self) -> String {
        let mut out = header();
        let mut by_place: BTreeMap<&str, Vec<(&str, &Cells)>> = BTreeMap::new();
        for (key, cells) in &self.0 {
            by_place.entry(&key.place).or_default().push((&key.verb, cells));
        }
        for (place, rows) in by_place {
            let mut groups: Vec<(Vec<&str>, &Cells)> = Vec::new();
            for (verb, cells) in rows {
                match groups.iter_mut().find(|(_, known)| *known == cells) {
                    Some((verbs, _)) => verbs.push(verb),
                    None => groups.push((vec![verb], cells)),
                }
            }
            for (verbs, cells) in groups {
                out += &format!("{place} {} | {cells}\n", verbs.join(","));
            }
        }
        out
    }

    /// How it differs from another one, a line for a row.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, cells) in &self.0 {
            match other.0.get(key) {
                None => lines.push(format!("only here: {} {}", key.place, key.verb)),
                Some(theirs) if theirs != cells => {
                    lines.push(format!("{} {}: {}", key.place, key.verb, cells.changed(theirs)));
                }
                Some(_) => {}
            }
        }
        let gone = other.0.keys().filter(|key| !self.0.contains_key(*key));
        lines.extend(gone.map(|key| format!("only there: {} {}", key.place, key.verb)));
        lines
    }
}

impl Cells {
    /// Who was told something else than there.
    fn changed(&self, there: &Self) -> String {
        if self.0.len() != there.0.len() {
            return "controllers are asked in one place alone".to_owned();
        }
        let changed = std::iter::zip(all(), std::iter::zip(&self.0, &there.0)).filter(|(_, (a, b))| a != b);
        let changed =
            changed.map(|(who, (a, b))| format!("{} {} there {}", who.column, char::from(*a), char::from(*b)));
        changed.collect::<Vec<_>>().join(", ")
    }
}

fn header() -> String {
    let columns = PEOPLE.iter().enumerate().map(|(at, who)| format!("#   {:2} {}\n", at + 1, who.column));
    format!(
        "# Who may do what: A allowed, F forbidden, R forbidden for what is asked and not by who asks, U not authenticated.\n\
         # PLACE VERBS | a letter for each of these | the controllers that may (`*`: all, `!`: R, `-`: not asked)\n{}",
        columns.collect::<String>()
    )
}

/// The letters of the controllers; none, if they were not asked.
fn read(controllers: &str) -> anyhow::Result<Vec<u8>> {
    match controllers {
        UNASKED => return Ok(Vec::new()),
        NOBODY => return Ok(vec![b'F'; CONTROLLERS.len()]),
        "*" => return Ok(vec![b'A'; CONTROLLERS.len()]),
        _ => {}
    }
    let mut letters = vec![b'F'; CONTROLLERS.len()];
    for entry in controllers.split(',') {
        let (name, letter) = entry.strip_suffix('!').map_or((entry, b'A'), |name| (name, b'R'));
        let at = CONTROLLERS.iter().position(|known| *known == name).with_context(|| format!("nobody: {name}"))?;
        letters[at] = letter;
    }
    Ok(letters)
}

impl std::fmt::Display for Cells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (people, controllers) = self.0.split_at(PEOPLE.len().min(self.0.len()));
        write!(f, "{} | ", String::from_utf8_lossy(people))?;
        if controllers.is_empty() {
            return f.write_str(UNASKED);
        }
        if controllers.iter().all(|letter| *letter == b'A') {
            return f.write_str("*");
        }
        let names: Vec<String> = std::iter::zip(CONTROLLERS, controllers)
            .filter_map(|(name, letter)| match letter {
                b'F' => None,
                b'A' => Some(name.to_owned()),
                b'R' => Some(format!("{name}!")),
                // No table has them; they are to be seen.
                other => Some(format!("{name}={}", char::from(*other))),
            })
            .collect();
        if names.is_empty() { f.write_str(NOBODY) } else { f.write_str(&names.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written() -> anyhow::Result<()> {
        let people = "U".repeat(PEOPLE.len());
        let text = format!(
            "{}apps/v1 deployments a get,list | {people} | deployment-controller,ttl-controller!\n\
             apps/v1 deployments a watch | {people} | nobody\napps/v1 deployments b get | {people} | -\n",
            header()
        );
        let table = Table::parse(&text)?;
        assert_eq!((table.0.len(), table.text()), (4, text.clone()));
        assert!(Table::parse(&text.replace("ttl-controller", "tty-controller")).is_err());
        assert!(Table::parse(&text.replace("a get,list", "a get,watch")).is_err(), "a verb twice");
        assert!(Table::parse("apps/v1 deployments a get | UU | -").is_err());
        Ok(())
    }
}
