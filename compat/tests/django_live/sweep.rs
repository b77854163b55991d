//! `clearsessions` by either side over records of both.

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::site::Pair;

/// On a pair that stores nothing else.
pub(super) fn each_sweeps_for_the_other(pair: &Pair) {
    let engine = pair.deployment.engine();
    let django_sweeps = || pair.deployment.manage(&["clearsessions"]).ok();
    let we_sweep = || pair.deployment.command(&["clearsessions"]).ok();
    let both: [&dyn Fn() -> cloakroom_compat::live::process::Finished; 2] = [&django_sweeps, &we_sweep];
    for sweep in both {
        let mut keep = Vec::new();
        for site in [&pair.django, &pair.cloakroom] {
            for end in ["-10", "dt:2020-01-01T00:00:00+00:00", "0", "none", "4000", "dt:2037-01-01T00:00:00+00:00"] {
                let mut visitor = Visitor::new();
                visitor.get(site, "set", &[("k", "a"), ("v", "1")]).ok();
                visitor.get(site, "expiry", &[("s", end)]).ok();
                // An expired session's cookie has left the jar.
                keep.extend(visitor.cookie("sessionid").map(str::to_owned));
            }
        }
        keep.sort();
        assert_eq!(keep.len(), 8);
        let keys = || pair.deployment.stored().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        if engine.keeps_records() && !engine.sweeps_itself() {
            assert_eq!(keys().len(), 12, "nothing sweeps by itself");
        }
        sweep();
        if engine.keeps_records() {
            assert_eq!(keys(), keep);
        }
        for key in keep {
            let mut visitor = Visitor::new();
            visitor.put("sessionid", &key);
            for site in [&pair.django, &pair.cloakroom] {
                assert_eq!(visitor.get(site, "get", &[("k", "a")]).ok().member("value").to_string(), "1");
            }
            visitor.get(&pair.django, "flush", &[]).ok();
        }
    }
}
