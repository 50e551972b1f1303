//! Reading a database: every number in it is checked before it is believed.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::{BUCKET, ELEMENT, KIND_BRANCH, KIND_LEAF, LEAF_IS_BUCKET, MAGIC, META, PAGE_HEADER, VERSION, checksum};
use crate::error::Error;

/// Deeper than any tree of the largest file.
const MAX_DEPTH: usize = 32;
/// Buckets that are read, each with a walk over the root bucket before it.
const BUCKETS: u64 = 16;
/// A page with its further ones; etcd's requests are limited to far less.
const MAX_PAGE: usize = 256 << 20;

/// An open database.
pub(crate) struct Database<'a> {
    file: &'a File,
    page_size: usize,
    pages: u64,
    root: u64,
    /// Pages looked at so far; a tree that shares pages with itself would be walked without end.
    seen: Cell<u64>,
}

/// A page with its further ones.
struct Page {
    number: u64,
    kind: u16,
    elements: usize,
    data: Vec<u8>,
}

type Visit<'v> = dyn FnMut(&[u8], &[u8], bool) -> Result<(), Error> + 'v;

impl<'a> Database<'a> {
    /// Opens the first `len` bytes of a file.
    pub(crate) fn open(file: &'a File, len: u64) -> Result<Self, Error> {
        let metas = [4096, 1024, 8192, 16384, 65536].into_iter().flat_map(|size| [0, size]);
        let best = metas.filter_map(|at| read_meta(file, at, len)).max_by_key(|(transaction, _)| *transaction);
        let Some((_, (page_size, root, pages))) = best else {
            return Err(Error::Damaged("it has no valid meta page; it is no etcd snapshot".into()));
        };
        if (page_size as u64).checked_mul(pages).is_none_or(|size| size > len) {
            return Err(Error::Damaged(format!("it ends before the last of its {pages} pages")));
        }
        Ok(Self { file, page_size, pages, root, seen: Cell::new(0) })
    }

    /// Calls `visit` with every key and value of a bucket, in order. False when there is no such bucket.
    pub(crate) fn bucket(&self, name: &[u8], visit: &mut Visit<'_>) -> Result<bool, Error> {
        let mut found = None;
        self.walk(self.root, 0, &mut |key, value, is_bucket| {
            if is_bucket && key == name {
                found = Some(value.to_vec());
            }
            Ok(())
        })?;
        let Some(value) = found else { return Ok(false) };
        let root = u64_at(&value, 0)?;
        if root != 0 {
            self.walk(root, 0, visit)?;
        } else {
            let data = value.get(BUCKET..).unwrap_or_default().to_vec();
            self.visit_leaf(&parse_page(0, data)?, visit)?;
        }
        Ok(true)
    }

    fn walk(&self, number: u64, depth: usize, visit: &mut Visit<'_>) -> Result<(), Error> {
        self.seen.set(self.seen.get() + 1);
        if self.seen.get() > self.pages.saturating_mul(BUCKETS) {
            return Err(Error::Damaged("its tree shares pages with itself".into()));
        }
        if depth > MAX_DEPTH {
            return Err(Error::Damaged("its tree is deeper than can be".into()));
        }
        let page = self.page(number)?;
        match page.kind {
            KIND_LEAF => self.visit_leaf(&page, visit),
            KIND_BRANCH => {
                for i in 0..page.elements {
                    self.walk(u64_at(&page.data, PAGE_HEADER + i * ELEMENT + 8)?, depth + 1, visit)?;
                }
                Ok(())
            }
            other => Err(Error::Damaged(format!("page {} is of the unexpected kind {other}", page.number))),
        }
    }

    fn visit_leaf(&self, page: &Page, visit: &mut Visit<'_>) -> Result<(), Error> {
        for i in 0..page.elements {
            let at = PAGE_HEADER + i * ELEMENT;
            let flags = u32_at(&page.data, at)?;
            let key_at = at + u32_at(&page.data, at + 4)? as usize;
            let value_at = key_at + u32_at(&page.data, at + 8)? as usize;
            let end = value_at + u32_at(&page.data, at + 12)? as usize;
            let (Some(key), Some(value)) = (page.data.get(key_at..value_at), page.data.get(value_at..end)) else {
                return Err(Error::Damaged(format!("element {i} of page {} lies outside of it", page.number)));
            };
            visit(key, value, flags & LEAF_IS_BUCKET != 0)?;
        }
        Ok(())
    }

    fn page(&self, number: u64) -> Result<Page, Error> {
        if number < 2 || number >= self.pages {
            return Err(Error::Damaged(format!("page {number} does not exist")));
        }
        let at = number * self.page_size as u64;
        let mut data = vec![0; self.page_size];
        self.file.read_exact_at(&mut data, at).map_err(Error::Read)?;
        let further = u64::from(u32_at(&data, 12)?);
        let size = (self.page_size as u64).saturating_mul(further + 1);
        if number + further >= self.pages || size > MAX_PAGE as u64 {
            return Err(Error::Damaged(format!("page {number} is longer than the file")));
        }
        if further > 0 {
            data.resize(size as usize, 0);
            self.file.read_exact_at(&mut data, at).map_err(Error::Read)?;
        }
        parse_page(number, data)
    }
}

fn parse_page(number: u64, data: Vec<u8>) -> Result<Page, Error> {
    let (Some(kind), Some(elements)) = (data.get(8..10), data.get(10..12)) else {
        return Err(Error::Damaged(format!("page {number} is cut off")));
    };
    let number_of = |bytes: &[u8]| bytes.iter().rev().fold(0_u16, |n, byte| n << 8 | u16::from(*byte));
    Ok(Page { number, kind: number_of(kind), elements: usize::from(number_of(elements)), data })
}

/// Transaction, and page size, root page and number of pages, of a valid meta page at `at`.
fn read_meta(file: &File, at: u64, len: u64) -> Option<(u64, (usize, u64, u64))> {
    if at + (PAGE_HEADER + META) as u64 > len {
        return None;
    }
    let mut data = [0; META];
    file.read_exact_at(&mut data, at + PAGE_HEADER as u64).ok()?;
    let valid = u32_at(&data, 0).ok()? == MAGIC
        && u32_at(&data, 4).ok()? == VERSION
        && u64_at(&data, META - 8).ok()? == checksum(&data[..META - 8]);
    let page_size = u32_at(&data, 8).ok()? as usize;
    let plausible = page_size.is_power_of_two() && (1024..=65536).contains(&page_size);
    let numbers = (page_size, u64_at(&data, 16).ok()?, u64_at(&data, 40).ok()?);
    (valid && plausible).then_some((u64_at(&data, 48).ok()?, numbers))
}

fn u32_at(data: &[u8], at: usize) -> Result<u32, Error> {
    let bytes = data.get(at..).and_then(|rest| rest.first_chunk::<4>());
    bytes.map(|b| u32::from_le_bytes(*b)).ok_or_else(|| Error::Damaged("a page is cut off".into()))
}

fn u64_at(data: &[u8], at: usize) -> Result<u64, Error> {
    let bytes = data.get(at..).and_then(|rest| rest.first_chunk::<8>());
    bytes.map(|b| u64::from_le_bytes(*b)).ok_or_else(|| Error::Damaged("a page is cut off".into()))
}
