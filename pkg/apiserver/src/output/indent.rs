//! The layout of JSON for people.

/// Lays out JSON as Go does: two blanks for each level, nothing within what is empty, no newline at the end.
#[derive(Default)]
pub(crate) struct Indent {
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// An object or list has been opened, and nothing of it has come.
    opened: bool,
}

impl Indent {
    /// A whole text.
    pub(crate) fn whole(json: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(json.len() * 2);
        Self::default().write(json, &mut out);
        out
    }

    pub(crate) fn write(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            self.byte(*byte, out);
        }
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.in_text {
            out.push(byte);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return;
        }
        if byte.is_ascii_whitespace() {
            return;
        }
        let closes = matches!(byte, b'}' | b']');
        if std::mem::take(&mut self.opened) {
            self.depth += 1;
            if closes {
                self.depth -= 1;
                out.push(byte);
                return;
            }
            self.line(out);
        } else if closes {
            self.depth = self.depth.saturating_sub(1);
            self.line(out);
        }
        out.push(byte);
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.opened = true,
            b',' => self.line(out),
            b':' => out.push(b' '),
            _ => {}
        }
    }

    fn line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 2 * self.depth, b' ');
    }
}
