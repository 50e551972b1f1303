//! The database file inside an etcd snapshot: bbolt's, as far as snapshots need it.
//!
//! A file is pages of one size. Two meta pages name the root bucket; the valid one with the higher transaction number counts.
//! A bucket is a B+tree of branch and leaf pages, its keys sorted; the root bucket's values are the other buckets. Numbers
//! are little-endian.
//! ```text
//! page     u64 own number, u16 kind (1 branch, 2 leaf, 4 meta, 16 free list), u16 elements, u32 further pages that belong to it
//! meta     u32 magic, u32 version, u32 page size, u32 flags, root bucket, u64 free list's page, u64 pages in the file,
//!          u64 transaction, u64 FNV-1a of the meta so far
//! bucket   u64 root page (0: the page follows inline), u64 sequence
//! branch   u32 distance from the element to its key, u32 length of the key, u64 page
//! leaf     u32 flags (1: a bucket), u32 distance from the element to its key, u32 length of the key, u32 length of the value
//! ```

mod read;
mod write;

pub(crate) use read::Database;
pub(crate) use write::Writer;

const PAGE_HEADER: usize = 16;
const ELEMENT: usize = 16;
const META: usize = 64;
const BUCKET: usize = 16;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

const KIND_BRANCH: u16 = 1;
const KIND_LEAF: u16 = 2;
const KIND_META: u16 = 4;
const KIND_FREE_LIST: u16 = 16;
const LEAF_IS_BUCKET: u32 = 1;

/// FNV-1a with 64 bits.
fn checksum(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
