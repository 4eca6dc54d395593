//! Counts calls in a file, so that they outlive the process.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The file. One process at a time writes it, in turns.
pub struct Counts(Mutex<File>);

impl Counts {
    pub fn open(folder: &Path) -> Self {
        let path = folder.join("counts");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        Self(Mutex::new(file.unwrap_or_else(|e| panic!("{}: {e}", path.display()))))
    }

    /// What stood there.
    pub fn change(&self, place: u64, change: impl FnOnce(u64) -> u64) -> u64 {
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = [0; 8];
        // What was never written is zero.
        let _ = file.read_exact_at(&mut bytes, place * 8);
        let was = u64::from_le_bytes(bytes);
        let becomes = change(was);
        if becomes != was {
            file.write_all_at(&becomes.to_le_bytes(), place * 8).expect("counts are written");
        }
        was
    }

    pub fn add(&self, place: u64) -> u64 {
        self.change(place, |was| was + 1)
    }

    pub fn set(&self, place: u64, value: u64) {
        self.change(place, |_| value);
    }

    pub fn read(&self, place: u64) -> u64 {
        self.change(place, |was| was)
    }
}
