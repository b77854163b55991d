//! What a sweep takes away, and what it leaves.

use super::*;

async fn sweep(site: &Site) -> u64 {
    let mut removed = 0;
    loop {
        let cleared = site.store.clear_expired(2).await.unwrap();
        removed += cleared.removed;
        if !cleared.more {
            return removed;
        }
    }
}

#[tokio::test]
async fn a_sweep_knows_sessions_from_other_files() {
    let site = Site::new();
    for n in 0..5 {
        site.plant(&format!("sessionidexpired{n}"), "payload", 2 * AGE);
        site.plant(&format!("sessionidstanding{n}"), "payload", 0);
    }
    let others = ["other", "sessionid", "sessionid.txt", "sessionidABCDEFGH", "sessionidshort", "Sessionidexpired0"];
    for other in others {
        site.plant(other, "payload", 10 * AGE);
    }
    fs::create_dir(site.path("adirectory")).unwrap();
    assert_eq!(sweep(&site).await, 5);
    let names = site.names();
    assert_eq!(names.len(), 5 + others.len() + 1, "{names:?}");
    assert!(!names.iter().any(|name| name.contains("sessionidexpired")));
}

#[tokio::test]
async fn what_a_crash_left_is_removed_after_an_hour() {
    let site = Site::new();
    let hour = 3_600;
    let session = format!("sessionid{KEY}");
    site.plant(&format!("{session}_out_abcd_123"), "half a paylo", hour + 1);
    site.plant(&format!("{session}_out_youngone"), "half a paylo", hour - 1);
    site.plant(&format!("{session}_out_inuseyet"), "half a paylo", hour + 1);
    // Not the pattern of a temporary file, so somebody else's.
    site.plant(&format!("{session}_out_short"), "", 10 * hour);
    site.plant(&format!("{session}_out_UPPERCAS"), "", 10 * hour);
    site.plant("sessionid_out_abcdefgh", "", 10 * hour);
    let in_use = fs::File::open(site.path(&format!("{KEY}_out_inuseyet"))).unwrap();
    in_use.lock().unwrap();
    assert_eq!(sweep(&site).await, 0, "what never was a session does not count as one");
    let left: Vec<String> = site.names().into_iter().map(|name| name.rsplit_once('_').unwrap().1.to_owned()).collect();
    assert_eq!(left.len(), 5, "{left:?}");
    assert!(!left.contains(&"123".to_owned()));
    drop(in_use);
    sweep(&site).await;
    assert_eq!(site.names().len(), 4);
}

#[tokio::test]
async fn a_sweep_that_was_dropped_is_begun_anew() {
    let site = Site::new();
    for n in 0..10 {
        site.plant(&format!("sessionidexpired{n}"), "payload", 2 * AGE);
    }
    assert!(site.store.clear_expired(1).await.unwrap().more);
    site.clock.advance(std::time::Duration::from_secs(3_600));
    assert_eq!(sweep(&site).await, 9);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_does_not_stop_a_sweep() {
    let site = Site::new();
    site.plant("sessionidexpired0", "payload", 2 * AGE);
    site.plant("sessionidexpired1", "\u{c3}\u{a9}", 0);
    site.plant("sessionidexpired2", "payload", 2 * AGE);
    fs::set_permissions(site.path("expired1"), fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(sweep(&site).await, 2);
    assert_eq!(site.names(), ["sessionidexpired1"]);
}

#[tokio::test]
async fn a_listing_goes_through_sessions_alone() {
    let site = Site::new();
    for name in ["sessionidcccccccc", "sessionidaaaaaaaa", "sessionidbbbbbbbb", "sessionid", "other"] {
        site.plant(name, "payload", 0);
    }
    site.plant("sessionidaaaaaaaa_out_abcdefgh", "", 0);
    fs::create_dir(site.path("adirectory")).unwrap();
    assert_eq!(site.store.list(None, usize::MAX).await.unwrap(), [key("aaaaaaaa"), key("bbbbbbbb"), key("cccccccc")]);
    assert_eq!(site.store.list(Some(&key("aaaaaaaa")), 1).await.unwrap(), [key("bbbbbbbb")]);
}
