//! The end that a supervisor (SIGTERM) or a person (SIGINT) asks for: tokens are left in no login.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cmd::HintExt as _;

/// From here on it does not end the process any more, whether or not anybody listens yet. Needs a runtime.
pub(super) fn catch(kind: SignalKind) -> anyhow::Result<Signal> {
    signal(kind).hint("signals", "this system does not let them be caught")
}

/// Cancelled by the first of these signals; neither ends the process any more. Needs a runtime.
pub(super) fn on_signal() -> anyhow::Result<CancellationToken> {
    // Caught before the task first runs.
    let (mut term, mut int) = (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        tracing::info!("stopping: no new connections; open requests are finished");
        told.cancel();
    });
    Ok(stop)
}
