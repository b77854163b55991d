//! A long random run: both sides take turns on the same sessions, and must agree with a model after each step.

use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::json::Json;
use cloakroom_compat::live::random::Random;
use cloakroom_compat::live::site::{Engine, Pair, Site};

on_each_engine!(django_and_we_take_turns);

const STEPS: usize = 2_000;
const NAMES: &[&str] = &["a", "b", "Ünïcödé", "😀", "10", "9", "_private"];
const VALUES: &[&str] = &[
    "null",
    "true",
    "-0.0",
    "1e+22",
    "0.1",
    "123456789012345678901234567890",
    "\"text\"",
    "\"é€😀\\u007f\\n\\\"\"",
    "[]",
    "{}",
    "[1,[2,{\"z\":null,\"a\":[]}]]",
    "{\"b\":1,\"a\":{\"é\":\"ü\"}}",
];

/// What a visitor's session must hold. `None`: no session, so no cookie either.
#[derive(Clone, Default)]
struct Model(Option<Vec<(String, Json)>>);

impl Model {
    fn items(&mut self) -> &mut Vec<(String, Json)> {
        self.0.get_or_insert_with(Vec::new)
    }

    fn get(&self, name: &str) -> Option<&Json> {
        self.0.as_ref()?.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// An item that is there keeps its place, as in Python's dictionaries.
    fn set(&mut self, name: &str, value: Json) {
        match self.items().iter_mut().find(|(known, _)| known == name) {
            Some((_, place)) => *place = value,
            None => self.items().push((name.to_owned(), value)),
        }
    }

    /// Without the item nothing happens, and a visitor without a session does not get one.
    fn remove(&mut self, name: &str) {
        if let Some(items) = &mut self.0 {
            items.retain(|(known, _)| known != name);
        }
    }

    fn clear(&mut self) {
        if let Some(items) = &mut self.0 {
            items.clear();
        }
    }

    fn json(&self) -> Json {
        let items = self.0.clone().unwrap_or_default();
        Json::Map(items.into_iter().map(|(name, value)| (name.encode_utf16().collect(), value)).collect())
    }
}

/// What a login writes beside the user's id differs by what each side knows of users; both must keep what is there.
fn without_login_details(data: &Json) -> Json {
    let Json::Map(items) = data else { panic!("no object: {data}") };
    let detail = |name: &[u16]| ["_auth_user_backend", "_auth_user_hash"].contains(&&*String::from_utf16_lossy(name));
    Json::Map(items.iter().filter(|(name, _)| !detail(name)).cloned().collect())
}

/// One step on one side; what was done, for the message of a failure.
fn step(random: &mut Random, visitor: &mut Visitor, model: &mut Model, site: &Site) -> String {
    let name = *random.pick(NAMES);
    match random.below(16) {
        0..=4 => {
            let value = *random.pick(VALUES);
            visitor.get(site, "set", &[("k", name), ("v", value)]).ok();
            model.set(name, Json::parse(value).unwrap());
            format!("set {name} {value}")
        }
        5 | 6 => {
            visitor.get(site, "del", &[("k", name)]).ok();
            model.remove(name);
            format!("del {name}")
        }
        7 | 8 => {
            let count = model.get("count").and_then(Json::as_i64).unwrap_or(0) + 1;
            let answer = visitor.get(site, "incr", &[("k", "count")]).ok().member("value").as_i64();
            assert_eq!(answer, Some(count));
            model.set("count", Json::Number(count.to_string()));
            "incr".to_owned()
        }
        9 if model.get("_auth_user_id").is_none() => {
            let user = (random.below(9) + 1).to_string();
            let before = visitor.cookie("sessionid").map(str::to_owned);
            visitor.get(site, "login", &[("u", &user)]).ok();
            assert_ne!(visitor.cookie("sessionid"), before.as_deref(), "a login changes the cookie");
            model.set("_auth_user_id", Json::from_text(&user));
            format!("login {user}")
        }
        9 => {
            visitor.get(site, "logout", &[]).ok();
            *model = Model(None);
            "logout".to_owned()
        }
        10 => {
            visitor.get(site, "cycle", &[]).ok();
            model.items();
            "cycle".to_owned()
        }
        11 => {
            visitor.get(site, "clear", &[]).ok();
            model.clear();
            "clear".to_owned()
        }
        12 => {
            let date = "dt:2037-06-01T12:30:00.250000+00:00";
            let (value, stored) = *random.pick(&[("5000", "5000"), ("0", "0"), (date, ""), ("none", "null")]);
            visitor.get(site, "expiry", &[("s", value)]).ok();
            match stored {
                "null" => model.remove("_session_expiry"),
                "" => model.set("_session_expiry", Json::from_text(&date[3..])),
                number => model.set("_session_expiry", Json::Number(number.to_owned())),
            }
            format!("expiry {value}")
        }
        13 => {
            let op = *random.pick(&["set", "delete"]);
            visitor.get(site, "testcookie", &[("op", op)]).ok();
            match op {
                "set" => model.set("testcookie", Json::from_text("worked")),
                _ => model.remove("testcookie"),
            }
            format!("testcookie {op}")
        }
        14 if random.below(4) == 0 => {
            visitor.get(site, "flush", &[]).ok();
            *model = Model(None);
            "flush".to_owned()
        }
        _ => {
            let reply = visitor.get(site, "noop", &[]).ok();
            assert!(reply.cookies().is_empty() && reply.header("vary").is_empty(), "{reply:#?}");
            "noop".to_owned()
        }
    }
}

fn django_and_we_take_turns(engine: Engine) {
    let Some(pair) = Pair::start(engine) else { return };
    let mut random = Random::from_env(&format!("turns on {engine:?}"));
    let mut visitors: Vec<(Visitor, Model)> = (0..3).map(|_| (Visitor::new(), Model::default())).collect();
    let mut history = Vec::new();
    for number in 0..STEPS {
        let who = random.below(visitors.len());
        let (visitor, model) = &mut visitors[who];
        let (side, site) = *random.pick(&[("Django", &pair.django), ("Cloakroom", &pair.cloakroom)]);
        let done = step(&mut random, visitor, model, site);
        history.push(format!("{number}: visitor {who} on {side}: {done}"));
        if engine == Engine::CachedDb && random.below(3) == 0 {
            // So the row has to be right, and whoever reads first fills the cache.
            pair.deployment.forget_cache();
            history.push("the cache forgets".to_owned());
        }
        let last = &history[history.len().saturating_sub(12)..];

        assert_eq!(visitor.cookie("sessionid").is_some(), model.0.is_some(), "cookie after {last:#?}");
        let (one, other) = *random.pick(&pair.both_ways());
        let [one, other] = [one, other].map(|site| visitor.get(site, "all", &[]).ok().member("data"));
        assert_eq!(one, other, "Django and we after {last:#?}");
        assert_eq!(without_login_details(&one), model.json(), "the model after {last:#?}");
        if engine.keeps_records() {
            // No step leaves a record behind that nobody has the key of.
            let mut keys: Vec<String> = pair.deployment.stored().into_iter().map(|(key, _)| key).collect();
            let mut known: Vec<String> =
                visitors.iter().filter_map(|(visitor, _)| visitor.cookie("sessionid").map(str::to_owned)).collect();
            keys.sort();
            known.sort();
            assert_eq!(keys, known, "stored keys after {last:#?}");
        }
    }
}
