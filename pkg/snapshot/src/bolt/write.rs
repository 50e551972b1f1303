//! Writing a database bottom-up: leaves as they come, then the branches above them.

use std::io::{self, SeekFrom, Write};

use super::{
    BUCKET, ELEMENT, KIND_BRANCH, KIND_FREE_LIST, KIND_LEAF, KIND_META, LEAF_IS_BUCKET, MAGIC, META, PAGE_HEADER,
    VERSION, checksum,
};

const PAGE: usize = 4096;

/// A database being written. Buckets come one after the other, in the order of their names; so do the keys of each.
pub(crate) struct Writer<W> {
    out: W,
    /// The number of the next page.
    next: u64,
    buckets: Vec<(Vec<u8>, u64)>,
    leaf: Vec<(Vec<u8>, Vec<u8>)>,
    leaf_size: usize,
    /// First keys and numbers of the pages of the bucket so far.
    pages: Vec<(Vec<u8>, u64)>,
}

impl<W: Write + io::Seek> Writer<W> {
    pub(crate) fn new(mut out: W) -> io::Result<Self> {
        // Two metas and the free list; the metas are filled in at the end.
        out.write_all(&[0; 3 * PAGE])?;
        Ok(Self { out, next: 3, buckets: Vec::new(), leaf: Vec::new(), leaf_size: 0, pages: Vec::new() })
    }

    /// Adds a key to the bucket under way.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let size = ELEMENT + key.len() + value.len();
        if !self.leaf.is_empty() && self.leaf_size + size > PAGE {
            self.end_leaf()?;
        }
        if self.leaf.is_empty() {
            self.leaf_size = PAGE_HEADER;
        }
        self.leaf_size += size;
        self.leaf.push((key.to_vec(), value.to_vec()));
        Ok(())
    }

    /// Ends the bucket under way.
    pub(crate) fn end_bucket(&mut self, name: &[u8]) -> io::Result<()> {
        let root = self.end_tree()?;
        self.buckets.push((name.to_vec(), root));
        Ok(())
    }

    /// Writes the root bucket and the metas.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        // Few and short names: one page holds them all.
        let bucket = |(name, root): (Vec<u8>, u64)| (name, [root.to_le_bytes(), [0; BUCKET / 2]].concat());
        let entries: Vec<_> = std::mem::take(&mut self.buckets).into_iter().map(bucket).collect();
        let body = leaf_body(&entries, LEAF_IS_BUCKET);
        let root = self.page(KIND_LEAF, entries.len(), &body)?;
        let pages = self.next;
        self.out.seek(SeekFrom::Start(0))?;
        for number in 0..2_u64 {
            let mut page = header(number, KIND_META, 0, 0);
            page.extend_from_slice(&meta(root, pages, number));
            page.resize(PAGE, 0);
            self.out.write_all(&page)?;
        }
        let mut free = header(2, KIND_FREE_LIST, 0, 0);
        free.resize(PAGE, 0);
        self.out.write_all(&free)?;
        self.out.seek(SeekFrom::End(0))?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn end_leaf(&mut self) -> io::Result<()> {
        let entries = std::mem::take(&mut self.leaf);
        let first = entries.first().map(|(key, _)| key.clone()).unwrap_or_default();
        let number = self.page(KIND_LEAF, entries.len(), &leaf_body(&entries, 0))?;
        self.pages.push((first, number));
        Ok(())
    }

    fn end_tree(&mut self) -> io::Result<u64> {
        if !self.leaf.is_empty() || self.pages.is_empty() {
            self.end_leaf()?;
        }
        let mut level = std::mem::take(&mut self.pages);
        while level.len() > 1 {
            let mut above = Vec::new();
            let mut rest = level.as_slice();
            while !rest.is_empty() {
                let count = children(rest);
                let (group, others) = rest.split_at(count);
                let number = self.page(KIND_BRANCH, group.len(), &branch_body(group))?;
                above.push((group.first().map(|(key, _)| key.clone()).unwrap_or_default(), number));
                rest = others;
            }
            level = above;
        }
        Ok(level.first().map_or(0, |(_, number)| *number))
    }

    /// Writes a page with as many further ones as its body needs.
    fn page(&mut self, kind: u16, elements: usize, body: &[u8]) -> io::Result<u64> {
        let number = self.next;
        let count = (PAGE_HEADER + body.len()).div_ceil(PAGE).max(1);
        let mut page = header(number, kind, elements as u16, (count - 1) as u32);
        page.extend_from_slice(body);
        page.resize(count * PAGE, 0);
        self.out.write_all(&page)?;
        self.next += count as u64;
        Ok(number)
    }
}

/// How many pages of a level fit below one branch: at least two, so that levels shrink.
fn children(level: &[(Vec<u8>, u64)]) -> usize {
    let mut size = PAGE_HEADER;
    let fits = level.iter().take_while(|(key, _)| {
        size += ELEMENT + key.len();
        size <= PAGE
    });
    fits.count().max(2).min(level.len())
}

fn header(number: u64, kind: u16, elements: u16, further: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(PAGE);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&elements.to_le_bytes());
    out.extend_from_slice(&further.to_le_bytes());
    out
}

fn leaf_body(entries: &[(Vec<u8>, Vec<u8>)], flags: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let mut data = entries.len() * ELEMENT;
    for (i, (key, value)) in entries.iter().enumerate() {
        let distance = data - i * ELEMENT;
        for number in [flags, distance as u32, key.len() as u32, value.len() as u32] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        data += key.len() + value.len();
    }
    for (key, value) in entries {
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    out
}

fn branch_body(children: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut data = children.len() * ELEMENT;
    for (i, (key, page)) in children.iter().enumerate() {
        let distance = data - i * ELEMENT;
        out.extend_from_slice(&(distance as u32).to_le_bytes());
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(&page.to_le_bytes());
        data += key.len();
    }
    children.iter().for_each(|(key, _)| out.extend_from_slice(key));
    out
}

fn meta(root: u64, pages: u64, transaction: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(META);
    for number in [MAGIC, VERSION, PAGE as u32, 0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    // Root bucket and its sequence, the free list's page, the number of pages, the transaction.
    for number in [root, 0, 2, pages, transaction] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    let sum = checksum(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
}
