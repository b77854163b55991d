//! What each operation does to one record.

use bytes::Bytes;

use super::{Harness, payload, text};
use crate::key::SessionKey;
use crate::store::{Created, Deleted, Replaced, Rotated, Touched, Version};

/// As Django writes it: base64 for URLs, colons, a leading dot.
const LETTERS: &[u8] = b".eJyrVopPLC3JiC8tTi2Kz0xRslIyVNJBFS_OL8pNyc9WslLKSM3JyVeqBQCk1xR:1tEst_-0";

/// A payload comes back byte for byte, from one byte to the largest; its expiry comes back to the second.
pub async fn round_trip_keeps_every_byte(harness: &Harness) {
    let bench = harness.bench().await;
    for length in [1, 2, 300, 4_096, 65_536, harness.max_payload] {
        let sent: String = (0..length.min(harness.max_payload)).map(|at| LETTERS[at % LETTERS.len()] as char).collect();
        let (key, expiry) = (bench.key(), bench.later());
        let version = bench.create(&key, &sent, expiry).await;
        let stored = bench.load(&key).await.expect("the record that was just made");
        assert!(stored.payload == sent, "{length} bytes came back as {} others", stored.payload.len());
        bench.assert_expiry(&stored, expiry);

        let shorter = &sent[..length / 2 + 1];
        let replaced = bench.store.replace(&key, &version, payload(shorter), expiry).await.expect("replace");
        assert!(matches!(replaced, Replaced::Replaced(_)), "the version that create told was refused: {replaced:?}");
        assert_eq!(bench.payload(&key).await.as_deref(), Some(shorter));
    }
}

/// No operation on an unknown key is an error, and none but `create` makes a record.
pub async fn unknown_keys_have_no_record(harness: &Harness) {
    let bench = harness.bench().await;
    let elsewhere = bench.key();
    let version = bench.create(&elsewhere, "elsewhere", bench.later()).await;
    let key = bench.key();
    assert!(bench.load(&key).await.is_none());
    let replaced = bench.store.replace(&key, &version, payload("new"), bench.later()).await.expect("replace");
    assert!(matches!(replaced, Replaced::Gone), "replace under an unknown key: {replaced:?}");
    assert_eq!(bench.store.touch(&key, bench.later()).await.expect("touch"), Touched::Gone);
    for version in [None, Some(&version)] {
        let deleted = bench.store.delete(&key, version).await.expect("delete");
        assert!(matches!(deleted, Deleted::Gone), "delete under an unknown key: {deleted:?}");
    }
    assert!(bench.load(&key).await.is_none(), "an operation other than create made a record");
    assert_eq!(bench.payload(&elsewhere).await.as_deref(), Some("elsewhere"));
}

/// Keys that begin alike, or are as short or as long as Django's table allows, are different keys.
pub async fn keys_do_not_mix(harness: &Harness) {
    let bench = harness.bench().await;
    let long = "0123456789abcdefghijklmnopqrstuvwxyz0123";
    let keys: Vec<SessionKey> =
        [8, 9, 31, 32, 40].iter().map(|&length| SessionKey::presented(&long[..length]).expect("a key")).collect();
    for key in &keys {
        bench.create(key, key.as_str(), bench.later()).await;
    }
    bench.store.delete(&keys[1], None).await.expect("delete");
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(bench.payload(key).await.as_deref(), (at != 1).then_some(key.as_str()));
    }
}

/// `create` under a key that is in use reports that, and leaves the record as it is.
pub async fn create_never_overwrites(harness: &Harness) {
    let bench = harness.bench().await;
    let key = bench.key();
    let version = bench.create(&key, "first", bench.later()).await;
    let second = bench.store.create(&key, payload("second"), bench.after(1)).await.expect("create");
    assert_eq!(second, Created::Taken);
    bench.pass(2).await;
    assert_eq!(bench.payload(&key).await.as_deref(), Some("first"), "a collision changed the record");
    let replaced = bench.store.replace(&key, &version, payload("third"), bench.later()).await.expect("replace");
    assert!(matches!(replaced, Replaced::Replaced(_)), "a collision changed the version");
}

/// `replace` changes the version that was loaded, and nothing else; a conflict hands over a record that can be
/// replaced at once.
pub async fn replace_compares_and_hands_over_what_stands(harness: &Harness) {
    let bench = harness.bench().await;
    let key = bench.key();
    bench.create(&key, "one", bench.later()).await;
    let loaded = bench.load(&key).await.expect("the record").version;
    let replaced = bench.store.replace(&key, &loaded, payload("two"), bench.later()).await.expect("replace");
    let Replaced::Replaced(second) = replaced else { panic!("the loaded version was refused: {replaced:?}") };

    let late = bench.other.replace(&key, &loaded, payload("late"), bench.later()).await.expect("replace");
    let Replaced::Conflict(standing) = late else { panic!("a version that no longer stands was replaced: {late:?}") };
    assert_eq!(text(&standing), "two", "the conflict handed over something else than what stands");
    assert_eq!(bench.payload(&key).await.as_deref(), Some("two"), "a conflict changed the record");

    let again = bench.other.replace(&key, &standing.version, payload("three"), bench.later()).await.expect("replace");
    assert!(matches!(again, Replaced::Replaced(_)), "the version of a conflict was refused: {again:?}");
    let stale = bench.store.replace(&key, &second, payload("stale"), bench.later()).await.expect("replace");
    assert!(matches!(stale, Replaced::Conflict(_)), "{stale:?}");
    assert_eq!(bench.payload(&key).await.as_deref(), Some("three"));
}

/// A save after a sign-out answers `Gone`, and the session stays signed out.
pub async fn replace_never_inserts(harness: &Harness) {
    let bench = harness.bench().await;
    let key = bench.key();
    let version = bench.create(&key, "signed in", bench.later()).await;
    assert!(matches!(bench.other.delete(&key, None).await.expect("delete"), Deleted::Deleted));
    let replaced = bench.store.replace(&key, &version, payload("signed in again"), bench.later()).await;
    let replaced = replaced.expect("replace");
    assert!(matches!(replaced, Replaced::Gone), "{replaced:?}");
    assert!(bench.load(&key).await.is_none(), "a save brought a deleted session back");
}

/// Deleting twice is no error.
pub async fn delete_is_idempotent(harness: &Harness) {
    let bench = harness.bench().await;
    let key = bench.key();
    bench.create(&key, "data", bench.later()).await;
    assert!(matches!(bench.store.delete(&key, None).await.expect("delete"), Deleted::Deleted));
    assert!(bench.load(&key).await.is_none(), "a deleted record stands");
    assert!(matches!(bench.store.delete(&key, None).await.expect("delete"), Deleted::Gone));
}

/// With a version, `delete` removes that one and no other.
pub async fn guarded_delete_compares(harness: &Harness) {
    let bench = harness.bench().await;
    let key = bench.key();
    let first = bench.create(&key, "one", bench.later()).await;
    let replaced = bench.store.replace(&key, &first, payload("two"), bench.later()).await.expect("replace");
    let Replaced::Replaced(second) = replaced else { panic!("{replaced:?}") };
    let deleted = bench.store.delete(&key, Some(&first)).await.expect("delete");
    let Deleted::Conflict(standing) = deleted else { panic!("another version was deleted: {deleted:?}") };
    assert_eq!(text(&standing), "two");
    assert_eq!(bench.payload(&key).await.as_deref(), Some("two"), "a conflict deleted the record");
    let deleted = bench.store.delete(&key, Some(&second)).await.expect("delete");
    assert!(matches!(deleted, Deleted::Deleted), "the version that stands was refused: {deleted:?}");
    assert!(bench.load(&key).await.is_none());
    let deleted = bench.store.delete(&key, Some(&second)).await.expect("delete");
    assert!(matches!(deleted, Deleted::Gone), "{deleted:?}");
}

/// A rotation copies a record under a new key and deletes the old one, unless another request has changed that
/// meanwhile: then it learns what to carry over.
pub async fn rotation_meets_a_concurrent_write(harness: &Harness) {
    let bench = harness.bench().await;
    let (old, new) = (bench.key(), bench.key());
    bench.create(&old, "a", bench.later()).await;
    let loaded = bench.load(&old).await.expect("the record");

    let copy = bench.create(&new, "a", bench.later()).await;
    let written = bench.other.replace(&old, &loaded.version, payload("a, b"), bench.later()).await.expect("replace");
    assert!(matches!(written, Replaced::Replaced(_)), "{written:?}");

    let deleted = bench.store.delete(&old, Some(&loaded.version)).await.expect("delete");
    let Deleted::Conflict(standing) = deleted else { panic!("a rotation deleted a change unseen: {deleted:?}") };
    let carried = bench.store.replace(&new, &copy, standing.payload.clone(), bench.later()).await.expect("replace");
    assert!(matches!(carried, Replaced::Replaced(_)), "{carried:?}");
    let deleted = bench.store.delete(&old, Some(&standing.version)).await.expect("delete");
    assert!(matches!(deleted, Deleted::Deleted), "{deleted:?}");
    assert_eq!((bench.payload(&old).await, bench.payload(&new).await.as_deref()), (None, Some("a, b")));
}

/// `rotate`, in a store that has it, moves the version that was loaded and no other, never onto another record, and
/// never makes one of nothing.
pub async fn rotate_compares_and_moves(harness: &Harness) {
    let bench = harness.bench().await;
    let (old, new, other) = (bench.key(), bench.key(), bench.key());
    let loaded = bench.create(&old, "one", bench.later()).await;
    bench.create(&other, "another's", bench.later()).await;
    let rotate = async |old: &SessionKey, version: &Version, new: &SessionKey, text: &str| {
        bench.store.rotate(old, version, new, payload(text), bench.later()).await.expect("rotate")
    };
    match rotate(&old, &loaded, &other, "two").await {
        Rotated::Taken => {}
        Rotated::Unsupported => {
            assert_eq!(bench.payload(&old).await.as_deref(), Some("one"), "what is not supported changed the record");
            return;
        }
        outcome => panic!("rotate to a key that is taken: {outcome:?}"),
    }
    assert_eq!(bench.payload(&old).await.as_deref(), Some("one"), "a collision changed the old record");
    assert_eq!(bench.payload(&other).await.as_deref(), Some("another's"), "a collision changed the other record");

    let replaced = bench.other.replace(&old, &loaded, payload("two"), bench.later()).await.expect("replace");
    assert!(matches!(replaced, Replaced::Replaced(_)), "{replaced:?}");
    let late = rotate(&old, &loaded, &new, "late").await;
    let Rotated::Conflict(standing) = late else { panic!("a change was rotated unseen: {late:?}") };
    assert_eq!(text(&standing), "two", "the conflict handed over something else than what stands");
    assert!(bench.load(&new).await.is_none(), "a conflict made a record");

    let rotated = rotate(&old, &standing.version, &new, "three").await;
    let Rotated::Rotated(version) = rotated else { panic!("the version of a conflict was refused: {rotated:?}") };
    assert!(bench.load(&old).await.is_none(), "the old record stands after a rotation");
    let stored = bench.load(&new).await.expect("the new record");
    assert_eq!(text(&stored), "three");
    bench.assert_expiry(&stored, bench.later());
    let replaced = bench.other.replace(&new, &version, payload("four"), bench.later()).await.expect("replace");
    assert!(matches!(replaced, Replaced::Replaced(_)), "the version that rotate told was refused: {replaced:?}");

    let gone = rotate(&old, &standing.version, &bench.key(), "five").await;
    assert!(matches!(gone, Rotated::Gone), "rotate where nothing stands: {gone:?}");
    let keys = bench.store.list(None, 10).await;
    assert!(keys.is_err() || keys.is_ok_and(|keys| keys.len() == 2), "a rotation of nothing made a record");
}

/// A record that was deleted and made anew with other data is not the version that was loaded before.
pub async fn a_new_record_is_another_version(harness: &Harness) {
    let bench = harness.bench().await;
    let key = bench.key();
    let former: Version = bench.create(&key, "former", bench.later()).await;
    bench.store.delete(&key, None).await.expect("delete");
    bench.create(&key, "present", bench.later()).await;
    let replaced = bench.store.replace(&key, &former, payload("overwritten"), bench.later()).await.expect("replace");
    assert!(matches!(replaced, Replaced::Conflict(_)), "a version was used twice: {replaced:?}");
    let deleted = bench.store.delete(&key, Some(&former)).await.expect("delete");
    assert!(matches!(deleted, Deleted::Conflict(_)), "a version was used twice: {deleted:?}");
    assert_eq!(bench.payload(&key).await.as_deref(), Some("present"));
}

/// `touch` leaves the payload alone, also one that was stored after the toucher had loaded its own.
pub async fn touch_keeps_the_payload(harness: &Harness) {
    let bench = harness.bench().await;
    let key = bench.key();
    let version = bench.create(&key, "old", bench.later()).await;
    let _loaded: Bytes = bench.load(&key).await.expect("the record").payload;
    bench.other.replace(&key, &version, payload("new"), bench.later()).await.expect("replace");
    assert_eq!(bench.store.touch(&key, bench.after(20_000)).await.expect("touch"), Touched::Touched);
    let stored = bench.load(&key).await.expect("the record that was touched");
    assert_eq!(text(&stored), "new", "a touch changed the payload");
    let replaced = bench.store.replace(&key, &stored.version, payload("next"), bench.later()).await.expect("replace");
    assert!(matches!(replaced, Replaced::Replaced(_)), "a touch left a version that cannot be replaced: {replaced:?}");
}
