//! Story g: a customer was charged and has no key. It is shown, repaired by a key of ours or by one that a person made, and
//! doing it again changes nothing.

use jiff::Timestamp;
use keyledger_sandbox::cryptolens::{ByHand, License};
use serde_json::Value;

use crate::deployment::{Deployment, Service};
use crate::engine::{CRYPTOLENS_PRODUCT, Engine, Kind};
use crate::stripe::Stripe;
use crate::support::setup::Setup;
use crate::support::stories::{VERSIONS, story};
use crate::support::wait::{PATIENCE, until};
use crate::told::{told, with_metadata};

const STUCK: &str = "sub_1PeHPFB7WZ01zgkW2CJpD0Cc";
const STUCK_CUSTOMER: &str = "cus_i0qtr3bISTScAa";

/// The customers of the story, as the story's metadata numbers them.
const CUSTOMERS: [&str; 3] = ["88123", "88124", "88125"];

/// The keys of the story: of the second customer, and of the third.
const KEYS: [&str; 2] = ["30117", "30240"];

/// The story at an engine and at Stripe, as somebody else left it.
struct Left {
    engine: Engine,
    stripe: Stripe,
    bodies: Vec<Vec<u8>>,
    /// The engine's own id of the customer who was charged and has no key.
    customer: u64,
}

async fn left(version: &str) -> Left {
    let engine = Engine::start(Kind::Cryptolens).await;
    let hand = engine.cryptolens();
    let customers: Vec<u64> =
        (0..3).map(|n| hand.add_customer_by_hand(&format!("Customer {n}"), &format!("c{n}@example.com"))).collect();
    let keys: Vec<License> = customers[1..].iter().map(|customer| by_hand(&engine, Some(*customer))).collect();
    let bodies = with_metadata(told(&story("g"), version, 14), |metadata| {
        for (name, old, new) in CUSTOMERS.iter().zip(&customers).map(|(old, new)| ("skm_customer_id", *old, *new)) {
            if metadata.get(name).is_some_and(|value| value == old) {
                metadata.insert(name.to_owned(), Value::from(new.to_string()));
            }
        }
        for (old, license) in KEYS.iter().zip(&keys) {
            if metadata.get("skm_key_id").is_some_and(|value| value == old) {
                metadata.insert("skm_key_id".to_owned(), Value::from(license.id.to_string()));
            }
        }
    });
    let stripe = Stripe::start(&bodies).await;
    Left { engine, stripe, bodies, customer: customers[0] }
}

/// A key that a person makes, for ten days.
fn by_hand(engine: &Engine, customer: Option<u64>) -> License {
    let new = ByHand {
        product_id: CRYPTOLENS_PRODUCT,
        period: 10,
        features: [true, false, false, false, false, false, false, false],
        notes: "made by hand".to_owned(),
        customer_id: customer,
        ..ByHand::default()
    };
    engine.cryptolens().make_by_hand(new).unwrap()
}

impl Left {
    fn setup(&self) -> Setup {
        let policy = "[policy]\nleft_by_other_system = \"case\"\n";
        Setup { settings: format!("{}{}{policy}", self.stripe.settings(), self.engine.settings()), ..Setup::default() }
    }

    /// The stuck subscription is the one case, and the other two have their keys.
    async fn is_shown(&self, service: &Service) -> String {
        service.post_all("default", &self.bodies).await;
        let case = until("the case", PATIENCE, async || {
            let open = service.open_cases("no_key").await;
            match &open[..] {
                [case] if case["cause"] == "left_by_other_system" => Ok(case.clone()),
                open => Err(format!("{open:#?}")),
            }
        })
        .await;
        assert_eq!((&case["purchase"]["stripe_id"], &case["customer"]), (&STUCK.into(), &STUCK_CUSTOMER.into()));
        assert_eq!(self.engine.licenses().len(), 2);
        case["id"].as_str().unwrap().to_owned()
    }

    /// The stuck one has exactly this license, here, at the engine and at Stripe.
    async fn is_repaired(&self, service: &Service) -> License {
        until("the repair", PATIENCE, async || {
            let open = service.open_cases("no_key").await;
            let metadata = self.stripe.metadata("subscription", STUCK);
            let written = metadata["skm_key_id"].is_string() && metadata.get("skm_temp_var").is_none();
            if open.is_empty() && written { Ok(()) } else { Err(format!("{metadata}\n{open:#?}")) }
        })
        .await;
        service.caught_up().await;
        let rows = service.list(&format!("/licenses?subscription={STUCK}")).await;
        assert_eq!(rows.len(), 1, "{rows:#?}");
        let id: u64 = rows[0]["provider_id"].as_str().unwrap().parse().unwrap();
        let license = self.engine.cryptolens().license(CRYPTOLENS_PRODUCT, id).unwrap();
        let metadata = self.stripe.metadata("subscription", STUCK);
        assert_eq!(metadata["skm_key_id"], id.to_string());
        assert_eq!(metadata["skm_key_globalid"], license.global_id.to_string());
        assert_eq!(license.customer_id, Some(self.customer), "it belongs to the customer behind `skm_customer_id`");
        let paid_until: Timestamp = rows[0]["paid_until"].as_str().unwrap().parse().unwrap();
        assert!(license.expires >= paid_until && !license.block, "{license:?}");
        license
    }
}

#[tokio::test]
async fn repair_makes_the_key_writes_its_id_and_clears_the_mark_old_version() {
    repair_makes_the_key(VERSIONS[0]).await;
}

#[tokio::test]
async fn repair_makes_the_key_writes_its_id_and_clears_the_mark_new_version() {
    repair_makes_the_key(VERSIONS[1]).await;
}

async fn repair_makes_the_key(version: &str) {
    let left = left(version).await;
    let deployment = Deployment::new(&left.setup());
    let service = deployment.up().await;
    let case = left.is_shown(&service).await;
    let plan = deployment.run(&["repair", &case]).await;
    let said = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(said.contains(STUCK) || said.contains(&case), "{said}");
    assert_eq!(left.engine.licenses().len(), 2, "a plan does nothing");

    let repair = async |arguments: &[&str]| {
        let output = deployment.run(&[&["repair", "--apply", "--by", "ann"], arguments].concat()).await;
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    };
    repair(&[&case]).await;
    let license = left.is_repaired(&service).await;
    assert!(!license.by_hand);
    let before = (left.engine.licenses(), left.stripe.server.writes());
    repair(&["--all"]).await;
    repair(&[&case]).await;
    service.post_all("default", &left.bodies).await;
    service.caught_up().await;
    assert_eq!((left.engine.licenses(), left.stripe.server.writes()), before, "a second run changes nothing");
    deployment.finish(service).await;
    left.stripe.stop().await;
    left.engine.stop().await;
}

#[tokio::test]
async fn attaching_a_key_made_by_hand_does_the_same_and_the_wrong_one_is_refused() {
    let left = left(VERSIONS[1]).await;
    let deployment = Deployment::new(&left.setup());
    let service = deployment.up().await;
    let case = left.is_shown(&service).await;
    let attach = async |license: &License| {
        let id = format!("Id={}", license.id);
        let arguments = ["cases", "attach", &case, "--provider", "cryptolens", "--provider-id", &id];
        let output = deployment.run(&[&arguments[..], &["--reason", "made by hand", "--by", "ann"]].concat()).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };

    // Somebody else's: their other license is taken already.
    let taken =
        left.engine.cryptolens().licenses().into_iter().find(|license| license.customer_id != Some(left.customer));
    attach(&taken.unwrap()).await;
    until("the refusal", PATIENCE, async || {
        let open = service.open_cases("no_key").await;
        let refused = open.iter().any(|case| case["cause"] == "provider_refused");
        if refused { Ok(()) } else { Err(format!("{open:#?}")) }
    })
    .await;

    let right = by_hand(&left.engine, None);
    attach(&right).await;
    let license = left.is_repaired(&service).await;
    assert_eq!((license.id, license.by_hand), (right.id, true));
    let link = deployment.run(&["customers", "link", STUCK_CUSTOMER]).await;
    let link = String::from_utf8_lossy(&link.stdout).into_owned();
    assert!(link.contains(&format!("Associate?id={}&auth=", left.customer)), "{link}");
    assert!(license.notes.contains("ref:kl-") && license.notes.contains("made by hand"), "{}", license.notes);
    let before = (left.engine.licenses(), left.stripe.server.writes());
    let output = deployment.run(&["repair", "--all", "--apply", "--by", "ann"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    service.caught_up().await;
    assert_eq!((left.engine.licenses(), left.stripe.server.writes()), before, "a second run changes nothing");
    deployment.finish(service).await;
    left.stripe.stop().await;
    left.engine.stop().await;
}
