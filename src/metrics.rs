//! The metrics there are: their names, what they mean, and how Prometheus reads them. Labels come from fixed
//! sets only, so that nobody outside can make the exposition grow.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Where the recorded values are read from. Cheap to clone.
#[derive(Clone)]
pub struct Exposition(PrometheusHandle);

/// In seconds: from a read out of a cache to a token that is about to be given up on.
const LATENCY: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

impl Exposition {
    /// Takes the process's metrics; once in a process.
    pub fn install() -> Result<Self, BuildError> {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), LATENCY)?;
        Ok(Self(builder.install_recorder()?))
    }

    /// The exposition in Prometheus' text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Folds the recorded samples into their histograms; without it they would pile up between two scrapes.
    pub async fn upkeep(self) {
        let mut every = tokio::time::interval(Duration::from_secs(5));
        loop {
            every.tick().await;
            self.0.run_upkeep();
        }
    }
}

impl std::fmt::Debug for Exposition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exposition")
    }
}
