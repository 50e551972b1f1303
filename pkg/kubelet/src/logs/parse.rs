//! One line of a CRI log: `<RFC 3339 time> <stdout|stderr> <tags> <message>`; the tag `P` marks a part of a line.

use jiff::Timestamp;

/// A parsed line; the slices point into what was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub(super) time: Timestamp,
    pub(super) time_text: &'a [u8],
    pub(super) stdout: bool,
    pub(super) partial: bool,
    pub(super) message: &'a [u8],
}

impl Line<'_> {
    /// The message, with a line end unless the line goes on.
    pub(super) fn write_message(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.message);
        if !self.partial {
            out.push(b'\n');
        }
    }
}

/// `None` for what is no log line, such as one that was torn by a crash.
pub(super) fn parse_line(line: &[u8]) -> Option<Line<'_>> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time_text = parts.next()?;
    let time = std::str::from_utf8(time_text).ok()?.parse().ok()?;
    let stdout = match parts.next()? {
        b"stdout" => true,
        b"stderr" => false,
        _ => return None,
    };
    let partial = parts.next()?.split(|b| *b == b':').next() == Some(b"P");
    let message = parts.next().unwrap_or_default();
    Some(Line { time, time_text, stdout, partial, message })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn full_partial_and_broken_lines() {
        let full = parse_line(b"2016-10-06T00:17:09.669794202Z stdout F hello world\n").unwrap();
        assert!(full.stdout && !full.partial);
        assert_eq!(full.message, b"hello world");
        let partial = parse_line(b"2016-10-06T00:17:09.669794202+02:00 stderr P:x part\n").unwrap();
        assert!(partial.partial && !partial.stdout);
        let empty = parse_line(b"2016-10-06T00:17:09.669794202Z stdout F \n").unwrap();
        assert_eq!(empty.message, b"");
        assert_eq!(parse_line(b"garbage"), None);
        assert_eq!(parse_line(b"2016-10-06T00:17:09Z nowhere F x"), None);
    }
}
