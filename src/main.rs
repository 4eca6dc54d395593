//! The `chancery` program.

use std::process::ExitCode;

/// A transaction allocates on one thread and is let go of on another; this one is made for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    chancery::cli::main()
}
