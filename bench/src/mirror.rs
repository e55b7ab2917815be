//! From an append to a subscriber on NATS, at a steady rate, beside a bare publish to a subscriber of the same server.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use async_nats::jetstream::consumer::push::OrderedConfig;
use async_nats::jetstream::{self, stream};
use futures::StreamExt;
use keyledger_test_servers::Nats;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::ground::Ground;
use crate::ingest::{Bodies, event};
use crate::load::{self, Pace, Spread};
use crate::report::{Figure, Report, Target};
use crate::service::{Service, settings, sqlite};

const BENCH: &str = "mirror";

/// Events a second, and of a round.
const RATE: u32 = 1_000;
const EVENTS: usize = 10_000;

/// Events of a round that do not count: the first ones wait for connections.
const WARM_UP: usize = 1_000;

/// How long the mirror may lack an event.
const PATIENCE: Duration = Duration::from_mins(1);

/// What both streams are like: as keyledger makes its own.
const MIRROR: &str = "KL_LOG";
const BARE: &str = "BARE";

/// Measures through the ingest role alone, then bare.
pub async fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let nats = tokio::task::block_in_place(Nats::start);
    let bodies = Bodies::new()?.some(0, WARM_UP + ground.sized(EVENTS));
    let (acknowledged, posted) = mirrored(ground, &nats, &bodies).await?;
    let bare = bare(&nats, bodies).await?;
    let mut show = |name: &str, percent, took: &Spread, target| {
        let figure = Figure::new(BENCH, format!("{name} at {RATE}/s: p{percent}"), took.percentile_ms(percent), "ms");
        report.add(Figure { target, ..figure.beside("bare publish", bare.percentile_ms(percent)) });
    };
    let target = Some(Target::Under(5.0));
    for (percent, target) in [(50, None), (99, target)] {
        show("acknowledged append to subscriber", percent, &acknowledged, target);
    }
    for (percent, target) in [(50, None), (99, target)] {
        show("posted webhook to subscriber", percent, &posted, target);
    }
    Ok(())
}

/// From the answer to a webhook, and from its posting, until a subscriber of the mirror has the event.
async fn mirrored(ground: &Ground, nats: &Nats, bodies: &[Vec<u8>]) -> Result<(Spread, Spread)> {
    let folder = ground.empty_folder()?;
    let [log, views] = ["log.db", "views.db"].map(|file| sqlite(&folder.path().join(file)));
    let settings = settings(folder.path(), &log, &views, &format!("[nats]\nurl = \"{}\"\n", nats.url()));
    let service = Service::start(&ground.binary, folder.path(), &settings, &["ingest"]).await?;

    let mut ids = HashMap::new();
    for (index, body) in bodies.iter().enumerate() {
        ids.insert(event(body)?.id.as_str().to_owned(), index);
    }
    let context = jetstream::new(async_nats::connect(nats.url()).await?);
    let subscriber = subscribe(&context, MIRROR, ids.len(), move |message| {
        let id = message.headers.as_ref()?.get("ce-id")?;
        ids.get(id.as_str()).copied()
    })
    .await?;
    let requests = bodies.iter().map(|body| load::webhook(body)).collect();
    let sent = load::send(&service.address("ingest")?, requests, 16, Pace::PerSecond(RATE)).await?;
    sent.all_taken()?;
    let seen = subscriber.await??;
    service.stop().await?;

    let counted = || sent.each.iter().enumerate().skip(WARM_UP);
    // One that is there before its answer took no time.
    let since = |at: Instant, index: &usize| seen.get(index).map(|seen| seen.saturating_duration_since(at));
    let acknowledged = Spread::of(counted().filter_map(|(index, it)| since(it.ended, &index)));
    let posted = Spread::of(counted().filter_map(|(index, it)| since(it.began, &index)));
    Ok((acknowledged, posted))
}

/// From handing the same bodies to the client until a subscriber of a plain stream has them.
async fn bare(nats: &Nats, bodies: Vec<Vec<u8>>) -> Result<Spread> {
    let context = jetstream::new(async_nats::connect(nats.url()).await?);
    let config = stream::Config { name: BARE.to_owned(), subjects: vec!["bare.>".to_owned()], ..Default::default() };
    context.create_stream(config).await?;
    let reading = jetstream::new(async_nats::connect(nats.url()).await?);
    let subscriber =
        subscribe(&reading, BARE, bodies.len(), |message| message.subject.as_str().strip_prefix("bare.")?.parse().ok())
            .await?;
    let mut began = Vec::with_capacity(bodies.len());
    // Taken at once: the client lets only so many be open, and then waits.
    let mut acks = JoinSet::new();
    let first = tokio::time::Instant::now();
    for (index, body) in (0_u32..).zip(bodies) {
        tokio::time::sleep_until(first + Duration::from_secs(1) * index / RATE).await;
        began.push(Instant::now());
        let ack = context.publish(format!("bare.{index}"), body.into()).await?;
        acks.spawn(ack.into_future());
    }
    while let Some(ack) = acks.join_next().await {
        ack??;
    }
    let seen = subscriber.await??;
    let took = began.iter().enumerate().skip(WARM_UP);
    Ok(Spread::of(took.filter_map(|(index, began)| Some(*seen.get(&index)? - *began))))
}

/// Reads a stream in order, as the server pushes it, until `count` of the messages that `which` knows are there; says when
/// each was.
async fn subscribe(
    context: &jetstream::Context,
    stream: &str,
    count: usize,
    which: impl Fn(&async_nats::Message) -> Option<usize> + Send + 'static,
) -> Result<JoinHandle<Result<HashMap<usize, Instant>>>> {
    let deliver_subject = context.client().new_inbox();
    let stream = context.get_stream(stream).await?;
    let consumer = stream.create_consumer(OrderedConfig { deliver_subject, ..OrderedConfig::default() }).await?;
    let mut messages = consumer.messages().await?;
    Ok(tokio::spawn(async move {
        let mut seen = HashMap::with_capacity(count);
        while seen.len() < count {
            let message = timeout(PATIENCE, messages.next()).await.context("the mirror lacks events")?;
            let message = message.context("the subscription ended")??;
            let at = Instant::now();
            if let Some(index) = which(&message.message) {
                seen.entry(index).or_insert(at);
            }
        }
        Ok(seen)
    }))
}
