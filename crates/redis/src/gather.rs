//! A socket that gathers what is written at the same moment.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket whose writes wait until every task that is ready has had its turn: the commands that these give go along in
/// one piece, at the price of one system call for us and one for the server. A command that is alone waits for one look
/// at the sockets.
///
/// Without it little is gathered: tokio runs the task that writes right after the first one that has something to be
/// written.
pub(crate) struct Gathering<S> {
    socket: S,
    waited: bool,
}

impl<S> Gathering<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self { socket, waited: false }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.waited {
            self.waited = true;
            // It wakes this task when there is nothing else to run.
            ready!(pin!(tokio::task::yield_now()).poll(cx));
        }
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        // What the socket did not take has waited already.
        self.waited = written < bytes.len();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, into)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::io::AsyncWriteExt;
    use tokio::sync::mpsc;

    use super::*;

    /// Remembers the pieces in which it is written.
    #[derive(Clone, Default)]
    struct Pieces(Arc<Mutex<Vec<Vec<u8>>>>);

    impl AsyncWrite for Pieces {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            // No more than eight bytes at once.
            let taken = bytes.len().min(8);
            self.0.lock().unwrap().push(bytes[..taken].to_vec());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_is_ready_goes_in_one_piece_and_in_order() {
        let pieces = Pieces::default();
        let mut socket = Gathering::new(pieces.clone());
        let (give, mut take) = mpsc::unbounded_channel::<u8>();
        // As the driver does it: it collects while the socket makes it wait.
        let writer = tokio::spawn(async move {
            let mut collected = Vec::new();
            while let Some(byte) = take.recv().await {
                collected.push(byte);
                while !collected.is_empty() {
                    let written = std::future::poll_fn(|cx| {
                        while let Ok(byte) = take.try_recv() {
                            collected.push(byte);
                        }
                        Pin::new(&mut socket).poll_write(cx, &collected)
                    });
                    let written = written.await.expect("it takes everything");
                    collected.drain(..written);
                }
            }
            socket.shutdown().await.expect("it is shut down");
        });
        for round in 0..2_u8 {
            let workers: Vec<_> = (0..5)
                .map(|worker| {
                    let give = give.clone();
                    tokio::spawn(async move { give.send(round * 5 + worker).expect("the writer listens") })
                })
                .collect();
            for worker in workers {
                worker.await.expect("a worker");
            }
            while pieces.0.lock().unwrap().len() <= usize::from(round) {
                tokio::task::yield_now().await;
            }
        }
        drop(give);
        writer.await.expect("the writer");
        assert_eq!(*pieces.0.lock().unwrap(), [vec![0, 1, 2, 3, 4], vec![5, 6, 7, 8, 9]]);
    }

    #[tokio::test]
    async fn everything_arrives() {
        let pieces = Pieces::default();
        let sent: Vec<u8> = (0..100).collect();
        Gathering::new(pieces.clone()).write_all(&sent).await.expect("it takes everything");
        assert_eq!(pieces.0.lock().unwrap().concat(), sent);
    }
}
