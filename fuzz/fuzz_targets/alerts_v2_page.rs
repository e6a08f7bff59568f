//! Any bytes as a page of alerts: read, kept, found by all that it mentions, and
//! shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use graph_relay::base::cloud::Cloud;
use graph_relay::base::credentials::TenantId;
use graph_relay::graph::alerts_v2::Page;
use graph_relay::alerts::index::AlertIndex;
use graph_relay::ctim::sighting::{self, Context};
use graph_relay::alerts::observable::Observable;

fuzz_target!(|data: &[u8]| {
    let Ok(page) = Page::parse(data) else { return };
    let (portal, tenant) = (Cloud::global().portal, TenantId::parse("a.com").unwrap());
    let mut index = AlertIndex::new(100);
    let mut mentioned = Vec::new();
    for alert in page.alerts {
        for evidence in &alert.evidence {
            evidence.mentions(&mut |kind, value| mentioned.extend(Observable::new(kind, value)));
        }
        index.insert(alert);
    }
    for observable in mentioned.iter().take(100) {
        for alert in index.find(observable, 10).alerts {
            let context = Context { tenant: &tenant, portal: &portal };
            let sighting = sighting::sighting(observable, &alert, context);
            serde_json::to_vec(&sighting).unwrap();
        }
    }
});
