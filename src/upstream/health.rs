//! Are a chain's nodes there, and on our chain?

use crate::upstream::{Upstream, UpstreamError};

/// The nodes of a chain as they answer now.
#[derive(Clone, Debug)]
pub struct Health {
    /// By name: the number of its newest block, or why it gave none. Those that are read from; none of the others is
    /// asked anything.
    pub nodes: Vec<(String, Result<u64, UpstreamError>)>,
}

impl Upstream {
    /// Asks the nodes for their chain and their head.
    pub async fn health(&self) -> Health {
        let look =
            async |node: std::sync::Arc<crate::upstream::node::Node>| (node.name.clone(), node.look().await);
        let nodes = self.0.nodes.readers();
        Health { nodes: futures_util::future::join_all(nodes.into_iter().map(look)).await }
    }
}

impl Health {
    /// What keeps the chain from being used: no node can be read from.
    pub fn trouble(&self) -> Option<String> {
        let troubles = || self.nodes.iter().filter_map(|(name, head)| Some((name, head.as_ref().err()?)));
        if troubles().count() < self.nodes.len() {
            return None;
        }
        let told = match &self.nodes[..] {
            [(_, head)] => head.as_ref().err().map(ToString::to_string).unwrap_or_default(),
            _ => troubles().map(|(name, why)| format!("{name}: {why}")).collect::<Vec<_>>().join("; "),
        };
        Some(told)
    }

    /// Nodes that cannot be used while others can.
    pub fn remarks(&self) -> Vec<String> {
        if self.trouble().is_some() {
            return Vec::new();
        }
        let troubles = self.nodes.iter().filter_map(|(name, head)| Some((name, head.as_ref().err()?)));
        troubles.map(|(name, why)| format!("node {name} is not used: {why}")).collect()
    }
}
