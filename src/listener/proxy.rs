//! PROXY protocol, version 2: a load balancer that passes TCP on says first whose connection it is. From trusted ones only.
//!
//! <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.2.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Why what came first is no header.
#[derive(Debug, thiserror::Error)]
pub(in crate::listener) enum ProxyError {
    #[error("the load balancer sent no PROXY header of version 2")]
    NoHeader,
    #[error("a PROXY header of {0} bytes, more than any is")]
    TooLong(usize),
    #[error("a PROXY header with a command or addresses that there are not")]
    Malformed,
    #[error("the PROXY header did not come: {0}")]
    Broken(#[from] std::io::Error),
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Addresses take 36 bytes at most; the rest is for extensions, which are not looked at.
const LONGEST: usize = 2048;

/// Reads the header and not a byte more: what follows is TLS. `None` where the balancer speaks for itself (its health
/// checks), or for something that has no address.
pub(in crate::listener) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<SocketAddr>, ProxyError> {
    let mut head = [0; 16];
    stream.read_exact(&mut head).await?;
    let (start, [high, low]) = (head.first_chunk::<14>().ok_or(ProxyError::NoHeader)?, [head[14], head[15]]);
    let (signature, [command, family]) = (start.first_chunk::<12>(), [start[12], start[13]]);
    if signature != Some(SIGNATURE) || command >> 4 != 2 {
        return Err(ProxyError::NoHeader);
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST {
        return Err(ProxyError::TooLong(length));
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await?;
    source(command & 0x0f, family, &rest)
}

/// The client's address.
fn source(command: u8, family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    match (command, family) {
        // LOCAL: whatever stands behind it is to be ignored.
        (0, _) | (1, 0x00) => Ok(None),
        // TCP over IPv4 and over IPv6: both addresses, then both ports.
        (1, 0x11) => {
            let [a, b, c, d, _, _, _, _, high, low, _, _] =
                rest.first_chunk().ok_or(ProxyError::Malformed)?;
            let port = u16::from_be_bytes([*high, *low]);
            Ok(Some((Ipv4Addr::new(*a, *b, *c, *d), port).into()))
        }
        (1, 0x21) => {
            let whole = rest.first_chunk::<36>().ok_or(ProxyError::Malformed)?;
            let address = whole.first_chunk::<16>().ok_or(ProxyError::Malformed)?;
            let port = u16::from_be_bytes([whole[32], whole[33]]);
            Ok(Some((Ipv6Addr::from(*address), port).into()))
        }
        _ => Err(ProxyError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, rest, b"TLS"].concat()
    }

    async fn read_all(bytes: &[u8]) -> (Result<Option<String>, String>, Vec<u8>) {
        let mut rest = bytes;
        let source = read(&mut rest).await;
        (source.map(|source| source.map(|at| at.to_string())).map_err(|e| e.to_string()), rest.to_vec())
    }

    #[tokio::test]
    async fn a_header_is_read_and_nothing_behind_it() {
        let v4 = [203, 0, 113, 9, 10, 0, 0, 1, 0x30, 0x39, 0x21, 0x61];
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::9".parse::<Ipv6Addr>().unwrap().octets());
        v6[32..34].copy_from_slice(&12345_u16.to_be_bytes());
        for (bytes, expected) in [
            (header(0x21, 0x11, &v4), Some("203.0.113.9:12345")),
            (header(0x21, 0x11, &[&v4[..], &[4, 0, 1, 0]].concat()), Some("203.0.113.9:12345")),
            (header(0x21, 0x21, &v6), Some("[2001:db8::9]:12345")),
            (header(0x20, 0x00, &[]), None),
            (header(0x20, 0x11, &v4), None),
            (header(0x21, 0x00, &[1, 2, 3]), None),
        ] {
            assert_eq!(
                read_all(&bytes).await,
                (Ok(expected.map(str::to_owned)), b"TLS".to_vec()),
                "{bytes:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let v4 = [203, 0, 113, 9, 10, 0, 0, 1, 0x30, 0x39, 0x21, 0x61];
        for (bytes, why) in [
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 1 2\r\n".to_vec(), "no PROXY header of version 2"),
            (vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0, 0], "no PROXY header of version 2"),
            (header(0x11, 0x11, &v4), "no PROXY header of version 2"),
            (header(0x22, 0x11, &v4), "command"),
            (header(0x21, 0x12, &v4), "command"),
            (header(0x21, 0x31, &[0; 216]), "command"),
            (header(0x21, 0x11, &v4[..11]), "addresses"),
            (header(0x21, 0x21, &[0; 35]), "addresses"),
            (header(0x21, 0x11, &vec![0; 2049]), "2049 bytes"),
            (header(0x21, 0x11, &v4)[..20].to_vec(), "did not come"),
            (Vec::new(), "did not come"),
        ] {
            let error = read_all(&bytes).await.0.unwrap_err();
            assert!(error.contains(why), "{bytes:?}: {error}");
        }
    }
}
