//! Writes what a running gateway may read at the same moment: each file is there whole, or as it was before.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::cmd::HintExt as _;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    Owner,
    Everyone,
}

/// Exchanges a file: written beside it, synced, renamed over it.
pub(super) fn replace(file: &Path, text: &str, readers: Readers) -> anyhow::Result<()> {
    let hint = "can the folder be written?";
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Made for its owner only.
    let mut new = NamedTempFile::new_in(folder).hint(file.display(), hint)?;
    new.write_all(text.as_bytes()).hint(file.display(), hint)?;
    if readers == Readers::Everyone {
        let all = std::fs::Permissions::from_mode(0o644);
        new.as_file().set_permissions(all).hint(file.display(), hint)?;
    }
    new.as_file().sync_all().hint(file.display(), hint)?;
    new.persist(file).hint(file.display(), hint)?;
    std::fs::File::open(folder).and_then(|folder| folder.sync_all()).hint(folder.display(), hint)
}
