//! Expiry: what one side sets, the other reports and enforces.

use cloakroom_compat::live::http::{Reply, Visitor};
use cloakroom_compat::live::json::Json;
use cloakroom_compat::live::site::{Engine, Pair};
use cloakroom_test_servers::Kind;

on_each_engine!(django_and_we_agree_on_expiry, django_and_we_agree_on_local_time);

fn django_and_we_agree_on_expiry(engine: Engine) {
    let Some(pair) = Pair::start(engine) else { return };
    super::sweep::each_sweeps_for_the_other(&pair);
    a_number_of_seconds(&pair);
    a_date(&pair);
    the_end_of_the_browser(&pair);
    what_has_expired(&pair);
}

fn stored_expiry(reply: &Reply) -> Option<Json> {
    reply.member("data").get("_session_expiry").cloned()
}

fn a_number_of_seconds(pair: &Pair) {
    for (first, second) in pair.both_ways() {
        let mut visitor = Visitor::new();
        let reply = visitor.get(first, "set", &[("k", "a"), ("v", "1")]).ok();
        assert_eq!(reply.cookies()[0].max_age(), Some(1_209_600));
        let reply = visitor.get(first, "expiry", &[("s", "4000")]).ok();
        assert_eq!(reply.cookies()[0].max_age(), Some(4000));
        for site in [first, second] {
            let info = visitor.get(site, "info", &[]).ok();
            assert_eq!(info.member("age").as_i64(), Some(4000));
            assert_eq!(info.member("browser_close"), Json::Bool(false));
            assert_eq!(stored_expiry(&visitor.get(site, "all", &[]).ok()), Some(Json::Number("4000".into())));
        }
        // It slides: the other side's next save gives the same lifetime again.
        let reply = visitor.get(second, "set", &[("k", "a"), ("v", "2")]).ok();
        assert_eq!(reply.cookies()[0].max_age(), Some(4000));

        visitor.get(second, "expiry", &[("s", "none")]).ok();
        for site in [first, second] {
            assert_eq!(visitor.get(site, "info", &[]).ok().member("age").as_i64(), Some(1_209_600));
            assert_eq!(stored_expiry(&visitor.get(site, "all", &[]).ok()), None);
        }
    }
}

fn a_date(pair: &Pair) {
    for (first, second) in pair.both_ways() {
        for date in ["2037-01-15T04:42:31.940816+00:00", "2037-01-15T04:42:31+00:00", "2037-01-15T06:42:31+02:00"] {
            let mut visitor = Visitor::new();
            visitor.get(first, "set", &[("k", "a"), ("v", "1")]).ok();
            let reply = visitor.get(first, "expiry", &[("s", &format!("dt:{date}"))]).ok();
            let expires = reply.cookies()[0].attribute("expires").expect("a date").to_owned();
            assert_eq!(stored_expiry(&visitor.get(second, "all", &[]).ok()), Some(Json::from_text(date)));
            for site in [first, second] {
                let info = visitor.get(site, "info", &[]).ok();
                assert_eq!(info.member("date"), Json::from_text(date));
                assert_eq!(info.member("browser_close"), Json::Bool(false));
            }
            // It stands still: the other side's next save does not move it. The cookie's date is counted from a
            // whole number of seconds, so it may lie one second before.
            let reply = visitor.get(second, "set", &[("k", "a"), ("v", "2")]).ok();
            let near = ["Thu, 15 Jan 2037 04:42:30 GMT", "Thu, 15 Jan 2037 04:42:31 GMT"];
            for expires in [&expires, reply.cookies()[0].attribute("expires").expect("a date")] {
                assert!(near.contains(&expires), "{expires}");
            }
            if pair.deployment.engine().has_table() {
                let stored = pair.deployment.database().session(&visitor.session()).expect("a row").expires;
                let fraction = match (date.contains('.'), pair.deployment.engine()) {
                    (true, _) => ".940816",
                    (false, Engine::Db) => "",
                    (false, _) => ".000000",
                };
                assert_eq!(stored, format!("2037-01-15 04:42:31{fraction}"), "in UTC, as Django compares it");
            }
        }
        // A duration becomes a date.
        let mut visitor = Visitor::new();
        visitor.get(first, "expiry", &[("s", "td:5000")]).ok();
        let stored = |visitor: &mut Visitor, site| stored_expiry(&visitor.get(site, "all", &[]).ok()).unwrap();
        let date = stored(&mut visitor, first).as_text().expect("a date");
        assert!(date.ends_with("+00:00") && date.contains('T'), "{date}");
        assert_eq!(stored(&mut visitor, second), Json::from_text(&date));
        assert_eq!(visitor.get(second, "info", &[]).ok().member("date"), Json::from_text(&date));
    }
}

fn the_end_of_the_browser(pair: &Pair) {
    for (first, second) in pair.both_ways() {
        let mut visitor = Visitor::new();
        visitor.get(first, "set", &[("k", "a"), ("v", "1")]).ok();
        let reply = visitor.get(first, "expiry", &[("s", "0")]).ok();
        assert!(!reply.cookies()[0].is_persistent(), "{reply:#?}");
        let reply = visitor.get(second, "set", &[("k", "a"), ("v", "2")]).ok();
        assert!(!reply.cookies()[0].is_persistent(), "{reply:#?}");
        for site in [first, second] {
            let info = visitor.get(site, "info", &[]).ok();
            assert_eq!(info.member("browser_close"), Json::Bool(true));
            assert_eq!(info.member("age").as_i64(), Some(1_209_600), "the server keeps it as long as any other");
        }
        visitor.restart_browser();
        assert_eq!(visitor.cookie("sessionid"), None);
    }
}

/// Django does not enforce a signed cookie's own expiry; we do, so only one direction can be asked there.
fn what_has_expired(pair: &Pair) {
    for (first, second) in pair.both_ways() {
        for end in ["-10", "dt:2020-01-01T00:00:00+00:00"] {
            let mut visitor = Visitor::new();
            visitor.get(first, "set", &[("k", "a"), ("v", "1")]).ok();
            let before = visitor.copy();
            let reply = visitor.get(first, "expiry", &[("s", end)]).ok();
            assert!(reply.cookies()[0].max_age().unwrap() < 0, "{reply:#?}");
            let keeps_records = pair.deployment.engine().keeps_records();
            let late = if keeps_records { before.session() } else { reply.cookies()[0].value.clone() };
            let readers: &[_] = if keeps_records { &[second, first] } else { &[&pair.cloakroom] };
            for reader in readers {
                let mut visitor = Visitor::new();
                visitor.put("sessionid", &late);
                let data = visitor.get(reader, "all", &[]).ok().member("data");
                assert_eq!(data, Json::Map(Vec::new()), "expired by {end}");
            }
        }
    }
}

/// Without `USE_TZ` dates are in the site's own time zone, and written without an offset.
fn django_and_we_agree_on_local_time(engine: Engine) {
    let settings = [("USE_TZ", "False"), ("TIME_ZONE", "America/New_York")];
    let Some(pair) = Pair::start_with(engine, &settings) else { return };
    for (first, second) in pair.both_ways() {
        let mut visitor = Visitor::new();
        let date = "2037-01-15T04:42:31.940816";
        visitor.get(first, "set", &[("k", "a"), ("v", "1")]).ok();
        visitor.get(first, "expiry", &[("s", &format!("dt:{date}"))]).ok();
        for site in [first, second] {
            assert_eq!(visitor.get(site, "info", &[]).ok().member("date"), Json::from_text(date));
        }
        let reply = visitor.get(second, "set", &[("k", "a"), ("v", "2")]).ok();
        let expires = reply.cookies()[0].attribute("expires").expect("a date").to_owned();
        assert!(expires.starts_with("Thu, 15 Jan 2037 09:42:3"), "New York is five hours behind: {expires}");
        if engine.has_table() {
            let stored = pair.deployment.database().session(&visitor.session()).expect("a row").expires;
            // PostgreSQL keeps the instant, the others the time of day.
            let hour = if engine.database().is_some_and(|(kind, _)| kind == Kind::Postgres) { "09" } else { "04" };
            assert_eq!(stored, format!("2037-01-15 {hour}:42:31.940816"));
        }

        // Four hours are the difference that a mistake would make, so a session that ended a moment ago has ended, and
        // one that ends in an hour has not.
        for (seconds, found) in [("td:3600", true), ("td:-10", false)] {
            let mut visitor = Visitor::new();
            visitor.get(first, "set", &[("k", "a"), ("v", "1")]).ok();
            let before = visitor.copy();
            let reply = visitor.get(first, "expiry", &[("s", seconds)]).ok();
            let key = if engine.keeps_records() { before.session() } else { reply.cookies()[0].value.clone() };
            let readers: &[_] = if engine.keeps_records() { &[second, first] } else { &[&pair.cloakroom] };
            for reader in readers {
                let mut visitor = Visitor::new();
                visitor.put("sessionid", &key);
                let answer = visitor.get(reader, "get", &[("k", "a")]).ok().member("found");
                assert_eq!(answer, Json::Bool(found), "{seconds}");
            }
        }
    }
}
