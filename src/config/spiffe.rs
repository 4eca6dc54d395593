//! SPIFFE IDs, by the letter of their standard (SPIFFE-ID, sections 2.1 to 2.4): what is nearly one is refused.

/// Why a text is no SPIFFE ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpiffeError {
    #[error("the scheme of a SPIFFE ID is `spiffe`, in small letters")]
    Scheme,
    #[error("the trust domain of a SPIFFE ID is 1 to 255 of a-z, 0-9, `.`, `-` and `_`")]
    TrustDomain,
    #[error(
        "the path of a SPIFFE ID has segments of letters, digits, `.`, `-` and `_`; none is empty, `.` or `..`"
    )]
    Path,
    #[error("a SPIFFE ID has at most 2048 bytes")]
    TooLong,
}

/// Whether a URI wants to be a SPIFFE ID, and so has to obey its rules.
pub fn is_meant(uri: &str) -> bool {
    uri.split_once(':').is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("spiffe"))
}

/// A SPIFFE ID, and nothing beside it: no port, no user, no query, no fragment, nothing percent-encoded.
pub fn check(uri: &str) -> Result<(), SpiffeError> {
    let rest = uri.strip_prefix("spiffe://").ok_or(SpiffeError::Scheme)?;
    if uri.len() > 2048 {
        return Err(SpiffeError::TooLong);
    }
    let (domain, path) = match rest.split_once('/') {
        Some((domain, path)) => (domain, Some(path)),
        None => (rest, None),
    };
    let in_domain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    if !(1..=255).contains(&domain.len()) || !domain.bytes().all(in_domain) {
        return Err(SpiffeError::TrustDomain);
    }
    let in_path = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(in_path);
    if path.is_some_and(|path| !path.split('/').all(is_segment)) {
        return Err(SpiffeError::Path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spiffe_id_is_one_by_the_letter() {
        for good in ["spiffe://desk", "spiffe://desk/trader", "spiffe://desk.example/ns/prod/sa/Bot-1_x.y"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("SPIFFE://desk/trader", SpiffeError::Scheme),
            ("spiffe:/desk/trader", SpiffeError::Scheme),
            ("spiffe://", SpiffeError::TrustDomain),
            ("spiffe:///trader", SpiffeError::TrustDomain),
            ("spiffe://Desk/trader", SpiffeError::TrustDomain),
            ("spiffe://desk:1/trader", SpiffeError::TrustDomain),
            ("spiffe://ada@desk/trader", SpiffeError::TrustDomain),
            ("spiffe://d%65sk/trader", SpiffeError::TrustDomain),
            ("spiffe://desk/", SpiffeError::Path),
            ("spiffe://desk/trader/", SpiffeError::Path),
            ("spiffe://desk//trader", SpiffeError::Path),
            ("spiffe://desk/./trader", SpiffeError::Path),
            ("spiffe://desk/a/../trader", SpiffeError::Path),
            ("spiffe://desk/tr%61der", SpiffeError::Path),
            ("spiffe://desk/trader?a=b", SpiffeError::Path),
            ("spiffe://desk/trader#a", SpiffeError::Path),
            ("spiffe://desk/*", SpiffeError::Path),
        ] {
            assert!(is_meant(bad), "{bad}");
            assert_eq!(check(bad), Err(why), "{bad}");
        }
        assert_eq!(check(&format!("spiffe://{}", "d".repeat(256))), Err(SpiffeError::TrustDomain));
        assert_eq!(check(&format!("spiffe://desk/{}", "p".repeat(2048))), Err(SpiffeError::TooLong));
        assert!(!is_meant("https://desk/trader"));
    }
}
