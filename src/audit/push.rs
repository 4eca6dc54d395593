//! Checkpoints on their way out of the house: a file that is appended to and synced, and a webhook.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tokio::sync::mpsc;

use crate::audit::webhook::Webhook;
use crate::config;
use crate::ledger::SealedRow;

/// Checkpoints that wait for a disk that cannot be written; each is in the ledger as well.
const WAITING: usize = 1000;

/// Checkpoints that wait for a webhook that does not answer.
const POSTS: usize = 100;

/// Where checkpoints go.
#[derive(Debug)]
pub(super) struct Outbox {
    file: Option<PathBuf>,
    /// The number of the newest checkpoint that the file holds.
    newest: Option<u64>,
    waiting: VecDeque<String>,
    posts: Option<mpsc::Sender<String>>,
}

impl Outbox {
    pub(super) fn open(config: &config::Audit) -> io::Result<Self> {
        let newest = match &config.file {
            Some(file) => newest_in(&mut open(file)?)?,
            None => None,
        };
        let posts = match &config.webhook {
            Some(webhook) => {
                let (posts, queue) = mpsc::channel(POSTS);
                tokio::spawn(Webhook::new(webhook)?.run(queue));
                Some(posts)
            }
            None => None,
        };
        Ok(Self { file: config.file.clone(), newest, waiting: VecDeque::new(), posts })
    }

    /// The newest checkpoint that is outside already. Where there is no file nobody knows, and the webhook gets what
    /// comes from now on.
    pub(super) fn newest(&self) -> Option<u64> {
        if self.file.is_some() { self.newest } else { Some(u64::MAX) }
    }

    /// The newest checkpoint of the file, where there is one.
    pub(super) fn in_file(&self) -> Option<u64> {
        self.newest.filter(|_| self.file.is_some())
    }

    pub(super) fn push(&mut self, row: &SealedRow) {
        let Ok(line) = serde_json::to_string(row) else { return };
        self.newest = row.read().ok().map(|statement| statement.checkpoint).or(self.newest);
        if let Some(posts) = &self.posts
            && posts.try_send(line.clone()).is_err()
        {
            metrics::counter!("chancery_checkpoints_unposted_total").increment(1);
            tracing::error!("a checkpoint is not posted: the webhook's queue is full");
        }
        if self.file.is_some() {
            self.waiting.push_back(line);
        }
        if self.waiting.len() > WAITING {
            self.waiting.pop_front();
            tracing::error!("a checkpoint is not in the file: it cannot be written");
        }
    }

    /// Writes what waits, and syncs it.
    pub(super) async fn flush(&mut self) {
        let Some(file) = self.file.clone().filter(|_| !self.waiting.is_empty()) else { return };
        let lines: Vec<String> = self.waiting.iter().cloned().collect();
        let written = tokio::task::spawn_blocking(move || append(&file, &lines)).await;
        match written.map_err(io::Error::other).flatten() {
            Ok(()) => self.waiting.clear(),
            Err(error) => {
                metrics::counter!("chancery_checkpoint_file_failures_total").increment(1);
                tracing::error!(%error, "checkpoints cannot be written to their file; they are tried again");
            }
        }
    }
}

fn open(file: &Path) -> io::Result<File> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(file)
}

fn append(file: &Path, lines: &[String]) -> io::Result<()> {
    let mut file = open(file)?;
    let mut text = String::new();
    // A line that was cut by a crash is ended, so that it spoils no other.
    if !ends_a_line(&mut file)? {
        text.push('\n');
    }
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    io::Read::read_exact(file, &mut last)?;
    Ok(last == *b"\n")
}

fn newest_in(file: &mut File) -> io::Result<Option<u64>> {
    file.rewind()?;
    let mut newest = None;
    for line in BufReader::new(file).lines() {
        let row = serde_json::from_str::<SealedRow>(&line?).ok();
        newest = row.and_then(|row| row.read().ok()).map(|statement| statement.checkpoint).or(newest);
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_a_crash_cut_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("out/checkpoints.jsonl");
        append(&file, &["one".to_owned()]).unwrap();
        OpenOptions::new().append(true).open(&file).unwrap().write_all(b"tw").unwrap();
        append(&file, &["three".to_owned(), "four".to_owned()]).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "one\ntw\nthree\nfour\n");
        assert_eq!(newest_in(&mut open(&file).unwrap()).unwrap(), None, "nobody signed these");
    }
}
