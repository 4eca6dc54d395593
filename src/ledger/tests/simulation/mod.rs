//! The real writer over a real file, alone or beside another that shares it, in a world that fails: clients that come again, a node that loses, refuses and
//! lies, crashes, clocks that are set, policies that change, blocks that are undone. After every step what the ledger
//! did is held against a record of what happened that knows nothing of it.
//!
//! A run is made from its seed. `CHANCERY_SIMULATION_SEED=7` runs that one alone, `CHANCERY_SIMULATION_SECONDS=3600`
//! goes on with new ones for so long.

#![expect(clippy::arithmetic_side_effects, reason = "a test that overflows panics, and fails")]

mod chain;
mod ears;
mod policies;
mod record;
mod recovery;
mod replica;
mod steps;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy_primitives::B256;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tokio::time::Instant;

use crate::ledger::tests::kit::{self, number};
use replica::Site;
use world::World;

/// Steps of one run.
const STEPS: usize = 500;

/// Runs without `CHANCERY_SIMULATION_SECONDS`: 100,000 steps.
const RUNS: u64 = 200;

#[test]
fn no_fault_breaks_an_invariant() {
    let (seed, seconds) = (number("CHANCERY_SIMULATION_SEED"), number("CHANCERY_SIMULATION_SECONDS"));
    let (first, runs) = match (seed, seconds) {
        (Some(seed), _) => (seed, 1),
        // Other runs than the last time.
        (None, Some(_)) => (u64::from(std::process::id()) << 32, u64::MAX),
        (None, None) => (1, RUNS),
    };
    let (begun, next, done) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    let signed = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                kit::stand_back();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let template = runtime.block_on(Site::template());
                loop {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    let over = seconds.is_some_and(|limit| begun.elapsed() >= Duration::from_secs(limit));
                    if run >= runs || over {
                        break;
                    }
                    let payloads = one(&runtime, &template, first.wrapping_add(run));
                    signed.fetch_add(payloads.len().try_into().unwrap(), Ordering::Relaxed);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let runs = done.into_inner();
    let (steps, signed, elapsed) =
        (runs * u64::try_from(STEPS).unwrap(), signed.into_inner(), begun.elapsed());
    println!("{steps} steps in {runs} runs from seed {first}, {signed} payloads, {elapsed:.1?}");
    assert!(signed > runs, "hardly anything was signed");
}

/// What failed is to be seen again. A machine that stands still for a second in one of them has waits end that do not otherwise.
#[test]
fn a_seed_reproduces_its_run() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let template = runtime.block_on(Site::template());
    for seed in [1, 2] {
        let [first, second, third] = [(); 3].map(|()| one(&runtime, &template, seed));
        assert!(first.len() > 10, "hardly anything was signed");
        assert!(first == second || first == third || second == third, "seed {seed}");
    }
}

/// One run; the hashes of what was signed.
fn one(runtime: &tokio::runtime::Runtime, template: &[u8], seed: u64) -> Vec<B256> {
    let told = Told { seed, step: AtomicU64::new(0) };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let steps = steps::steps(STEPS).new_tree(&mut runner).unwrap().current();
    runtime.block_on(async {
        // Every other run has two replicas.
        let mut world = World::new(template, 1 + usize::from(seed.is_multiple_of(2))).await;
        for step in steps {
            if seed_is_shown() {
                println!("{}: {step:?}", told.step.load(Ordering::Relaxed));
            }
            world.step(step).await;
            told.step.fetch_add(1, Ordering::Relaxed);
        }
        world.recover().await;
        world.record.payloads.values().map(|payload| payload.hash).collect()
    })
}

/// One seed alone is run to be looked at.
fn seed_is_shown() -> bool {
    number("CHANCERY_SIMULATION_SEED").is_some()
}

/// Says how to see it again when a run panics.
struct Told {
    seed: u64,
    step: AtomicU64,
}

impl Drop for Told {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let step = self.step.load(Ordering::Relaxed);
            println!(
                "run {} failed at step {step} of {STEPS}: CHANCERY_SIMULATION_SEED={} shows it",
                self.seed, self.seed
            );
        }
    }
}
