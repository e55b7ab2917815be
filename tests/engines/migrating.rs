//! A seller who leaves a vendor's script: Stripe stays as it is, and licenses that exist are taken over, not made again.

use keyledger_sandbox::cryptlex;
use serde_json::{Map, Value, json};

use crate::deployment::{Deployment, Service};
use crate::engine::{CRYPTLEX_PRODUCT, CRYPTOLENS_PRODUCT, Engine, Kind};
use crate::support::setup::Setup;
use crate::support::stories::{VERSIONS, story};
use crate::support::wait::{PATIENCE, until};
use crate::told::{told_today, with_metadata, without_other_keys};

/// The subscription of story a.
const SUBSCRIPTION: &str = "sub_1w95DJB7WZ01zgkWKk3BnmFz";

/// The name of the metadata entry in which the vendor's script keeps the subscription: today's, and that of 2022.
const NAMES: [&str; 2] = ["stripe_subscription_id", "subscription_id"];

/// Story a up to its first renewal, with metadata as a seller has it.
fn sold(mut edit: impl FnMut(&mut Map<String, Value>)) -> Vec<Vec<u8>> {
    let mut story = story("a");
    story.steps.retain(|step| step.number <= 20);
    with_metadata(without_other_keys(told_today(&story, VERSIONS[1])), |metadata| edit(metadata))
}

/// A license as the vendor's script made it.
fn made_by_the_script(engine: &cryptlex::Server, name: &str, subscription: &str) -> String {
    let entry = json!({"key": name, "value": subscription, "viewPermissions": []});
    let mine = json!({"key": "note", "value": "mine", "viewPermissions": []});
    let license = json!({"productId": CRYPTLEX_PRODUCT, "metadata": [entry, mine], "allowedActivations": 1});
    engine.create_license(&license).unwrap()["id"].as_str().unwrap().to_owned()
}

async fn everyone_has_a_key(service: &Service) -> Vec<Value> {
    until("the key", PATIENCE, async || {
        let open = service.open_cases("no_key").await;
        let rows = service.list("/licenses?mode=live").await;
        let there = rows.iter().filter(|row| row["provider_id"].is_string()).count();
        if open.is_empty() && there == rows.len() && there > 0 { Ok(()) } else { Err(format!("{open:#?} {rows:#?}")) }
    })
    .await;
    service.caught_up().await;
    service.list("/licenses?mode=live").await
}

#[tokio::test]
async fn a_license_of_cryptlex_script_is_taken_over_and_not_made_again() {
    for name in NAMES {
        let engine = Engine::start(Kind::Cryptlex).await;
        let id = made_by_the_script(engine.cryptlex(), name, SUBSCRIPTION);
        for placeholder in ["subscription_empty", "transaction_empty"] {
            made_by_the_script(engine.cryptlex(), name, placeholder);
        }
        let deployment = Deployment::new(&Setup { settings: engine.settings(), ..Setup::default() });
        let service = deployment.up().await;
        service.post_all("default", &sold(|_| {})).await;
        let rows = everyone_has_a_key(&service).await;
        assert_eq!((rows.len(), &rows[0]["provider_id"]), (1, &id.clone().into()), "{rows:#?}");
        let licenses = engine.cryptlex().licenses();
        assert_eq!(licenses.len(), 3, "nothing was made");
        let taken = licenses.iter().find(|license| license["id"] == *id).unwrap();
        let entries: Vec<_> = taken["metadata"].as_array().unwrap().iter().map(|entry| entry["key"].clone()).collect();
        for kept in [name, "note", "keyledger_ref"] {
            assert!(entries.contains(&kept.into()), "{kept} is not among {entries:?}");
        }
        deployment.finish(service).await;
        engine.stop().await;
    }
}

#[tokio::test]
async fn the_metadata_of_cryptlex_first_script_says_what_is_sold() {
    let engine = Engine::start(Kind::Cryptlex).await;
    // No catalog at all: what stands at Stripe is enough.
    let settings = engine.settings();
    let tables = settings.split_once("[issuer]").unwrap().1;
    let deployment = Deployment::new(&Setup { settings: format!("[issuer]{tables}"), ..Setup::default() });
    let service = deployment.up().await;
    let bodies = sold(|metadata| {
        metadata.insert("CRYPTLEX_PRODUCT_ID".to_owned(), CRYPTLEX_PRODUCT.into());
    });
    service.post_all("default", &bodies).await;
    assert_eq!(everyone_has_a_key(&service).await.len(), 1);
    assert_eq!(engine.cryptlex().licenses()[0]["productId"], CRYPTLEX_PRODUCT);
    deployment.finish(service).await;
    engine.stop().await;
}

#[tokio::test]
async fn the_metadata_of_cryptolens_says_what_is_sold_and_which_key_there_is() {
    let engine = Engine::start(Kind::Cryptolens).await;
    let settings = engine.settings();
    let tables = settings.split_once("[issuer]").unwrap().1;
    let deployment = Deployment::new(&Setup { settings: format!("[issuer]{tables}"), ..Setup::default() });
    let service = deployment.up().await;
    let skm = format!(r#"{{"ProductId": {CRYPTOLENS_PRODUCT}, "F3": true, "MaxNoOfMachines": 4}}"#);
    let key = keyledger_sandbox::cryptolens::ByHand {
        product_id: CRYPTOLENS_PRODUCT,
        period: 3,
        notes: "made by their receiver".to_owned(),
        ..keyledger_sandbox::cryptolens::ByHand::default()
    };
    let key = engine.cryptolens().make_by_hand(key).unwrap();
    let bodies = sold(|metadata| {
        metadata.insert("skm".to_owned(), skm.clone().into());
        metadata.insert("skm_key_id".to_owned(), key.id.to_string().into());
    });
    service.post_all("default", &bodies).await;
    let rows = everyone_has_a_key(&service).await;
    assert_eq!((rows.len(), &rows[0]["provider_id"]), (1, &key.id.to_string().into()), "{rows:#?}");
    let licenses = engine.cryptolens().licenses();
    assert_eq!(licenses.len(), 1, "nothing was made");
    assert!(licenses[0].notes.contains("made by their receiver") && licenses[0].notes.contains("ref:kl-"));
    assert!(licenses[0].features[2], "{:?}", licenses[0].features);
    deployment.finish(service).await;
    engine.stop().await;
}

#[tokio::test]
async fn a_product_that_moves_to_another_engine_leaves_its_licenses_where_they_are() {
    let (old, new) = (Engine::start(Kind::Keygen).await, Engine::start(Kind::Cryptlex).await);
    let of = |engine: &Engine| engine.settings().split_once("[provider.").unwrap().1.to_owned();
    let catalog = |engine: &Engine| engine.settings().split_once("[issuer]").unwrap().0.to_owned();
    let settings = |sells: &Engine| {
        format!("{}[provider.{}[provider.{}", catalog(sells), of(&old), of(&new)) + "[issuer]\ncall_timeout_ms = 2500\n"
    };
    let deployment = Deployment::new(&Setup { settings: settings(&old), ..Setup::default() });
    let service = deployment.up().await;
    service.post_all("default", &sold(|_| {})).await;
    everyone_has_a_key(&service).await;
    service.stop().await;

    deployment.configure(&Setup { settings: settings(&new), ..Setup::default() });
    let service = deployment.up().await;
    service.post_all("default", &without_other_keys(told_today(&story("b"), VERSIONS[1]))).await;
    let rows = everyone_has_a_key(&service).await;
    let mut providers: Vec<_> = rows.iter().map(|row| row["provider"].as_str().unwrap()).collect();
    providers.sort_unstable();
    assert_eq!(providers, ["cryptlex", "keygen"], "{rows:#?}");
    assert_eq!((old.licenses().len(), new.licenses().len()), (1, 1));
    assert!(old.licenses()[0].works);
    deployment.finish(service).await;
    old.stop().await;
    new.stop().await;
}
