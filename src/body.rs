//! The body of an answer: one piece, or several one after another, so that what is large and somebody else's too is not
//! copied only to stand between two others.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

/// All of it is there.
#[derive(Clone, Debug, Default)]
pub struct Body {
    next: Option<Bytes>,
    rest: VecDeque<Bytes>,
}

impl Body {
    pub fn of(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let mut rest: VecDeque<_> = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Self { next: rest.pop_front(), rest }
    }
}

impl From<Bytes> for Body {
    fn from(whole: Bytes) -> Self {
        Self { next: Some(whole).filter(|whole| !whole.is_empty()), rest: VecDeque::new() }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = self.next.take();
        self.next = self.rest.pop_front();
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let length = self.next.iter().chain(&self.rest).map(Bytes::len).sum::<usize>();
        SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use hyper::body::Body as _;

    use super::*;

    #[tokio::test]
    async fn a_body_is_its_pieces_and_says_how_long_they_are() {
        let text = async |body: Body| body.collect().await.unwrap().to_bytes();
        let pieces = Body::of(["ab", "", "c"].map(Bytes::from));
        assert_eq!(pieces.size_hint().exact(), Some(3));
        assert_eq!(text(pieces).await, "abc");
        assert_eq!(text(Body::from(Bytes::from("abc"))).await, "abc");
        for empty in [Body::default(), Body::from(Bytes::new()), Body::of([Bytes::new()])] {
            assert!(empty.is_end_stream() && empty.size_hint().exact() == Some(0));
            assert_eq!(text(empty).await, "");
        }
    }
}
