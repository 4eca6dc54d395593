//! How HTTP is spoken with whoever was let in: what each side may keep the other waiting for, and hold.

use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;

use crate::config::Limits;
use crate::listener::{MAX_HEADERS, MAX_STREAMS};

pub(super) fn server(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    // Without timers the deadlines below would do nothing.
    http.http1()
        .timer(TokioTimer::new())
        // From the end of one request to the whole head of the next; also the longest time that a kept-alive connection may be idle between two requests.
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(limits.max_header.max(8 * 1024))
        .max_headers(MAX_HEADERS);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(limits.max_header).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(Some(100))
        .keep_alive_interval(Some(limits.idle_timeout.div_f32(2.0)))
        .keep_alive_timeout(Duration::from_secs(20))
        .adaptive_window(true);
    http
}
