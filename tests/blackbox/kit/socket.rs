//! A WebSocket to the gateway, as a client with a certificate has it.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::client::{Client, RpcError, outcome};

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Socket {
    stream: WebSocketStream<TlsStream<TcpStream>>,
    notices: VecDeque<Value>,
    next_id: u64,
}

impl Socket {
    pub async fn open(client: &Client) -> Self {
        let stream = client.stream().await;
        let uri = format!("ws://{}{}", client.address(), client.path());
        let (stream, _) = client_async(uri, stream).await.unwrap();
        Self { stream, notices: VecDeque::new(), next_id: 1 }
    }

    /// One call; news that come before its answer are kept.
    pub async fn call(&mut self, method: &str, params: Value) -> Result<Value, RpcError> {
        let id = self.next_id;
        self.next_id += 1;
        self.say(json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()).await;
        loop {
            let message = self.hear().await.expect("an answer");
            if message["id"] == id {
                return outcome(&message);
            }
            assert_eq!(message["method"], "eth_subscription", "{message}");
            self.notices.push_back(message["params"].clone());
        }
    }

    /// The next news: a subscription and its result.
    pub async fn notice(&mut self) -> Value {
        if let Some(notice) = self.notices.pop_front() {
            return notice;
        }
        let message = self.hear().await.expect("news");
        assert_eq!(message["method"], "eth_subscription", "{message}");
        message["params"].clone()
    }

    pub async fn say(&mut self, text: impl Into<String>) {
        self.stream.send(Message::text(text.into())).await.unwrap();
    }

    /// The next message; or how the gateway closed it.
    pub async fn hear(&mut self) -> Result<Value, Option<CloseFrame>> {
        loop {
            match timeout(PATIENCE, self.stream.next()).await.expect("something") {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(frame),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }
}
