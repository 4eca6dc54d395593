//! A certificate like the one before, with a new key and a new end.

use std::path::Path;

use serde_json::json;

use crate::clock::Clock;
use crate::cmd::certs::authority::Authority;
use crate::cmd::certs::held::Held;
use crate::cmd::certs::revocation::Revoked;
use crate::cmd::{Context, Done, Failure, Success};

pub(super) fn renew(
    context: &Context,
    dir: &Path,
    name: &str,
    within: Option<u32>,
    days: Option<u32>,
) -> Done {
    let file = dir.join(format!("{name}.pem"));
    let held = Held::read(&file)?;
    let left = held.days_left(i64::try_from(Clock::system().now().seconds())?)?;
    if within.is_some_and(|within| left >= within.into()) {
        let data = json!({ "certificate": file, "renewed": false, "days_left": left });
        context.print(&data, format_args!("{} has {left} days left; nothing is done", file.display()))?;
        return Ok(Success::Done);
    }
    let authority = Authority::load(dir)?;
    if !held.is_of(&authority) {
        let failure = Failure::new(format_args!("{} is not of the CA in {}", file.display(), dir.display()));
        return Err(failure.with_hint("have whoever issued it renew it").into());
    }
    if Revoked::read(dir)?.has(&held.serial()?) {
        let failure = Failure::new(format_args!("{} is revoked", file.display()));
        return Err(failure.with_hint("if its holder may come back, `certs issue` gives a new one").into());
    }
    let days = days.map_or_else(|| held.days(), Ok)?;
    authority.issue(&held.holder()?, days)?.write(dir, name)?;
    let data = json!({ "certificate": file, "renewed": true, "days_left": days });
    let text = format!(
        "wrote {} and its key, valid for {days} days; the old one, with {left} days left, is good until it ends \
         (`certs revoke` before renewing ends it)",
        file.display()
    );
    context.print(&data, text)?;
    Ok(Success::Done)
}
