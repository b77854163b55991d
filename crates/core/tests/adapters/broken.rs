//! Adapters with one fault each: the suite is worth something only if it finds them.

use std::sync::Mutex;

use cloakroom_core::conformance::exchange::{Adapter, Reply, Visit, block_on, checks, failures, run};
use cloakroom_core::exchange::{Exchange, SessionSlot, vary_on_cookie};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    NeverCommits,
    CommitsBeforeTheHandler,
    CommitsOnDrop,
    TakesEveryStatusFor200,
    SkipsRefusals,
    ReadsEagerly,
    SharesTheSlot,
    FirstCookieLineOnly,
    CookiesMustBeText,
    ReplacesSetCookie,
    SetsCookieTwice,
    OverwritesVary,
    AppendsVary,
    NoVary,
    AlwaysVaries,
    DropsTheCookie,
    IgnoresErrors,
    KeepsTheRefusedBody,
    KeepsTheRefusedHeaders,
    ShowsTheCause,
    ClearsTheCookieOnErrors,
    LosesOtherHeaders,
    RunsTheHandlerTwice,
}

/// A framework in which a service is a function, and an adapter for it.
pub(crate) struct Toy {
    fault: Fault,
    /// The slot of [`Fault::SharesTheSlot`].
    shared: Mutex<Option<SessionSlot>>,
}

impl Toy {
    pub(crate) fn with(fault: Fault) -> Self {
        Self { fault, shared: Mutex::default() }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn open(&self, exchange: &Exchange, visit: &Visit) -> SessionSlot {
        let lines = visit.cookie_headers();
        if self.is(Fault::FirstCookieLineOnly) {
            return exchange.open(lines.take(1));
        }
        if self.is(Fault::CookiesMustBeText) {
            return exchange.open(lines.filter(|line| line.is_ascii()));
        }
        if self.is(Fault::SharesTheSlot) {
            return self.shared.lock().unwrap().get_or_insert_with(|| exchange.open(lines)).clone();
        }
        exchange.open(lines)
    }

    fn refuse(&self, mut reply: Reply, error: &cloakroom_core::Error) -> Reply {
        let mut refused = Reply::opaque(error.status());
        match self.fault {
            Fault::IgnoresErrors => return reply,
            Fault::KeepsTheRefusedBody => refused.body = reply.body,
            Fault::KeepsTheRefusedHeaders => refused.headers = std::mem::take(&mut reply.headers),
            Fault::ShowsTheCause => refused.body = error.to_string().into_bytes(),
            Fault::ClearsTheCookieOnErrors => {
                refused.headers.push(("set-cookie".into(), b"sessionid=\"\"; Max-Age=0; Path=/".to_vec()));
            }
            _ => {}
        }
        refused
    }
}

/// Saves a session whose request nobody waits for any more.
struct CommitOnDrop(Option<(Exchange, SessionSlot)>);

impl Drop for CommitOnDrop {
    fn drop(&mut self) {
        if let Some((exchange, slot)) = self.0.take() {
            // The store is in memory: there is nothing to wait for.
            let mut commit = Box::pin(async move { exchange.commit(&slot, 200).await.map(drop) });
            let _ = commit.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        }
    }
}

impl Adapter for Toy {
    async fn send(&self, exchange: Exchange, visit: Visit) -> Reply {
        let slot = self.open(&exchange, &visit);
        if self.is(Fault::ReadsEagerly) {
            let _ = slot.load().await;
        }
        let early = match self.is(Fault::CommitsBeforeTheHandler) {
            true => Some(exchange.commit(&slot, 200).await),
            false => None,
        };
        let mut guard = CommitOnDrop(self.is(Fault::CommitsOnDrop).then(|| (exchange.clone(), slot.clone())));
        if self.is(Fault::RunsTheHandlerTwice) {
            let _ = visit.handle(&slot).await;
        }
        let mut reply = match visit.handle(&slot).await {
            Ok(reply) => reply,
            Err(error) => Reply::opaque(error.status()),
        };
        guard.0 = None;
        if self.is(Fault::NeverCommits) || (self.is(Fault::SkipsRefusals) && reply.status >= 400) {
            return reply;
        }
        let status = if self.is(Fault::TakesEveryStatusFor200) { 200 } else { reply.status };
        let outcome = match early {
            Some(early) => early,
            None => exchange.commit(&slot, status).await,
        };
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => return self.refuse(reply, &error),
        };
        if let Some(cookie) = answer.set_cookie.filter(|_| !self.is(Fault::DropsTheCookie)) {
            if self.is(Fault::ReplacesSetCookie) {
                reply.headers.retain(|(name, _)| name != "set-cookie");
            }
            for _ in 0..1 + usize::from(self.is(Fault::SetsCookieTwice)) {
                reply.headers.push(("set-cookie".into(), cookie.clone().into_bytes()));
            }
        }
        if self.is(Fault::LosesOtherHeaders) {
            reply.headers.retain(|(name, _)| ["vary", "set-cookie"].contains(&name.as_str()));
        }
        if (answer.vary || self.is(Fault::AlwaysVaries)) && !self.is(Fault::NoVary) {
            let present = reply.header("vary");
            let merged = match self.fault {
                Fault::OverwritesVary | Fault::AppendsVary => "Cookie".into(),
                _ => vary_on_cookie(present.iter().map(String::as_str)),
            };
            if !self.is(Fault::AppendsVary) {
                reply.headers.retain(|(name, _)| name != "vary");
            }
            reply.headers.push(("vary".into(), merged.into_owned().into_bytes()));
        }
        reply
    }
}

macro_rules! faults {
    ($($name:ident: $fault:ident in $check:ident;)*) => {
        $(
            #[test]
            fn $name() {
                let check = || block_on(checks::$check(&Toy::with(Fault::$fault)));
                assert!(std::panic::catch_unwind(check).is_err(), "not found by {}", stringify!($check));
            }
        )*
    };
}

#[test]
fn a_run_reports_what_failed() {
    let failed = block_on(failures(&Toy::with(Fault::AppendsVary)));
    let names: Vec<_> = failed.iter().map(|failure| failure.check).collect();
    assert_eq!(names, ["vary_is_merged"]);
    assert!(failed[0].message.contains("Accept"), "{failed:?}");
    let run = || block_on(run(&Toy::with(Fault::AppendsVary)));
    let message = *std::panic::catch_unwind(run).unwrap_err().downcast::<String>().unwrap();
    assert!(message.starts_with("1 checks failed\nvary_is_merged: "), "{message}");
    assert_eq!(block_on(failures(&Toy::with(Fault::None))).len(), 0);
}

faults! {
    never_commits: NeverCommits in decision_table;
    commits_before_the_handler: CommitsBeforeTheHandler in decision_table;
    commits_on_drop: CommitsOnDrop in a_dropped_request_changes_nothing;
    takes_every_status_for_200: TakesEveryStatusFor200 in decision_table_of_server_errors;
    skips_refusals: SkipsRefusals in decision_table;
    reads_eagerly: ReadsEagerly in untouched_sessions_cost_nothing;
    shares_the_slot: SharesTheSlot in visitors_do_not_mix;
    first_cookie_line_only: FirstCookieLineOnly in several_cookie_headers;
    cookies_must_be_text: CookiesMustBeText in odd_cookie_values;
    replaces_set_cookie: ReplacesSetCookie in cookies_of_the_handler_stay;
    sets_cookie_twice: SetsCookieTwice in decision_table;
    overwrites_vary: OverwritesVary in vary_is_merged;
    appends_vary: AppendsVary in vary_is_merged;
    no_vary: NoVary in decision_table;
    always_varies: AlwaysVaries in sessions_off;
    drops_the_cookie: DropsTheCookie in set_cookie_is_sent_as_decided;
    ignores_errors: IgnoresErrors in interrupted_sessions_answer_400;
    keeps_the_refused_body: KeepsTheRefusedBody in a_failing_save_replaces_the_response;
    keeps_the_refused_headers: KeepsTheRefusedHeaders in interrupted_sessions_answer_400;
    shows_the_cause: ShowsTheCause in a_failing_save_replaces_the_response;
    clears_the_cookie_on_errors: ClearsTheCookieOnErrors in a_failing_save_replaces_the_response;
    loses_other_headers: LosesOtherHeaders in responses_pass_unchanged;
    runs_the_handler_twice: RunsTheHandlerTwice in detached_sessions_send_nothing;
}
