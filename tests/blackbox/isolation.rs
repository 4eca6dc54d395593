//! What the gateway and its workers can do to each other, and others to them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::kit::test_token::places;
use crate::kit::{PIN, TestToken, World, eventually};

/// Nobody in particular, who is there on every system.
const NOBODY: u32 = 65534;

#[tokio::test]
async fn inv_07_a_pin_comes_by_a_descriptor_and_is_read_again_by_the_next_worker() {
    let gateway = with_pin(World::new().await, "pin_fd = 7").shell("exec 7<token/pin").start().await;
    let trader = gateway.client("trader");
    trader.send(gateway.payment(1)).await.unwrap();
    for round in 2..=3 {
        kill_process(gateway.workers()[0], Signal::KILL).unwrap();
        eventually("a payment", async || trader.send(gateway.payment(round)).await.ok()).await;
    }
    let pin = gateway.folder().join("token/pin");
    let holds = |pid: Pid| descriptors(pid).iter().filter(|file| **file == pin.display().to_string()).count();
    assert_eq!(holds(gateway.pid()), 1, "one for the workers to come, and none to inherit by chance");
    assert_eq!(holds(gateway.workers()[0]), 0, "what the worker has read it has closed");
}

#[tokio::test]
async fn inv_07_a_pin_comes_as_a_credential_of_systemd() {
    let gateway = with_pin(World::new().await, "pin_credential = \"token.pin\"")
        .shell("mkdir -m 700 credentials; mv token/pin credentials/token.pin; export CREDENTIALS_DIRECTORY=$PWD/credentials")
        .start()
        .await;
    gateway.client("trader").send(gateway.payment(1)).await.unwrap();
}

#[tokio::test]
async fn a_pin_that_is_not_there_is_a_mistake_of_its_line() {
    for (key, prelude, why) in [
        ("pin_fd = 7", "", "not open"),
        ("pin_fd = 7", "exec 7</dev/null", "not a file"),
        ("pin_credential = \"pin\"", "unset CREDENTIALS_DIRECTORY", "LoadCredential="),
        ("pin_credential = \"pin\"", "export CREDENTIALS_DIRECTORY=$PWD", "No such file"),
    ] {
        let world = with_pin(World::new().await, key).shell(prelude);
        let said = world.refuses_to_start().await.stderr;
        let line = "chancery.toml:2";
        assert!(said.contains(why) && said.contains(line) && said.contains("token main"), "{key}: {said}");
    }
}

#[tokio::test]
async fn inv_07_a_worker_is_a_process_of_its_own_user_with_no_other_groups() {
    let world = World::new().await.replace("[[token]]", "[signer]\nuser = \"nobody\"\n\n[[token]]");
    if !geteuid().is_root() {
        let said = world.refuses_to_start().await.stderr;
        assert!(said.contains("only root can start a worker as another user"), "{said}");
        return;
    }
    own(&world.folder().join("token"), NOBODY);
    own(&world.folder().join("token/pin"), NOBODY);
    // Down to the token, and to what the program itself lies in.
    let passable = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(world.folder(), passable).unwrap();
    let gateway = world.start().await;
    let trader = gateway.client("trader");
    trader.send(gateway.payment(1)).await.unwrap();
    let [worker] = gateway.workers()[..] else { panic!("{:?}", gateway.workers()) };
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.as_raw_nonzero())).unwrap();
    let has = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(has("Uid:"), ["65534"; 4]);
    assert_eq!(has("Gid:").len(), 4);
    assert_ne!(has("Gid:")[0], "0");
    assert!(has("Groups:").is_empty(), "{:?}", has("Groups:"));
    // What is not dumpable is root's in /proc, whoever runs it.
    let environ = std::fs::metadata(format!("/proc/{}/environ", worker.as_raw_nonzero())).unwrap();
    assert_eq!(environ.uid(), 0, "others of its user can look into it");

    // It writes its latch, and the next one of its kind finds it.
    kill_process(worker, Signal::KILL).unwrap();
    eventually("a payment", async || trader.send(gateway.payment(2)).await.ok()).await;
    assert!(gateway.folder().join("main.worker/main.pin-accepted").exists());
}

#[tokio::test]
async fn inv_07_nobody_looks_into_the_gateway_and_it_leaves_no_core() {
    let world = World::new().await;
    let world = if geteuid().is_root() {
        own(world.folder(), NOBODY);
        world.shell("set -- setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"")
    } else {
        world
    };
    let gateway = world.start().await;
    let proc = format!("/proc/{}", gateway.pid().as_raw_nonzero());
    assert_ne!(std::fs::metadata(&proc).unwrap().uid(), 0, "it runs as somebody who is not root");
    assert_eq!(std::fs::metadata(format!("{proc}/environ")).unwrap().uid(), 0, "others of its user can look");
    let limits = std::fs::read_to_string(format!("{proc}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
}

#[tokio::test]
async fn inv_07_a_worker_dies_with_its_gateway_even_inside_its_module() {
    let (world, token) = TestToken::before(World::new().await);
    let mut gateway = world.start().await;
    let first = gateway.workers()[0];
    token.faults(&["on = \"C_Initialize\"; hang = \"for-ever\""]);
    kill_process(first, Signal::KILL).unwrap();
    let hung = eventually("a worker inside C_Initialize", async || {
        let worker = *gateway.workers().first()?;
        (worker != first && token.calls("C_Initialize") >= 2).then_some(worker)
    })
    .await;
    assert_eq!(token.count(places::PROCESS), u64::try_from(hung.as_raw_nonzero().get()).unwrap());
    gateway.kill().await;
    eventually("its end", async || (!is_alive(hung)).then_some(())).await;
}

/// It answers nobody, and it does not end.
#[tokio::test]
async fn inv_13_a_worker_that_is_stopped_is_replaced() {
    let gateway = World::new().await.start().await;
    gateway.client("trader").send(gateway.payment(1)).await.unwrap();
    let stopped = gateway.workers()[0];
    kill_process(stopped, Signal::STOP).unwrap();
    let within = std::time::Duration::from_secs(30);
    let replaced = tokio::time::timeout(within, async {
        while gateway.workers().first().is_none_or(|worker| *worker == stopped) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
    replaced.await.expect("another worker");
    eventually("a signature", async || gateway.client("trader").send(gateway.payment(2)).await.ok()).await;
    gateway.settled().await;
    assert_eq!(gateway.node().sent_by(gateway.treasury()).await.len(), 2);
    assert!(!is_alive(stopped));
}

/// Who makes a key sees it.
#[tokio::test]
async fn inv_07_the_commands_for_keys_dump_no_core() {
    let (world, token) = TestToken::before(World::new().await);
    let gateway = world.start().await;
    token.faults(&["on = \"C_FindObjectsInit\"; hang = \"for-ever\""]);
    let listing = gateway.chancery(&["keys", "list"]);
    // By then it has done what it does first.
    let core = eventually("the process inside its module", async || {
        let inside = token.count(places::PROCESS);
        let arguments = std::fs::read_to_string(format!("/proc/{inside}/cmdline")).ok()?;
        let limits = std::fs::read_to_string(format!("/proc/{inside}/limits")).ok()?;
        let core = limits.lines().find(|line| line.starts_with("Max core file size"))?.to_owned();
        arguments.contains("keys\0list").then_some(core)
    });
    tokio::select! {
        done = listing => panic!("{done:?}"),
        core = core => {
            // Now, and the most that it could be.
            assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
        }
    }
}

#[tokio::test]
async fn inv_07_a_module_that_was_taken_over_reaches_no_file_no_network_and_no_program() {
    let whole = kernel_has_all();
    println!("this kernel has all of Landlock that is asked for: {whole}");
    for (changed, network, files) in [
        ("network = false", false, false),
        ("network = true", true, false),
        ("sandbox = \"off\"", true, true),
    ] {
        let (world, token) = TestToken::before(World::new().await);
        let mut world = world.replace("network = false", changed);
        if files {
            let files = format!("files = [\"{}\"]\n", token.folder().display());
            world = world.replace(&files, "");
        }
        let gateway = world.start().await;
        let trader = gateway.client("trader");
        trader.send(gateway.payment(1)).await.unwrap();
        let folder = gateway.folder().display();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // The gateway's own key, ledger and latches of others; and what the module needs.
        let attempts = [
            (format!("read {folder}/server.key"), files || !whole),
            (format!("read {folder}/ledger.sqlite"), files || !whole),
            (format!("write {folder}/ledger.sqlite"), files || !whole),
            (format!("write {folder}/new"), files || !whole),
            (format!("read {folder}/token/softhsm2.conf"), true),
            (format!("write {folder}/main.worker/new"), true),
            (format!("connect {}", listener.local_addr().unwrap()), network),
            ("datagram unix".to_owned(), true),
            ("run /bin/true".to_owned(), files),
        ];
        let all: Vec<_> = attempts.iter().map(|(attempt, _)| format!("{attempt:?}")).collect();
        token.faults(&[&format!("on = \"C_SignInit\"; times = 1; attempts = [{}]", all.join(", "))]);
        let tried = eventually("the attempts", async || {
            trader.send(gateway.payment(2)).await.unwrap();
            token.tried()
        })
        .await;
        for ((attempt, may), line) in attempts.iter().zip(tried.lines()) {
            let expected = if *may { "done" } else { "PermissionDenied" };
            assert_eq!(line, format!("{attempt}: {expected}"), "{changed}");
        }
        assert_eq!(tried.lines().count(), attempts.len());
        // And it goes on signing.
        trader.send(gateway.payment(3)).await.unwrap();
        let doctor = gateway.chancery(&["doctor"]).await.stdout;
        let said = match changed {
            "network = false" if whole => "in a sandbox, without the network",
            "network = true" if whole => "in a sandbox, with the network",
            "sandbox = \"off\"" => "not in a sandbox, as the configuration says",
            _ => "not in the whole of its sandbox",
        };
        assert!(doctor.contains(said), "{doctor}");
        let log = gateway.whole_log().await;
        assert!(log.contains(said), "{log}");
        assert_eq!(log.contains("SANDBOX"), files || !whole, "it is said loudly");
    }
}

/// Whether this kernel has everything that a worker asks it for, by its own answer.
fn kernel_has_all() -> bool {
    use landlock::{
        ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope,
    };
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let rules = rules.handle_access(AccessFs::from_all(ABI::V6));
    let rules = rules.and_then(|rules| rules.handle_access(AccessNet::from_all(ABI::V6)));
    rules.and_then(|rules| rules.scope(Scope::from_all(ABI::V6))).and_then(Ruleset::create).is_ok()
}

/// The key that the token holds is one that this test knows, so that it can look for it.
#[tokio::test]
async fn inv_07_neither_pin_nor_key_is_in_the_gateways_memory() {
    let (world, _token, key) = TestToken::instead(World::new().await);
    let gateway = world.start().await;
    let trader = gateway.client("trader");
    for _ in 0..20 {
        let params = serde_json::json!(["0x68656c6c6f", key.address]);
        trader.call("personal_sign", params).await.unwrap();
    }
    let secret = alloy_primitives::hex::decode(key.secret()).unwrap();
    let turned: Vec<u8> = secret.iter().rev().copied().collect();
    let of = |pid: Pid| {
        let memory = memory_of(pid)?;
        // As bytes, as a number of this machine, and as text.
        let has_key = [&secret, &turned, key.secret().as_bytes()].iter().any(|form| contains(&memory, form));
        Ok::<_, std::io::Error>([contains(&memory, PIN.as_bytes()), has_key])
    };
    let [worker] = gateway.workers()[..] else { panic!("{:?}", gateway.workers()) };
    if !geteuid().is_root() {
        // The kernel says that nobody but root may look.
        let refused = [gateway.pid(), worker].map(|pid| of(pid).unwrap_err().kind());
        assert_eq!(refused, [std::io::ErrorKind::PermissionDenied; 2]);
        return;
    }
    assert_eq!(of(worker).unwrap(), [true, true], "a search that finds nothing in the worker finds nothing");
    assert_eq!(of(gateway.pid()).unwrap(), [false, false], "PIN and key in the gateway");
}

/// Another place of the PIN than the file that a world has.
fn with_pin(world: World, key: &str) -> World {
    let file = format!("pin_file = \"{}\"", world.token.pin_file().display());
    world.replace(&file, key)
}

fn own(path: &Path, user: u32) {
    let change =
        std::process::Command::new("chown").arg("-R").arg(format!("{user}:{user}")).arg(path).status();
    assert!(change.unwrap().success());
}

fn descriptors(pid: Pid) -> Vec<String> {
    let folder = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap();
    let link = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.ok()?.path()).ok();
    folder.filter_map(link).map(|file| file.display().to_string()).collect()
}

fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // A zombie of whoever adopted it is dead.
    stat.is_ok_and(|stat| !stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim().starts_with('Z')))
}

/// How much of it is read at once.
const PART: usize = 64 * 1024;

/// Everything that a process can read of itself.
fn memory_of(pid: Pid) -> std::io::Result<Vec<u8>> {
    use std::os::unix::fs::FileExt as _;
    let proc = format!("/proc/{}", pid.as_raw_nonzero());
    let (maps, memory) =
        (std::fs::read_to_string(format!("{proc}/maps"))?, std::fs::File::open(format!("{proc}/mem"))?);
    let mut all = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, may) = (fields.next().unwrap(), fields.next().unwrap());
        // What is mapped from files and cannot be written is the program itself.
        if !may.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        for at in (from..to).step_by(PART) {
            let mut part = vec![0; PART.min(usize::try_from(to - at).unwrap())];
            // Pages that are gone meanwhile, or were never there; the allocator keeps much that it never wrote to.
            if memory.read_exact_at(&mut part, at).is_ok() && part != vec![0; part.len()] {
                all.append(&mut part);
            }
        }
    }
    assert!(all.len() > 1 << 20, "{} bytes are not all of it", all.len());
    Ok(all)
}

fn contains(memory: &[u8], what: &[u8]) -> bool {
    memchr::memmem::find(memory, what).is_some()
}
