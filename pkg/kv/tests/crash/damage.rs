//! Bits that flip on the disk.

use std::path::Path;

use kedge_kv::{Embedded, Error};

use crate::disk::Disk;
use crate::history::Driver;
use crate::rng::Rng;
use crate::{seed, states};

const FLIPS: usize = 1_500;
const STORES: u64 = 4;

/// A flipped bit is found and the file named, or it is where nothing is. What is served is never wrong.
#[tokio::test]
async fn a_flipped_bit_is_never_served() {
    let (mut found, mut harmless) = (0, 0);
    for i in 0..STORES {
        let seed = seed() * 3_000 + i;
        let mut driver = Driver::new(seed, None);
        driver.live(150).await.unwrap();
        driver.settle().await;
        // Every other one was not closed in order.
        let image = if i % 2 == 0 { driver.close().await.image() } else { states::all_done(&driver.end()).image() };
        let dir = Path::new("/store");
        let right = Embedded::read(&Disk::of(image.clone()), dir).unwrap();
        let names: Vec<(String, usize)> = image.names.iter().map(|(name, file)| (name.clone(), *file)).collect();
        let mut rng = Rng(seed);
        for _ in 0..FLIPS {
            let (name, file) = &names[rng.below(names.len() as u64) as usize];
            let mut flipped = image.clone();
            let content = &mut flipped.files[*file];
            let (byte, bit) = (rng.below(content.len() as u64) as usize, rng.below(8));
            content[byte] ^= 1 << bit;
            match Embedded::read(&Disk::of(flipped), dir) {
                Ok(read) => {
                    assert_eq!(read, right, "seed {seed}: bit {bit} of byte {byte} of {name} changed what is served");
                    harmless += 1;
                }
                Err(Error::Corrupt { path, .. } | Error::Version { path, .. }) => {
                    let named = path.file_name().unwrap().to_string_lossy().into_owned();
                    // The end of a segment is known by the one after it.
                    let next = names.iter().any(|(other, _)| *other == named) && named > *name;
                    assert!(named == *name || next, "seed {seed}: {name} is damaged, but {named} is named");
                    found += 1;
                }
                Err(err) => panic!("seed {seed}: {name}: {err}"),
            }
        }
    }
    println!("{found} flips found, {harmless} harmless");
    assert!(found + harmless >= 5_000 && found > harmless / 2);
}
