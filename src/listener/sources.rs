//! Which files say who may connect, and whether they are the same as before.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::{Config, Issuer};
use crate::identity::Directory;

/// Where a snapshot of trust is read from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The server's certificate with its chain, and its key.
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub issuers: Vec<Issuer>,
    /// Everyone who may connect at most: a reload can take someone out, and let nobody in.
    pub people: Directory,
    /// Where `[[client]]` and `[[operator]]` are read again.
    pub config: Option<PathBuf>,
}

/// What the files looked like: a file that is written or exchanged, also behind a symbolic link, has another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::listener) struct Stamp(Vec<Option<Look>>);

/// Device, inode, size, and when it was written and changed, with nanoseconds.
type Look = (u64, u64, u64, (i64, i64), (i64, i64));

impl Sources {
    pub fn new(config: &Config) -> Self {
        Self {
            certificate: config.gateway.certificate.clone(),
            key: config.gateway.key.clone(),
            issuers: config.gateway.issuers.clone(),
            people: Directory::new(config),
            config: Some(config.file.clone()),
        }
    }

    fn files(&self) -> impl Iterator<Item = &Path> {
        let of_issuers =
            self.issuers.iter().flat_map(|issuer| std::iter::once(&issuer.client_ca).chain(&issuer.crls));
        let own = [&self.certificate, &self.key].into_iter().chain(&self.config);
        own.chain(of_issuers).map(PathBuf::as_path)
    }

    /// Blocks for as long as the file system takes.
    pub(in crate::listener) fn stamp(&self) -> Stamp {
        let look = |file: &Path| {
            let at = std::fs::metadata(file).ok()?;
            let (written, changed) = ((at.mtime(), at.mtime_nsec()), (at.ctime(), at.ctime_nsec()));
            Some((at.dev(), at.ino(), at.len(), written, changed))
        };
        Stamp(self.files().map(look).collect())
    }
}
