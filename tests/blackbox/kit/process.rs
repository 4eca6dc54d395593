//! Child processes: killed when dropped, with an output that can be waited for and shown.

use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How long a program of these tests may take to do one thing.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program that runs beside the test.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    out: Transcript,
    err: Transcript,
}

/// What a program wrote so far, as long as it is read.
#[derive(Clone, Debug, Default)]
struct Transcript {
    text: Arc<Mutex<String>>,
    is_deaf: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
}

/// What a program left behind.
#[derive(Debug)]
pub struct Output {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Process {
    pub fn start(command: &mut Command) -> Self {
        let name = program_name(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        let out = Transcript::of(child.stdout.take().unwrap());
        let err = Transcript::of(child.stderr.take().unwrap());
        Self { name, child, out, err }
    }

    pub fn stdout(&self) -> String {
        self.out.text()
    }

    pub fn stderr(&self) -> String {
        self.err.text()
    }

    /// From now on nobody reads what it writes to stderr; or somebody does again, all of it.
    pub fn listen(&self, listens: bool) {
        self.err.is_deaf.store(!listens, Ordering::Relaxed);
    }

    /// Waits until the program has written a line to stdout that contains `what`, and gives that line.
    pub async fn says(&mut self, what: &str) -> Result<String, Output> {
        let line = |out: &Transcript| {
            let text = out.text();
            // Only whole lines: the rest of the last one may still be on its way.
            text.split_inclusive('\n')
                .find(|line| line.ends_with('\n') && line.contains(what))
                .map(|line| line.trim_end().to_owned())
        };
        let waited = timeout(PATIENCE, async {
            loop {
                if let Some(line) = line(&self.out) {
                    return Ok(line);
                }
                if let Some(status) = self.child.try_wait().unwrap() {
                    self.last_words().await;
                    return line(&self.out).ok_or(status);
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
        let said = waited.await.unwrap_or_else(|_| {
            panic!("{} does not say `{what}`:\n{}{}", self.name, self.stdout(), self.stderr())
        });
        said.map_err(|status| Output { code: status.code(), stdout: self.stdout(), stderr: self.stderr() })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub fn pid(&self) -> Pid {
        let pid = self.child.id().expect("it runs");
        Pid::from_raw(pid.try_into().unwrap()).unwrap()
    }

    /// The processes that this one started.
    pub fn children(&self) -> Vec<Pid> {
        children_of(self.pid())
    }

    /// What it wrote may still be in its pipes, which who it started may hold open.
    async fn last_words(&self) {
        for _ in 0..100 {
            if [&self.out, &self.err].iter().all(|pipe| pipe.is_over.load(Ordering::Relaxed)) {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for its end.
    pub async fn ends(mut self) -> Output {
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .unwrap_or_else(|_| panic!("{} does not end:\n{}", self.name, self.err.text()))
            .unwrap();
        self.last_words().await;
        Output { code: status.code(), stdout: self.stdout(), stderr: self.stderr() }
    }
}

impl Output {
    /// Its stdout, if it ended well.
    #[track_caller]
    pub fn well(self) -> String {
        assert!(self.code == Some(0), "exit code {:?}:\n{}{}", self.code, self.stdout, self.stderr);
        self.stdout
    }
}

impl Transcript {
    fn of(pipe: impl AsyncRead + Send + Unpin + 'static) -> Self {
        let transcript = Self::default();
        let Self { text, is_deaf, is_over } = transcript.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(pipe);
            let mut line = Vec::new();
            while matches!(lines.read_until(b'\n', &mut line).await, Ok(1..)) {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                line.clear();
                while is_deaf.load(Ordering::Relaxed) {
                    sleep(Duration::from_millis(10)).await;
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
        transcript
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }
}

/// Runs a program to its end.
pub async fn run(command: &mut Command) -> Output {
    let name = program_name(command);
    let output = timeout(PATIENCE, command.stdin(Stdio::null()).kill_on_drop(true).output())
        .await
        .unwrap_or_else(|_| panic!("{name} does not end"))
        .unwrap_or_else(|e| panic!("{name} does not start: {e}"));
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The processes whose parent is `parent`, by what /proc says.
pub fn children_of(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().to_string();
    let Ok(all) = std::fs::read_dir("/proc") else { return Vec::new() };
    all.filter_map(|entry| {
        let entry = entry.ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // pid (name) state ppid …; the name may hold anything, so from its last parenthesis on.
        let ppid = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
        (ppid == parent).then(|| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw))?
    })
    .collect()
}

fn program_name(command: &Command) -> String {
    let program = Path::new(command.as_std().get_program());
    program.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
