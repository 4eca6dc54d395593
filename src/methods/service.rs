//! The service behind the envelope: looks the method up, has it done, and records every refusal of a signature.

use std::future::Future;
use std::sync::Arc;

use jsonrpsee::core::middleware::{Batch, Notification, RpcServiceT};
use jsonrpsee::core::server::{BatchResponseBuilder, MethodResponse, ResponsePayload};
use jsonrpsee::types::{ErrorObjectOwned, Id, Request};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::identity::Caller;
use crate::ledger::RefusedRow;
use crate::methods::{
    App, Cause, Method, Refusal, accounts, chain, forward, receipt, send_raw, send_transaction, sign_message,
    sign_transaction, sign_typed_data, transaction_count,
};
use crate::transaction::{Conditions, PresignedError, SignedTransaction, Text};
use crate::upstream::Answer;

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

    async fn answer(self, request: Request<'_>) -> MethodResponse {
        let id = request.id.clone();
        let Some(caller) = request.extensions.get::<Caller>().cloned() else {
            // The gateway puts the caller in before anything else; without one there is nobody to answer.
            return failed(id, &Refusal::internal().to_error(None));
        };
        let name = request.method.as_ref();
        let params = request.params.as_deref();
        let answered = match request.extensions.get::<TooLate>() {
            Some(late) => Err((*late).into()),
            None => self.dispatch(name, &caller, params, &id).await,
        };
        match answered {
            Ok(response) => response,
            Err(refusal) => {
                if Method::find(name).is_some_and(Method::signs) {
                    self.record(name, &caller, params, &refusal).await;
                }
                failed(id, &refusal.to_error(Some(caller.request())))
            }
        }
    }

    async fn dispatch(
        &self,
        name: &str,
        caller: &Caller,
        params: Option<&RawValue>,
        id: &Id<'_>,
    ) -> Result<MethodResponse, Refusal> {
        let app = &self.0;
        let text = params.map(RawValue::get);
        let Some(method) = Method::find(name) else {
            // The words that clients probe for; the name is theirs, so it is cut.
            let shown: String = name.chars().take(64).collect();
            let message = format!("the method {shown} does not exist/is not available");
            return Err(Refusal::new(Cause::MethodNotFound, message));
        };
        Ok(match method {
            Method::Accounts => result(id, accounts::accounts(caller)),
            Method::Coinbase => result(id, &accounts::coinbase(caller)?),
            Method::ChainId => result(id, &chain::chain_id(app)),
            Method::NetVersion => result(id, &chain::net_version(app)),
            Method::ClientVersion => result(id, &chain::client_version()),
            Method::SendTransaction => {
                result(id, &send_transaction::send_transaction(app, caller, text).await?)
            }
            Method::SendTransactionSync => {
                let (params, until) = send_transaction::and_wait(text)?;
                let hash = send_transaction::send_transaction(app, caller, Some(&params)).await?;
                result(id, &receipt::receipt(app, hash, until).await?)
            }
            Method::SendRaw => {
                let (signed, more) = SignedTransaction::parse(text)?;
                if !more.is_empty() {
                    return Err(PresignedError::Parameters.into());
                }
                result(id, &send_raw::send_raw(app, caller, signed, None).await?)
            }
            Method::SendRawSync => {
                let (signed, more) = SignedTransaction::parse(text)?;
                let until = receipt::patience(&more)?;
                let hash = send_raw::send_raw(app, caller, signed, None).await?;
                result(id, &receipt::receipt(app, hash, until).await?)
            }
            Method::SendRawConditional => {
                let (signed, more) = SignedTransaction::parse(text)?;
                let conditions = Conditions::parse(&more)?;
                result(id, &send_raw::send_raw(app, caller, signed, Some(conditions)).await?)
            }
            Method::SignTransaction => {
                result(id, &sign_transaction::sign_transaction(app, caller, text).await?)
            }
            Method::PersonalSign => {
                result(id, &sign_message::sign_message(app, caller, Text::parse(text)?).await?)
            }
            Method::Sign => {
                result(id, &sign_message::sign_message(app, caller, Text::parse_sign(text)?).await?)
            }
            Method::SignTypedData => result(id, &sign_typed_data::sign_typed_data(app, caller, text).await?),
            Method::TransactionCount => {
                node(id, transaction_count::transaction_count(app, caller, params).await?)
            }
            Method::Forward(name) => node(id, forward::forward(app, name, params).await?),
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
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.clone().answer(request)
    }

    /// One after the other. The gateway's own loop runs a batch's reads side by side.
    fn batch<'a>(&self, requests: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let service = self.clone();
        async move {
            let mut answers = BatchResponseBuilder::new_with_limit(usize::MAX);
            for entry in requests {
                let answer = match entry {
                    Ok(jsonrpsee::core::middleware::BatchEntry::Call(call)) => {
                        service.clone().answer(call).await
                    }
                    Ok(jsonrpsee::core::middleware::BatchEntry::Notification(n)) => {
                        service.notification(n).await;
                        continue;
                    }
                    Err(error) => {
                        let (error, id) = error.into_parts();
                        MethodResponse::error(id, error)
                    }
                };
                if let Err(too_large) = answers.append(answer) {
                    return too_large;
                }
            }
            MethodResponse::from_batch(answers.finish())
        }
    }

    /// Nobody hears the answer to a notification, so nothing is done for one; one that asks for a signature is
    /// refused on the record.
    fn notification<'a>(&self, n: Notification<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
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
            MethodResponse::notification()
        }
    }
}

fn result<T: Serialize + ?Sized>(id: &Id<'_>, value: &T) -> MethodResponse {
    MethodResponse::response(id.clone(), ResponsePayload::success(value), usize::MAX)
}

fn node(id: &Id<'_>, answer: Answer) -> MethodResponse {
    match answer {
        Answer::Result(value) => result(id, &*value),
        Answer::Error(error) => {
            failed(id.clone(), &ErrorObjectOwned::owned(error.code, error.message, error.data))
        }
    }
}

fn failed(id: Id<'_>, error: &ErrorObjectOwned) -> MethodResponse {
    MethodResponse::error(id, error.clone())
}
