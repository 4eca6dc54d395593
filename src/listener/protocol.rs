//! How HTTP is spoken with whoever was let in: what each side may keep the other waiting for, and hold.

use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioTimer;

use crate::config::Limits;
use crate::turns::Line;

/// Streams that one HTTP/2 connection may have open.
pub(super) const MAX_STREAMS: u32 = 250;

/// Header fields of one request.
const MAX_HEADERS: usize = 64;

/// Both versions: the handshake says which one a connection speaks.
pub(super) struct Http {
    pub one: http1::Builder,
    max_header: u32,
    idle_timeout: Duration,
}

/// Each stream of a connection is a task, which waits for its turn.
#[derive(Clone, Debug)]
pub(super) struct Streams(Line);

impl Http {
    pub fn new(limits: &Limits) -> Self {
        let mut one = http1::Builder::new();
        // The deadlines of a head are `Wire`'s: hyper's own would set and clear a timer for every request.
        one.header_read_timeout(None).max_buf_size(limits.max_header.max(8 * 1024)).max_headers(MAX_HEADERS);
        let max_header = u32::try_from(limits.max_header).unwrap_or(u32::MAX);
        Self { one, max_header, idle_timeout: limits.idle_timeout }
    }

    /// For one connection of whoever has this line.
    pub fn two(&self, line: Line) -> http2::Builder<Streams> {
        let mut two = http2::Builder::new(Streams(line));
        // Without a timer the deadlines below would do nothing.
        two.timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(self.max_header)
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(Some(100))
            .keep_alive_interval(Some(self.idle_timeout.div_f32(2.0)))
            .keep_alive_timeout(Duration::from_secs(20))
            .adaptive_window(true);
        two
    }
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let Self(line) = self;
        tokio::spawn(line.fair(stream));
    }
}
