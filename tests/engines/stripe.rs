//! Stripe's stand-in, holding what the webhooks told.

use keyledger_sandbox::stripe::{Realm, Server, Settings};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Stripe's API on loopback.
pub struct Stripe {
    /// The stand-in.
    pub server: Server,
    url: String,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Stripe {
    /// Starts it with the objects and events of `bodies`.
    pub async fn start(bodies: &[Vec<u8>]) -> Self {
        let server = Server::new(Settings::default());
        for body in bodies {
            server.load_event(serde_json::from_slice(body).unwrap()).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let (serve, stopped) = (server.clone(), stop.clone());
        let serving = tokio::spawn(async move { serve.serve(listener, stopped).await.unwrap() });
        Self { server, url, stop, serving }
    }

    /// What stands in the table of a source.
    pub fn settings(&self) -> String {
        format!("api_key = \"sandbox\"\napi_base = \"{}\"\nreconcile_every = \"0s\"\n", self.url)
    }

    /// The metadata of a live object.
    pub fn metadata(&self, kind: &str, id: &str) -> Value {
        let object = self.server.object(&Realm::own(true), kind, id);
        object.unwrap_or_else(|| panic!("Stripe knows no {kind} {id}"))["metadata"].clone()
    }

    /// Stops it.
    pub async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}
