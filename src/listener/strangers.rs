//! Who has shown no certificate yet: so many at once, and where they get scarce no more of one address than its part.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use crate::clock::after;
use crate::seats::{Seat, Seats};

/// The handshakes of a listener.
#[derive(Debug)]
pub(in crate::listener) struct Strangers {
    handshakes: Arc<Semaphore>,
    /// While no more than so many are free, each address has its part only.
    scarce: usize,
    parts: Arc<Seats<IpAddr>>,
    /// Those of addresses that have their part, which wait until it is free again: a whole desk may come back at once.
    waiting: Semaphore,
    patience: Duration,
}

/// Held during a handshake.
#[derive(Debug)]
pub(in crate::listener) struct Turn {
    _handshake: OwnedSemaphorePermit,
    _part: Option<Seat<IpAddr>>,
}

/// What one address may have of the handshakes where they are scarce: one of so many, and one at least.
const PART: usize = 8;

/// Between two looks of one that waits.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl Strangers {
    pub fn new(max: usize, patience: Duration) -> Self {
        Self {
            handshakes: Arc::new(Semaphore::new(max)),
            scarce: max / 2,
            parts: Seats::new((max / PART).max(1)),
            waiting: Semaphore::new(max),
            patience,
        }
    }

    pub fn handshakes(&self) -> Arc<Semaphore> {
        Arc::clone(&self.handshakes)
    }

    /// The turn of one that comes from this address and has a place; at once where there are many, and else when its address
    /// has a part left. `None`: too many wait for that, or it took too long.
    pub async fn turn(&self, from: IpAddr, place: OwnedSemaphorePermit) -> Option<Turn> {
        let place = match self.take(from, place) {
            Ok(turn) => return Some(turn),
            Err(place) => place,
        };
        // For somebody else, meanwhile.
        drop(place);
        let _waiting = self.waiting.try_acquire().ok()?;
        let until = after(self.patience);
        while Instant::now() < until {
            sleep(LOOK_AGAIN).await;
            if let Ok(place) = self.handshakes().try_acquire_owned()
                && let Ok(turn) = self.take(from, place)
            {
                return Some(turn);
            }
        }
        None
    }

    fn take(&self, from: IpAddr, place: OwnedSemaphorePermit) -> Result<Turn, OwnedSemaphorePermit> {
        // One more is held for the next that comes.
        if self.handshakes.available_permits().saturating_add(1) >= self.scarce {
            return Ok(Turn { _handshake: place, _part: None });
        }
        match self.parts.take(from) {
            Some(part) => Ok(Turn { _handshake: place, _part: Some(part) }),
            None => Err(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn inv_12_one_address_leaves_places_for_others_and_gets_them_when_they_are_free() {
        let strangers = Strangers::new(8, Duration::from_millis(200));
        let place = || strangers.handshakes().try_acquire_owned().unwrap();
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        let mut held = Vec::new();
        for _ in 0..6 {
            held.push(strangers.turn(one, place()).await.unwrap());
        }
        assert!(strangers.turn(one, place()).await.is_none(), "its part, and what nobody else needed");
        assert_eq!(strangers.handshakes().available_permits(), 2, "it keeps no place while it waits");
        assert!(strangers.turn(other, place()).await.is_some());
        let freed = async {
            sleep(LOOK_AGAIN).await;
            held.clear();
        };
        assert!(tokio::join!(strangers.turn(one, place()), freed).0.is_some());
    }
}
