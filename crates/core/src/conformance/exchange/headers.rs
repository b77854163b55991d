//! Headers: `Cookie` as strangers send it, `Set-Cookie` and `Vary` as the exchange decides, and everything else as the
//! handler wrote it.

use super::site::{NEW, REMOVAL, Site, UNKNOWN, VALID, cookie};
use super::{Adapter, Visit};
use crate::wire::cookie::CookieAttributes;
use crate::wire::expiry::Expiry;

/// A handler that fails unless its session has this key, or none.
fn expecting(key: Option<&'static str>) -> Visit {
    Visit::to(move |slot| async move {
        let found = slot.load().await?.key();
        let found = found.as_ref().map(|key| key.as_str());
        assert_eq!(found, key, "the handler met another session than that of its request's cookie");
        Ok(())
    })
}

/// Several `Cookie` header lines, as HTTP/2 sends them, count as one.
pub async fn several_cookie_headers(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    let session = format!("sessionid={VALID}");
    for lines in [
        &["a=1", &session][..],
        &[&session, "a=1"],
        &["a=1; b=2", "c=3", &session, "d=4"],
        &["", &session],
        &[&format!("a=1;{session};b=2")],
    ] {
        let visit = lines.iter().fold(expecting(Some(VALID)), |visit, line| visit.cookies(*line));
        assert_eq!(site.send(visit).await.status, 200, "{lines:?}");
    }
    for lines in [&["a=1"][..], &[&format!("Sessionid={VALID}")], &[&format!("xsessionid={VALID}")], &[VALID]] {
        let visit = lines.iter().fold(expecting(None), |visit, line| visit.cookies(*line));
        let reply = site.send(visit).await;
        assert_eq!((reply.status, reply.header("set-cookie").len()), (200, 0), "{lines:?}");
    }
}

/// Of two cookies of the session's name the last counts, in one line or in two.
pub async fn the_last_of_two_cookies_counts(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    let (unknown, valid) = (format!("sessionid={UNKNOWN}"), format!("sessionid={VALID}"));
    let (in_one, in_two) = (|a: &str, b: &str| vec![format!("{a}; {b}")], |a: &str, b: &str| vec![a.into(), b.into()]);
    for (lines, key) in [
        (in_one(&unknown, &valid), Some(VALID)),
        (in_two(&unknown, &valid), Some(VALID)),
        (in_one(&valid, &unknown), None),
        (in_two(&valid, &unknown), None),
        (in_one(&valid, "sessionid="), None),
    ] {
        let visit = lines.iter().fold(expecting(key), |visit, line| visit.cookies(line.as_str()));
        let reply = site.send(visit).await;
        let cookies = if key.is_some() { vec![] } else { vec![REMOVAL.to_owned()] };
        assert_eq!((reply.status, reply.header("set-cookie")), (200, cookies), "{lines:?}");
    }
}

/// Quotes, escapes, bytes that are no text, values of any length: none fails, and none that is no key is a session.
pub async fn odd_cookie_values(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    for same in [
        format!("sessionid=\"{VALID}\""),
        format!("sessionid=\"\\166{}\"", &VALID[1..]),
        format!(" sessionid = {VALID} "),
        format!("other=\"a;sessionid={VALID}"),
        format!("junk;;=;sessionid={VALID};"),
    ] {
        assert_eq!(site.send(expecting(Some(VALID)).cookies(same.as_str())).await.status, 200, "{same}");
    }
    let foreign = [&b"caf\xc3\xa9=1; sessionid="[..], VALID.as_bytes(), b"; x=\xff\xfe"].concat();
    assert_eq!(site.send(expecting(Some(VALID)).cookies(foreign)).await.status, 200, "a line that is not ASCII");

    let long = "a".repeat(10_000);
    for value in [&b"\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8"[..], b"\"", b"\"\"", b"\"\\", b"\"\\000\\n\"", long.as_bytes()] {
        let reply = site.send(expecting(None).cookies([b"sessionid=", value].concat())).await;
        let case = String::from_utf8_lossy(value);
        assert_eq!((reply.status, reply.header("set-cookie")), (200, vec![REMOVAL.to_owned()]), "{case}");
    }
    let written = Visit::to(|slot| async move { slot.load().await?.insert("item", "x") });
    let reply = site.send(written.cookies(*b"sessionid=\"\xc3\xa9\\073 odd but long\"")).await;
    assert_eq!(reply.header("set-cookie"), [cookie(NEW)], "a new session has a key of its own");
}

/// The `Set-Cookie` header is the one that the exchange made, to the letter.
pub async fn set_cookie_is_sent_as_decided(adapter: &impl Adapter) {
    let attributes = CookieAttributes {
        name: "__Host-sid".into(),
        domain: Some("example.org".into()),
        path: "/a b".into(),
        secure: true,
        http_only: false,
        same_site: Some("none".into()),
    };
    let site = Site::under(adapter, attributes, false).await;
    let write = Visit::to(|slot| async move { slot.load().await?.insert("item", "x") });
    let reply = site.send(write.clone().cookies(format!("sessionid={VALID}"))).await;
    let sent = format!(
        "__Host-sid={NEW}; Domain=example.org; expires=Fri, 29 Jan 2027 08:00:00 GMT; Max-Age=1209600; Path=/a b; \
         SameSite=none; Secure"
    );
    assert_eq!(reply.header("set-cookie"), [sent], "the setting names another cookie");
    let flush = Visit::to(|slot| async move {
        slot.flush();
        Ok(())
    });
    let reply = site.send(flush.cookies(format!("__Host-sid={NEW}"))).await;
    let sent = "__Host-sid=\"\"; Domain=example.org; expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; Path=/a b; \
                SameSite=none; Secure";
    assert_eq!(reply.header("set-cookie"), [sent]);

    let site = Site::new(adapter).await;
    let close = Visit::to(|slot| async move { slot.load().await?.set_expiry(Expiry::BrowserClose) });
    let reply = site.send(close.with_key(Some(VALID))).await;
    assert_eq!(reply.header("set-cookie"), [format!("sessionid={VALID}; HttpOnly; Path=/; SameSite=Lax")]);
    site.pass();
    let minute = Visit::to(|slot| async move { slot.load().await?.set_expiry(60) });
    let reply = site.send(minute.with_key(Some(VALID))).await;
    let date = "Fri, 15 Jan 2027 08:02:00 GMT";
    let sent = format!("sessionid={VALID}; expires={date}; HttpOnly; Max-Age=60; Path=/; SameSite=Lax");
    assert_eq!(reply.header("set-cookie"), [sent]);
}

/// Cookies that the handler sets are all sent, beside the session's.
pub async fn cookies_of_the_handler_stay(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    let write = Visit::to(|slot| async move { slot.load().await?.insert("item", "x") });
    let write = write.header("set-cookie", "theme=dark").header("set-cookie", "lang=de; Path=/");
    let mut cookies = site.send(write.with_key(Some(VALID))).await.header("set-cookie");
    cookies.sort();
    assert_eq!(cookies, ["lang=de; Path=/".to_owned(), cookie(VALID), "theme=dark".to_owned()]);
}

/// `Vary` keeps what the handler wrote, names `Cookie` once, and stays `*` where it is; without an access to the session
/// it is not touched.
pub async fn vary_is_merged(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    for (present, merged) in [
        (&[][..], "Cookie"),
        (&["Accept"], "Accept, Cookie"),
        (&["Accept,User-Agent"], "Accept, User-Agent, Cookie"),
        (&["Accept", "User-Agent"], "Accept, User-Agent, Cookie"),
        (&["cookie"], "cookie"),
        (&["Accept", "COOKIE"], "Accept, COOKIE"),
        (&["Accept-Cookie"], "Accept-Cookie, Cookie"),
        (&["*"], "*"),
        (&["Accept, *"], "*"),
        (&["Accept", "*"], "*"),
        (&[""], "Cookie"),
    ] {
        let read = Visit::to(|slot| async move { slot.load().await.map(drop) });
        let access = Visit::to(|slot| async move {
            slot.load().await?.get_raw("seed");
            Ok(())
        });
        let write = Visit::to(|slot| async move { slot.load().await?.insert("item", "x") });
        for visit in [access, write] {
            let visit = present.iter().fold(visit, |visit, value| visit.header("vary", value));
            let reply = site.send(visit.with_key(Some(VALID))).await;
            assert_eq!(reply.header("vary").join(" | "), merged, "after {present:?}");
        }
        // To be loaded is not to be looked at.
        let visit = present.iter().fold(read, |visit, value| visit.header("vary", value));
        let reply = site.send(visit.with_key(Some(VALID))).await;
        assert_eq!(reply.header("vary"), present, "the session was not looked at");
    }
}

/// Status, other headers and body are the handler's, whatever its session did.
pub async fn responses_pass_unchanged(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    for status in [200, 201, 204, 302, 304, 400, 404, 418, 500, 503] {
        for write in [false, true] {
            let visit = Visit::to(move |slot| async move {
                if write { slot.load().await?.insert("item", &status) } else { Ok(()) }
            });
            let visit = visit.header("x-more", "1").header("x-more", "2").header("etag", "\"abc\"");
            let reply = site.send(visit.with_key(Some(VALID)).status(status)).await;
            assert_eq!(reply.status, status);
            assert_eq!(reply.header("x-handler"), ["ran"]);
            assert_eq!(reply.header("x-more"), ["1", "2"]);
            assert_eq!(reply.header("etag"), ["\"abc\""]);
            // A server strips the body of an answer that cannot have one.
            let body: &[u8] = if [204, 304].contains(&status) { &reply.body } else { b"done" };
            assert_eq!(reply.body, body, "the body of a {status}");
        }
    }
}
