//! A disk that can be full: a small tmpfs where mounting is allowed, a limit on the size of files where it is not.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;
use tempfile::TempDir;

/// A folder with little room. Unmounted and removed when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: TempDir,
    mounted: bool,
}

impl SmallDisk {
    pub fn new() -> Self {
        let folder = TempDir::with_prefix("chancery-disk-").unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "chancery-test"])
            .arg(folder.path())
            .output();
        Self { mounted: mount.is_ok_and(|output| output.status.success()), folder }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves no byte of room for `process`.
    pub fn fill(&self, process: Pid) {
        if !self.mounted {
            return limit(process, "0");
        }
        let mut ballast = fs::File::create(self.ballast()).unwrap();
        for size in [64 * 1024, 1] {
            let full = loop {
                if let Err(e) = ballast.write_all(&vec![0; size]) {
                    break e;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
        }
    }

    /// Makes room again.
    pub fn clear(&self, process: Pid) {
        if self.mounted {
            fs::remove_file(self.ballast()).unwrap();
        } else {
            limit(process, "unlimited");
        }
    }

    fn ballast(&self) -> PathBuf {
        self.folder.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: whoever still has a file open there keeps it until it ends.
            drop(Command::new("umount").arg("--lazy").arg(self.folder.path()).status());
        }
    }
}

/// Past its soft limit a write fails; the signal that comes with it is ignored by the program, as the kit starts it.
fn limit(process: Pid, size: &str) {
    let status = Command::new("prlimit")
        .arg(format!("--pid={}", process.as_raw_nonzero()))
        .arg(format!("--fsize={size}:"))
        .status();
    assert!(status.is_ok_and(|status| status.success()), "prlimit (util-linux) is needed");
}
