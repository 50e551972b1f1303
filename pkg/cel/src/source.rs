//! The text of an expression, places in it, and errors that show them.
//!
//! Places are byte offsets; lines are counted from 1 and columns in code points, as upstream's messages have them.

use std::fmt;

/// A line of source that is longer than this is not shown with an error.
const MAX_SNIPPET: usize = 16_384;
/// As many errors are shown for one expression.
const MAX_ERRORS: usize = 100;

/// The text of an expression.
#[derive(Debug, Clone)]
pub struct Source {
    text: Box<str>,
}

/// Where something is: a byte offset, or nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset(Option<u32>);

impl Offset {
    /// What has no place in the text.
    pub const NONE: Self = Self(None);

    /// A byte offset. Texts are shorter than 4 GiB: the parser's limit is far below that.
    pub fn at(offset: usize) -> Self {
        Self(u32::try_from(offset).ok())
    }
}

impl Source {
    /// Keeps a text.
    pub fn new(text: &str) -> Self {
        Self { text: text.into() }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line, from 1, and column in code points, from 0. What is nowhere is in line -1 and column -1.
    pub fn location(&self, offset: Offset) -> (i64, i64) {
        let Some(offset) = offset.0 else { return (-1, -1) };
        if self.text.is_empty() {
            // What upstream says of nothing at all.
            return (1, -1);
        }
        let before = self.text.get(..offset as usize).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        (line as i64, before[start..].chars().count() as i64)
    }

    fn line(&self, number: i64) -> Option<&str> {
        let index = usize::try_from(number - 1).ok()?;
        self.text.split('\n').nth(index).filter(|_| !self.text.is_empty())
    }

    /// Writes an error with the line that it is about, as upstream writes it.
    fn show(&self, f: &mut fmt::Formatter<'_>, error: &SourceError) -> fmt::Result {
        let (line, column) = self.location(error.offset);
        write!(f, "ERROR: <input>:{line}:{}: {}", column + 1, error.message)?;
        let Some(snippet) = self.line(line).filter(|text| text.len() <= MAX_SNIPPET) else { return Ok(()) };
        write!(f, "\n | {}\n | ", snippet.replace('\t', " "))?;
        let mut rest = snippet.chars();
        for c in rest.by_ref().take(usize::try_from(column).unwrap_or(0)) {
            f.write_str(if c.is_ascii() { "." } else { "\u{ff0e}" })?;
        }
        f.write_str(if rest.next().is_some_and(|c| !c.is_ascii()) { "\u{ff3e}" } else { "^" })
    }
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceError {
    /// Where.
    pub offset: Offset,
    /// In upstream's words.
    pub message: String,
}

/// Why an expression does not compile: at least one error. Its text is upstream's: each error with the line that it is about.
#[derive(Debug, Clone)]
pub struct CompileErrors {
    text: Source,
    errors: Vec<SourceError>,
    more: usize,
    plain: bool,
}

impl CompileErrors {
    /// Errors of a text, ordered by place; what comes after the hundredth is only counted.
    pub(crate) fn new(source: &Source, mut errors: Vec<SourceError>) -> Self {
        let more = errors.len().saturating_sub(MAX_ERRORS);
        errors.truncate(MAX_ERRORS);
        errors.sort_by_key(|error| source.location(error.offset));
        Self { text: source.clone(), errors, more, plain: false }
    }

    /// What is found when a program is made of a checked expression; upstream shows no place for it.
    pub(crate) fn instantiation(source: &Source, message: String) -> Self {
        let errors = vec![SourceError { offset: Offset::NONE, message }];
        Self { text: source.clone(), errors, more: 0, plain: true }
    }

    /// The errors, ordered by place.
    pub fn errors(&self) -> &[SourceError] {
        &self.errors
    }

    /// Whether the expression is right in itself, and only no program can be made of it (a constant that does not convert, a regular
    /// expression that is none). Upstream words that as "program instantiation failed", and the others as "compilation failed".
    pub fn is_instantiation(&self) -> bool {
        self.plain
    }
}

impl std::error::Error for CompileErrors {}

impl fmt::Display for CompileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.plain {
            return f.write_str(self.errors.first().map_or("", |error| error.message.as_str()));
        }
        for (n, error) in self.errors.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            self.text.show(f, error)?;
        }
        if self.more > 0 {
            write!(f, "\n{} more errors were truncated", self.more)?;
        }
        Ok(())
    }
}
