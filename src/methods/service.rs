//! The service behind the envelope: looks the method up, has it done, and records every refusal of a signature.

use std::future::Future;
use std::sync::Arc;

use jsonrpsee::core::middleware::{Batch, BatchEntry, Notification, RpcServiceT};
use jsonrpsee::types::{Id, Request};
use serde_json::value::RawValue;

use crate::identity::Caller;
use crate::ledger::RefusedRow;
use crate::methods::{
    App, Cause, Method, Outbox, Refusal, Reply, accounts, chain, forward, preflight, receipt, send_raw,
    send_transaction, sign_authorization, sign_message, sign_transaction, sign_typed_data, subscribe,
    transaction_count,
};
use crate::transaction::{Conditions, PresignedError, SignedTransaction, Text};

/// The JSON-RPC service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Service(Arc<App>);

/// Stands beside the caller of a call for which its batch has no time left: it is refused, and recorded as such.
#[derive(Clone, Copy, Debug)]
pub struct TooLate;

/// What of a refused request goes into its audit row, in bytes: enough to see what was asked, too little to
/// fill a disk with.
const MAX_RECORDED: usize = 4096;

impl Service {
    pub const fn new(app: Arc<App>) -> Self {
        Self(app)
    }

    async fn answer(self, request: Request<'_>) -> Reply {
        let id = request.id.clone();
        let Some(caller) = request.extensions.get::<Caller>().cloned() else {
            // The gateway puts the caller in before anything else; without one there is nobody to answer.
            return Reply::error(&id, &Refusal::internal().to_error(None));
        };
        let name = request.method.as_ref();
        let params = request.params.as_deref();
        let outbox = request.extensions.get::<Outbox>();
        let answered = match request.extensions.get::<TooLate>() {
            Some(late) => Err((*late).into()),
            None => self.dispatch(name, &caller, params, (&id, outbox)).await,
        };
        match answered {
            Ok(reply) => reply,
            Err(refusal) => {
                if Method::find(name).is_some_and(Method::signs) {
                    self.record(name, &caller, params, &refusal).await;
                }
                Reply::error(&id, &refusal.to_error(Some(caller.request())))
            }
        }
    }

    async fn dispatch(
        &self,
        name: &str,
        caller: &Caller,
        params: Option<&RawValue>,
        (id, outbox): (&Id<'_>, Option<&Outbox>),
    ) -> Result<Reply, Refusal> {
        let app = &self.0;
        let text = params.map(RawValue::get);
        let Some(method) = Method::find(name) else {
            // The words that clients probe for; the name is theirs, so it is cut.
            let shown: String = name.chars().take(64).collect();
            let message = format!("the method {shown} does not exist/is not available");
            return Err(Refusal::new(Cause::MethodNotFound, message));
        };
        Ok(match method {
            Method::Accounts => Reply::result(id, accounts::accounts(caller)),
            Method::Coinbase => Reply::result(id, &accounts::coinbase(caller)?),
            Method::ChainId => Reply::result(id, &chain::chain_id(app)),
            Method::NetVersion => Reply::result(id, &chain::net_version(app)),
            Method::ClientVersion => Reply::result(id, &chain::client_version()),
            Method::Preflight => {
                let (preflight, refusal) = Box::pin(preflight::preflight(app, caller, text)).await?;
                if let Some(refusal) = refusal {
                    self.record(name, caller, params, &refusal).await;
                }
                Reply::result(id, &preflight)
            }
            // Boxed: a read would carry the room for all of them around.
            Method::SendTransaction => {
                let sent = Box::pin(send_transaction::send_transaction(app, caller, text));
                Reply::result(id, &sent.await?)
            }
            Method::SendTransactionSync => {
                let (params, until) = send_transaction::and_wait(text)?;
                let hash = Box::pin(send_transaction::send_transaction(app, caller, Some(&params))).await?;
                Reply::of_node(id, Box::pin(receipt::receipt(app, hash, until)).await?)
            }
            Method::SendRaw => {
                let (signed, more) = SignedTransaction::parse(text)?;
                if !more.is_empty() {
                    return Err(PresignedError::Parameters.into());
                }
                let sent = Box::pin(send_raw::send_raw(app, caller, signed, None));
                Reply::result(id, &sent.await?)
            }
            Method::SendRawSync => {
                let (signed, more) = SignedTransaction::parse(text)?;
                let until = receipt::patience(&more)?;
                let hash = Box::pin(send_raw::send_raw(app, caller, signed, None)).await?;
                Reply::of_node(id, Box::pin(receipt::receipt(app, hash, until)).await?)
            }
            Method::SendRawConditional => {
                let (signed, more) = SignedTransaction::parse(text)?;
                let conditions = Conditions::parse(&more)?;
                let sent = Box::pin(send_raw::send_raw(app, caller, signed, Some(conditions)));
                Reply::result(id, &sent.await?)
            }
            Method::SignTransaction => {
                let signed = Box::pin(sign_transaction::sign_transaction(app, caller, text));
                Reply::result(id, &signed.await?)
            }
            Method::PersonalSign => {
                let signed = Box::pin(sign_message::sign_message(app, caller, Text::parse(text)?));
                Reply::result(id, &signed.await?)
            }
            Method::Sign => {
                let signed = Box::pin(sign_message::sign_message(app, caller, Text::parse_sign(text)?));
                Reply::result(id, &signed.await?)
            }
            Method::SignTypedData => {
                let signed = Box::pin(sign_typed_data::sign_typed_data(app, caller, text));
                Reply::result(id, &signed.await?)
            }
            Method::SignAuthorization => {
                let signed = Box::pin(sign_authorization::sign_authorization(app, caller, text));
                Reply::result(id, &signed.await?)
            }
            Method::TransactionCount => {
                Reply::of_node(id, transaction_count::transaction_count(app, caller, params).await?)
            }
            Method::Forward(name) => Reply::of_node(id, forward::forward(app, caller, name, params).await?),
            Method::NewFilter(name) => {
                Reply::of_node(id, forward::new_filter(app, caller, name, params).await?)
            }
            Method::Filter(name) => Reply::of_node(id, forward::filter(app, caller, name, params).await?),
            Method::Subscribe => {
                let subscribed = Box::pin(subscribe::subscribe(app, caller, outbox, params));
                Reply::result(id, &subscribed.await?)
            }
            Method::Unsubscribe => Reply::result(id, &subscribe::unsubscribe(outbox, params)?),
        })
    }

    /// The one place that records refusals. Nothing was signed, so a ledger that cannot be written does not
    /// change the answer.
    async fn record(&self, method: &str, caller: &Caller, params: Option<&RawValue>, refusal: &Refusal) {
        let asked = params.map(RawValue::get).unwrap_or_default();
        let row = RefusedRow {
            client: caller.client().name.clone(),
            request: caller.request(),
            method: method.to_owned(),
            cause: refusal.cause().name(),
            rule: refusal.rule().map(str::to_owned),
            condition: refusal.condition().map(str::to_owned),
            sentence: refusal.to_string(),
            asked: asked.chars().take(MAX_RECORDED).collect(),
        };
        if let Err(error) = self.0.ledger.refused(row).await {
            tracing::error!(%error, request = %caller.request(), "a refusal could not be recorded");
        }
    }
}

impl RpcServiceT for Service {
    type MethodResponse = Reply;
    type NotificationResponse = ();
    /// In the order of the calls.
    type BatchResponse = Vec<Reply>;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = Reply> + Send + 'a {
        self.clone().answer(request)
    }

    /// Reads go to the node together; with anything else among them, one after the other.
    fn batch<'a>(&self, requests: Batch<'a>) -> impl Future<Output = Vec<Reply>> + Send + 'a {
        let service = self.clone();
        async move {
            let mut calls = Vec::with_capacity(requests.len());
            for entry in requests {
                if let Ok(BatchEntry::Call(call)) = entry {
                    calls.push(call);
                }
            }
            let mut replies = Vec::with_capacity(calls.len());
            let mut reads = Vec::with_capacity(calls.len());
            for call in &calls {
                if let Some(Method::Forward(name)) = Method::find(&call.method) {
                    reads.push((name, call.params.as_deref()));
                }
            }
            if reads.len() < calls.len() {
                for call in calls {
                    replies.push(service.clone().answer(call).await);
                }
                return replies;
            }
            let caller = calls.first().and_then(|call| call.extensions.get::<Caller>());
            let room = caller.and_then(Caller::room);
            let answers = service.0.upstream.forward_batch(room, &reads).await;
            for (call, answer) in calls.iter().zip(answers) {
                replies.push(match answer {
                    Ok(answer) => Reply::of_node(&call.id, answer),
                    Err(error) => {
                        let request = call.extensions.get::<Caller>().map(Caller::request);
                        Reply::error(&call.id, &Refusal::from(error).to_error(request))
                    }
                });
            }
            replies
        }
    }

    /// Nobody hears the answer to a notification, so nothing is done for one; one that asks for a signature is
    /// refused on the record.
    fn notification<'a>(&self, n: Notification<'a>) -> impl Future<Output = ()> + Send + 'a {
        let service = self.clone();
        async move {
            if Method::find(&n.method).is_some_and(Method::signs)
                && let Some(caller) = n.extensions.get::<Caller>()
            {
                // Refused already, where the gateway's own loop says so: then this is for the record alone.
                let refusal = n.extensions.get::<Refusal>().cloned().unwrap_or_else(|| {
                    let why =
                        "a request for a signature needs an id: nobody would hear the answer to a notification";
                    Refusal::new(Cause::InvalidRequest, why)
                });
                let params = n.params.as_deref();
                service.record(&n.method, caller, params, &refusal).await;
            }
        }
    }
}
