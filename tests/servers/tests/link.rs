//! That a link carries, can be cut and silenced, and carries again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use keyledger_test_servers::Link;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// How long it is waited for what must not come.
const A_WHILE: Duration = Duration::from_millis(200);

/// Says everything again that it hears.
async fn echo() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    port
}

async fn connect(link: &Link) -> TcpStream {
    TcpStream::connect((Ipv4Addr::LOCALHOST, link.port())).await.unwrap()
}

/// Says a byte and hears it again.
async fn carries(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"x").await?;
    stream.read_exact(&mut [0; 1]).await?;
    Ok(())
}

#[tokio::test]
async fn a_link_that_is_cut_ends_its_connections_and_takes_new_ones_when_it_is_mended() {
    let link = Link::to(echo().await).await;
    let mut open = connect(&link).await;
    carries(&mut open).await.unwrap();
    link.cut();
    assert!(carries(&mut open).await.is_err());
    assert!(carries(&mut connect(&link).await).await.is_err());
    link.mend();
    carries(&mut connect(&link).await).await.unwrap();
}

#[tokio::test]
async fn a_link_that_is_silent_tells_nobody() {
    let link = Link::to(echo().await).await;
    let mut old = connect(&link).await;
    carries(&mut old).await.unwrap();
    link.silence();
    let mut new = connect(&link).await;
    for stream in [&mut old, &mut new] {
        assert!(timeout(A_WHILE, carries(stream)).await.is_err(), "it was told");
    }
    link.mend();
    for mut lost in [old, new] {
        assert!(carries(&mut lost).await.is_err(), "what was silenced never goes on");
    }
    carries(&mut connect(&link).await).await.unwrap();
}
