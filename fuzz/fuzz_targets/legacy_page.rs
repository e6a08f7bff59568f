//! Any bytes as a page of the legacy API: read, searched and shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use graph_relay::base::cloud::Cloud;
use graph_relay::base::credentials::TenantId;
use graph_relay::graph::alerts_v2::Page;
use graph_relay::graph::legacy::parse_alert;
use graph_relay::base::http::Response;
use graph_relay::ctim::sighting::{self, Context};
use graph_relay::alerts::observable::Observable;

fuzz_target!(|data: &[u8]| {
    let response = Response { status: 200, headers: Vec::new(), body: data.to_vec() };
    let Ok(page) = Page::of_rows(&response, parse_alert) else { return };
    let (portal, tenant) = (Cloud::global().portal, TenantId::parse("a.com").unwrap());
    for alert in &page.alerts {
        let mut mentioned = Vec::new();
        for evidence in &alert.evidence {
            evidence.mentions(&mut |kind, value| mentioned.extend(Observable::new(kind, value)));
        }
        for observable in mentioned.iter().take(20) {
            assert!(alert.mentions(observable));
            let context = Context { tenant: &tenant, portal: &portal };
            serde_json::to_vec(&sighting::sighting(observable, alert, context)).unwrap();
        }
    }
});
