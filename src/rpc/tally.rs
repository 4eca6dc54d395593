//! What became of calls, for the metrics. Each counter is looked up once in the exporter's registry, and kept.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use metrics::{Counter, Histogram};
use tokio::time::Instant;

/// One in a process for each chain.
pub struct Tally {
    /// By method and outcome, both of fixed sets. Read without a lock, and replaced where one is new.
    calls: ArcSwap<HashMap<(&'static str, &'static str), Counter>>,
    /// Reads and signatures differ by a token and two fsyncs: one histogram of both would tell of neither.
    sign: Histogram,
    other: Histogram,
}

impl Default for Tally {
    fn default() -> Self {
        let seconds = |class| metrics::histogram!("chancery_rpc_call_seconds", "class" => class);
        Self { calls: ArcSwap::default(), sign: seconds("sign"), other: seconds("other") }
    }
}

impl Tally {
    pub fn count(&self, method: &'static str, is_ordered: bool, outcome: &'static str, started: Instant) {
        let seconds = if is_ordered { &self.sign } else { &self.other };
        seconds.record(started.elapsed().as_secs_f64());
        if let Some(counter) = self.calls.load().get(&(method, outcome)) {
            counter.increment(1);
            return;
        }
        let counter = metrics::counter!("chancery_rpc_calls_total", "method" => method, "outcome" => outcome);
        counter.increment(1);
        self.calls.rcu(|calls| {
            let mut calls = HashMap::clone(calls);
            calls.insert((method, outcome), counter.clone());
            Arc::new(calls)
        });
    }
}
