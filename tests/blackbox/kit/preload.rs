//! A world that a process sees otherwise: a clock that is set, and a disk whose writes fail. By libfaketime and libfiu, which
//! stand between it and its C library.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Pid;

use super::gateway::World;
use super::tools::library;

/// The wall clock of one process, which may be set while it runs. Its other clocks go on as they are.
#[derive(Debug)]
pub struct WallClock {
    file: PathBuf,
}

impl WallClock {
    pub fn of(world: World) -> (World, Self) {
        let folder = world.folder();
        let clock = Self { file: folder.join("clock") };
        clock.set("+0");
        let libfaketime = library(
            "LIBFAKETIME",
            &[
                "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
                "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
                "/usr/lib64/faketime/libfaketime.so.1",
            ],
        );
        let prelude = format!(
            "export LD_PRELOAD={} FAKETIME_TIMESTAMP_FILE={} FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1",
            libfaketime.display(),
            clock.file.display()
        );
        (world.shell(&prelude), clock)
    }

    /// So far from what it is: `+2h`, `-90m`.
    pub fn set(&self, from_now: &str) {
        let new = self.file.with_added_extension("new");
        std::fs::write(&new, format!("{from_now}\n")).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }
}

/// Calls of the C library that fail in one process, for as long as they are said to.
#[derive(Debug)]
pub struct FailingCalls {
    control: PathBuf,
}

impl FailingCalls {
    pub fn of(world: World) -> (World, Self) {
        let control = world.folder().join("fiu");
        let preload = |name: &str| {
            library(
                &format!("LIB{}", name.to_uppercase()),
                &[&*format!("/usr/lib/fiu/{name}.so"), &*format!("/usr/lib/x86_64-linux-gnu/fiu/{name}.so")],
            )
        };
        let prelude = format!(
            "export LD_PRELOAD={}:{} FIU_CTRL_FIFO={}",
            preload("fiu_run_preload").display(),
            preload("fiu_posix_preload").display(),
            control.display()
        );
        (world.shell(&prelude), Self { control })
    }

    /// From now on `what` fails (`posix/io/sync/fdatasync`), with EIO.
    pub fn begin(&self, process: Pid, what: &str) {
        self.tell(process, &format!("enable name={what},failinfo=5"));
    }

    pub fn end(&self, process: Pid, what: &str) {
        self.tell(process, &format!("disable name={what}"));
    }

    fn tell(&self, process: Pid, command: &str) {
        let mut control = Command::new("fiu-ctrl");
        control.args([Path::new("-f"), &self.control]).args(["-c", command]);
        let done = control
            .arg(process.as_raw_nonzero().to_string())
            .output()
            .expect("fiu-ctrl (fiu-utils) is needed");
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
