//! Where the unix socket lies, and that it is ours alone: a left-over one is replaced, a live one is not.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;

use crate::cmd::{Failure, HintExt as _};

/// Paths of sockets are short: 104 bytes on macOS, 108 on Linux, each with a zero at the end.
const MAX_PATH: usize = 103;

/// Where sockets go if nothing else is said.
#[derive(Clone, Debug, clap::Args)]
pub struct Places {
    #[arg(long, env = "XDG_RUNTIME_DIR", hide = true)]
    runtime_dir: Option<PathBuf>,
    #[arg(long, env = "HOME", hide = true)]
    home: Option<PathBuf>,
    #[arg(long, env = "XDG_CONFIG_HOME", hide = true)]
    config_home: Option<PathBuf>,
}

/// A socket's file; removed when this is dropped, if it is still the one that was made.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    file: (u64, u64),
}

impl Places {
    /// The file of profiles.
    pub fn profiles(&self) -> Result<PathBuf> {
        let absolute = |path: &Option<PathBuf>| path.clone().filter(|path| path.is_absolute());
        let folder = absolute(&self.config_home).or_else(|| Some(absolute(&self.home)?.join(".config")));
        let folder = folder.ok_or_else(|| {
            Failure::new("it is not known where your profiles are: $HOME is not set")
                .with_hint("give a URL, such as https://gateway:8545, or the file with --profiles")
        })?;
        Ok(folder.join("chancery/connect.toml"))
    }

    /// The folder for sockets: made if need be, ours, and closed to everyone else.
    pub fn folder(&self) -> Result<PathBuf> {
        let absolute = |path: &Option<PathBuf>| path.clone().filter(|path| path.is_absolute());
        let folder = if let Some(runtime) = absolute(&self.runtime_dir) {
            runtime.join("chancery")
        } else if let Some(home) = absolute(&self.home) {
            home.join(".chancery")
        } else {
            std::env::temp_dir().join(format!("chancery-{}", geteuid().as_raw()))
        };
        let hint = "give another place with `--socket`";
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
        .hint(folder.display(), hint)?;
        let found = fs::symlink_metadata(&folder).hint(folder.display(), hint)?;
        if !found.is_dir() || found.uid() != geteuid().as_raw() {
            let what = format!("{}: not a folder of this user", folder.display());
            return Err(Failure::new(what).with_hint(hint).into());
        }
        if found.mode() & 0o077 != 0 {
            let what = format!("{}: others may enter this folder", folder.display());
            return Err(Failure::new(what).with_hint(format_args!("chmod 700 {}", folder.display())).into());
        }
        Ok(folder)
    }
}

impl Socket {
    /// Listens at `path`, for this user only.
    pub fn bind(path: &Path) -> Result<(Self, UnixListener)> {
        if path.as_os_str().len() > MAX_PATH {
            let what = format!("{}: too long for a socket ({MAX_PATH} bytes at most)", path.display());
            return Err(Failure::new(what).with_hint("give a shorter one with `--socket`").into());
        }
        let hint = "give another place with `--socket`";
        // Two that start at once must not both take the place of the same left-over socket.
        let _lock = lock(folder_of(path)).hint(folder_of(path).display(), hint)?;
        if is_live(path)? {
            let what = format!("{}: another connector is listening there", path.display());
            return Err(Failure::new(what).with_hint("use it, or give another place with `--socket`").into());
        }
        // Made where nobody else can reach it, and moved when its mode is right.
        let private =
            tempfile::Builder::new().prefix(".").tempdir_in(folder_of(path)).hint(path.display(), hint)?;
        let young = private.path().join("s");
        let listener = UnixListener::bind(&young).hint(path.display(), hint)?;
        fs::set_permissions(&young, Permissions::from_mode(0o600)).hint(path.display(), hint)?;
        fs::rename(&young, path).hint(path.display(), hint)?;
        let made = fs::symlink_metadata(path).hint(path.display(), hint)?;
        Ok((Self { path: path.to_owned(), file: (made.dev(), made.ino()) }, listener))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours =
            fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if ours {
            // It is the last thing that is done; a file that cannot be removed is replaced next time.
            drop(fs::remove_file(&self.path));
        }
    }
}

/// Whether somebody listens there; an error if it is no left-over socket either.
fn is_live(path: &Path) -> Result<bool> {
    let hint = "remove it, or give another place with `--socket`";
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found.hint(path.display(), hint)?,
    };
    if !found.file_type().is_socket() || found.uid() != geteuid().as_raw() {
        let what = format!("{}: there is a file that is no socket of this user", path.display());
        return Err(Failure::new(what).with_hint(hint).into());
    }
    // Whatever else it says (its queue is full, say), there is somebody.
    Ok(!matches!(UnixStream::connect(path), Err(error) if error.kind() == io::ErrorKind::ConnectionRefused))
}

/// Holds the folder until dropped. In a folder that is not ours, anybody could hold it: there we do not wait.
fn lock(folder: &Path) -> io::Result<File> {
    let file = File::open(folder)?;
    let ours = file.metadata()?.uid() == geteuid().as_raw();
    let how = if ours { FlockOperation::LockExclusive } else { FlockOperation::NonBlockingLockExclusive };
    flock(&file, how)?;
    Ok(file)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// The file's name for a gateway's socket; `own` makes it differ from everybody else's.
pub fn file_name(stem: &str, own: Option<u32>) -> OsString {
    own.map_or_else(|| format!("{stem}.ipc"), |process| format!("{stem}-{process}.ipc")).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_socket_is_ours_alone_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ipc");
        let (socket, listener) = Socket::bind(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        UnixStream::connect(socket.path()).unwrap();
        drop((socket, listener));
        assert!(!path.exists());
    }

    #[test]
    fn a_left_over_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ipc");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (_socket, _listener) = Socket::bind(&path).unwrap();
        let refused = Socket::bind(&path).unwrap_err().to_string();
        assert!(refused.ends_with("another connector is listening there"), "{refused}");
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ipc");
        fs::write(&path, "mine").unwrap();
        assert!(Socket::bind(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        let long = folder.path().join("x".repeat(100));
        assert!(Socket::bind(&long).unwrap_err().to_string().contains("too long"));
    }

    #[test]
    fn somebody_elses_successor_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.ipc");
        let (socket, _listener) = Socket::bind(&path).unwrap();
        fs::rename(&path, folder.path().join("y.ipc")).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[test]
    fn the_folder_is_made_for_its_owner_only_and_an_open_one_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let runtime = Places { runtime_dir: Some(parent.path().to_owned()), home: None, config_home: None };
        let folder = runtime.folder().unwrap();
        assert_eq!((folder.as_path(), mode(&folder)), (parent.path().join("chancery").as_path(), 0o700));

        fs::set_permissions(&folder, Permissions::from_mode(0o750)).unwrap();
        assert!(runtime.folder().unwrap_err().to_string().contains("others may enter"));

        let home = Some(parent.path().to_owned());
        let home = Places { runtime_dir: Some("not/absolute".into()), home, config_home: None };
        std::os::unix::fs::symlink(&folder, parent.path().join(".chancery")).unwrap();
        assert!(home.folder().unwrap_err().to_string().contains("not a folder"));
        // Only root can give a folder away; nobody else can try this.
        if geteuid().is_root() {
            fs::set_permissions(&folder, Permissions::from_mode(0o700)).unwrap();
            std::os::unix::fs::chown(&folder, Some(65534), None).unwrap();
            assert!(runtime.folder().unwrap_err().to_string().contains("not a folder of this user"));
        }
    }
}
