//! `connect … run -- cmd`: a tool that lives as long as its endpoint, and whose exit code is ours.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Signals, SignalKind};

use crate::cmd::connect::gateway::Gateway;
use crate::cmd::connect::preflight::{DryRun, Judgement};
use crate::cmd::stop::catch;
use crate::cmd::{Context, Failure, HintExt as _, Success};

/// Where tools look for their endpoint. cast and `forge create` read the first, `forge script` the second alone.
pub const VARIABLES: [&str; 2] = ["ETH_RPC_URL", "FOUNDRY_ETH_RPC_URL"];

/// Start a tool with `ETH_RPC_URL` set to the local endpoint, stop with it, and exit with its code
#[derive(Clone, Debug, clap::Args)]
pub struct Run {
    /// Before `forge script … --broadcast`: run it without, and ask the gateway what it would refuse; if anything, send nothing
    #[arg(long)]
    preflight: bool,
    /// The tool and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The signals that end a program, or tell it something; caught from when this is made.
#[derive(Debug)]
pub struct Interrupts {
    terminate: Signals,
    interrupt: Signals,
    hangup: Signals,
}

impl Interrupts {
    pub fn catch() -> Result<Self> {
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }

    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.hangup.recv() => Signal::HUP,
        }
    }
}

impl Run {
    /// Runs the tool to its end. Signals are passed on to it; what it does with them is what we do.
    pub async fn finish(
        self,
        endpoint: &OsString,
        gateway: &Gateway,
        context: &Context,
        interrupts: &mut Interrupts,
    ) -> Result<Success> {
        if self.preflight {
            let dry = DryRun::of(&self.command)?;
            let code = run(dry.command(), &dry.environment(endpoint), interrupts).await?;
            if code != 0 {
                return Ok(Success::Code(code));
            }
            match dry.judge(gateway, context).await? {
                Judgement::Taken => {}
                Judgement::Refused => return Ok(Success::Denied),
                Judgement::Nothing => return Ok(Success::Done),
            }
        }
        let environment = VARIABLES.map(|name| (name, endpoint.as_os_str()));
        Ok(Success::Code(run(&self.command, &environment, interrupts).await?))
    }
}

/// Runs a command, and gives its exit code.
async fn run(
    command: &[OsString],
    environment: &[(&str, &OsStr)],
    interrupts: &mut Interrupts,
) -> Result<u8> {
    let (program, words) = command.split_first().ok_or_else(|| Failure::new("no command was given"))?;
    let mut child = Command::new(program)
        .args(words)
        .envs(environment.iter().copied())
        .kill_on_drop(true)
        .spawn()
        .hint(program.display(), "is it installed, and on the PATH?")?;
    loop {
        tokio::select! {
            ended = child.wait() => return Ok(exit_code(ended?)),
            signal = interrupts.next() => pass_on(signal, &child),
        }
    }
}

/// The terminal sends ^C and its own end to the tool as well: twice, it would take that for impatience.
fn pass_on(signal: Signal, child: &Child) {
    if signal != Signal::TERM && std::io::stdin().is_terminal() {
        return;
    }
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended meanwhile.
        let _ = kill_process(pid, signal);
    }
}

/// As a shell says it: 128 + the signal for a program that a signal ended.
fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| signal.saturating_add(128)));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
