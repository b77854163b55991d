use super::*;
use crate::ErrorKind;
use crate::wire::expiry::TimeZone;
use proptest::prelude::*;

const KEY: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP";

fn problems(result: Result<Settings, SettingsError>) -> Vec<(String, String)> {
    let error = result.expect_err("there are problems");
    error.problems().iter().map(|problem| (problem.setting.clone(), problem.to_string())).collect()
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

#[test]
fn defaults_are_djangos() {
    let settings = Settings::builder().secret_key(KEY).build().unwrap();
    assert_eq!(settings.engine(), EngineName::Db);
    assert_eq!(settings.cookie_attributes(), CookieAttributes::default());
    assert_eq!(settings.cookie_age(), 1_209_600);
    assert!(!settings.expire_at_browser_close() && !settings.save_every_request() && settings.use_tz());
    assert_eq!(settings.on_unavailable(), OnUnavailable::Error);
    assert_eq!(settings.cache_alias(), "default");
    assert_eq!(settings.session_cache().unwrap().backend, CacheBackend::LocMem);
    assert!(settings.sessions_enabled());
    assert_eq!(settings.source("SESSION_ENGINE"), Source::Default);
    assert_eq!(settings.source("SECRET_KEY"), Source::Code);
    assert_ne!(settings.expiry_rules().time_zone, TimeZone::UTC);
}

#[test]
fn every_problem_is_reported_with_its_place_and_a_remedy() {
    let found = problems(Settings::from_toml_str(
        "SESSION_COOKIE_AGE = \"two weeks\"\nSESSION_ENGINE = \"filee\"\n\nSESSION_COOKIE_SAMESIT = \"Lax\"\n\
         SESSION_COOKIE_NAME = \"a b\"\nSECRET_KEY = 5\nSESSION_SERIALIZER = \"x.PickleSerializer\"\n\
         DATABASE_URL = \"oracle://me:pw@host/db\"\nTIME_ZONE = \"Atlantis\"\nSESSION_CACHE_ALIAS = \"defualt\"\n\
         SESSION_COOKIE_SECURE = \"maybe\"\nSESSION_COOKIE_DOMAIN = \"a;b\"\nEMAIL_HOST = \"left alone\"\n",
    ));
    let named: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        named,
        [
            "SESSION_COOKIE_SAMESIT",
            "SESSION_ENGINE",
            "SECRET_KEY",
            "SESSION_COOKIE_SECURE",
            "SESSION_COOKIE_NAME",
            "SESSION_COOKIE_DOMAIN",
            "SESSION_COOKIE_AGE",
            "TIME_ZONE",
            "SESSION_CACHE_ALIAS",
            "SESSION_SERIALIZER",
            "DATABASE_URL",
        ]
    );
    let text = |name: &str| &found.iter().find(|(known, _)| known == name).unwrap().1;
    assert!(text("SESSION_COOKIE_AGE").starts_with("SESSION_COOKIE_AGE = \"two weeks\" (TOML text, line 1): "));
    assert!(text("SESSION_COOKIE_AGE").contains("1209600 for two weeks"));
    assert!(text("SESSION_COOKIE_SAMESIT").contains("line 4") && text("SESSION_COOKIE_SAMESIT").contains("SAMESITE"));
    assert!(text("SESSION_ENGINE").contains("Did you mean \"file\""));
    assert!(text("SESSION_CACHE_ALIAS").contains("\"default\""));
    assert!(!text("DATABASE_URL").contains("pw@") && text("DATABASE_URL").contains("***"));
}

#[test]
fn a_missing_secret_is_a_problem_unless_one_is_provided() {
    assert_eq!(problems(Settings::builder().build())[0].0, "SECRET_KEY");
    assert!(problems(Settings::builder().secret_key("").build())[0].1.contains("it is empty"));
    let builder = Settings::builder().provide("SECRET_KEY", KEY, "made for development");
    assert!(!builder.gives("SECRET_KEY"));
    let settings = builder.clone().build().unwrap();
    assert_eq!(settings.source("SECRET_KEY"), Source::Provided("made for development".into()));
    assert_eq!(builder.secret_key("mine").build().unwrap().source("SECRET_KEY"), Source::Code);
}

#[test]
fn code_wins_over_environment_over_file() {
    let builder = Settings::builder()
        .variables(variables(&[("SESSION_COOKIE_AGE", "60"), ("SESSION_COOKIE_NAME", "env")]))
        .toml("SESSION_COOKIE_AGE = 7\nSESSION_COOKIE_NAME = \"file\"\nSESSION_COOKIE_PATH = \"/file\"")
        .secret_key(KEY)
        .cookie_name("code");
    let settings = builder.build().unwrap();
    assert_eq!((settings.cookie_age(), settings.cookie_name()), (60, "code"));
    assert_eq!(settings.cookie_attributes().path, "/file");
    assert_eq!(settings.source("SESSION_COOKIE_PATH"), Source::File { path: None, line: 3 });
}

#[test]
fn the_environment_is_written_as_in_python() {
    let settings = Settings::builder()
        .variables(variables(&[
            ("SECRET_KEY", KEY),
            ("SECRET_KEY_FALLBACKS", "['a,b', 'c']"),
            ("SESSION_COOKIE_SECURE", "True"),
            ("SESSION_COOKIE_HTTPONLY", "False"),
            ("SESSION_COOKIE_DOMAIN", "None"),
            ("SESSION_COOKIE_SAMESITE", "None"),
            ("SESSION_COOKIE_AGE", "1_800"),
            ("SESSION_ENGINE", "django.contrib.sessions.backends.cache"),
            ("CACHES", "{'default': {'BACKEND': 'locmem', 'OPTIONS': {'MAX_ENTRIES': 10}}}"),
            ("INSTALLED_APPS", "django.contrib.auth, cloakroom"),
            ("SESSION_MANAGER", "local/host:@/tmp/.ICE-unix/1"),
            ("HOME", "/nowhere"),
        ]))
        .build()
        .unwrap();
    let cookie = settings.cookie_attributes();
    assert!(cookie.secure && !cookie.http_only && cookie.domain.is_none());
    assert_eq!(cookie.same_site.as_deref(), Some("None"));
    assert_eq!(settings.cookie_age(), 1_800);
    assert_eq!(settings.secrets().fallback_count(), 2);
    assert_eq!(settings.session_cache().unwrap().max_entries, 10);
    assert_eq!(settings.installed_apps().unwrap(), ["django.contrib.auth", "cloakroom"]);
    let found = problems(
        Settings::builder()
            .secret_key(KEY)
            .variables(variables(&[("SESSION_COOKIE_AGE", ""), ("SESSION_X", "1")]))
            .build(),
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().all(|(_, text)| text.contains("(environment)")), "{found:?}");
}

#[test]
fn caches_in_djangos_shape() {
    let settings = Settings::builder()
        .secret_key(KEY)
        .toml(
            "SESSION_ENGINE = 'cache'\nSESSION_CACHE_ALIAS = 'sessions'\n[CACHES.default]\nBACKEND = 'some.DummyCache'\n\
             [CACHES.sessions]\nBACKEND = 'django.core.cache.backends.redis.RedisCache'\n\
             LOCATION = ['redis://:pw@a:6379', 'redis://b:6379']\nKEY_PREFIX = 'site'\nVERSION = 2\n",
        )
        .build()
        .unwrap();
    let cache = settings.session_cache().unwrap();
    assert_eq!((&cache.backend, cache.locations.len(), cache.version), (&CacheBackend::Redis, 2, 2));
    assert_eq!(settings.caches().len(), 2);
    assert!(!format!("{settings:?}").contains("pw"));

    let refused =
        |toml: &str| problems(Settings::builder().secret_key(KEY).engine(EngineName::Cache).toml(toml).build());
    assert!(refused("[CACHES.default]\nBACKEND = 'redis'\nKEY_FUNCTION = 'x.y'")[0].1.contains("KEY_FUNCTION"));
    assert!(refused("[CACHES.default]\nBACKEND = 'x.DummyCache'")[0].1.contains("DummyCache"));
    assert!(refused("[CACHES.default]\nLOCATION = 'x'")[0].1.contains("BACKEND is missing"));
    assert!(refused("[CACHES.other]\nBACKEND = 'locmem'")[0].1.contains("has no cache \"default\""));
    assert!(refused("CACHES = 5")[0].1.contains("table"));
    assert_eq!(refused("CACHE_URL = 'file:///x'").len(), 1);
    // Whoever keeps no sessions in a cache may have any caches.
    let other =
        Settings::builder().secret_key(KEY).toml("[CACHES.default]\nBACKEND = 'x.DummyCache'\nKEY_FUNCTION = 'f'");
    assert!(other.build().is_ok());
}

#[test]
fn an_outage_has_two_answers() {
    let builder = || Settings::builder().secret_key(KEY);
    for (name, choice) in [("error", OnUnavailable::Error), ("anonymous", OnUnavailable::Anonymous)] {
        let settings = [
            builder().on_unavailable(choice),
            builder().toml(&format!("SESSION_ON_UNAVAILABLE = {name:?}")),
            builder().variables(variables(&[("SESSION_ON_UNAVAILABLE", name)])),
        ];
        for settings in settings.map(|builder| builder.build().unwrap()) {
            assert_eq!(settings.on_unavailable(), choice);
            let shown = settings.effective().find(|setting| setting.name == "SESSION_ON_UNAVAILABLE").unwrap();
            assert_eq!(shown.value, format!("{name:?}"));
        }
    }
    for wrong in ["\"anonymus\"", "\"\"", "true", "503"] {
        let found = problems(builder().toml(&format!("SESSION_ON_UNAVAILABLE = {wrong}")).build());
        assert_eq!(found.len(), 1, "{wrong}: {found:?}");
        assert!(found[0].1.contains("TOML text, line 1"), "{found:?}");
    }
}

#[test]
fn a_site_sweeps_itself_if_it_is_told_how_often() {
    let interval = |toml: &str| Settings::builder().secret_key(KEY).toml(toml).build().map(|s| s.sweep_interval());
    for (toml, seconds) in [("", None), ("0", None), ("3600", Some(3_600)), ("1", Some(1))] {
        let toml = if toml.is_empty() { String::new() } else { format!("SESSION_SWEEP_INTERVAL = {toml}") };
        assert_eq!(interval(&toml).unwrap(), seconds.map(Duration::from_secs), "{toml}");
    }
    for wrong in ["-1", "\"hourly\"", "9223372036854775807", "1.5"] {
        let found =
            problems(Settings::builder().secret_key(KEY).toml(&format!("SESSION_SWEEP_INTERVAL = {wrong}")).build());
        assert!(found.len() == 1 && found[0].1.contains("3600 for every hour"), "{wrong}: {found:?}");
    }
    let none = Settings::builder().secret_key(KEY).variables(variables(&[("SESSION_SWEEP_INTERVAL", "None")]));
    assert_eq!(none.build().unwrap().sweep_interval(), None);
}

#[test]
fn files_and_their_faults() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("settings.toml");
    assert!(problems(Settings::from_toml(&path))[0].1.contains("settings.toml"));
    std::fs::write(&path, format!("SECRET_KEY = {KEY:?}\nSESSION_COOKIE_AGE = \n")).unwrap();
    let found = problems(Settings::from_toml(&path));
    assert!(found[0].1.contains("settings.toml, line 2"), "{found:?}");
    std::fs::write(&path, format!("SECRET_KEY = {KEY:?}\nSESSION_FILE_PATH = \"/var/x\"\n")).unwrap();
    let settings = Settings::from_toml(&path).unwrap();
    assert_eq!(settings.file_path(), Path::new("/var/x"));
    assert_eq!(settings.source("SESSION_FILE_PATH"), Source::File { path: Some(path), line: 2 });
}

#[test]
fn secrets_are_never_shown() {
    let settings = Settings::builder().secret_key(KEY).secret_key_fallbacks(["former-key"]).build().unwrap();
    let shown = format!("{settings:?}");
    assert!(!shown.contains(KEY) && !shown.contains("former-key") && shown.contains("52 characters"), "{shown}");
    let error = Settings::builder().set("SECRET_KEY", ["hidden"]).build().unwrap_err();
    assert!(!error.to_string().contains("hidden"), "{error}");
    let stray = Settings::builder().secret_key(KEY).variables(variables(&[("SESSION_SECRET", "hidden")])).build();
    assert!(!stray.unwrap_err().to_string().contains("hidden"));
    assert_eq!(crate::Error::from(error).kind(), ErrorKind::Configuration);
}

#[test]
fn a_serializer_of_ones_own() {
    struct Own;
    impl Serializer for Own {
        fn dumps(&self, _: &crate::Values) -> crate::Result<Vec<u8>> {
            Ok(b"own".to_vec())
        }
        fn loads(&self, _: Vec<u8>) -> crate::Result<crate::Values> {
            Ok(crate::Values::new())
        }
    }
    let builder = Settings::builder().secret_key(KEY).set("SESSION_SERIALIZER", "site.Own");
    assert!(problems(builder.clone().build())[0].1.contains("register your own"));
    let settings = builder.serializer("site.Own", Arc::new(Own)).build().unwrap();
    assert_eq!(settings.serializer().dumps(&crate::Values::new()).unwrap(), b"own");
}

#[test]
fn sessions_can_be_switched_off() {
    for (apps, enabled) in [
        (vec!["django.contrib.auth"], false),
        (vec![], false),
        (vec!["cloakroom"], true),
        (vec!["django.contrib.sessions"], true),
    ] {
        let settings = Settings::builder().secret_key(KEY).set("INSTALLED_APPS", apps).build().unwrap();
        assert_eq!(settings.sessions_enabled(), enabled);
    }
}

#[test]
fn findings() {
    let ids = |builder: SettingsBuilder, deploy| -> Vec<&'static str> {
        check(&builder.build().unwrap(), deploy).iter().map(|finding| finding.id).collect()
    };
    let sound = Settings::builder().secret_key(KEY).cookie_secure(true).database_url("sqlite:///site.db");
    assert_eq!(ids(sound.clone(), true), [""; 0]);
    assert_eq!(ids(sound.clone().cookie_secure(false), true), ["security.W012"]);
    assert_eq!(ids(sound.clone().cookie_secure(false).cookie_same_site(Some("none")), false), ["cloakroom.W001"]);
    assert_eq!(
        ids(sound.clone().cookie_name("__Host-x").set("SESSION_COOKIE_DOMAIN", "x.org"), false),
        ["cloakroom.W002"]
    );
    assert_eq!(ids(sound.clone().set("SESSION_COOKIE_PATH", "app"), false), ["cloakroom.W003"]);
    assert_eq!(ids(sound.clone().cookie_age(0), false), ["cloakroom.W004"]);
    assert_eq!(ids(sound.clone().set("INSTALLED_APPS", ["x"]).set("MIDDLEWARE", ["x"]), true), ["cloakroom.W005"]);
    assert_eq!(ids(sound.clone().set("DATABASE_URL", None::<String>), false), ["cloakroom.W006"]);
    assert_eq!(ids(sound.clone().engine(EngineName::SignedCookies), true), ["cloakroom.W007"]);
    assert_eq!(ids(sound.clone().engine(EngineName::Cache), true), ["cloakroom.W008"]);
    assert_eq!(ids(sound.clone().engine(EngineName::File), true), ["cloakroom.W009"]);
    assert_eq!(ids(sound.clone().database_url("sqlite::memory:"), true), ["cloakroom.W010"]);
    assert_eq!(ids(sound.clone().secret_key(format!("django-insecure-{KEY}")), true), ["cloakroom.W011"]);
    assert_eq!(ids(sound.secret_key_fallbacks(["short"]), true), ["cloakroom.W011"]);
}

proptest! {
    #[test]
    fn any_text_is_settings_or_problems(toml in "\\PC*|(SESSION_[A-Z_]{1,12}|CACHES|SECRET_KEY) = [\\[{\"'a-z0-9 ,=}\\]]{0,20}", value in "\\PC*") {
        let _ = Settings::from_toml_str(&toml);
        let all = names::all().map(|name| (name.to_owned(), value.clone()));
        match Settings::builder().variables(all).build() {
            Ok(settings) => { let _ = (check(&settings, true), settings.effective().count()); }
            Err(error) => { let _ = error.to_string(); }
        }
    }
}
