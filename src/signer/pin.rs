//! Where a PIN is read from. What this holds says where, never what: only a worker (or `chancery keys`) reads it.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use secrecy::SecretString;

use crate::config::{Config, PinSource, Token};
use crate::secret;
use crate::signer::StartError;

/// A PIN as a worker finds it.
#[derive(Debug)]
pub(super) enum Pin {
    File(PathBuf),
    /// Came over the socketpair.
    Open(File),
}

/// Files with PINs that are open here, and handed to their token's worker: what whoever started us opened for us, and
/// systemd's credentials, which another user could not open.
#[derive(Debug, Default)]
pub struct Pins(HashMap<String, Arc<OwnedFd>>);

impl Pin {
    pub(super) fn read(&self) -> io::Result<SecretString> {
        match self {
            Self::File(path) => secret::read_file(path),
            Self::Open(file) => secret::read_open(file),
        }
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        match self {
            Self::File(path) => std::fs::metadata(path),
            Self::Open(file) => file.metadata(),
        }
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the PIN file {}", path.display()),
            Self::Open(_) => f.write_str("the PIN file that was handed over"),
        }
    }
}

impl Pins {
    /// To be called before anything else opens files: a number that was not handed over might name one of them.
    pub fn take(config: &Config) -> Result<Self, StartError> {
        let mut pins = HashMap::new();
        for token in &config.tokens {
            let wrong = |what: &dyn fmt::Display| {
                StartError::Wrong(format!("{}: token {}: {}: {what}", token.pin_place, token.name, token.pin))
            };
            let Some(file) = open(token).map_err(|error| wrong(&error))? else { continue };
            if !file.metadata().map_err(|error| wrong(&error))?.is_file() {
                return Err(wrong(&"not a file, which can be read again when the worker is started anew"));
            }
            pins.insert(token.name.clone(), Arc::new(OwnedFd::from(file)));
        }
        // Several tokens may have the same one; after the last of them, no other process inherits it.
        for token in &config.tokens {
            if let PinSource::Descriptor(number) = token.pin {
                let _ = nix::unistd::close(number);
            }
        }
        Ok(Self(pins))
    }

    pub(super) fn of(&self, token: &str) -> Option<Arc<OwnedFd>> {
        self.0.get(token).cloned()
    }
}

fn open(token: &Token) -> io::Result<Option<File>> {
    match &token.pin {
        PinSource::File(_) => Ok(None),
        PinSource::Descriptor(number) => {
            let (ours, theirs) = UnixStream::pair()?;
            hand_over(&ours, Some(*number)).map_err(|error| match error.kind() {
                _ if error.raw_os_error() == Some(libc::EBADF) => {
                    io::Error::other("it is not open: start with it, such as `chancery serve 5< pin`")
                }
                _ => error,
            })?;
            Ok(take_over(&theirs)?.map(File::from))
        }
        PinSource::Credential { folder: Some(_), .. } => File::open(token.pin.path()).map(Some),
        PinSource::Credential { folder: None, .. } => Err(io::Error::other(
            "$CREDENTIALS_DIRECTORY is not set: start it by systemd, with LoadCredential= in the unit",
        )),
    }
}

/// Sends one byte, and a descriptor with it where there is one. The socket is new, so there is room.
pub(super) fn hand_over(to: &UnixStream, descriptor: Option<i32>) -> io::Result<()> {
    let descriptors = descriptor.as_slice();
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() { &[][..] } else { &rights };
    sendmsg::<UnixAddr>(to.as_raw_fd(), &[IoSlice::new(&[0])], rights, MsgFlags::empty(), None)?;
    Ok(())
}

/// The other end of it.
pub(super) fn take_over(from: impl AsFd) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut buffer = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let got = recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut buffer, RecvFlags::CMSG_CLOEXEC)?;
    if got.bytes != 1 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(buffer.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_descriptor_goes_to_the_other_end_and_one_that_is_not_open_is_a_mistake() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"1234\n").unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        hand_over(&ours, Some(file.as_raw_fd())).unwrap();
        let taken = take_over(&theirs).unwrap().unwrap();
        let pin = Pin::Open(File::from(taken));
        assert_eq!(secrecy::ExposeSecret::expose_secret(&pin.read().unwrap()), "1234");
        hand_over(&ours, None).unwrap();
        assert!(take_over(&theirs).unwrap().is_none());
        assert_eq!(hand_over(&ours, Some(1_000_000)).unwrap_err().raw_os_error(), Some(libc::EBADF));
        drop(ours);
        assert!(take_over(&theirs).is_err());
    }
}
