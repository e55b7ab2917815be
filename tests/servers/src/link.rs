//! [`Link`]: a way from here to a server that can be cut and mended, as a network is.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Whole,
    /// Open connections are reset, and new ones too.
    Cut,
    /// Bytes go nowhere and nobody is told: packets are dropped.
    Silent,
}

/// Forwards connections to a port on loopback, until it is cut.
#[derive(Debug)]
pub struct Link {
    port: u16,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Link {
    /// A whole link to `port`.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (state, watched) = watch::channel(State::Whole);
        let task = tokio::spawn(accept(listener, port, watched));
        Self { port: address.port(), state, task }
    }

    /// The port to connect to instead.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends every connection, and refuses new ones.
    pub fn cut(&self) {
        self.state.send_replace(State::Cut);
    }

    /// Keeps connections open and carries nothing.
    pub fn silence(&self) {
        self.state.send_replace(State::Silent);
    }

    /// Carries again.
    pub fn mend(&self) {
        self.state.send_replace(State::Whole);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, port: u16, state: watch::Receiver<State>) {
    while let Ok((inner, _)) = listener.accept().await {
        tokio::spawn(forward(inner, port, state.clone()));
    }
}

/// Forwards one connection. What was under way when the link was cut or silenced is lost.
async fn forward(mut near: TcpStream, port: u16, mut state: watch::Receiver<State>) {
    loop {
        let now = *state.borrow_and_update();
        match now {
            State::Cut => return,
            State::Silent => {
                // Held until something changes; a silenced connection never goes on.
                let _ = state.wait_for(|state| *state != State::Silent).await;
                return;
            }
            State::Whole => {}
        }
        let Ok(mut far) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await else { return };
        tokio::select! {
            _ = copy_bidirectional(&mut near, &mut far) => return,
            _ = state.wait_for(|state| *state != State::Whole) => {}
        }
    }
}
