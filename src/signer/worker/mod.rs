//! The worker process: it alone loads the token's module, holds the PIN and the sessions.
//!
//! It reads its settings from standard input, which is the gateway's socketpair, and signs 32 bytes at a time
//! for whoever owns the other end. It ends with the gateway, and whenever its token is in a state that only a
//! new start mends.

mod attributes;
pub(super) mod backup;
pub(super) mod conformance;
pub(super) mod destroy;
pub(super) mod drill;
pub(super) mod errors;
pub(super) mod keys;
mod keystore;
mod pool;
mod prove;
mod sandbox;
mod session;
mod tally;
mod token;

use std::fs::File;
use std::io::{self, BufReader, Read, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use nix::sys::signal::{self, SigSet};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal, getpid, kill_process};
use tracing_subscriber::EnvFilter;

use crate::log;
use crate::signer::latch;
use crate::signer::pin::take_over;
use crate::signer::protocol::{Frame, MAX_FRAME, Settings, SourceSetting, Status};

use pool::{Pool, Times};
use session::Job;
use tally::Tally;
use token::Token;

/// How many answers may wait to be written.
const ANSWERS: usize = 1024;

/// How long a session may be idle. Some tokens close those that were for 30 s.
const IDLE: Duration = Duration::from_secs(20);

/// How often a worker that is to end looks whether the login that is under way is done.
const LOOK: Duration = Duration::from_millis(10);

/// Threads that sign with software keys.
const SOFTWARE_THREADS: usize = 2;

/// Runs until the gateway is gone, or the token needs a new start.
pub fn run() -> io::Result<()> {
    harden()?;
    // Standard input is the socketpair: nothing is opened by name, nothing is in the arguments.
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    if is_left(&stream, Some(&Timespec::default()))? {
        return Ok(());
    }
    let handed = take_over(&stream)?.map(File::from);
    let mut input = BufReader::new(stream.try_clone()?);
    let settings = match read(&mut input)? {
        Frame::Settings(json) => serde_json::from_slice::<Settings>(&json).map_err(io::Error::other)?,
        _ => return Err(io::Error::other("the first frame is not the settings")),
    };
    // Before there is another thread, and before anything of the module is there.
    let confinement = sandbox::enter(&settings);
    // The gateway's log takes what is written to standard error. What `cryptoki` says of each session that is closed after
    // its token died, the worker says once.
    let _log = log::start(EnvFilter::new("info,cryptoki=off"), false)?;
    let login = settings.start_limit();
    let gateway = stream.try_clone()?;
    std::thread::spawn(move || leave_with(&gateway, login));
    let (answers, outbox) = sync_channel(ANSWERS);
    let writer = std::thread::spawn(move || write_answers(stream, &outbox, login));

    let tally = Arc::new(Tally::default());
    let (pool, sessions) = match open(&settings, handed, &answers, &tally) {
        Ok(opened) => opened,
        Err(mut status) => {
            if let (Status::Down(why), Some(_)) = (&mut status, &settings.sandbox) {
                why.push_str(
                    " (in a sandbox: `files`, `network` and `sandbox` of [[token]] say what it may use)",
                );
            }
            drop(answers.send(Frame::Status(status)));
            drop(answers);
            drop(writer.join());
            return Ok(());
        }
    };
    drop(answers.send(Frame::Status(Status::Ready { sessions, confinement })));
    drop(answers.send(Frame::Report(tally.report(0, 0))));
    loop {
        match read(&mut input) {
            Ok(Frame::Sign { id, within_ms, key, digest }) => {
                pool.submit(Job::new(id, key, digest, Duration::from_millis(within_ms.into())));
            }
            // The gateway is gone, or does not keep to the protocol.
            _ => end(login),
        }
    }
}

fn open(
    settings: &Settings,
    handed: Option<File>,
    answers: &SyncSender<Frame>,
    tally: &Arc<Tally>,
) -> Result<(Pool, usize), Status> {
    let times = Times { hang: settings.hang_limit(), idle: IDLE };
    let (tally, max_stuck, answers) = (Arc::clone(tally), settings.max_stuck, answers.clone());
    match &settings.source {
        SourceSetting::Token { .. } => {
            let token = Token::open(settings, handed, Arc::clone(&tally))?;
            let sessions = token.sessions();
            Ok((Pool::start(token, sessions, times, max_stuck, answers, tally), sessions))
        }
        SourceSetting::Keystores { files } => {
            let keys = keystore::open(&settings.keys, files)?;
            let pool = Pool::start(keys, SOFTWARE_THREADS, times, max_stuck, answers, tally);
            Ok((pool, SOFTWARE_THREADS))
        }
    }
}

/// Whether the gateway is gone, also before the kernel was told to end us with it. What it wrote may be there to read.
fn is_left(stream: &UnixStream, within: Option<&Timespec>) -> io::Result<bool> {
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    poll(&mut fds, within)?;
    Ok(fds.iter().any(|fd| fd.revents().intersects(PollFlags::HUP | PollFlags::RDHUP)))
}

/// Ends with the gateway also where the main thread is in the module, and does not read: what it has not begun it does not begin.
fn leave_with(gateway: &UnixStream, login: Duration) {
    while !is_left(gateway, None).unwrap_or_default() {
        pool::pause(LOOK);
    }
    end(login);
}

/// No core dump, no ptrace by others, and no life without the gateway. What asks the gateway to end asks its whole group (systemd, a
/// terminal), and is not for us: we end with the gateway, and in no login.
fn harden() -> io::Result<()> {
    // Every thread that comes after has this mask.
    SigSet::from_iter([signal::SIGHUP, signal::SIGINT, signal::SIGTERM]).thread_block()?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// Writes answers as they come, as many as there are in one write.
fn write_answers(mut stream: UnixStream, outbox: &Receiver<Frame>, login: Duration) {
    let mut out = Vec::new();
    while let Ok(frame) = outbox.recv() {
        out.clear();
        frame.write(&mut out);
        while let Ok(more) = outbox.try_recv() {
            more.write(&mut out);
        }
        if stream.write_all(&out).is_err() {
            end(login);
        }
    }
}

fn read(input: &mut impl Read) -> io::Result<Frame> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = Frame::length(length).map_err(io::Error::other)?.min(MAX_FRAME);
    let mut body = vec![0; length];
    input.read_exact(&mut body)?;
    Frame::read(&body).map_err(io::Error::other)
}

/// Ends the process whatever its other threads are stuck in: a module that hangs cannot be joined, and one that is being used does
/// not bear its destructors.
///
/// A login that is under way may take this long from its beginning: what came of it must be written first, for a refused PIN is never
/// tried again.
fn end(login: Duration) -> ! {
    latch::ends();
    while latch::trying_for().is_some_and(|so_far| so_far < login) {
        pool::pause(LOOK);
    }
    log::flush();
    loop {
        let _ = kill_process(getpid(), Signal::KILL);
        pool::pause(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_whose_gateway_is_gone_already_does_not_begin() {
        let (mut gateway, worker) = UnixStream::pair().unwrap();
        gateway.write_all(b"settings").unwrap();
        assert!(!is_left(&worker, Some(&Timespec::default())).unwrap());
        drop(gateway);
        assert!(is_left(&worker, None).unwrap(), "what it wrote is still there, and it is not");
    }
}
