//! The right of one connection to ask for anything: proved in its handshake, and again whenever the trust has changed or a
//! certificate or revocation list of it has ended. Requests ask it, and so does whatever else lives on a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::Error;
use rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::clock::Timestamp;
use crate::listener::gatekeeper::{Admitted, reason};
use crate::listener::proofs::{Shown, shown};
use crate::listener::tls::{Entrance, unix_time};
use crate::listener::trust::{Tls, Trust};

/// Held by everything that serves the connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pass(Arc<Held>);

#[derive(Debug)]
struct Held {
    trust: Trust,
    entrance: Entrance,
    chain: Vec<CertificateDer<'static>>,
    shown: Shown,
    /// Whom the certificate named at first, as the configuration calls them.
    name: String,
    /// The generation that it was last proved under.
    seen: AtomicU64,
    /// Until when that proof is good, in milliseconds; see [`Admitted::until`].
    until: AtomicU64,
    /// Set once it has lapsed: it does not come back.
    lapsed: CancellationToken,
}

/// The certificate is not good any more, or its holder is nobody here any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client certificate of this connection is not accepted any more")]
pub struct Lapsed;

/// An open connection looks at the clock at least so often, for the case that somebody sets it.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

impl Pass {
    /// Of a handshake that succeeded; asked of the trust that holds now, which may be newer.
    pub(in crate::listener) fn new(
        tls: &Tls,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<(Self, Admitted), Error> {
        let trust = tls.trust.clone();
        let shown = shown(tls.entrance, &chain);
        let (generation, admitted) = prove(&trust, tls.entrance, (&chain, shown))?;
        let held = Held {
            trust,
            entrance: tls.entrance,
            chain,
            shown,
            name: admitted.person.name().to_owned(),
            seen: AtomicU64::new(generation),
            until: AtomicU64::new(admitted.until.millis()),
            lapsed: CancellationToken::new(),
        };
        Ok((Self(Arc::new(held)), admitted))
    }

    /// To be asked before each request, and before each message of a WebSocket. Costs two loads and a look at the clock,
    /// unless something has changed since.
    pub fn check(&self) -> Result<(), Lapsed> {
        let held = &*self.0;
        if held.lapsed.is_cancelled() {
            return Err(Lapsed);
        }
        let is_proved = held.seen.load(Ordering::Acquire) == held.trust.generation();
        if is_proved && held.trust.0.clock.now().millis() < held.until.load(Ordering::Acquire) {
            return Ok(());
        }
        match prove(&held.trust, held.entrance, (&held.chain, held.shown)) {
            Ok((generation, admitted)) if admitted.person.name() == held.name => {
                held.until.store(admitted.until.millis(), Ordering::Release);
                held.seen.store(generation, Ordering::Release);
                Ok(())
            }
            Ok(_) => Err(self.lapse("unknown_name")),
            Err(error) => Err(self.lapse(reason(&error))),
        }
    }

    /// Returns as soon as it has lapsed, also where nobody asks for anything.
    pub async fn lapsed(&self) -> Lapsed {
        let mut changes = self.0.trust.changes();
        while self.check().is_ok() {
            let until = Timestamp::from_millis(self.0.until.load(Ordering::Acquire));
            // A millisecond late, so that the clock has passed it.
            let rest = until.since(self.0.trust.0.clock.now()).saturating_add(Duration::from_millis(1));
            tokio::select! {
                () = self.0.lapsed.cancelled() => {}
                () = tokio::time::sleep(rest.min(LOOK_AGAIN)) => {}
                // The trust is held by this pass, so its sender is never gone.
                _ = changes.changed() => {}
            }
        }
        Lapsed
    }

    fn lapse(&self, reason: &'static str) -> Lapsed {
        if !self.0.lapsed.is_cancelled() {
            metrics::counter!("chancery_connections_cut_total", "reason" => reason).increment(1);
            tracing::info!(
                client = self.0.name,
                reason,
                "a certificate is not accepted any more; its connection is cut"
            );
            self.0.lapsed.cancel();
        }
        Lapsed
    }
}

fn prove(
    trust: &Trust,
    entrance: Entrance,
    (chain, shown): (&[CertificateDer<'static>], Shown),
) -> Result<(u64, Admitted), Error> {
    let (leaf, intermediates) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
    let snapshot = trust.current();
    let now = trust.0.clock.now();
    let prove = || snapshot.keeper.admit(entrance, leaf, intermediates, unix_time(now));
    let admitted = snapshot.proofs.of(shown, now, prove)?;
    Ok((snapshot.generation, admitted))
}
