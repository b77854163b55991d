//! A Django that breaks is no matter to us, and finds everything when it is back.

use cloakroom_compat::live::engine::Engine;
use cloakroom_compat::live::http::Visitor;
use cloakroom_compat::live::site::Pair;

#[test]
fn django_is_frozen_killed_and_restarted_and_finds_what_we_wrote() {
    let Some(pair) = Pair::start(Engine::Db) else { return };
    let (django, mut visitor) = (pair.django.as_django(), Visitor::new());
    visitor.get(&pair.django, "set", &[("k", "a"), ("v", "1")]).ok();

    django.freeze();
    visitor.get(&pair.cloakroom, "incr", &[("k", "a")]).ok();
    django.thaw();
    assert_eq!(visitor.get(&pair.django, "get", &[("k", "a")]).ok().member("value").as_i64(), Some(2));

    django.kill();
    visitor.try_get(&pair.django, "get", &[("k", "a")]).expect_err("nobody is there");
    visitor.get(&pair.cloakroom, "incr", &[("k", "a")]).ok();
    for _ in 0..2 {
        // After a kill, and then in order.
        django.restart();
        assert_eq!(visitor.get(&pair.django, "get", &[("k", "a")]).ok().member("value").as_i64(), Some(3));
    }
}
