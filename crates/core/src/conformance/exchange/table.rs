//! The decision table: presented cookie, handler, status, `SESSION_SAVE_EVERY_REQUEST`.

use std::collections::BTreeMap;

use super::site::{NEW, REMOVAL, SEED, Site, UNKNOWN, VALID, cookie};
use super::{Adapter, Reply, Visit};
use crate::wire::cookie::CookieAttributes;

/// What the browser gets, and in brackets what the store is asked for it, in that order: `-` is nothing at all, `vary`
/// no cookie but `Vary: Cookie`, `same` and `new` a session cookie with the presented or a new key, `remove` the cookie
/// that ends a session. Cookies always come with `Vary`.
///
/// It is Django's table. Where it differs from Django's on purpose, `docs/django.md` says why.
const TABLE: &str = "
    cookie    handler       below 500            if every request saves  500 and above

    none      nothing       -                    -                       -
    none      look          -                    -                       -
    none      read          vary                 vary                    vary
    none      write         new(create)          new(create)             vary
    none      remove        vary                 vary                    vary
    none      pop           vary                 vary                    vary
    none      clear         vary                 vary                    vary
    none      flush         vary                 vary                    vary
    none      read+flush    vary                 vary                    vary
    none      flush+write   new(create)          new(create)             vary
    none      cycle         new(create)          new(create)             vary
    none      mark          -                    -                       -
    none      save          new(create)          new(create)             vary(create)

    worthless nothing       remove               remove                  remove
    worthless look          remove               remove                  remove
    worthless read          remove               remove                  remove
    worthless write         new(create)          new(create)             vary
    worthless remove        remove               remove                  remove
    worthless pop           remove               remove                  remove
    worthless clear         remove               remove                  remove
    worthless flush         remove               remove                  remove
    worthless read+flush    remove               remove                  remove
    worthless flush+write   new(create)          new(create)             vary
    worthless cycle         new(create)          new(create)             vary
    worthless mark          remove               remove                  remove
    worthless save          new(create)          new(create)             vary(create)

    unknown   nothing       -                    new(load create)        -
    unknown   look          -                    new(load create)        -
    unknown   read          remove(load)         remove(load)            remove(load)
    unknown   write         new(load create)     new(load create)        vary(load)
    unknown   remove        remove(load)         remove(load)            remove(load)
    unknown   pop           remove(load)         remove(load)            remove(load)
    unknown   clear         remove(load)         remove(load)            remove(load)
    unknown   flush         remove(delete)       remove(delete)          remove(delete)
    unknown   read+flush    remove(load)         remove(load)            remove(load)
    unknown   flush+write   new(delete create)   new(delete create)      vary(delete)
    unknown   cycle         new(load create)     new(load create)        vary(load)
    unknown   mark          new(load create)     new(load create)        -
    unknown   save          new(load create)     new(load create)        vary(load create)

    odd       nothing       -                    new(create)             -
    odd       look          -                    new(create)             -
    odd       read          remove               remove                  remove
    odd       write         new(create)          new(create)             vary
    odd       remove        remove               remove                  remove
    odd       pop           remove               remove                  remove
    odd       clear         remove               remove                  remove
    odd       flush         remove               remove                  remove
    odd       read+flush    remove               remove                  remove
    odd       flush+write   new(create)          new(create)             vary
    odd       cycle         new(create)          new(create)             vary
    odd       mark          new(create)          new(create)             -
    odd       save          new(create)          new(create)             vary(create)

    valid     nothing       -                    same(load touch)        -
    valid     look          -                    same(load touch)        -
    valid     read          vary(load)           same(load touch)        vary(load)
    valid     write         same(load replace)   same(load replace)      vary(load)
    valid     remove        same(load replace)   same(load replace)      vary(load)
    bare      remove        vary(load)           same(load touch)        vary(load)
    valid     pop           vary(load)           same(load touch)        vary(load)
    valid     clear         same(load replace)   same(load replace)      vary(load)
    valid     flush         remove(delete)       remove(delete)          remove(delete)
    valid     read+flush    remove(load delete)  remove(load delete)     remove(load delete)
    valid     flush+write   new(delete create)   new(delete create)      vary(delete)
    valid     cycle         new(load create delete) new(load create delete) vary(load)
    valid     mark          same(load touch)     same(load touch)        -
    valid     save          same(load replace)   same(load replace)      vary(load replace)

    damaged   nothing       -                    -(load)                 -
    damaged   look          -                    -(load)                 -
    damaged   read          vary(load)           vary(load)              vary(load)
    damaged   write         new(load create)     new(load create)        vary(load)
    damaged   remove        vary(load)           vary(load)              vary(load)
    damaged   pop           vary(load)           vary(load)              vary(load)
    damaged   clear         new(load create)     new(load create)        vary(load)
    damaged   flush         remove(delete)       remove(delete)          remove(delete)
    damaged   read+flush    remove(load delete)  remove(load delete)     remove(load delete)
    damaged   flush+write   new(delete create)   new(delete create)      vary(delete)
    damaged   cycle         new(load create)     new(load create)        vary(load)
    damaged   mark          new(load create)     new(load create)        -
    damaged   save          new(load create)     new(load create)        vary(load create)
";

struct Row {
    cookie: &'static str,
    handler: &'static str,
    /// Below 500, below 500 if every request saves, 500 and above.
    cells: [String; 3],
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for line in TABLE.lines().skip(2).filter(|line| !line.trim().is_empty()) {
        let mut words = line.split_whitespace();
        let (cookie, handler) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let mut cells = [String::new(), String::new(), String::new()];
        for cell in &mut cells {
            *cell = words.next().unwrap_or("").to_owned();
            // A cell goes on to the bracket that closes it.
            while cell.contains('(') && !cell.ends_with(')') {
                *cell += " ";
                *cell += words.next().expect("a bracket that closes");
            }
        }
        rows.push(Row { cookie, handler, cells });
    }
    rows
}

/// The cookies that a name of the table stands for: what is presented, and what stands under [`VALID`] then.
fn cookies(name: &str, handler: &str) -> Vec<(Option<&'static str>, &'static str)> {
    match name {
        "none" => vec![(None, SEED)],
        "worthless" => vec![(Some("abc"), SEED), (Some(""), SEED), (Some("\"\""), SEED), (Some("seven77"), SEED)],
        "unknown" => vec![(Some(UNKNOWN), SEED), (Some(EXPIRED), SEED)],
        "odd" => vec![(Some("../../etc/passwd"), SEED), (Some("VALID0000000000000000000000000AB"), SEED)],
        // The data matters only to who removes some of it.
        "valid" if handler == "remove" => vec![(Some(VALID), SEED)],
        "valid" => vec![(Some(VALID), SEED), (Some(VALID), "{}")],
        "bare" => vec![(Some(VALID), "{}")],
        "damaged" => vec![(Some(VALID), "{\"seed\":1"), (Some(VALID), "[]")],
        other => panic!("no cookie {other}"),
    }
}

/// The key of a session that has expired.
const EXPIRED: &str = "expired0000000000000000000000001";

fn handler(name: &str) -> Visit {
    match name {
        "nothing" => Visit::to(|_| async { Ok(()) }),
        "look" => Visit::to(|slot| async move {
            let _ = (slot.is_empty(), slot.key(), slot.accessed(), slot.modified(), slot.is_loaded());
            Ok(())
        }),
        "read" => Visit::to(|slot| async move {
            let session = slot.load().await?;
            let _ = (session.get_raw("seed"), session.keys(), session.expiry_age()?);
            Ok(())
        }),
        "write" => Visit::to(|slot| async move { slot.load().await?.insert("item", "x") }),
        "remove" => Visit::to(|slot| async move {
            slot.load().await?.remove_raw("seed");
            Ok(())
        }),
        "pop" => Visit::to(|slot| async move {
            slot.load().await?.remove_raw("absent");
            Ok(())
        }),
        "clear" => Visit::to(|slot| async move {
            slot.load().await?.clear();
            Ok(())
        }),
        "flush" => Visit::to(|slot| async move {
            slot.flush();
            Ok(())
        }),
        "read+flush" => Visit::to(|slot| async move {
            slot.load().await?.flush();
            Ok(())
        }),
        "flush+write" => Visit::to(|slot| async move {
            slot.flush();
            slot.load().await?.insert("item", "x")
        }),
        "cycle" => Visit::to(|slot| async move { slot.load().await?.cycle_key() }),
        "mark" => Visit::to(|slot| async move {
            slot.set_modified(true);
            Ok(())
        }),
        "save" => Visit::to(|slot| async move {
            let session = slot.load().await?;
            session.insert("item", "x")?;
            session.save().await
        }),
        other => panic!("no handler {other}"),
    }
}

/// The data that a handler leaves of what it found, which is none or [`SEED`].
fn left_by(handler: &str, found: &str) -> String {
    let data = match handler {
        "write" | "save" if found == SEED => "{\"seed\":1,\"item\":\"x\"}",
        "write" | "save" | "flush+write" => "{\"item\":\"x\"}",
        "remove" | "clear" => "{}",
        _ => found,
    };
    data.to_owned()
}

/// What a reply and the store's calls come to, in the words of the table.
fn observed(reply: &Reply, presented: Option<&str>, calls: &str) -> String {
    let varies = reply.header("vary") == ["Cookie"];
    let cookies = reply.header("set-cookie");
    let sent = match (&cookies[..], varies) {
        ([], true) => "vary".to_owned(),
        ([], false) if reply.header("vary").is_empty() => "-".to_owned(),
        ([one], true) if *one == REMOVAL => "remove".to_owned(),
        ([one], true) if *one == cookie(NEW) => "new".to_owned(),
        ([one], true) if presented.is_some_and(|key| *one == cookie(key)) => "same".to_owned(),
        _ => format!("Set-Cookie: {cookies:?}, Vary: {:?}", reply.header("vary")),
    };
    if calls.is_empty() { sent } else { format!("{sent}({calls})") }
}

/// The records that should stand after a row, given what the browser got.
fn records_after(row: &Row, presented: Option<&str>, standing: &str, wanted: &str) -> BTreeMap<String, String> {
    let mut records = BTreeMap::from([(VALID.to_owned(), standing.to_owned())]);
    let found = if presented == Some(VALID) && row.cookie != "damaged" { standing } else { "{}" };
    let saved = left_by(row.handler, found);
    if wanted.contains("create") {
        records.insert(NEW.to_owned(), saved.clone());
    }
    if wanted.contains("replace") {
        records.insert(VALID.to_owned(), saved);
    }
    if wanted.contains("delete") && presented == Some(VALID) {
        records.remove(VALID);
    }
    records
}

async fn try_rows(adapter: &impl Adapter, statuses: &[u16]) {
    let mut wrong = Vec::new();
    for row in rows() {
        for (presented, standing) in cookies(row.cookie, row.handler) {
            for (every, status) in [false, true].into_iter().flat_map(|e| statuses.iter().map(move |s| (e, *s))) {
                let site = Site::under(adapter, CookieAttributes::default(), every).await;
                site.delete(VALID).await;
                site.put(VALID, standing, 3600).await;
                site.put(EXPIRED, SEED, -100).await;

                let reply = site.send(handler(row.handler).with_key(presented).status(status)).await;
                let got = observed(&reply, presented, &site.calls());

                let wanted = &row.cells[if status >= 500 { 2 } else { usize::from(every) }];
                let case = format!("cookie {presented:?} ({}), {}, every: {every}, {status}", row.cookie, row.handler);
                if got != *wanted || reply.status != status {
                    wrong.push(format!("{case}: {wanted} was due, and came out as {got}, status {}", reply.status));
                }
                let (stands, should) = (site.records().await, records_after(&row, presented, standing, wanted));
                if stands != should {
                    wrong.push(format!("{case}: the records should be {should:?}, and are {stands:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases of the decision table:\n{}", wrong.len(), wrong.join("\n"));
}

/// Each cookie, each handler, each kind of success and refusal: the cookie, `Vary`, what the store is asked, and what
/// stands there afterwards.
pub async fn decision_table(adapter: &impl Adapter) {
    try_rows(adapter, &[200, 204, 302, 404, 499]).await;
}

/// After a server error nothing is saved and no session cookie is set, but a session that was ended stays ended.
pub async fn decision_table_of_server_errors(adapter: &impl Adapter) {
    try_rows(adapter, &[500, 503, 599]).await;
}

/// A session that was deleted while the request ran: 400 instead of the handler's answer, no cookie, no `Vary`, nothing
/// of the handler's response, and the session does not come back.
pub async fn interrupted_sessions_answer_400(adapter: &impl Adapter) {
    for every in [false, true] {
        for name in ["write", "remove", "clear", "cycle", "read"] {
            for status in [200, 302, 404, 500] {
                let site = Site::under(adapter, CookieAttributes::default(), every).await;
                let visit = handler(name);
                let (store, then) = (site.store.clone(), visit.clone());
                let visit = Visit::to(move |slot| {
                    let (store, then) = (store.clone(), then.clone());
                    async move {
                        let key = slot.load().await?.key().expect("the session stands");
                        then.handle(&slot).await?;
                        store.inner().delete(&key, None).await?;
                        Ok(())
                    }
                });
                let visit = visit.header("set-cookie", "own=1").header("location", "/next").header("vary", "Accept");
                let reply = site.send(visit.with_key(Some(VALID)).status(status)).await;

                let saves = status < 500 && (name != "read" || every);
                let case = format!("{name}, every: {every}, {status}: {reply:?}");
                if saves {
                    assert_eq!(reply.status, 400, "{case}");
                    for header in ["set-cookie", "vary", "location", "x-handler"] {
                        assert_eq!(reply.header(header), [""; 0], "the refused response keeps its {header}: {case}");
                    }
                    assert_ne!(reply.body, b"done", "the refused response keeps its body: {case}");
                } else {
                    assert_eq!(reply.status, status, "{case}");
                    assert_eq!(reply.header("set-cookie"), ["own=1"], "{case}");
                }
                assert!(site.records().await.is_empty(), "a deleted session came back: {case}");
            }
        }
    }
}

/// A request that does not touch its session asks the store for nothing, whatever cookie it carries.
pub async fn untouched_sessions_cost_nothing(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    for (name, presented) in ["none", "worthless", "unknown", "odd", "valid", "damaged"]
        .into_iter()
        .flat_map(|name| cookies(name, "nothing").into_iter().map(move |(presented, _)| (name, presented)))
    {
        for handler in [handler("nothing"), handler("look")] {
            let reply = site.send(handler.with_key(presented)).await;
            assert_eq!(site.calls(), "", "a {name} cookie {presented:?}: the store was asked");
            assert_eq!((reply.status, &reply.body[..]), (200, &b"done"[..]));
        }
    }
}

/// However much a handler does, its session is read once and written once; what it saved itself is not saved again.
pub async fn one_read_and_one_write_at_most(adapter: &impl Adapter) {
    let site = Site::new(adapter).await;
    let busy = |slot: crate::SessionSlot| async move {
        for round in 0..10 {
            let session = slot.load().await?;
            session.insert(&format!("item{round}"), &round)?;
            session.update("count", |n: Option<u32>| n.unwrap_or(0) + 1)?;
            let _ = (session.to_json(), session.expiry_date()?, session.remove_raw("seed"));
        }
        Ok(())
    };
    site.send(Visit::to(busy).with_key(Some(VALID))).await;
    assert_eq!(site.calls(), "load replace");

    site.send(Visit::to(busy)).await;
    assert_eq!(site.calls(), "create");

    let saving = Visit::to(|slot| async move {
        let session = slot.load().await?;
        session.insert("early", &true)?;
        session.save().await?;
        session.save().await?;
        let _ = session.to_json();
        Ok(())
    });
    site.send(saving.with_key(Some(VALID))).await;
    // The second `save` renews the expiry, as every save does.
    assert_eq!(site.calls(), "load replace touch", "the end of the request saved again what had been saved");
}
