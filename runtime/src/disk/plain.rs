//! The backend on plain system calls: for streams, and where `io_uring` is not to be had.

use std::fs::File;
use std::future::Future;
use std::io::{self, Write as _};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::event::PollFlags;

use super::wake::{Wake, wait_for};
use super::writer::{Appended, Cut, Io, Writer};

/// Blocks in each call; its futures are ready when they are first polled.
#[derive(Debug)]
pub(super) struct PlainIo;

impl Io for PlainIo {
    type File = File;

    async fn adopt(&self, file: &File) -> io::Result<File> {
        file.try_clone()
    }

    async fn append(&self, file: &mut File, data: &[u8], _cut: Cut) -> Appended {
        let mut bytes = 0;
        while bytes < data.len() {
            match file.write(&data[bytes..]) {
                Ok(0) => return failed(bytes, io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes += n,
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => {}
                    // A pipe or terminal that somebody else made non-blocking.
                    io::ErrorKind::WouldBlock => {
                        wait_for(file, PollFlags::OUT, None);
                    }
                    _ => return failed(bytes, error),
                },
            }
        }
        Appended { bytes, error: None }
    }

    async fn wait(&self, wake: &Wake, timeout: Option<Duration>) {
        wake.wait(timeout);
    }

    async fn blocking<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        job()
    }
}

fn failed(bytes: usize, error: io::Error) -> Appended {
    Appended { bytes, error: Some(error) }
}

/// Runs `writer` on this thread until it is told to stop.
pub(super) fn serve(writer: &mut Writer, ready: impl FnOnce()) -> io::Result<()> {
    let mut served = pin!(writer.serve(&PlainIo, ready));
    let mut context = Context::from_waker(Waker::noop());
    loop {
        // Never pending, see `PlainIo`.
        if let Poll::Ready(result) = served.as_mut().poll(&mut context) {
            return result;
        }
    }
}
