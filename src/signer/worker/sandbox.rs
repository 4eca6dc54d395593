//! What the kernel keeps from a worker, and so from the vendor's module in it: files by Landlock, and system calls (with
//! the network among them) by seccomp. Both hold for every thread that is started later, and are never lifted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter,
};

use crate::signer::protocol::{Confinement, SandboxSetting, Settings, SourceSetting};

/// What every program needs, and where vendors' clients keep their settings. No folder in which secrets lie, and not all
/// of `/etc`: the key of the gateway's listener may be there.
const READ: &[&str] = &[
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/nix/store",
    "/gnu/store",
    "/proc",
    "/sys",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/run/nscd",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/etc/ca-certificates",
    "/etc/crypto-policies",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/etc/pki/tls/openssl.cnf",
    "/etc/pki/ca-trust",
    "/etc/pkcs11",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/Chrystoki.conf",
    "/etc/nitrokey",
    "/etc/opensc",
    "/etc/primus",
    "/etc/softhsm",
    "/etc/softhsm2.conf",
    "/etc/utimaco",
];

const WRITE: &[&str] = &["/dev/null"];

/// Calls that a module has no business with: those that look into other processes, start programs, change what is
/// mounted or loaded, or get around these filters.
const DENIED: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
];

/// The same kernel takes the calls of x32 by these numbers, where it was built to.
const X32: i64 = 0x4000_0000;
#[cfg(target_arch = "x86_64")]
const DENIED_X32: &[i64] = &[520, 521, 539, 540, 545];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_X32: &[i64] = &[];

/// Confines this thread and those that it starts. What the kernel does not know of is left out, and said.
pub(super) fn enter(settings: &Settings) -> Confinement {
    let Some(sandbox) = &settings.sandbox else { return Confinement::Off };
    let mut missing = Vec::new();
    match files(settings, sandbox) {
        Ok(RulesetStatus::FullyEnforced) => {}
        Ok(RulesetStatus::PartiallyEnforced) => {
            missing.push("this kernel's Landlock is an old one".to_owned());
        }
        Ok(RulesetStatus::NotEnforced) => {
            missing.push("this kernel has no Landlock: files are not kept from it".to_owned());
        }
        Err(error) => missing.push(format!("Landlock: {error}")),
    }
    if let Err(error) = calls(sandbox.network) {
        missing.push(format!("seccomp: {error}"));
    }
    if missing.is_empty() {
        return Confinement::Whole { network: sandbox.network };
    }
    Confinement::Part(missing.join("; "))
}

fn files(settings: &Settings, sandbox: &SandboxSetting) -> Result<RulesetStatus, RulesetError> {
    let abi = ABI::V6;
    let all = AccessFs::from_all(abi);
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = all & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .scope(Scope::Signal)?;
    if !sandbox.network {
        rules = rules.handle_access(AccessNet::from_all(abi))?.scope(Scope::AbstractUnixSocket)?;
    }
    let (readable, writable) = paths(settings, sandbox);
    let status = rules
        .create()?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(writable, write))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// What may be read, and what may be written as well.
fn paths(settings: &Settings, sandbox: &SandboxSetting) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut read: Vec<PathBuf> = READ.iter().map(PathBuf::from).chain(sandbox.read.clone()).collect();
    let mut write: Vec<PathBuf> = WRITE.iter().map(PathBuf::from).chain(sandbox.write.clone()).collect();
    let named = settings.environment.values().map(PathBuf::from).filter(|path| path.is_absolute());
    read.extend(named);
    if let SourceSetting::Token { module, pin_file, latch, .. } = &settings.source {
        // With the libraries that lie beside it.
        read.extend(module.parent().map(Path::to_owned));
        read.extend(pin_file.clone());
        write.extend(latch.parent().map(Path::to_owned));
    }
    write.extend(softhsm_tokens(settings));
    (read, write)
}

/// Where SoftHSM2 keeps its tokens, in which it writes, by its own configuration.
fn softhsm_tokens(settings: &Settings) -> Option<PathBuf> {
    let SourceSetting::Token { module, .. } = &settings.source else { return None };
    let own = settings.environment.get("SOFTHSM2_CONF").map(PathBuf::from);
    let is_softhsm = module.file_name().is_some_and(|name| name.to_string_lossy().contains("softhsm"));
    let file = own.or_else(|| is_softhsm.then(|| PathBuf::from("/etc/softhsm/softhsm2.conf")))?;
    let text = std::fs::read_to_string(file).ok()?;
    let folder = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == "directories.tokendir").then(|| PathBuf::from(value.trim()))
    });
    folder.filter(|folder| folder.is_absolute())
}

fn calls(network: bool) -> Result<(), seccompiler::Error> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    if !network {
        let unix = u64::try_from(libc::AF_UNIX).unwrap_or(1);
        let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, unix)?;
        rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![other])?]);
    }
    if cfg!(target_arch = "x86_64") {
        let of_x32: Vec<_> = rules.iter().map(|(call, rule)| (call | X32, rule.clone())).collect();
        rules.extend(of_x32);
        rules.extend(DENIED_X32.iter().map(|call| (call | X32, Vec::new())));
    }
    let denied = SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap_or(1));
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, architecture)?;
    apply_filter(&BpfProgram::try_from(filter)?)
}
