//! Header blocks and their compression.
//!
//! Invariant: each direction of a connection is one zlib stream over all its header blocks, so every
//! block must be read, also of streams nobody wants. A block has limits on its size and number.

use super::dictionary::dictionary;
use crate::Error;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// The longest header block, compressed or not, in bytes.
pub const MAX_BLOCK: usize = 64 << 10;
/// The most headers in a block.
pub const MAX_HEADERS: usize = 128;

/// Headers: lower-case names with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// Adds a header.
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.push((name.to_ascii_lowercase(), value.into()));
        self
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.split('\0').next().unwrap_or_default())
    }

    /// The uncompressed block.
    pub fn to_block(&self) -> Vec<u8> {
        let mut block = (self.0.len() as u32).to_be_bytes().to_vec();
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&(text.len() as u32).to_be_bytes());
            block.extend_from_slice(text.as_bytes());
        }
        block
    }

    /// Reads an uncompressed block.
    ///
    /// # Errors
    /// When it is malformed or has too many headers.
    pub fn from_block(block: &[u8]) -> Result<Self, Error> {
        let malformed = || Error::Protocol("malformed header block".to_owned());
        let (count, mut rest) = take_u32(block).ok_or_else(malformed)?;
        if count > MAX_HEADERS {
            return Err(Error::Protocol(format!("{count} headers, at most {MAX_HEADERS} are allowed")));
        }
        let mut headers = Self::default();
        for _ in 0..count {
            let (name, after) = take_text(rest).ok_or_else(malformed)?;
            let (value, after) = take_text(after).ok_or_else(malformed)?;
            headers.0.push((name.to_ascii_lowercase(), value));
            rest = after;
        }
        Ok(headers)
    }
}

fn take_u32(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*number) as usize, rest))
}

fn take_text(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = take_u32(bytes)?;
    let (text, rest) = rest.split_at_checked(length)?;
    Some((String::from_utf8_lossy(text).into_owned(), rest))
}

/// The compressing direction.
#[derive(Debug)]
pub struct Deflater(Compress);

impl Deflater {
    /// At the beginning of a connection.
    ///
    /// # Errors
    /// When zlib does not take the dictionary.
    pub fn new() -> Result<Self, Error> {
        let mut zlib = Compress::new(Compression::fast(), true);
        zlib.set_dictionary(&dictionary()).map_err(|error| Error::Protocol(error.to_string()))?;
        Ok(Self(zlib))
    }

    /// Compresses the next block.
    ///
    /// # Errors
    /// When zlib fails.
    pub fn compress(&mut self, headers: &Headers) -> Result<Vec<u8>, Error> {
        let block = headers.to_block();
        let mut out = Vec::with_capacity(block.len() + 64);
        let mut taken = 0;
        loop {
            let before = self.0.total_in();
            let done = self.0.compress_vec(&block[taken..], &mut out, FlushCompress::Sync);
            done.map_err(|error| Error::Protocol(error.to_string()))?;
            taken += (self.0.total_in() - before) as usize;
            // Room that is left over means that the flush is complete.
            if taken == block.len() && out.len() < out.capacity() {
                return Ok(out);
            }
            out.reserve(256);
        }
    }
}

/// The decompressing direction.
#[derive(Debug)]
pub struct Inflater {
    zlib: Decompress,
    dictionary_set: bool,
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    /// At the beginning of a connection.
    pub fn new() -> Self {
        Self { zlib: Decompress::new(true), dictionary_set: false }
    }

    /// Decompresses the next block.
    ///
    /// # Errors
    /// When it is malformed or too long; the connection cannot go on after that.
    pub fn decompress(&mut self, mut input: &[u8]) -> Result<Headers, Error> {
        let mut out = Vec::with_capacity(1024);
        loop {
            let (before_in, before_out) = (self.zlib.total_in(), out.len());
            let done = self.zlib.decompress_vec(input, &mut out, FlushDecompress::Sync);
            let consumed = (self.zlib.total_in() - before_in) as usize;
            input = &input[consumed.min(input.len())..];
            match done {
                Err(error) if error.needs_dictionary().is_some() && !self.dictionary_set => {
                    self.dictionary_set = true;
                    let set = self.zlib.set_dictionary(&dictionary());
                    set.map_err(|error| Error::Protocol(error.to_string()))?;
                    continue;
                }
                Err(error) => return Err(Error::Protocol(format!("header compression: {error}"))),
                Ok(Status::StreamEnd) => {
                    return Err(Error::Protocol("header compression ended".to_owned()));
                }
                Ok(_) => {}
            }
            if out.len() > MAX_BLOCK {
                return Err(Error::Protocol(format!("header block longer than {MAX_BLOCK} bytes")));
            }
            if out.len() < out.capacity() && (input.is_empty() || consumed == 0 && out.len() == before_out) {
                break;
            }
            out.reserve(1024);
        }
        if !input.is_empty() {
            return Err(Error::Protocol("header block does not end with its frame".to_owned()));
        }
        Headers::from_block(&out)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_depend_on_those_before_them() {
        let (mut deflater, mut inflater) = (Deflater::new().unwrap(), Inflater::new());
        let headers = Headers::default().with("streamType", "data").with("port", "8080");
        let sizes: Vec<usize> = (0..50)
            .map(|i| {
                let headers = headers.clone().with("requestID", i.to_string());
                let block = deflater.compress(&headers).unwrap();
                assert_eq!(inflater.decompress(&block).unwrap(), headers);
                block.len()
            })
            .collect();
        assert!(sizes[1] < sizes[0], "{sizes:?}");
        assert_eq!(headers.get("streamtype"), Some("data"));
    }

    #[test]
    fn a_bomb_is_refused() {
        let mut deflater = Deflater::new().unwrap();
        let block = deflater.compress(&Headers::default().with("x", "0".repeat(1 << 20))).unwrap();
        assert!(block.len() < 16 << 10);
        assert!(Inflater::new().decompress(&block).is_err());
    }

    #[test]
    fn too_many_headers_are_refused() {
        let many = (0..200).fold(Headers::default(), |headers, i| headers.with(&i.to_string(), ""));
        assert!(Headers::from_block(&many.to_block()).is_err());
    }

    proptest! {
        #[test]
        fn any_headers_come_back(pairs in proptest::collection::vec(("[a-z-]{1,20}", "[ -~]{0,300}"), 0..20)) {
            let headers = pairs.iter().fold(Headers::default(), |h, (n, v)| h.with(n, v.clone()));
            let block = Deflater::new().unwrap().compress(&headers).unwrap();
            prop_assert_eq!(Inflater::new().decompress(&block).unwrap(), headers);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (Inflater::new().decompress(&bytes), Headers::from_block(&bytes));
        }

        #[test]
        fn no_mutation_makes_it_panic(at in 0_usize..100, byte in any::<u8>()) {
            let headers = Headers::default().with("streamtype", "error").with("port", "80");
            let mut block = Deflater::new().unwrap().compress(&headers).unwrap();
            let length = block.len();
            block[at % length] = byte;
            let _ = Inflater::new().decompress(&block);
        }
    }
}
