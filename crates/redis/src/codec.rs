//! How a session is written, as an entry of `CACHES` says.

use cloakroom_core::Result;
use cloakroom_core::settings::{CacheBackend, CacheConfig, SettingValue};
use cloakroom_core::wire::pickle::Protocol;
use cloakroom_core::wire::session_data::Codec;

use crate::options::wrong;

/// The form in which Django's back end or django-redis keeps a session in this cache: a pickle, or JSON where `OPTIONS`
/// choose it.
///
/// | back end | option | form |
/// |---|---|---|
/// | Django's | none | pickle, protocol 5 |
/// | Django's | `serializer`: `django.core.signing.JSONSerializer`, or `json` | JSON |
/// | django-redis | none | pickle, protocol 4 or `PICKLE_VERSION` |
/// | django-redis | `SERIALIZER`: `django_redis.serializers.json.JSONSerializer`, or `json` | JSON with spaces |
///
/// # Errors
/// [`ErrorKind::Configuration`](cloakroom_core::ErrorKind::Configuration) for a serializer or a compressor that is
/// Python code.
pub fn codec(cache: &CacheConfig) -> Result<Codec> {
    let django_redis = cache.backend == CacheBackend::DjangoRedis;
    if let Some(compressor) = given(cache, "compressor").filter(|_| django_redis)
        && compressor != "django_redis.compressors.identity.IdentityCompressor"
    {
        return Err(wrong(format!(
            "the option COMPRESSOR is {compressor:?}, and compressed sessions are not read here: leave it out, and \
                 let sessions that are compressed expire"
        )));
    }
    let serializer = given(cache, "serializer");
    match (serializer.as_deref().unwrap_or("pickle"), django_redis) {
        ("pickle" | "django.core.cache.backends.redis.RedisSerializer", false) => Ok(Codec::pickle(Protocol::DJANGO)),
        ("pickle" | "django_redis.serializers.pickle.PickleSerializer", true) => {
            Ok(Codec::pickle(match option(cache, "pickle_version") {
                None | Some(SettingValue::None) => Protocol::DJANGO_REDIS,
                Some(SettingValue::Int(version)) => Protocol::from_option(*version)?,
                Some(_) => return Err(wrong("the option PICKLE_VERSION is no number: write one from 0 to 5, or -1")),
            }))
        }
        ("json" | "django.core.signing.JSONSerializer", false) => Ok(Codec::json()),
        ("json" | "django_redis.serializers.json.JSONSerializer", true) => Ok(Codec::django_redis_json()),
        (other, _) => Err(wrong(format!(
            "the option {} is {other:?}, which is Python code and cannot be run here: leave it out for pickles, or write \
             {:?} for JSON",
            if django_redis { "SERIALIZER" } else { "serializer" },
            if django_redis {
                "django_redis.serializers.json.JSONSerializer"
            } else {
                "django.core.signing.JSONSerializer"
            },
        ))),
    }
}

/// An option whose name is written small by Django and in capitals by django-redis.
fn option<'a>(cache: &'a CacheConfig, name: &str) -> Option<&'a SettingValue> {
    cache.options.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The text of an option that is given, or how it would be written if it is no text.
fn given(cache: &CacheConfig, name: &str) -> Option<String> {
    match option(cache, name)? {
        SettingValue::None => None,
        SettingValue::Text(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use cloakroom_core::{Error, ErrorKind, Timestamp, Values};

    use super::*;

    fn written(backend: CacheBackend, options: &[(&str, SettingValue)]) -> Result<Vec<u8>, Error> {
        let mut cache = CacheConfig::new(backend);
        cache.options = options.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let values = Values::parse(br#"{"a":[1,2]}"#.to_vec()).expect("JSON");
        Ok(codec(&cache)?.encode(&values, Timestamp::from_secs(0))?.to_vec())
    }

    #[test]
    fn forms_by_back_end_and_option() {
        use CacheBackend::{DjangoRedis, Redis};
        let json = br#"{"a":[1,2]}"#.to_vec();
        let spaced = br#"{"a": [1, 2]}"#.to_vec();
        assert_eq!(written(Redis, &[]).unwrap()[..2], [0x80, 5]);
        assert_eq!(written(Redis, &[("serializer", SettingValue::None)]).unwrap()[..2], [0x80, 5]);
        assert_eq!(written(Redis, &[("serializer", "django.core.signing.JSONSerializer".into())]).unwrap(), json);
        assert_eq!(written(DjangoRedis, &[]).unwrap()[..2], [0x80, 4]);
        assert_eq!(written(DjangoRedis, &[("PICKLE_VERSION", (-1).into())]).unwrap()[..2], [0x80, 5]);
        assert_eq!(written(DjangoRedis, &[("SERIALIZER", "json".into())]).unwrap(), spaced);
        let json_serializer = "django_redis.serializers.json.JSONSerializer";
        assert_eq!(written(DjangoRedis, &[("SERIALIZER", json_serializer.into())]).unwrap(), spaced);
        for (backend, name, value) in [
            (Redis, "serializer", "site.MsgPack".into()),
            (Redis, "serializer", SettingValue::from(1)),
            (DjangoRedis, "SERIALIZER", "django_redis.serializers.msgpack.MSGPackSerializer".into()),
            (DjangoRedis, "COMPRESSOR", "django_redis.compressors.zlib.ZlibCompressor".into()),
            (DjangoRedis, "PICKLE_VERSION", 9.into()),
            (DjangoRedis, "PICKLE_VERSION", "latest".into()),
        ] {
            let error = written(backend, &[(name, value.clone())]).expect_err(name);
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
