//! A writer of JSON text. Invariant: every `object` and `list` is closed, so the text is well-formed whatever is written
//! inside, and no tree of the document ever exists.

/// JSON text in the making.
#[derive(Default)]
pub(crate) struct Json {
    out: String,
    /// Whether a comma is due before the next key or element.
    comma: bool,
}

impl Json {
    pub fn finish(self) -> Vec<u8> {
        self.out.into_bytes()
    }

    fn separate(&mut self) {
        if self.comma {
            self.out.push(',');
        }
        self.comma = true;
    }

    fn enclosed(&mut self, open: char, close: char, content: impl FnOnce(&mut Self)) {
        self.separate();
        self.out.push(open);
        self.comma = false;
        content(self);
        self.out.push(close);
        self.comma = true;
    }

    pub fn object(&mut self, content: impl FnOnce(&mut Self)) {
        self.enclosed('{', '}', content);
    }

    pub fn list(&mut self, content: impl FnOnce(&mut Self)) {
        self.enclosed('[', ']', content);
    }

    /// The key of the value that is written next.
    pub fn key(&mut self, key: &str) -> &mut Self {
        self.separate();
        self.quote(key);
        self.out.push(':');
        self.comma = false;
        self
    }

    pub fn text(&mut self, text: &str) {
        self.separate();
        self.quote(text);
    }

    pub fn texts<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        self.list(|json| texts.into_iter().for_each(|text| json.text(text)));
    }

    /// Text that is JSON already.
    pub fn raw(&mut self, raw: &str) {
        self.separate();
        self.out.push_str(raw);
    }

    fn quote(&mut self, text: &str) {
        self.out.push('"');
        for letter in text.chars() {
            match letter {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\t' => self.out.push_str("\\t"),
                control if u32::from(control) < 0x20 => self.out.push_str(&format!("\\u{:04x}", u32::from(control))),
                letter => self.out.push(letter),
            }
        }
        self.out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_well_formed() {
        let mut json = Json::default();
        json.object(|json| {
            json.key("a").list(|json| {
                json.text("x\"\\\n\u{1}é");
                json.object(|_| {});
            });
            json.key("b").raw("1");
        });
        assert_eq!(String::from_utf8_lossy(&json.finish()), "{\"a\":[\"x\\\"\\\\\\n\\u0001é\",{}],\"b\":1}");
    }
}
