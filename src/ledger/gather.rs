//! Who comes at the same moment shares a commit: it costs the same for one and for many.

use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, timeout_at};

use crate::clock::later;
use crate::ledger::command::Command;

/// How many commands one commit takes at most.
pub(in crate::ledger) const GROUP: usize = 256;

/// How often it is looked who else has come: each look may cost a slice of a processor's time.
const GATHERS: usize = 4;

/// How long what nobody waits for is kept for a commit that somebody does: where little is sent, each had one of its own.
const LINGER: Duration = Duration::from_millis(2);

/// Adds to what has come what else there is for the next commit.
pub(in crate::ledger) async fn gather(commands: &mut Receiver<Command>, batch: &mut Vec<Command>) {
    let until = later(Instant::now(), LINGER);
    let mut lingers = !batch.is_empty() && batch.iter().all(Command::may_linger);
    while lingers
        && batch.len() < GROUP
        && let Ok(Some(command)) = timeout_at(until, commands.recv()).await
    {
        lingers = command.may_linger();
        batch.push(command);
    }
    // Whoever is ready to ask does so first, where the processors are busy. Where they are idle this takes no time, and it ends
    // when nobody came meanwhile.
    for _ in 0..GATHERS {
        let before = batch.len();
        std::thread::yield_now();
        while batch.len() < GROUP
            && let Ok(command) = commands.try_recv()
        {
            batch.push(command);
        }
        if batch.len() == before {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::outcome::Sender;
    use crate::ledger::{Outcome, RefusalClass};
    use futures_util::FutureExt as _;
    use tokio::sync::{mpsc, oneshot};

    fn heard(outcome: Outcome, sender: Sender) -> Command {
        Command::Outcome { id: 1, outcome, sender, left: None, reply: oneshot::channel().0 }
    }

    fn urgent() -> Command {
        Command::Ready { reply: oneshot::channel().0 }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_goes_with_what_comes_next() {
        let (commands, mut queue) = mpsc::channel(8);
        let refused = Outcome::Refused { class: RefusalClass::FeeCap, text: "cap".to_owned() };
        for (mut batch, lingers) in [
            (vec![heard(Outcome::Accepted, Sender::First)], true),
            (vec![heard(Outcome::Known, Sender::First), heard(Outcome::Accepted, Sender::First)], true),
            (vec![heard(Outcome::Accepted, Sender::First), urgent()], false),
            (vec![heard(refused, Sender::First)], false),
            (vec![heard(Outcome::Accepted, Sender::Again)], false),
            (vec![heard(Outcome::Accepted, Sender::Client)], false),
            (vec![], false),
        ] {
            assert_eq!(gather(&mut queue, &mut batch).now_or_never().is_none(), lingers, "{}", batch.len());
        }
        let mut batch = vec![heard(Outcome::Accepted, Sender::First)];
        let mut gathers = Box::pin(gather(&mut queue, &mut batch));
        assert!((&mut gathers).now_or_never().is_none());
        commands.send(heard(Outcome::Known, Sender::First)).await.unwrap();
        assert!((&mut gathers).now_or_never().is_none(), "for two, too");
        commands.send(urgent()).await.unwrap();
        assert!(gathers.now_or_never().is_some());
        assert_eq!(batch.len(), 3);

        batch.truncate(1);
        gather(&mut queue, &mut batch).await;
        assert_eq!(batch.len(), 1, "and not for ever");
    }
}
