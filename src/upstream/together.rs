//! A question of our own that many have at the same time: asked once for all who wait when it leaves.
//!
//! Unlike with a shared read (`flights`) nobody joins a question that has left: what a nonce is chosen by, and a fee, is
//! the node's word from after it was asked for. While two are under way the next ones wait for each other, as at a
//! commit.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::upstream::UpstreamError;

/// How many of the same question may be under way at once.
const UNDER_WAY: usize = 2;

/// How long one waits for those before it: a node that does not answer them may answer this one.
const WAITS: Duration = Duration::from_millis(100);

/// How long one waits for another's answer, and how often that may come to nothing.
const JOINED: Duration = Duration::from_secs(3);
const MAX_LOST: usize = 2;

type Outcome<T> = Result<T, UpstreamError>;

#[derive(Debug)]
pub(super) struct Together<T> {
    /// The question that leaves next.
    next: Mutex<Option<watch::Receiver<Option<Outcome<T>>>>>,
    under_way: Semaphore,
}

enum Place<T> {
    First(watch::Sender<Option<Outcome<T>>>),
    Joined(watch::Receiver<Option<Outcome<T>>>),
}

impl<T> Default for Together<T> {
    fn default() -> Self {
        Self { next: Mutex::default(), under_way: Semaphore::new(UNDER_WAY) }
    }
}

impl<T: Clone> Together<T> {
    /// What `ask` finds out, asked by this caller or by another after this one came.
    pub(super) async fn ask<F: Future<Output = Outcome<T>>>(
        &self,
        ask: impl FnOnce() -> Pin<Box<F>>,
    ) -> Outcome<T> {
        // Those who hang up cost whoever waits a question each; after a few it is asked alone.
        for _ in 0..MAX_LOST {
            match self.place() {
                Place::First(answer) => {
                    // Whoever comes at the very same time joins.
                    tokio::task::yield_now().await;
                    let _way = timeout(WAITS, self.under_way.acquire()).await;
                    self.leave();
                    let found = ask().await;
                    answer.send_replace(Some(found.clone()));
                    return found;
                }
                Place::Joined(mut answer) => {
                    if let Ok(Ok(found)) = timeout(JOINED, answer.wait_for(Option::is_some)).await
                        && let Some(found) = found.clone()
                    {
                        return found;
                    }
                    // The first of them has hung up, or does not get on.
                }
            }
        }
        ask().await
    }

    fn place(&self) -> Place<T> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // One whose asker has hung up does not leave any more.
        if let Some(answer) = next.as_ref().filter(|answer| answer.has_changed().is_ok()) {
            return Place::Joined(answer.clone());
        }
        let (sender, answer) = watch::channel(None);
        *next = Some(answer);
        Place::First(sender)
    }

    /// From here on nobody joins.
    fn leave(&self) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::task::{Context, Waker};

    use futures_util::future::join_all;
    use tokio::task::{JoinHandle, yield_now};

    use super::*;

    /// A node that numbers the questions, and answers when it is told to.
    struct Slow {
        asked: AtomicU64,
        answers: Semaphore,
        together: Together<u64>,
    }

    impl Slow {
        fn new() -> Arc<Self> {
            let (asked, answers) = (AtomicU64::new(0), Semaphore::new(0));
            Arc::new(Self { asked, answers, together: Together::default() })
        }

        async fn ask(&self) -> Outcome<u64> {
            let ask = || {
                Box::pin(async {
                    let number = self.asked.fetch_add(1, Ordering::SeqCst);
                    self.answers.acquire().await.unwrap().forget();
                    Ok(number)
                })
            };
            self.together.ask(ask).await
        }

        fn asks(self: &Arc<Self>) -> JoinHandle<Outcome<u64>> {
            let slow = Arc::clone(self);
            tokio::spawn(async move { slow.ask().await })
        }

        async fn was_asked(&self, count: u64) {
            while self.asked.load(Ordering::SeqCst) < count {
                yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn many_at_once_are_one_question() {
        let slow = Slow::new();
        slow.answers.add_permits(1);
        assert!(join_all((0..100).map(|_| slow.ask())).await.into_iter().all(|found| found.unwrap() == 0));
    }

    #[tokio::test]
    async fn inv_02_nobody_gets_what_was_asked_before_it_came() {
        let slow = Slow::new();
        let first = slow.asks();
        slow.was_asked(1).await;
        let second = slow.asks();
        slow.was_asked(2).await;
        // Two are under way; those that come now wait for each other, not for them.
        let later: Vec<_> = (0..10).map(|_| slow.asks()).collect();
        slow.answers.add_permits(3);
        assert_eq!((first.await.unwrap().unwrap(), second.await.unwrap().unwrap()), (0, 1));
        for later in later {
            assert_eq!(later.await.unwrap().unwrap(), 2);
        }
    }

    #[tokio::test]
    async fn one_that_hangs_up_takes_nobody_with_it() {
        let slow = Slow::new();
        let before = [slow.asks(), {
            slow.was_asked(1).await;
            slow.asks()
        }];
        slow.was_asked(2).await;
        let gone = slow.asks();
        yield_now().await;
        let left = slow.asks();
        yield_now().await;
        gone.abort();
        slow.answers.add_permits(3);
        for before in before {
            before.await.unwrap().unwrap();
        }
        assert_eq!(left.await.unwrap().unwrap(), 2);
    }

    #[tokio::test]
    async fn who_joined_others_that_hung_up_asks_alone_after_a_few() {
        let slow = Slow::new();
        let poll = |asker: &mut Pin<Box<dyn Future<Output = Outcome<u64>>>>| {
            let mut context = Context::from_waker(Waker::noop());
            assert!(asker.as_mut().poll(&mut context).is_pending());
        };
        let asker = || -> Pin<Box<dyn Future<Output = Outcome<u64>>>> {
            let slow = Arc::clone(&slow);
            Box::pin(async move { slow.ask().await })
        };
        let (mut first, mut joins) = (asker(), asker());
        poll(&mut first);
        poll(&mut joins);
        for _ in 0..MAX_LOST {
            let mut next = asker();
            drop(std::mem::replace(&mut first, Box::pin(std::future::pending())));
            poll(&mut next);
            assert_eq!(slow.asked.load(Ordering::SeqCst), 0);
            poll(&mut joins);
            first = next;
        }
        assert_eq!(slow.asked.load(Ordering::SeqCst), 1, "it does not wait for yet another");
    }

    #[tokio::test]
    async fn who_joined_one_that_does_not_get_on_asks_alone_in_the_end() {
        let slow = Slow::new();
        let stuck = slow.ask();
        let mut stuck = Box::pin(stuck);
        assert!(futures_util::poll!(stuck.as_mut()).is_pending());
        slow.answers.add_permits(1);
        let most = JOINED.saturating_mul(u32::try_from(MAX_LOST).unwrap() + 1);
        assert_eq!(timeout(most, slow.ask()).await.unwrap().unwrap(), 0);
    }

    #[tokio::test]
    async fn what_does_not_come_back_keeps_the_next_for_a_moment_only() {
        let slow = Slow::new();
        let _stuck = [slow.asks(), {
            slow.was_asked(1).await;
            slow.asks()
        }];
        slow.was_asked(2).await;
        let next = slow.together.ask(|| Box::pin(async { Ok(7) }));
        assert_eq!(timeout(WAITS.saturating_mul(20), next).await.unwrap().unwrap(), 7);
    }
}
