//! A signer in this process, with workers of the program as built and a test token for each.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chancery::config::Config;
use chancery::signer::{self, Pins, SignError, Signer, StartError};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Errors;
use crate::kit::{TestKey, TestToken};

/// How long any token may take to be used again after its fault is gone.
const RECOVERY: Duration = Duration::from_secs(8);

pub struct Bench {
    pub lanes: Arc<Vec<Lane>>,
    pub signer: Signer,
    config: Config,
    folder: Arc<TempDir>,
}

/// What is there before a signer is started.
pub struct Parts {
    pub lanes: Arc<Vec<Lane>>,
    config: Config,
    folder: Arc<TempDir>,
}

/// A token with the key of one account.
pub struct Lane {
    pub name: String,
    pub token: TestToken,
    pub key: TestKey,
}

impl Bench {
    /// One token that is ready.
    pub async fn of_one(settings: &str, sessions: usize, signer: &str) -> Self {
        Parts::of(1, settings, sessions, signer).start_again().await
    }

    /// Another signer on the same tokens and the same state, as after a restart of the gateway.
    pub async fn start_again(&self) -> Self {
        let parts = Parts {
            lanes: Arc::clone(&self.lanes),
            config: self.config.clone(),
            folder: Arc::clone(&self.folder),
        };
        self.signer.stop().await;
        parts.start_again().await
    }

    /// One signature, proved.
    pub async fn sign(&self, lane: usize) -> Result<(), SignError> {
        self.signer.probe(self.lanes[lane].key.address).await
    }

    #[track_caller]
    pub fn sign_well(&self, lane: usize) -> impl Future<Output = ()> {
        let address = self.lanes[lane].key.address;
        async move { self.signer.probe(address).await.unwrap() }
    }

    /// Several at the same time.
    pub async fn sign_at_once(&self, lane: usize, count: usize) -> Vec<Result<(), SignError>> {
        let address = self.lanes[lane].key.address;
        let sign = |_| {
            let signer = self.signer.clone();
            tokio::spawn(async move { signer.probe(address).await })
        };
        let running: Vec<_> = (0..count).map(sign).collect();
        let mut results = Vec::new();
        for one in running {
            results.push(one.await.unwrap());
        }
        results
    }

    /// So many callers, each as fast as it can: signatures a second, and the errors.
    pub async fn load(&self, lane: usize, callers: usize, time: Duration) -> (f64, Errors) {
        let address = self.lanes[lane].key.address;
        let end = Instant::now() + time;
        let call = |_| {
            let signer = self.signer.clone();
            tokio::spawn(async move {
                let (mut done, mut errors) = (0_u32, Errors::new());
                while Instant::now() < end {
                    match signer.probe(address).await {
                        Ok(()) => done += 1,
                        Err(error) => *errors.entry(error.to_string()).or_default() += 1,
                    }
                }
                (done, errors)
            })
        };
        let running: Vec<_> = (0..callers).map(call).collect();
        let (mut all, mut errors) = (0_u32, Errors::new());
        for one in running {
            let (done, failed) = one.await.unwrap();
            all += done;
            for (error, count) in failed {
                *errors.entry(error).or_default() += count;
            }
        }
        (f64::from(all) / time.as_secs_f64(), errors)
    }

    /// Signs again and again, each beside the others, and gives each one's time, the longest last.
    pub async fn times(&self, lane: usize, callers: usize, each: usize) -> Vec<Duration> {
        let address = self.lanes[lane].key.address;
        let call = |_| {
            let signer = self.signer.clone();
            tokio::spawn(async move {
                let mut times = Vec::new();
                for _ in 0..each {
                    let began = Instant::now();
                    signer.probe(address).await.unwrap();
                    times.push(began.elapsed());
                }
                times
            })
        };
        let running: Vec<_> = (0..callers).map(call).collect();
        let mut all = Vec::new();
        for one in running {
            all.extend(one.await.unwrap());
        }
        all.sort_unstable();
        all
    }

    /// Waits until the token signs again, and says how long that took.
    pub async fn recovers(&self, lane: usize) -> Duration {
        let began = Instant::now();
        loop {
            match self.sign(lane).await {
                Ok(()) => return began.elapsed(),
                Err(error) => {
                    let name = &self.lanes[lane].name;
                    assert!(began.elapsed() < RECOVERY, "{name} does not recover: {error}");
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Another process at this token was refused.
    pub fn refuse(&self, lane: usize, why: &str) {
        std::fs::write(signer::latch_path(self.folder.path(), &self.lanes[lane].name), why).unwrap();
    }

    /// An operator says that the PIN is right.
    pub fn unlatch(&self, lane: usize) -> bool {
        signer::unlatch(self.folder.path(), &self.lanes[lane].name).unwrap()
    }
}

impl Parts {
    /// Tokens by their settings, each with the key that the configuration pins.
    pub fn new(tokens: Vec<(String, TestKey)>, sessions: usize, signer: &str) -> Self {
        let folder = TempDir::with_prefix("chancery-").unwrap();
        let mut text = Self::head(signer);
        let mut lanes = Vec::new();
        for (number, (settings, key)) in tokens.into_iter().enumerate() {
            let name = format!("token-{number}");
            let token = TestToken::alone(&folder.path().join(&name), &settings);
            text += &token.table(&name, sessions);
            let account = format!(
                "[[account]]\nname = \"account-{number}\"\naddress = \"{}\"\ntoken = \"{name}\"\nkey = \"treasury\"\n",
                key.address
            );
            text += &account;
            lanes.push(Lane { name, token, key });
        }
        let config = Config::parse(&folder.path().join("chancery.toml"), &text).unwrap();
        Self { lanes: Arc::new(lanes), config, folder: Arc::new(folder) }
    }

    /// So many tokens, each with a key; `settings` is for their `token.toml`, `signer` for the `[signer]` table.
    pub fn of(lanes: usize, settings: &str, sessions: usize, signer: &str) -> Self {
        let keys = (0..lanes).map(|_| TestKey::random());
        let tokens: Vec<_> =
            keys.map(|key| (format!("{settings}{}", key.named("treasury", "")), key)).collect();
        Self::new(tokens, sessions, signer)
    }

    /// Two tokens with the same key, which is one account's.
    pub fn group(order: &str, signer: &str) -> Self {
        let key = TestKey::random();
        let settings = key.named("treasury", "");
        let folder = TempDir::with_prefix("chancery-").unwrap();
        let mut text = Self::head(signer);
        let mut lanes = Vec::new();
        for name in ["first", "second"] {
            let token = TestToken::alone(&folder.path().join(name), &settings);
            text += &token.table(name, 4);
            lanes.push(Lane { name: name.to_owned(), token, key: key.clone() });
        }
        let account = format!(
            "[[account]]\nname = \"treasury\"\naddress = \"{}\"\ntoken = \"first\"\nbackups = [\"second\"]\n\
             order = \"{order}\"\nkey = \"treasury\"\n",
            key.address
        );
        text += &account;
        let config = Config::parse(&folder.path().join("chancery.toml"), &text).unwrap();
        Self { lanes: Arc::new(lanes), config, folder: Arc::new(folder) }
    }

    /// What a configuration has beside tokens and accounts.
    fn head(signer: &str) -> String {
        format!(
            "[gateway]\nlisten = \"127.0.0.1:1\"\nhosts = [\"localhost\"]\ncertificate = \"none\"\nkey = \"none\"\n\
             client_ca = \"none\"\n[chain]\nid = 1\nnode = \"http://127.0.0.1:1\"\n[policy]\ndirectory = \"none\"\n\
             [ledger]\npath = \"ledger.sqlite\"\n[signer]\n{signer}\n"
        )
    }

    pub async fn start_again(&self) -> Bench {
        self.try_start().await.unwrap()
    }

    pub async fn try_start(&self) -> Result<Bench, StartError> {
        let executable = PathBuf::from(env!("CARGO_BIN_EXE_chancery"));
        let (pins, stop) = (Pins::default(), CancellationToken::new());
        let signer = Signer::start(&self.config, executable, &pins, &stop).await?;
        Ok(Bench {
            lanes: Arc::clone(&self.lanes),
            signer,
            config: self.config.clone(),
            folder: Arc::clone(&self.folder),
        })
    }
}
