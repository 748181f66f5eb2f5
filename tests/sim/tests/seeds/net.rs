//! The network between replicas: connections whose octets arrive in order, later, or not at all.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

use hyper_util::rt::TokioIo;
use mailcluster_store::testing::Rng;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{mpsc, oneshot},
};
use tonic::{
    codegen::{Service, http::Uri},
    transport::server::Connected,
};

/// A replica's place, from 0.
pub type Place = usize;
/// Octets that a sender may have on their way.
const WINDOW: usize = 256 << 10;

#[derive(Default)]
struct Side {
    /// Written, not on the wire yet.
    out: Vec<u8>,
    /// Arrived, not read yet.
    arrived: VecDeque<u8>,
    /// Nothing more is written.
    is_done: bool,
    /// Nothing more arrives.
    is_eof: bool,
    is_reset: bool,
    wakers: Vec<Waker>,
}

impl Side {
    fn wake(&mut self) {
        self.wakers.drain(..).for_each(Waker::wake);
    }
}

/// One end of a connection.
pub struct End(Arc<Mutex<Side>>);

impl End {
    fn lock(&self) -> MutexGuard<'_, Side> {
        self.0.lock().unwrap()
    }
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut side = self.lock();
        if side.is_reset {
            return Poll::Ready(Err(reset()));
        }
        if side.arrived.is_empty() && !side.is_eof {
            side.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        let count = side.arrived.len().min(buf.remaining());
        let octets: Vec<u8> = side.arrived.drain(..count).collect();
        buf.put_slice(&octets);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let mut side = self.lock();
        if side.is_reset || side.is_done {
            return Poll::Ready(Err(reset()));
        }
        let room = WINDOW.saturating_sub(side.out.len());
        if room == 0 {
            side.wakers.push(cx.waker().clone());
            return Poll::Pending;
        }
        let count = room.min(octets.len());
        side.out.extend_from_slice(&octets[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().is_done = true;
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.lock().is_done = true;
    }
}

impl Connected for End {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

enum Parcel {
    Octets(Vec<u8>),
    End,
}

struct Connection {
    /// Who connected, and to whom.
    between: [Place; 2],
    sides: [Arc<Mutex<Side>>; 2],
    /// On the way from each side, and when it arrives.
    wire: [VecDeque<(u64, Parcel)>; 2],
    said_end: [bool; 2],
    /// Until it is accepted: when that may be, whom to tell, and the end that waits.
    opening: Option<(u64, oneshot::Sender<()>, End)>,
    /// One of its machines has lost its power: nobody says anything any more.
    is_silent: bool,
    is_over: bool,
}

struct State {
    now: u64,
    rng: Rng,
    connections: Vec<Connection>,
    listening: BTreeMap<Place, mpsc::UnboundedSender<io::Result<End>>>,
    /// Nothing arrives on these ways.
    cut: BTreeSet<(Place, Place)>,
    /// How long octets are on their way, at most.
    latency: u64,
}

/// The network; cheap to clone.
#[derive(Clone)]
pub struct Net(Arc<Mutex<State>>);

impl Net {
    pub fn new(rng: Rng) -> Self {
        let state = State {
            now: 0,
            rng,
            connections: Vec::new(),
            listening: BTreeMap::new(),
            cut: BTreeSet::new(),
            latency: 0,
        };
        Self(Arc::new(Mutex::new(state)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A process listens.
    pub fn listen(&self, at: Place) -> mpsc::UnboundedReceiver<io::Result<End>> {
        let (sender, accepted) = mpsc::unbounded_channel();
        self.lock().listening.insert(at, sender);
        accepted
    }

    /// A process has ended. Its machine says so to its peers, unless it has ended too.
    pub fn gone(&self, at: Place, says_so: bool) {
        let mut state = self.lock();
        state.listening.remove(&at);
        for connection in state.connections.iter_mut().filter(|c| c.between.contains(&at)) {
            if says_so {
                connection.reset();
            } else {
                connection.is_silent = true;
            }
        }
    }

    /// A machine is there again: its peers learn that it knows their connections no more.
    pub fn is_back(&self, at: Place) {
        self.lock().connections.iter_mut().filter(|c| c.between.contains(&at)).for_each(Connection::reset);
    }

    pub fn cut(&self, from: Place, to: Place) {
        self.lock().cut.insert((from, to));
    }

    pub fn mend(&self) {
        let mut state = self.lock();
        state.cut.clear();
        state.latency = 0;
    }

    /// Does what one says reach the other, and the answer the one?
    pub fn is_open(&self, from: Place, to: Place) -> bool {
        let state = self.lock();
        !state.cut.contains(&(from, to)) && !state.cut.contains(&(to, from))
    }

    pub fn set_latency(&self, most: u64) {
        self.lock().latency = most;
    }

    /// Every connection between the two breaks.
    pub fn break_between(&self, a: Place, b: Place) {
        let mut state = self.lock();
        let between = |c: &&mut Connection| c.between == [a, b] || c.between == [b, a];
        state.connections.iter_mut().filter(between).for_each(Connection::reset);
    }

    /// How `from` connects to `to`.
    pub fn connector(&self, from: Place, to: Place) -> Connector {
        Connector { net: self.clone(), from, to }
    }

    async fn connect(self, from: Place, to: Place) -> io::Result<End> {
        let (ours, opened) = {
            let mut state = self.lock();
            if !state.listening.contains_key(&to) && !state.cut.contains(&(from, to)) {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            let sides: [Arc<Mutex<Side>>; 2] = Default::default();
            let (ours, theirs) = (End(sides[0].clone()), End(sides[1].clone()));
            let (sender, opened) = oneshot::channel();
            let due = state.due();
            state.connections.push(Connection {
                between: [from, to],
                sides,
                wire: Default::default(),
                said_end: [false; 2],
                opening: Some((due, sender, theirs)),
                is_silent: false,
                is_over: false,
            });
            (ours, opened)
        };
        opened.await.map(|()| ours).map_err(|_| io::ErrorKind::ConnectionRefused.into())
    }

    /// Time has come to `now`: what is due arrives.
    pub fn tick(&self, now: u64) {
        let mut state = self.lock();
        state.now = now;
        let mut connections = std::mem::take(&mut state.connections);
        for connection in connections.iter_mut().filter(|c| !c.is_silent) {
            connection.open(&mut state);
            for from in 0..2 {
                connection.carry(from, &mut state);
            }
        }
        connections.retain(|connection| !connection.is_over);
        state.connections = connections;
    }
}

impl State {
    fn due(&mut self) -> u64 {
        let most = usize::try_from(self.latency).unwrap() + 1;
        self.now + u64::try_from(self.rng.below(most)).unwrap()
    }
}

impl Connection {
    fn reset(&mut self) {
        self.is_over = true;
        self.opening = None;
        for side in &self.sides {
            let mut side = side.lock().unwrap();
            side.is_reset = true;
            side.wake();
        }
    }

    fn open(&mut self, state: &mut State) {
        let [from, to] = self.between;
        let is_cut = state.cut.contains(&(from, to)) || state.cut.contains(&(to, from));
        if is_cut || self.opening.as_ref().is_none_or(|(due, ..)| *due > state.now) {
            return;
        }
        let Some((_, opened, end)) = self.opening.take() else { return };
        match state.listening.get(&to) {
            Some(listener) if !opened.is_closed() && listener.send(Ok(end)).is_ok() => {
                let _ = opened.send(());
            }
            _ => self.is_over = true,
        }
    }

    fn carry(&mut self, from: usize, state: &mut State) {
        let way = (self.between[from], self.between[1 - from]);
        {
            let mut side = self.sides[from].lock().unwrap();
            let last = self.wire[from].back().map_or(0, |(due, _)| *due);
            if !side.out.is_empty() {
                let octets = std::mem::take(&mut side.out);
                self.wire[from].push_back((state.due().max(last), Parcel::Octets(octets)));
                side.wake();
            } else if side.is_done && !self.said_end[from] && self.opening.is_none() {
                self.said_end[from] = true;
                self.wire[from].push_back((state.due().max(last), Parcel::End));
            }
        }
        if state.cut.contains(&way) {
            return;
        }
        let mut side = self.sides[1 - from].lock().unwrap();
        while let Some((_, parcel)) = self.wire[from].pop_front_if(|(due, _)| *due <= state.now) {
            match parcel {
                Parcel::Octets(octets) => side.arrived.extend(octets),
                Parcel::End => side.is_eof = true,
            }
            side.wake();
        }
        drop(side);
        self.is_over |= self.said_end == [true; 2] && self.wire.iter().all(VecDeque::is_empty);
    }
}

/// Connects one replica to another.
#[derive(Clone)]
pub struct Connector {
    net: Net,
    from: Place,
    to: Place,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<End>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<End>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connecting = self.net.clone().connect(self.from, self.to);
        Box::pin(async move { connecting.await.map(TokioIo::new) })
    }
}
