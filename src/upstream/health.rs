//! Is the node there, and on our chain?

use crate::upstream::{Upstream, UpstreamError};

/// The node as it answers now.
#[derive(Clone, Debug)]
pub struct Health {
    /// The number of its newest block, or why it gave none.
    pub head: Result<u64, UpstreamError>,
}

impl Upstream {
    /// Asks the node for its chain and its head.
    pub async fn health(&self) -> Health {
        let head = match self.pinned().await {
            Ok(()) => match self.ask("eth_blockNumber", None).await {
                Ok(answer) => answer.number(),
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        if let Ok(head) = &head {
            #[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "a gauge is a float")]
            metrics::gauge!("chancery_node_head").set(*head as f64);
        }
        Health { head }
    }
}

impl Health {
    /// What is wrong with it; `None` where nothing is.
    pub fn trouble(&self) -> Option<String> {
        self.head.as_ref().err().map(ToString::to_string)
    }
}
