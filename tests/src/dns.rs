//! A DNS server for tests, on UDP and TCP, that answers as it is told.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, SOA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// What the server does with questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// Answers them.
    #[default]
    Answer,
    /// Reads them.
    Silent,
    /// Answers with this code.
    Fail(ResponseCode),
    /// Answers all with an address of another name.
    Lie,
    /// Answers with bytes that are no message.
    Garble,
    /// Answers them after this time, one after the other.
    Slow(Duration),
}

/// What the server knows, and was asked.
#[derive(Debug, Default)]
pub struct Zone {
    /// What it does with questions.
    pub mode: Mode,
    records: Vec<Record>,
    /// The `minimum` of the SOA record that comes with negative answers.
    pub minimum: Option<u32>,
    /// Name, type, and whether it came by TCP.
    asked: Vec<(String, RecordType, bool)>,
}

/// Answers until the process ends.
#[derive(Debug)]
pub struct Server {
    /// Where it listens, with UDP and TCP.
    pub addr: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

/// A domain name.
pub fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// An address: `A` or `AAAA`.
pub fn a(owner: &str, ttl: u32, ip: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::from(ip.parse::<IpAddr>().unwrap()))
}

/// A `CNAME`.
pub fn alias(owner: &str, ttl: u32, to: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(to))))
}

/// A service. `rest`: priority, weight, port.
pub fn srv(owner: &str, ttl: u32, rest: (u16, u16, u16), target: &str) -> Record {
    let (priority, weight, port) = rest;
    Record::from_rdata(name(owner), ttl, RData::SRV(SRV::new(priority, weight, port, name(target))))
}

impl Server {
    /// A server with these records.
    pub fn start(records: Vec<Record>) -> Self {
        let (udp, tcp) = sockets();
        let addr = udp.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone { records, ..Zone::default() }));
        let by_udp = Arc::clone(&zone);
        std::thread::spawn(move || serve_udp(&udp, &by_udp));
        let by_tcp = Arc::clone(&zone);
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                let zone = Arc::clone(&by_tcp);
                std::thread::spawn(move || serve_tcp(stream.unwrap(), &zone));
            }
        });
        Self { addr, zone }
    }

    /// What it knows; nobody is answered meanwhile.
    pub fn zone(&self) -> MutexGuard<'_, Zone> {
        self.zone.lock().unwrap()
    }

    /// Replaces all records.
    pub fn set(&self, records: Vec<Record>) {
        self.zone().records = records;
    }

    /// Changes what it does with questions.
    pub fn mode(&self, mode: Mode) {
        self.zone().mode = mode;
    }

    /// How often the name was asked for.
    pub fn asked(&self, name: &str, kind: RecordType) -> usize {
        let zone = self.zone();
        zone.asked.iter().filter(|(asked, of, _)| asked == name && *of == kind).count()
    }

    /// Questions that came by TCP.
    pub fn by_tcp(&self) -> usize {
        self.zone().asked.iter().filter(|(.., tcp)| *tcp).count()
    }
}

/// UDP and TCP on the same port.
fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            return (udp, tcp);
        }
    }
}

fn pause(zone: &Mutex<Zone>) {
    let mode = zone.lock().unwrap().mode;
    if let Mode::Slow(time) = mode {
        std::thread::sleep(time);
    }
}

fn serve_udp(socket: &UdpSocket, zone: &Mutex<Zone>) {
    const LARGEST: usize = 512;
    let mut buf = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buf) {
        pause(zone);
        let Some(reply) = zone.lock().unwrap().reply(&buf[..length], false) else { continue };
        let text = match reply {
            Ok(message) => match message.to_vec().unwrap() {
                text if text.len() > LARGEST => message.truncate().to_vec().unwrap(),
                text => text,
            },
            Err(text) => text,
        };
        let _ = socket.send_to(&text, from);
    }
}

fn serve_tcp(mut stream: TcpStream, zone: &Mutex<Zone>) {
    loop {
        let mut length = [0; 2];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut buf = vec![0; u16::from_be_bytes(length).into()];
        if stream.read_exact(&mut buf).is_err() {
            return;
        }
        pause(zone);
        let Some(reply) = zone.lock().unwrap().reply(&buf, true) else { continue };
        let text = reply.map_or_else(|text| text, |message| message.to_vec().unwrap());
        let length = u16::try_from(text.len()).unwrap().to_be_bytes();
        let _ = stream.write_all(&[&length[..], &text].concat());
    }
}

impl Zone {
    /// A message, or other bytes.
    fn reply(&mut self, request: &[u8], tcp: bool) -> Option<Result<Message, Vec<u8>>> {
        let request = Message::from_vec(request).ok()?;
        let query = request.queries.first()?.clone();
        self.asked.push((query.name().to_string(), query.query_type(), tcp));
        let mut reply = Message::response(request.metadata.id, OpCode::Query);
        reply.metadata.recursion_desired = true;
        reply.metadata.recursion_available = true;
        match self.mode {
            Mode::Silent => return None,
            Mode::Garble => return Some(Err(vec![request.metadata.id as u8; 7])),
            Mode::Fail(code) => reply.metadata.response_code = code,
            Mode::Lie => {
                reply.add_answer(a("another.test.", 60, "10.6.6.6"));
            }
            Mode::Answer | Mode::Slow(_) => self.answer(&query, &mut reply),
        }
        reply.add_query(query);
        Some(Ok(reply))
    }

    fn answer(&self, query: &Query, reply: &mut Message) {
        let mut owner = query.name().clone();
        // Aliases, but not for ever.
        for _ in 0..8 {
            let of = |kind: RecordType| {
                let owner = &owner;
                let fits = move |r: &&Record| r.name == *owner && r.record_type() == kind;
                self.records.iter().filter(fits)
            };
            let alias = of(RecordType::CNAME).next();
            reply.add_answers(of(query.query_type()).cloned().collect::<Vec<_>>());
            let Some(alias) = alias.filter(|_| query.query_type() != RecordType::CNAME) else {
                break;
            };
            reply.add_answer(alias.clone());
            let RData::CNAME(to) = &alias.data else { break };
            owner = to.0.clone();
        }
        if !reply.answers.is_empty() {
            return;
        }
        if !self.records.iter().any(|record| record.name == *query.name()) {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
        if let Some(minimum) = self.minimum {
            let soa = SOA::new(name("ns.test."), name("admin.test."), 1, 60, 60, 60, minimum);
            reply.add_authority(Record::from_rdata(name("test."), 3600, RData::SOA(soa)));
        }
    }
}
