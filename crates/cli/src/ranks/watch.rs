//! Detecting whether the other ranks are alive. MPI waits forever for a rank: one that hangs, or
//! whose host is gone, would leave all others waiting.
//!
//! Every rank has a connection to the first, and sends a heartbeat each second. The thread that
//! does so makes no MPI calls and computes nothing: a rank may take as long as it likes.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a rank sends a heartbeat and checks the others.
const BEAT: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 1000 });
/// How many heartbeats a rank may miss. They are counted, not timed: a job that is suspended as a
/// whole for an hour has missed none.
const PATIENCE: u32 = 30;
/// How long a rank tries each address of the first.
const CONNECT: Duration = Duration::from_secs(5);

/// The messages: a heartbeat, the work is done, the rank ends before that.
const HERE: u8 = b'.';
const DONE: u8 = b'q';
const FAILED: u8 = b'e';

/// The thread with which a rank watches others.
pub struct Watch {
    last_word: Sender<u8>,
    thread: JoinHandle<()>,
}

/// Another rank, and what was heard from it.
struct Peer {
    name: String,
    stream: TcpStream,
    missed: u32,
    done: bool,
}

/// What a rank learns about others that cannot continue.
#[derive(Debug, PartialEq, Eq)]
pub enum Lost {
    /// This rank has noticed it and has to report it: which rank, and what is known.
    Noticed(String),
    /// The rank that noticed it has reported it.
    Told,
}

/// Where the first rank listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A secret word.
    pub secret: String,
    pub port: u16,
    /// Its addresses; the others find out which of them they can reach.
    pub addresses: Vec<IpAddr>,
}

impl Place {
    /// As text, for the other ranks.
    pub fn text(&self) -> String {
        let addresses = self.addresses.iter().map(ToString::to_string);
        let addresses: Vec<String> = addresses.collect();
        format!("{} {} {}", self.secret, self.port, addresses.join(" "))
    }

    /// From its text.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        Some(Self {
            secret: words.next()?.to_string(),
            port: words.next()?.parse().ok()?,
            addresses: words.filter_map(|word| word.parse().ok()).collect(),
        })
    }
}

impl Watch {
    /// The watch of the first rank, which waits for no other. `lost` is called once, in the thread,
    /// when a rank is gone.
    pub fn first(
        listener: TcpListener,
        secret: String,
        lost: impl FnOnce(Lost) + Send + 'static,
    ) -> Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::spawn(Vec::new(), Some((listener, secret)), lost))
    }

    /// The watch of another rank, called `name`, over the `first`.
    ///
    /// # Errors
    /// If the first rank cannot be reached at any of its addresses.
    pub fn join(
        place: &Place,
        name: &str,
        first: &str,
        lost: impl FnOnce(Lost) + Send + 'static,
    ) -> Result<Self> {
        let mut problem = Error::new(ErrorKind::AddrNotAvailable, "it has no address");
        for &address in &place.addresses {
            match connect(SocketAddr::new(address, place.port), &place.secret, name) {
                Ok(stream) => {
                    let peer = Peer::new(first.to_string(), stream)?;
                    return Ok(Self::spawn(vec![peer], None, lost));
                }
                Err(error) => problem = error,
            }
        }
        Err(problem)
    }

    fn spawn(
        peers: Vec<Peer>,
        door: Option<(TcpListener, String)>,
        lost: impl FnOnce(Lost) + Send + 'static,
    ) -> Self {
        let (last_word, received) = channel();
        let thread = std::thread::spawn(move || {
            if let Some(what) = watch(peers, door.as_ref(), &received) {
                lost(what);
            }
        });
        Self { last_word, thread }
    }

    /// Reports that this rank's work is done, so that it may end.
    pub fn done(self) {
        self.end(DONE);
    }

    /// Reports that this rank ends before its work is done; the others end too.
    pub fn failed(self) {
        self.end(FAILED);
    }

    fn end(self, word: u8) {
        // A thread that has already ended has found a rank lost, and ends the process.
        if self.last_word.send(word).is_ok() {
            self.thread.join().ok();
        }
    }
}

impl Peer {
    fn new(name: String, stream: TcpStream) -> Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            name,
            stream,
            missed: 0,
            done: false,
        })
    }

    /// Sends a message to this rank. A connection that accepts nothing is detected by its silence.
    fn tell(&mut self, word: u8) {
        self.stream.write_all(&[word]).ok();
    }

    /// Reads all messages; returns what is known if the rank cannot continue.
    fn listen(&mut self) -> Option<Lost> {
        let mut bytes = [0; 256];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) if self.done => return None,
                Ok(0) => return Some(self.gone("its process has ended")),
                Ok(count) => {
                    self.missed = 0;
                    if bytes[..count].contains(&FAILED) {
                        return Some(Lost::Told);
                    }
                    self.done |= bytes[..count].contains(&DONE);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) if self.done => return None,
                // A process that ends before it has read all messages to it.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Some(self.gone("its process has ended"));
                }
                Err(error) => return Some(self.gone(&format!("its connection broke: {error}"))),
            }
        }
        if self.done {
            return None;
        }
        self.missed += 1;
        let seconds = BEAT.as_secs() * u64::from(PATIENCE);
        let silent = format!(
            "no sign of life for {seconds} seconds: it hangs, or its host cannot be reached"
        );
        (self.missed > PATIENCE).then(|| self.gone(&silent))
    }

    fn gone(&self, why: &str) -> Lost {
        Lost::Noticed(format!("{}: {why}", self.name))
    }
}

/// Watches others until this rank's work is done or one of them is lost.
fn watch(
    mut peers: Vec<Peer>,
    door: Option<&(TcpListener, String)>,
    last_word: &Receiver<u8>,
) -> Option<Lost> {
    let tell = |peers: &mut [Peer], word| peers.iter_mut().for_each(|peer| peer.tell(word));
    loop {
        match last_word.recv_timeout(BEAT) {
            Err(RecvTimeoutError::Timeout) => {}
            word => {
                tell(&mut peers, word.unwrap_or(FAILED));
                return None;
            }
        }
        if let Some((listener, secret)) = door {
            while let Ok((stream, _)) = listener.accept() {
                // A connection without the secret word is not one of ours.
                if let Ok(peer) = greet(stream, secret) {
                    peers.push(peer);
                }
            }
        }
        tell(&mut peers, HERE);
        if let Some(lost) = peers.iter_mut().find_map(Peer::listen) {
            tell(&mut peers, FAILED);
            return Some(lost);
        }
    }
}

/// Connects to the first rank, and verifies that it is the first rank.
fn connect(to: SocketAddr, secret: &str, name: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, CONNECT)?;
    stream.write_all(format!("{secret} {name}\n").as_bytes())?;
    if read_line(&mut stream)? == secret {
        return Ok(stream);
    }
    Err(Error::new(ErrorKind::InvalidData, "it is another program"))
}

/// Another rank that has connected to the first.
fn greet(mut stream: TcpStream, secret: &str) -> Result<Peer> {
    stream.set_nonblocking(false)?;
    let line = read_line(&mut stream)?;
    let name = line.strip_prefix(secret).map(str::trim_start);
    let name = name.ok_or_else(|| Error::from(ErrorKind::InvalidData))?;
    stream.write_all(format!("{secret}\n").as_bytes())?;
    Peer::new(name.to_string(), stream)
}

/// A short line, which has to arrive soon.
fn read_line(stream: &mut TcpStream) -> Result<String> {
    stream.set_read_timeout(Some(CONNECT))?;
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < 1000 {
        stream.read_exact(&mut byte)?;
        if byte[0] == b'\n' {
            return Ok(String::from_utf8_lossy(&line).into_owned());
        }
        line.push(byte[0]);
    }
    Err(Error::from(ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first rank and two others; each message comes with the number of its receiver.
    fn three() -> (Vec<Watch>, Place, Receiver<(usize, Lost)>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let place = Place {
            secret: "open-sesame".into(),
            port: listener.local_addr().unwrap().port(),
            // Nobody listens at the first address.
            addresses: ["127.0.0.2", "127.0.0.1"]
                .map(|it| it.parse().unwrap())
                .to_vec(),
        };
        let place = Place::from_text(&place.text()).unwrap();
        let (told, hears) = channel();
        let lost = |rank| {
            let told = told.clone();
            move |what| told.send((rank, what)).unwrap()
        };
        let first = Watch::first(listener, place.secret.clone(), lost(0)).unwrap();
        let other = |rank| {
            let name = format!("rank {rank} on host {rank}");
            Watch::join(&place, &name, "rank 0 on host 0", lost(rank)).unwrap()
        };
        (vec![first, other(1), other(2)], place, hears)
    }

    #[test]
    fn nobody_is_missed_whose_work_is_done() {
        let (watches, _, hears) = three();
        std::thread::sleep(3 * BEAT);
        let mut watches = watches.into_iter();
        let first = watches.next().unwrap();
        for other in watches {
            other.done();
            std::thread::sleep(3 * BEAT);
        }
        first.done();
        assert!(hears.try_recv().is_err());
    }

    #[test]
    fn a_rank_that_fails_ends_all() {
        for failing in 0..3 {
            let (mut watches, _, hears) = three();
            watches.remove(failing).failed();
            let mut told: Vec<_> = (0..2).map(|_| hears.recv().unwrap()).collect();
            told.sort_by_key(|&(rank, _)| rank);
            let others = (0..3).filter(|&rank| rank != failing);
            let expected: Vec<_> = others.map(|rank| (rank, Lost::Told)).collect();
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn a_rank_that_is_gone_or_hangs_is_named_to_all() {
        for (hangs, said) in [
            (false, "rank 3 on host 3: its process has ended"),
            (true, "rank 3 on host 3: no sign of life for "),
        ] {
            let (_watches, place, hears) = three();
            let to = SocketAddr::new("127.0.0.1".parse().unwrap(), place.port);
            let dying = connect(to, &place.secret, "rank 3 on host 3").unwrap();
            if hangs {
                std::mem::forget(dying);
            } else {
                drop(dying);
            }
            let mut told: Vec<_> = (0..3).map(|_| hears.recv().unwrap()).collect();
            told.sort_by_key(|&(rank, _)| rank);
            assert!(
                matches!(&told[0], (0, Lost::Noticed(it)) if it.starts_with(said)),
                "{told:?}"
            );
            assert_eq!(told[1..], [(1, Lost::Told), (2, Lost::Told)]);
        }
    }

    #[test]
    fn strangers_are_none_of_ours() {
        let (watches, place, hears) = three();
        let to = SocketAddr::new("127.0.0.1".parse().unwrap(), place.port);
        assert!(connect(to, "guess", "rank 9 on host 9").is_err());
        std::thread::sleep(3 * BEAT);
        assert!(hears.try_recv().is_err());
        watches.into_iter().rev().for_each(Watch::done);
    }
}
