//! A light upstream that speaks gRPC's HTTP/2: it takes any request body and answers one small
//! message with trailers. It does not look into messages, so that the proxy is what costs.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use h2::server::{self, SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

/// Bytes of the message in each answer.
const MESSAGE_BYTES: u8 = 64;

/// The body of each answer: one message of 64 bytes behind gRPC's frame head, a flag and a length
/// of four bytes (PROTOCOL-HTTP2 of gRPC, "Length-Prefixed-Message").
pub fn answer() -> Bytes {
    let mut frame = vec![0, 0, 0, 0, MESSAGE_BYTES];
    frame.extend((0..MESSAGE_BYTES).map(|n| b'a' + n % 26));
    frame.into()
}

/// Serves `addr` with HTTP/2 by prior knowledge, for ever, on this thread. Prints
/// `listening on <address>` once connections are taken.
///
/// # Errors
///
/// When there is no event loop, or the address cannot be listened on.
pub fn run(addr: SocketAddr) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(addr).await?;
        println!("listening on {}", listener.local_addr()?);
        io::stdout().flush()?;
        let reply = Rc::new(Reply::default());
        loop {
            // A connection that is gone before it is accepted, or no descriptor for it: the next.
            let Ok((stream, _)) = listener.accept().await else {
                tokio::task::yield_now().await;
                continue;
            };
            tokio::task::spawn_local(serve(stream, Rc::clone(&reply)));
        }
    })
}

/// Made once for all answers.
struct Reply {
    message: Bytes,
    trailers: HeaderMap,
}

impl Default for Reply {
    fn default() -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Self { message: answer(), trailers }
    }
}

/// One connection. What goes wrong on it ends it, and the proxy's side has the error to count.
async fn serve(stream: TcpStream, reply: Rc<Reply>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut builder = server::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(1 << 24);
    // A load that ends leaves streams that the proxy resets. Many at once would be an attack to h2,
    // which closes the connection: that is not what is measured.
    builder.max_pending_accept_reset_streams(usize::MAX).max_concurrent_reset_streams(4096);
    let Ok(mut connection) = builder.handshake::<_, Bytes>(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let reply = Rc::clone(&reply);
        tokio::task::spawn_local(async move {
            // A stream that was reset: its connection goes on.
            let _ = exchange(request, respond, &reply).await;
        });
    }
}

async fn exchange(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    reply: &Reply,
) -> Result<(), h2::Error> {
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        let bytes = data?.len();
        body.flow_control().release_capacity(bytes)?;
    }
    let mut head = Response::new(());
    head.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut out = respond.send_response(head, false)?;
    out.send_data(reply.message.clone(), false)?;
    out.send_trailers(reply.trailers.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_one_message() {
        let frame = answer();
        assert_eq!(frame[..5], [0, 0, 0, 0, 64]);
        assert_eq!(frame.len(), 5 + 64);
    }
}
