//! The fixture stories, folded straight into the views without an issuer: what is owed at their end.

mod support;

use keyledger_projector::read::{PageRequest, SubscriptionFilter, Within};
use support::{STORIES, VERSIONS, World, open, story};

#[tokio::test]
async fn show() {
    for name in STORIES {
        for version in VERSIONS {
            let world = World::with(story(name, version)).await;
            let views = world.folded().await;
            println!("== {name} {version}");
            for line in open(&views).await {
                println!("   {line}");
            }
            let all = PageRequest::default();
            for case in views.cases(&Within::default(), &Default::default(), support::late(), &all).await.unwrap().data
            {
                println!(
                    "   case {} {:?} {} {:?} {:?} {:?}",
                    case.kind,
                    case.status,
                    case.subject,
                    case.amount.map(|a| a.to_string()),
                    case.cause,
                    case.detail
                );
            }
            for l in support::licenses(&views, support::late().at).await {
                println!("   lic {} {:?} {:?}", l.unit, l.state, l.reason);
            }
            for s in views.subscriptions(&Within::default(), &SubscriptionFilter::default(), &all).await.unwrap().data {
                println!("   sub {} {:?} {:?} paid_until={:?}", s.id, s.status, s.customer, s.paid_until);
            }
        }
    }
}
