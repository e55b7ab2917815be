//! That these disks lose what was not flushed, and nothing else: without this the other tests would prove nothing.

use std::fs::{self, File};
use std::io::Write;

use super::mount::Mounted;
use crate::support::random::Random;

const ROUNDS: u64 = 4;

#[test]
#[ignore = "needs root: `make test-power`"]
fn a_file_that_was_synced_is_there_after_a_cut_and_one_that_was_not_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("mounted");
    let mut disk = Mounted::empty(&at);
    for round in 0..ROUNDS {
        let (synced, unsynced) = (at.join(format!("synced-{round}")), at.join(format!("unsynced-{round}")));
        let mut file = File::create(&synced).unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        file.sync_all().unwrap();
        fs::write(&unsynced, [8; 10_000]).unwrap();
        assert_eq!(fs::read(&unsynced).unwrap(), [8; 10_000]);

        let left = disk.cut(&mut Random::new(round));
        drop(disk);
        disk = Mounted::left(left, &at);
        for earlier in 0..=round {
            assert_eq!(fs::read(at.join(format!("synced-{earlier}"))).unwrap(), [7; 10_000]);
        }
        assert_ne!(fs::read(&unsynced).unwrap_or_default(), [8; 10_000], "the page cache survived");
    }
}
