//! The difference of two values as a unified diff of their indented JSON, for messages.

use serde_json::Value;

/// Lines of unchanged text around a change.
const CONTEXT: usize = 3;
/// Larger texts are not compared line by line: the table would be quadratic.
const MAX_LINES: usize = 2_000;

/// The diff, empty for equal values.
pub(crate) fn diff(old: &Value, new: &Value) -> String {
    let (old, new) = (pretty(old), pretty(new));
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    if old.len() > MAX_LINES || new.len() > MAX_LINES {
        return format!("({} and {} lines differ)\n", old.len(), new.len());
    }
    hunks(&edits(&old, &new))
}

/// Indented by one blank, as upstream does.
fn pretty(value: &Value) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, formatter);
    if serde::Serialize::serialize(value, &mut serializer).is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// One line: unchanged, removed or added.
type Edit<'a> = (char, &'a str);

/// The longest common subsequence, read as edits.
fn edits<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Edit<'a>> {
    let width = new.len() + 1;
    let mut common = vec![0u16; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            out.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            out.push(('-', old[i]));
            i += 1;
        } else {
            out.push(('+', new[j]));
            j += 1;
        }
    }
    out
}

fn hunks(edits: &[Edit<'_>]) -> String {
    let changed: Vec<usize> = edits.iter().enumerate().filter(|(_, edit)| edit.0 != ' ').map(|(at, _)| at).collect();
    let mut out = String::new();
    let mut rest = changed.as_slice();
    while let Some(first) = rest.first() {
        let close = |pair: &[usize]| pair[1] - pair[0] <= 2 * CONTEXT + 1;
        let count = 1 + rest.windows(2).take_while(|pair| close(pair)).count();
        let last = rest[count - 1];
        rest = &rest[count..];
        let (from, to) = (first.saturating_sub(CONTEXT), (last + CONTEXT + 1).min(edits.len()));
        let lines = |range: &[Edit<'_>], without: char| range.iter().filter(|edit| edit.0 != without).count();
        let (before, body) = (&edits[..from], &edits[from..to]);
        out.push_str(&format!(
            "@@ -{},{} +{},{} @@\n",
            lines(before, '+') + 1,
            lines(body, '+'),
            lines(before, '-') + 1,
            lines(body, '-')
        ));
        body.iter().for_each(|(sign, line)| out.push_str(&format!("{sign}{line}\n")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_is_shown_with_its_surroundings() {
        let old = json!({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6});
        let mut new = old.clone();
        new["e"] = json!(50);
        assert_eq!(
            diff(&old, &new),
            "@@ -3,6 +3,6 @@\n  \"b\": 2,\n  \"c\": 3,\n  \"d\": 4,\n- \"e\": 5,\n+ \"e\": 50,\n  \"f\": 6\n }\n"
        );
        assert_eq!(diff(&old, &old), "");
    }
}
