//! Sockets that whoever started us opened for us (systemd's socket activation, `LISTEN_FDS`): they stay open while the program is
//! restarted, and who connects meanwhile waits and is not refused.

use std::net::{SocketAddr, TcpListener};

/// The sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited(Vec<(SocketAddr, TcpListener)>);

/// What was handed over is not what is listened on.
#[derive(Debug, thiserror::Error)]
pub enum InheritedError {
    #[error("a socket that was handed over (LISTEN_FDS) is no TCP socket that listens: {0}")]
    NotATcpSocket(std::io::Error),
    #[error("a socket was handed over (LISTEN_FDS) for {0}, where neither [gateway] nor [admin] listens")]
    NotOurs(SocketAddr),
}

impl Inherited {
    /// Takes them from the environment, whose variables say that they are for this very process.
    pub fn take() -> Result<Self, InheritedError> {
        let mut handed = listenfd::ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..handed.len() {
            let socket = handed.take_tcp_listener(index).map_err(InheritedError::NotATcpSocket)?;
            let Some(socket) = socket else { continue };
            let address = socket.local_addr().map_err(InheritedError::NotATcpSocket)?;
            sockets.push((address, socket));
        }
        Ok(Self(sockets))
    }

    /// The one for this address, if there is one.
    pub fn socket(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let place = self.0.iter().position(|(at, _)| *at == address)?;
        Some(self.0.swap_remove(place).1)
    }

    /// That all of them were wanted: a socket that nobody serves would keep its callers waiting for ever.
    pub fn all_taken(&self) -> Result<(), InheritedError> {
        self.0.first().map_or(Ok(()), |(address, _)| Err(InheritedError::NotOurs(*address)))
    }
}
