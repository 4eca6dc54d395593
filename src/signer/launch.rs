//! Starts a worker's process: as whom, with what in its hands, and with nothing else.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command as StdCommand, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock};

use nix::unistd::User;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::signer::StartError;
use crate::signer::pin::hand_over;
use crate::signer::protocol::Settings;

/// What each life of a worker begins with.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub executable: PathBuf,
    /// Another user's process than ours.
    pub as_user: Option<Ids>,
    /// The PIN's file, where the worker does not open it itself.
    pub pin: Option<Arc<OwnedFd>>,
}

/// A user, and the one group that the process is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ids {
    pub user: u32,
    pub group: u32,
}

impl Ids {
    pub(super) fn ours() -> Self {
        Self { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() }
    }

    /// By name. Only root can start a process of somebody else.
    pub(super) fn of(name: &str) -> Result<Self, StartError> {
        if !rustix::process::geteuid().is_root() {
            let what =
                "only root can start a worker as another user: start `serve` as root, or leave `user` out";
            return Err(StartError::Wrong(format!("user `{name}`: {what}")));
        }
        match User::from_name(name) {
            Ok(Some(user)) => Ok(Self { user: user.uid.as_raw(), group: user.gid.as_raw() }),
            Ok(None) => Err(StartError::Wrong(format!("there is no user `{name}` on this machine"))),
            Err(error) => Err(StartError::Wrong(format!("user `{name}` cannot be looked up: {error}"))),
        }
    }
}

impl Launch {
    /// The socketpair's other end is the worker's standard input: nothing about the token is in its arguments.
    pub(super) async fn worker(&self, settings: &Settings) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = StdStream::pair()?;
        hand_over(&ours, self.pin.as_ref().map(AsRawFd::as_raw_fd))?;
        ours.set_nonblocking(true)?;
        let mut command = StdCommand::new(&self.executable);
        command
            .arg("signer-worker")
            .env_clear()
            .envs(&settings.environment)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null());
        if let Some(ids) = self.as_user {
            // Where root sets a user, all other groups are dropped.
            command.uid(ids.user).gid(ids.group);
        }
        Ok((start(command).await?, UnixStream::from_std(ours)?))
    }
}

/// A command, the runtime that is told of its end, and where the process goes.
type Order = (StdCommand, Handle, oneshot::Sender<io::Result<Child>>);

/// A worker is to end with us, and for the kernel "us" is the thread that started it (`PR_SET_PDEATHSIG` in prctl(2)). A runtime's
/// threads come and go: this one stays.
static STARTER: LazyLock<Sender<Order>> = LazyLock::new(|| {
    let (orders, taken) = channel::<Order>();
    let starter = move || {
        for (command, runtime, reply) in taken {
            let _runtime = runtime.enter();
            // Who ordered it may have gone, and the process goes with its handle.
            drop(reply.send(Command::from(command).kill_on_drop(true).spawn()));
        }
    };
    // Without the thread nobody takes an order, which its sender is told.
    drop(std::thread::Builder::new().name("worker-starter".to_owned()).spawn(starter));
    orders
});

async fn start(command: StdCommand) -> io::Result<Child> {
    let gone = || io::Error::other("the thread that starts workers is gone");
    let (reply, started) = oneshot::channel();
    STARTER.send((command, Handle::current(), reply)).map_err(|_| gone())?;
    started.await.map_err(|_| gone())?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_worker_outlives_the_thread_that_wanted_it() {
        let mut command = StdCommand::new("setpriv");
        command.args(["--pdeathsig", "KILL", "sleep", "60"]);
        let runtime = Handle::current();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let child = start(command).await.unwrap();
                // Long enough for it to have asked the kernel.
                tokio::time::sleep(Duration::from_secs(1)).await;
                child
            })
        });
        let mut child = tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(1), child.wait()).await.is_err(), "it was killed");
        child.kill().await.unwrap();
    }
}
