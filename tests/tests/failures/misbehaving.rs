//! Nodes that do what no server should.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use osmia_tests::{Peer, Upstream, Wire};

/// A node that answers later than anybody waits for.
pub(crate) fn slow() -> Upstream {
    Upstream::serving(|mut peer| {
        while peer.request_or_end().is_some() {
            std::thread::sleep(Duration::from_millis(2500));
            if peer.try_send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate").is_err() {
                return;
            }
        }
    })
}

/// What a node does instead of answering.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Closes the connection.
    Close,
    /// Resets it.
    Reset,
    /// Closes it within the head of the response.
    CutHead,
    /// Resets it there.
    ResetHead,
}

const FAULTS: [Fault; 4] = [Fault::Close, Fault::Reset, Fault::CutHead, Fault::ResetHead];

fn fail(mut peer: Peer, fault: Fault) {
    if matches!(fault, Fault::CutHead | Fault::ResetHead) {
        // The gateway may have gone.
        let _ = peer.try_send("HTTP/1.1 200 OK\r\nContent-Le");
    }
    match fault {
        Fault::Close | Fault::CutHead => drop(peer),
        Fault::Reset | Fault::ResetHead => Wire::from(peer).reset(),
    }
}

/// A node that cuts connections: new ones in each way in turn, kept ones when the next request
/// comes, without reading it.
pub(crate) fn resetting() -> Upstream {
    let count = AtomicUsize::new(0);
    Upstream::serving(move |mut peer| {
        let turn = count.fetch_add(1, Ordering::Relaxed);
        if peer.request_or_end().is_none() {
            return;
        }
        match FAULTS.get(turn % (FAULTS.len() + 2)) {
            Some(fault) => fail(peer, *fault),
            None => {
                peer.answer("now and then");
                let _ = peer.stream().peek(&mut [0]);
                if turn.is_multiple_of(2) {
                    Wire::from(peer).reset();
                }
            }
        }
    })
}

/// What was executed how often, by target.
pub(crate) type Executed = Arc<Mutex<HashMap<String, usize>>>;

/// A node that notes what it executes, and fails in each way in turn afterwards, on new connections
/// and on kept ones; `faulty`: not always, but now and then.
pub(crate) fn noting(executed: &Executed, faulty: bool) -> Upstream {
    let executed = Arc::clone(executed);
    let count = AtomicUsize::new(0);
    Upstream::serving(move |mut peer| {
        while let Some(request) = peer.request_or_end() {
            *executed.lock().unwrap().entry(request.target().to_owned()).or_default() += 1;
            let turn = count.fetch_add(1, Ordering::Relaxed);
            if let Some(fault) = FAULTS.get(turn % 12).filter(|_| faulty) {
                return fail(peer, *fault);
            }
            if peer.try_send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").is_err() {
                return;
            }
        }
    })
}
