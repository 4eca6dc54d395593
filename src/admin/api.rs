//! The JSON API under `/v1/`: which routes there are, who may call each, and how a request must look.
//!
//! A route is a row of [`ROUTES`] and an arm of `Api::call`; the rest (roles, content type, bounds, errors) is here
//! once, for all of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::admin::{Answer, audit, keys, pauses, transactions};
use crate::config::{Config, Operator, OperatorRole};
use crate::identity::RequestId;
use crate::ledger::{Administration, Ledger, LedgerError};
use crate::methods::App;

/// What the handlers work with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    ledger: Ledger,
    /// One for each chain, in the order of the configuration.
    apps: Vec<Arc<App>>,
    places: Arc<Semaphore>,
    /// `serve` waits for all of them before it ends.
    tasks: TaskTracker,
}

/// A request that is let in: by whom, and with what body.
pub(in crate::admin) struct Asked {
    pub operator: Arc<Operator>,
    pub request: RequestId,
    body: Bytes,
}

/// Why a request gets no result.
#[derive(Debug)]
pub(in crate::admin) struct ApiError {
    status: StatusCode,
    error: String,
    hint: Option<String>,
}

/// Why a body could not be read to its end.
pub(in crate::admin) type Trouble = Box<dyn std::error::Error + Send + Sync>;

pub(in crate::admin) type Reply = Result<serde_json::Value, ApiError>;

/// A certificate that is no operator's: one answer to whatever it asks.
pub(in crate::admin) const NOBODY: &str = "this certificate is not an operator's; see [[operator]]";

/// What is called.
#[derive(Clone, Copy, Debug)]
enum Call {
    Pauses,
    Pause,
    Resume,
    Transactions,
    Bump,
    Cancel,
    AcceptCount,
    Drill,
    RecordKey,
    Archive,
}

/// Changes things.
const WRITE: &[OperatorRole] = &[OperatorRole::Admin];

/// Looks at things.
const READ: &[OperatorRole] = &[OperatorRole::Admin, OperatorRole::Auditor, OperatorRole::Approver];

const ROUTES: &[(Method, &str, &[OperatorRole], Call)] = &[
    (Method::GET, "/v1/pauses", READ, Call::Pauses),
    (Method::POST, "/v1/pause", WRITE, Call::Pause),
    (Method::POST, "/v1/resume", WRITE, Call::Resume),
    (Method::GET, "/v1/transactions", READ, Call::Transactions),
    (Method::POST, "/v1/transactions/bump", WRITE, Call::Bump),
    (Method::POST, "/v1/transactions/cancel", WRITE, Call::Cancel),
    (Method::POST, "/v1/transactions/accept", WRITE, Call::AcceptCount),
    (Method::POST, "/v1/keys/drill", WRITE, Call::Drill),
    (Method::POST, "/v1/keys/record", WRITE, Call::RecordKey),
    (Method::POST, "/v1/audit/archive", WRITE, Call::Archive),
];

/// Bytes of a body: an operator's orders are short.
const MAX_BODY: usize = 16 * 1024;

const BODY_WITHIN: Duration = Duration::from_secs(10);

/// Requests that are being answered at once.
const MAX_IN_FLIGHT: usize = 64;

impl Api {
    pub fn new(config: Config, ledger: Ledger, apps: Vec<Arc<App>>, tasks: TaskTracker) -> Self {
        Self(Arc::new(Inner { config, ledger, apps, places: Arc::new(Semaphore::new(MAX_IN_FLIGHT)), tasks }))
    }

    pub(in crate::admin) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(in crate::admin) fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// For what goes the road of a signature.
    pub(in crate::admin) fn apps(&self) -> &[Arc<App>] {
        &self.0.apps
    }

    /// The chain of this name or number; where there is one only, it need not be said.
    pub(in crate::admin) fn app(&self, chain: Option<&str>) -> Result<&Arc<App>, ApiError> {
        let chains = &self.0.config.chains;
        let place = match chain {
            Some(name) => chains.iter().position(|chain| chain.is_called(name)),
            None => (chains.len() == 1).then_some(0),
        };
        place.and_then(|place| self.0.apps.get(place)).ok_or_else(|| {
            let names = chains.iter().map(|chain| chain.name.as_str()).collect::<Vec<_>>().join(", ");
            ApiError::new(StatusCode::NOT_FOUND, format!("say which chain, one of {names}"))
                .hint("chancery tx … --chain NAME")
        })
    }

    /// A row for each route: what it does is in the module that is named after it.
    async fn call(&self, call: Call, asked: Asked) -> Reply {
        match call {
            Call::Pauses => pauses::list(self).await,
            Call::Pause => pauses::pause(self, &asked).await,
            Call::Resume => pauses::resume(self, &asked).await,
            Call::Transactions => transactions::list(self).await,
            Call::Bump => transactions::bump(self, &asked).await,
            Call::Cancel => transactions::cancel(self, &asked).await,
            Call::AcceptCount => transactions::accept(self, &asked).await,
            Call::Drill => keys::drill(self, &asked).await,
            Call::RecordKey => keys::record(self, &asked).await,
            Call::Archive => audit::archive(self, &asked).await,
        }
    }

    /// Answers what comes under `/v1/`; host and origin have been looked at.
    pub(in crate::admin) async fn answer<B>(&self, operator: Arc<Operator>, request: Request<B>) -> Answer
    where
        B: Body<Data = Bytes, Error: Into<Trouble>> + Send + 'static,
    {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let name = operator.name.clone();
        match self.admit(operator, request).await {
            Ok(value) => json_answer(StatusCode::OK, &value),
            Err(error) => {
                tracing::info!(operator = name, %method, path, status = error.status.as_u16(), "refused: {}", error.error);
                let mut answer =
                    json_answer(error.status, &json!({ "error": error.error, "hint": error.hint }));
                if error.status == StatusCode::METHOD_NOT_ALLOWED
                    && let Some(allowed) = methods_of(&path)
                {
                    answer.headers_mut().insert(ALLOW, allowed);
                }
                answer
            }
        }
    }

    /// The rules, in the order in which they are asked.
    async fn admit<B>(&self, operator: Arc<Operator>, request: Request<B>) -> Reply
    where
        B: Body<Data = Bytes, Error: Into<Trouble>> + Send + 'static,
    {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        let Some((method, _, roles, call)) =
            ROUTES.iter().find(|(method, route, ..)| *route == path && *method == head.method)
        else {
            return Err(match methods_of(path) {
                Some(_) => {
                    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this is not asked with that method")
                }
                None => ApiError::new(StatusCode::NOT_FOUND, "there is nothing of this name")
                    .hint("is the gateway as new as this program? docs/admin.md has every path"),
            });
        };
        if head.uri.query().is_some() {
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "this takes no query"));
        }
        if !roles.contains(&operator.role) {
            let what = format!(
                "operator `{}` has the role {}, which may not do this",
                operator.name,
                role(operator.role)
            );
            return Err(ApiError::new(StatusCode::FORBIDDEN, what).hint(format!(
                "it needs the role {}",
                roles.iter().map(|r| role(*r)).collect::<Vec<_>>().join(" or ")
            )));
        }
        let Ok(place) = Arc::clone(&self.0.places).try_acquire_owned() else {
            return Err(ApiError::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests of operators at once",
            )
            .hint("nothing was done; try again"));
        };
        let body = if *method == Method::POST { json_body(&head.headers, body).await? } else { Bytes::new() };
        let request = RequestId::random().map_err(|error| {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, format!("the system gives no randomness: {error}"))
        })?;
        let (api, asked) = (self.clone(), Asked { operator, request, body });
        // What was begun is finished, and recorded, whether or not the operator still waits.
        let work = async move {
            let reply = api.call(*call, asked).await;
            drop(place);
            reply
        };
        self.0.tasks.spawn(work).await.unwrap_or_else(|_| {
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "this went wrong inside the gateway")
                .hint("whether it was done is not known; look before you try again"))
        })
    }
}

impl Asked {
    /// The body, strictly: every field known, each once.
    pub(in crate::admin) fn body<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            ApiError::new(StatusCode::BAD_REQUEST, format!("the body is not understood: {error}"))
        })
    }

    /// Who does it, for the audit row of a write.
    pub(in crate::admin) fn by(&self) -> Administration {
        Administration {
            operator: self.operator.name.clone(),
            person: self.operator.person.clone(),
            request: self.request.to_string(),
        }
    }
}

impl ApiError {
    pub(in crate::admin) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, error: error.into(), hint: None }
    }

    #[must_use]
    pub(in crate::admin) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            .hint("whether it was done is not known; look before you try again")
    }
}

async fn json_body<B>(headers: &HeaderMap, body: B) -> Result<Bytes, ApiError>
where
    B: Body<Data = Bytes, Error: Into<Trouble>> + Send,
{
    // Where a body ends must not be open to opinion.
    if headers.contains_key(TRANSFER_ENCODING) {
        return Err(ApiError::new(StatusCode::LENGTH_REQUIRED, "send the body with a Content-Length"));
    }
    let mut kinds = headers.get_all(CONTENT_TYPE).iter();
    let is_json = |kind: &HeaderValue| kind.as_bytes().eq_ignore_ascii_case(b"application/json");
    // A web page cannot send this type without asking first.
    if !(kinds.next().is_some_and(is_json) && kinds.next().is_none()) {
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json"));
    }
    match timeout(BODY_WITHIN, Box::pin(Limited::new(body, MAX_BODY).collect())).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {MAX_BODY} bytes"),
        )),
        Ok(Err(_)) => Err(ApiError::new(StatusCode::BAD_REQUEST, "the body broke off")),
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

/// An answer in JSON.
pub(in crate::admin) fn json_answer(status: StatusCode, value: &impl Serialize) -> Answer {
    // Values of ours; maps with keys that are no strings do not occur.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut answer = http::Response::new(crate::body::Body::from(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The methods of a path, if there is such a path.
fn methods_of(path: &str) -> Option<HeaderValue> {
    let methods: Vec<&str> =
        ROUTES.iter().filter(|(_, route, ..)| *route == path).map(|(method, ..)| method.as_str()).collect();
    if methods.is_empty() { None } else { HeaderValue::from_str(&methods.join(", ")).ok() }
}

const fn role(role: OperatorRole) -> &'static str {
    match role {
        OperatorRole::Admin => "admin",
        OperatorRole::Auditor => "auditor",
        OperatorRole::Approver => "approver",
    }
}
