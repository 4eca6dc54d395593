//! A PostgreSQL server of the tests' own, in a private folder, reached through a socket there; never one that happens
//! to run.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A server, stopped when dropped.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    running: Mutex<Option<Child>>,
    /// Where it listens besides, with TLS.
    port: Option<u16>,
    databases: AtomicUsize,
}

/// The one that tests of this process share, for as long as one of them runs.
static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());

impl Server {
    /// One that others use too: not to be stopped.
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("chancery-pg-").tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        if let Some((user, group)) = nobody() {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let server =
            Self { folder, running: Mutex::default(), port: None, databases: AtomicUsize::default() };
        let mut initdb = server.program("initdb");
        // Other tests' `fsync` would make it slow; what it makes is thrown away.
        initdb.args([
            "--auth=trust",
            "--username=chancery",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "-D",
        ]);
        let made = initdb.arg(server.data()).output().unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        server.run();
        server
    }

    #[allow(dead_code, reason = "each of the programs that include this file uses a part of it")]
    /// One that is reached over TLS as well, with this certificate and key. Its port.
    pub fn with_tls(certificate: &str, key: &str) -> (Self, u16) {
        let mut server = Self::start();
        server.crash();
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let file = server.data().join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = nobody() {
                chown(&file, Some(user), Some(group)).unwrap();
            }
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        server.port = Some(free);
        server.run();
        (server, free)
    }

    /// Starts it again, where it was stopped.
    #[expect(clippy::disallowed_methods, reason = "no runtime is needed to wait for a server")]
    pub fn run(&self) {
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let mut postgres = self.program("postgres");
        postgres.arg("-D").arg(self.data()).arg("-k").arg(self.folder.path());
        postgres.args(["-c", "max_connections=60", "-c", "shared_buffers=32MB"]);
        match self.port {
            Some(port) => {
                postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on", "-c"]);
                postgres.arg(format!("port={port}"));
            }
            None => drop(postgres.args(["-c", "listen_addresses="])),
        }
        let child = postgres.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        *self.running.lock().unwrap() = Some(child);
        let began = Instant::now();
        while self.try_psql("postgres", "SELECT 1").is_err() {
            assert!(began.elapsed() < Duration::from_secs(60), "the server does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// As a crash does: every connection is cut, and nothing is written any more.
    pub fn crash(&self) {
        let Some(mut child) = self.running.lock().unwrap().take() else { return };
        // SIGQUIT is its immediate shutdown; to kill it would leave its children.
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
        child.wait().unwrap();
    }

    #[allow(dead_code, reason = "each of the programs that include this file uses a part of it")]
    /// A second server that hears of its commits, for which it does not wait; until that one is dropped.
    pub fn standby(&self) -> Standby<'_> {
        let copy = self.folder.path().join("standby");
        if !copy.exists() {
            let mut backup = self.program("pg_basebackup");
            backup.args([
                "--username=chancery",
                "--checkpoint=fast",
                "--no-sync",
                "--write-recovery-conf",
                "-h",
            ]);
            backup.arg(self.folder.path()).args(["-p", &self.port.unwrap_or(5432).to_string()]);
            let made = backup.arg("-D").arg(&copy).output().unwrap();
            assert!(made.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&made.stderr));
        }
        let log = std::fs::File::create(self.folder.path().join("standby.log")).unwrap();
        let mut postgres = self.program("postgres");
        postgres.arg("-D").arg(&copy).args(["-c", "listen_addresses=", "-c", "port=5433", "-k"]);
        let postgres = postgres.arg(self.folder.path()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Standby { of: self, postgres }
    }

    #[allow(dead_code, reason = "each of the programs that include this file uses a part of it")]
    /// It breaks down, and what its standby had heard by then is there in its place.
    pub fn fail_over(&self) {
        self.crash();
        let copy = self.folder.path().join("standby");
        std::fs::rename(self.data(), self.folder.path().join("lost")).unwrap();
        std::fs::remove_file(copy.join("standby.signal")).unwrap();
        std::fs::rename(copy, self.data()).unwrap();
        self.run();
    }

    /// A database of its own. Its name.
    pub fn database(&self) -> String {
        let name = format!("ledger{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    pub fn url(&self, database: &str) -> String {
        let port = self.port.unwrap_or(5432);
        format!("postgres://chancery@localhost:{port}/{database}?host={}", self.folder.path().display())
    }

    /// What a statement answers, one line a row.
    pub fn psql(&self, database: &str, statement: &str) -> String {
        self.try_psql(database, statement).unwrap()
    }

    pub fn try_psql(&self, database: &str, statement: &str) -> Result<String, String> {
        let mut psql = self.program("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "chancery", "-d", database]);
        let done = psql
            .args(["-p", &self.port.unwrap_or(5432).to_string()])
            .arg("-h")
            .arg(self.folder.path())
            .args(["-c", statement])
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A program of PostgreSQL's. It does not run as root.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(installed(name));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        if let Some((user, group)) = nobody() {
            command.uid(user).gid(group);
        }
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.crash();
    }
}

/// Stopped when dropped.
#[derive(Debug)]
pub struct Standby<'a> {
    of: &'a Server,
    postgres: Child,
}

impl Standby<'_> {
    #[allow(dead_code, reason = "each of the programs that include this file uses a part of it")]
    #[expect(clippy::disallowed_methods, reason = "no runtime is needed to wait for a server")]
    /// Waits until it has heard of all that is there now.
    pub fn has_heard(&self) {
        let began = Instant::now();
        let behind =
            "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn >= pg_current_wal_flush_lsn()";
        while self.of.psql("postgres", behind) != "1" {
            let log = || std::fs::read_to_string(self.of.folder.path().join("standby.log"));
            assert!(began.elapsed() < Duration::from_secs(60), "the standby hears nothing: {:?}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Standby<'_> {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.postgres);
        // A fast end, with a checkpoint: what it has heard it keeps.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        drop(self.postgres.wait());
    }
}

/// The newest that Debian's packages have installed, or what is on the path.
fn installed(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |entry: &std::fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let newest = versions.filter_map(|entry| Some((number(&entry)?, entry.path()))).max();
    newest.map_or_else(|| Path::new(name).to_owned(), |(_, path)| path.join("bin").join(name))
}

/// Whom to be instead of root.
fn nobody() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut numbers = line.split(':').skip(2).map(|number| number.parse::<u32>().unwrap());
        numbers.next().zip(numbers.next())
    };
    of("postgres").or_else(|| of("nobody"))
}
