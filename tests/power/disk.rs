//! A disk that forgets: what was written and never flushed may be gone after a power cut, sector by sector.
//!
//! It is as bad as a disk with a volatile cache may be. Of the writes since the last flush it keeps any selection, in
//! any order, and tears each of them between two sectors. What was flushed it keeps.

use crate::support::random::Random;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// ext4 writes its superblock outside of its journal, and trusts disks to write 4 KiB whole. So they do, here alone.
const SUPERBLOCK: usize = 4096;

/// So many quarters of the sectors that were not flushed may survive a cut.
const QUARTERS: usize = 4;

/// What is written, and what of it would still be there.
#[derive(Debug)]
pub struct Disk {
    /// What is read.
    seen: Vec<u8>,
    /// What is there whatever happens.
    kept: Vec<u8>,
    /// What was written since the last flush, in order.
    unflushed: Vec<(usize, Vec<u8>)>,
    /// How often it was told to flush.
    flushes: u64,
}

impl Disk {
    /// A disk that holds this.
    pub fn holding(content: Vec<u8>) -> Self {
        Self { seen: content.clone(), kept: content, unflushed: Vec::new(), flushes: 0 }
    }

    /// In bytes.
    pub fn size(&self) -> usize {
        self.seen.len()
    }

    /// Up to `length` bytes; fewer at the end.
    pub fn read(&self, at: usize, length: usize) -> &[u8] {
        let end = at.saturating_add(length).min(self.size());
        self.seen.get(at..end).unwrap_or_default()
    }

    /// Takes bytes into its cache.
    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        self.seen[at..at + bytes.len()].copy_from_slice(bytes);
        self.unflushed.push((at, bytes.to_vec()));
    }

    /// Keeps what it has.
    pub fn flush(&mut self) {
        for (at, bytes) in self.unflushed.drain(..) {
            self.kept[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        self.flushes += 1;
    }

    /// How often it was told to flush.
    pub fn flushes(&self) -> u64 {
        self.flushes
    }

    /// What is left if the power goes now.
    pub fn cut(&self, random: &mut Random) -> Vec<u8> {
        let mut left = self.kept.clone();
        let survive = random.below(QUARTERS + 1);
        for (at, bytes) in &self.unflushed {
            let whole = if *at < SUPERBLOCK { bytes.len() } else { SECTOR };
            for (number, sector) in bytes.chunks(whole).enumerate() {
                if random.below(QUARTERS) < survive {
                    let at = at + number * whole;
                    left[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_is_kept_and_of_the_rest_each_sector_may_be_lost() {
        let mut disk = Disk::holding(vec![0; SUPERBLOCK + 8 * SECTOR]);
        disk.write(SUPERBLOCK, &[1; 2 * SECTOR]);
        disk.flush();
        disk.write(SUPERBLOCK + SECTOR, &[2; 4 * SECTOR]);
        assert_eq!(disk.read(SUPERBLOCK + SECTOR, 2), [2, 2]);
        let mut random = Random::new(1);
        let (mut lost, mut survived, mut torn) = (0, 0, 0);
        for _ in 0..200 {
            let left = disk.cut(&mut random).split_off(SUPERBLOCK);
            assert_eq!(left[..SECTOR], [1; SECTOR], "it was flushed");
            assert!(left[SECTOR..2 * SECTOR].iter().all(|byte| *byte == 1 || *byte == 2));
            let rest = &left[2 * SECTOR..5 * SECTOR];
            match rest.chunks(SECTOR).filter(|sector| sector[0] == 2).count() {
                0 => lost += 1,
                3 => survived += 1,
                _ => torn += 1,
            }
            assert!(rest.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        }
        assert!(lost > 20 && survived > 20 && torn > 20, "{lost} {survived} {torn}");
    }
}
