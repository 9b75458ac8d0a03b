//! A defect in the gateway ends one connection, not its worker.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use osmia::buf::{Buf, Class};
use osmia::http::connection;
use osmia::net::sim::{Conditions, SimNet, SimRx, SimTx};
use osmia::net::stack::Stack;
use osmia::net::{Conn, Net, Rx, Tx};
use osmia::worker::{ListenerInfo, LocalSnapshot, Worker};

use crate::world::{GATEWAY, addr, settings, snapshot};

/// A network that panics instead of connecting to an upstream.
#[derive(Clone)]
struct Defective(SimNet);

impl Net for Defective {
    type Rx = SimRx;
    type Tx = SimTx;

    async fn connect(&self, _: SocketAddr) -> io::Result<Conn<Self>> {
        panic!("a defect, on purpose");
    }

    fn park(conn: Conn<Self>) -> impl Future<Output = io::Result<Conn<Self>>> + 'static {
        let Conn { rx, tx } = conn;
        async move {
            let Conn { rx, tx } = SimNet::park(Conn { rx, tx }).await?;
            Ok(Conn { rx, tx })
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(task);
    }
}

#[test]
fn a_panic_ends_its_connection_only() {
    let net = SimNet::new(1, Conditions::PERFECT);
    let worker =
        Rc::new(Worker::new(0, Stack(Defective(net.clone())), settings(), Arc::default(), None));
    worker.install(LocalSnapshot::new(Arc::new(snapshot()), None));
    let listener = Rc::new(ListenerInfo::new(addr(GATEWAY), false));
    let accepting = Rc::clone(&worker);
    net.listen(addr(GATEWAY), move |Conn { rx, tx }, peer| {
        connection::accept(&accepting, Stack::plain(Conn { rx, tx }), peer, Rc::clone(&listener));
    });
    for _ in 0..3 {
        let client = net.clone();
        net.spawn(async move {
            let mut conn = client.connect(addr(GATEWAY)).await.unwrap();
            conn.tx.start(Buf::copy_of(b"GET / HTTP/1.1\r\nHost: sim\r\n\r\n"));
            conn.rx.start(Buf::new(Class::Small), false);
            let (received, _) = poll_fn(|cx| conn.rx.poll(cx)).await;
            assert_eq!(received.unwrap(), 0, "the connection ends without a word");
        });
    }
    assert_eq!(net.run(1_000_000), 0);
    assert_eq!(worker.stats.panics.get(), 3);
    assert_eq!(worker.stats.open.get(), 0);
    assert!(worker.deadlines.is_empty());
}
