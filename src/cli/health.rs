//! `keyledger health`: asks a role on this machine whether it can do its work. For health checks of containers, whose
//! image has nothing else that could ask.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;

use super::Context;
use super::args::{Health, Service};
use crate::output::{Exit, NotReachable, WrongUse};
use crate::settings::Settings;

/// How long the answer may take. The role's own checks have 2 s.
const WITHIN: Duration = Duration::from_secs(4);

/// Asks for `/health/ready`, and prints what it says.
///
/// # Errors
///
/// [`NotReachable`] when nobody answers; [`WrongUse`] when nobody can know where to ask.
pub async fn run(context: &Context, health: &Health) -> anyhow::Result<Exit> {
    let settings = context.settings()?;
    let listen = listen_of(&settings, health.role);
    if listen.port() == 0 {
        return Err(WrongUse(format!("{listen} takes any free port: it is not known which one it took")).into());
    }
    let url = format!("http://{}/health/ready", from_here(listen));
    let http =
        reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(WITHIN).build().context("preparing to ask")?;
    let answer =
        http.get(&url).send().await.map_err(|error| NotReachable(format!("{url} does not answer: {error}")))?;
    let is_ready = answer.status().is_success();
    let body = answer.text().await.map_err(|error| NotReachable(format!("{url} ends within its answer: {error}")))?;
    context.output.line(body.trim_end())?;
    Ok(if is_ready { Exit::Fine } else { Exit::Found })
}

fn listen_of(settings: &Settings, role: Service) -> SocketAddr {
    match role {
        Service::Ingest => settings.ingest.listen,
        Service::Issuer => settings.issuer.listen,
        Service::Projector => settings.projector.listen,
        Service::Console => settings.api.listen,
    }
}

/// Where this machine reaches what listens there.
fn from_here(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8083", "127.0.0.1:8083"),
            ("[::]:8083", "[::1]:8083"),
            ("127.0.0.1:8083", "127.0.0.1:8083"),
            ("10.0.0.7:8083", "10.0.0.7:8083"),
        ] {
            assert_eq!(from_here(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
