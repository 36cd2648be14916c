//! A proxy between a replica and the database, which simulates a bad network.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    time::sleep,
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Good,
    /// All data arrives, with a delay.
    Slow(Duration),
    /// No data arrives while this is set.
    Stalled,
    /// Connections are closed.
    Cut,
}

/// The address that a replica connects to, and the state of the network behind it.
pub struct Proxy {
    pub address: SocketAddr,
    state: watch::Sender<Network>,
}

impl Proxy {
    pub async fn to(database: String) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (state, seen) = watch::channel(Network::Good);
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((replica, _)) = listener.accept().await {
                let Ok(database) = TcpStream::connect(&database).await else { continue };
                let _ = (replica.set_nodelay(true), database.set_nodelay(true));
                let ((from_replica, to_replica), (from_database, to_database)) =
                    (replica.into_split(), database.into_split());
                tokio::spawn(pump(from_replica, to_database, seen.clone()));
                tokio::spawn(pump(from_database, to_replica, seen.clone()));
            }
        });
        Ok(Self { address, state })
    }

    pub fn set(&self, network: Network) {
        self.state.send_replace(network);
    }
}

async fn pump(mut from: tcp::OwnedReadHalf, mut to: tcp::OwnedWriteHalf, mut network: watch::Receiver<Network>) {
    let mut buffer = vec![0; 16384];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = network.wait_for(|now| *now == Network::Cut) => return,
        };
        let Some(bytes) = read.ok().filter(|length| *length > 0).and_then(|length| buffer.get(..length)) else {
            return;
        };
        let now = network.wait_for(|now| *now != Network::Stalled).await.map(|now| *now);
        match now {
            Ok(Network::Good) => {}
            Ok(Network::Slow(time)) => sleep(time).await,
            _ => return,
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}
