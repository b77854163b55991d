//! The suite that every adapter for a web framework has to pass.
//!
//! # For the author of an adapter
//! An adapter is a piece of middleware. It gives a request's `Cookie` headers to [`Exchange::open`], puts the slot
//! where handlers find it, and when the response's status is known asks [`Exchange::commit`] what to write: a
//! `Set-Cookie` header to append, a `Vary` header to merge ([`vary_on_cookie`](crate::exchange::vary_on_cookie)), or
//! an error that replaces the response. It decides nothing itself.
//!
//! Write how one request goes through it, as an [`Adapter`], and let
//! [`exchange_conformance!`](crate::exchange_conformance) write one `#[test]` for each check. Here is a whole
//! framework with its adapter:
//!
//! ```
//! use cloakroom_core::conformance::exchange::{Adapter, Reply, Visit};
//! use cloakroom_core::exchange::{Exchange, vary_on_cookie};
//!
//! struct Mine;
//!
//! impl Adapter for Mine {
//!     async fn send(&self, exchange: Exchange, visit: Visit) -> Reply {
//!         let slot = exchange.open(visit.cookie_headers());
//!         let mut reply = match visit.handle(&slot).await {
//!             Ok(reply) => reply,
//!             Err(error) => Reply::opaque(error.status()),
//!         };
//!         match exchange.commit(&slot, reply.status).await {
//!             Ok(answer) => {
//!                 reply.headers.extend(answer.set_cookie.map(|cookie| ("set-cookie".into(), cookie.into())));
//!                 if answer.vary {
//!                     let present = reply.header("vary");
//!                     reply.headers.retain(|(name, _)| name != "vary");
//!                     let merged = vary_on_cookie(present.iter().map(String::as_str));
//!                     reply.headers.push(("vary".into(), merged.into_owned().into()));
//!                 }
//!                 reply
//!             }
//!             Err(error) => Reply::opaque(error.status()),
//!         }
//!     }
//! }
//!
//! # // The tests of a doc test are not run, so they are run by hand.
//! mod conformance {
//!     use super::*;
//!     cloakroom_core::exchange_conformance!(Mine);
//! }
//! # cloakroom_core::conformance::exchange::block_on(cloakroom_core::conformance::exchange::run(&Mine));
//! ```
//!
//! What a test cannot know of a framework has to be tried beside this suite: that the adapter stands in the place in
//! which the documentation puts it, and what its extractors say when it is missing.

mod failures;
mod flights;
mod headers;
mod outages;
mod site;
mod table;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::error::Result;
use crate::exchange::{Exchange, SessionSlot};

/// The checks, one function each. Each panics if the adapter fails it.
pub mod checks {
    pub use super::failures::*;
    pub use super::flights::*;
    pub use super::headers::*;
    pub use super::outages::*;
    pub use super::table::*;
}

/// An adapter under test.
pub trait Adapter {
    /// Sends one request through the adapter's middleware, made of `exchange`, to a handler that does what
    /// [`Visit::handle`] does with the slot it finds in its request, and answers with the reply of that.
    ///
    /// The request carries one `Cookie` header line for each of [`Visit::cookie_headers`]. If `handle` fails, the
    /// handler fails in the framework's way, or answers with the error's status and an opaque body where the framework
    /// has no way of its own. A panic of the handler may pass through, or come out as the framework's answer to panics.
    ///
    /// Requests may be under way at the same time, in one task; and one may be dropped before it is answered.
    fn send(&self, exchange: Exchange, visit: Visit) -> impl Future<Output = Reply>;
}

type Handler = dyn Fn(SessionSlot) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send + Sync;

/// One request, and what its handler does. Clones are cheap.
#[derive(Clone)]
pub struct Visit {
    cookies: Vec<Vec<u8>>,
    handler: Arc<Handler>,
    reply: Reply,
}

impl Visit {
    /// A request without cookies, whose handler does this to its session, and answers 200 with a body.
    fn to<F, T>(handler: F) -> Self
    where
        F: Fn(SessionSlot) -> T + Send + Sync + 'static,
        T: Future<Output = Result<()>> + Send + 'static,
    {
        let reply = Reply { status: 200, headers: vec![header("x-handler", "ran")], body: b"done".to_vec() };
        Self { cookies: Vec::new(), handler: Arc::new(move |slot| Box::pin(handler(slot))), reply }
    }

    /// The same request with one more `Cookie` header line.
    fn cookies(mut self, line: impl Into<Vec<u8>>) -> Self {
        self.cookies.push(line.into());
        self
    }

    /// The same request with the session cookie of this value, if there is one.
    fn with_key(self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.cookies(format!("sessionid={value}")),
            None => self,
        }
    }

    /// The same request, answered with this status.
    fn status(mut self, status: u16) -> Self {
        self.reply.status = status;
        self
    }

    /// The same request, answered with one more header.
    fn header(mut self, name: &str, value: &str) -> Self {
        self.reply.headers.push(header(name, value));
        self
    }

    /// The `Cookie` header lines of the request. Any bytes that HTTP allows occur.
    pub fn cookie_headers(&self) -> impl Iterator<Item = &[u8]> {
        self.cookies.iter().map(Vec::as_slice)
    }

    /// Does what the handler has to do, and returns what it answers.
    ///
    /// # Errors
    /// As a handler fails that passes an error of its session on.
    ///
    /// # Panics
    /// If the check is about handlers that panic.
    pub async fn handle(&self, slot: &SessionSlot) -> Result<Reply> {
        (self.handler)(slot.clone()).await?;
        Ok(self.reply.clone())
    }
}

/// A response: of a handler, or as it leaves the adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Names, in lower case, and values; a name may come more than once.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Reply {
    /// An answer that says nothing but its status.
    pub fn opaque(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// The values of a header, in their order.
    pub fn header(&self, name: &str) -> Vec<String> {
        let values = self.headers.iter().filter(|(present, _)| present == name);
        values.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }
}

fn header(name: &str, value: &str) -> (String, Vec<u8>) {
    (name.to_owned(), value.as_bytes().to_vec())
}

/// A check that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The check's name, as in [`checks`].
    pub check: &'static str,
    /// What it found.
    pub message: String,
}

/// Runs all checks, one after another, and then panics with a list of those that failed, if any did.
pub async fn run(adapter: &impl Adapter) {
    let failures = failures(adapter).await;
    let list: Vec<_> = failures.iter().map(|failure| format!("{}: {}", failure.check, failure.message)).collect();
    assert!(failures.is_empty(), "{} checks failed\n{}", failures.len(), list.join("\n"));
}

/// Runs one check on a runtime of its own, with a single thread on which tasks that are not `Send` can be spawned.
pub fn block_on<F: Future>(check: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime for the check"), in_time(check))
}

/// The list of all checks, handed to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_exchange_check {
    ($then:ident $($argument:tt)*) => {
        $crate::$then! {
            [$($argument)*]
            decision_table decision_table_of_server_errors interrupted_sessions_answer_400
            untouched_sessions_cost_nothing one_read_and_one_write_at_most
            several_cookie_headers the_last_of_two_cookies_counts odd_cookie_values set_cookie_is_sent_as_decided
            cookies_of_the_handler_stay vary_is_merged responses_pass_unchanged
            a_failing_load_clears_nothing a_failing_save_replaces_the_response a_failing_delete_keeps_the_cookie
            a_failing_store_is_no_matter_to_others an_outage_is_served_without_a_session
            changes_during_an_outage_are_refused an_outage_ends_no_sign_out too_much_for_a_cookie sessions_off
            detached_sessions_send_nothing
            a_panic_changes_nothing a_dropped_request_changes_nothing a_dropped_save_blocks_nobody
            visitors_do_not_mix changes_at_the_same_time_merge rotation_carries_a_concurrent_change
            a_flush_is_final
        }
    };
}

/// Writes one `#[test]` for each check of an adapter. The argument is an expression that makes an
/// [`Adapter`](crate::conformance::exchange::Adapter); use it in a module of its own.
#[macro_export]
macro_rules! exchange_conformance {
    ($adapter:expr $(,)?) => {
        $crate::__each_exchange_check! { __exchange_tests $adapter }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __exchange_tests {
    ([$adapter:expr] $($check:ident)*) => {
        $(
            // By its full name: actix-web has a `test` of its own.
            #[::core::prelude::v1::test]
            fn $check() {
                let adapter = $adapter;
                $crate::conformance::exchange::block_on($crate::conformance::exchange::checks::$check(&adapter));
            }
        )*
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __exchange_check_list {
    ([] $($check:ident)*) => {
        /// Runs all checks, one after another, and returns those that failed.
        pub async fn failures(adapter: &impl Adapter) -> Vec<Failure> {
            let mut failures = Vec::new();
            $(
                if let Err(message) = caught(in_time(checks::$check(adapter))).await {
                    failures.push(Failure { check: stringify!($check), message });
                }
            )*
            failures
        }
    };
}

crate::__each_exchange_check! { __exchange_check_list }

/// What the future comes to, or the message of its panic.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    let mut future = Box::pin(future);
    std::future::poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Poll::Ready(Err(text.unwrap_or("a panic without a message").to_owned()))
        }
    })
    .await
}

/// What the future comes to, unless it waits for ever.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(output) => output,
        Err(_) => panic!("nothing happens any more: does the adapter let requests be under way at the same time?"),
    }
}

/// What all the futures come to, polled in turn.
async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |cx| {
        for (future, output) in &mut pending {
            if output.is_none()
                && let Poll::Ready(ready) = future.as_mut().poll(cx)
            {
                *output = Some(ready);
            }
        }
        match pending.iter().all(|(_, output)| output.is_some()) {
            true => Poll::Ready(pending.drain(..).filter_map(|(_, output)| output).collect()),
            false => Poll::Pending,
        }
    })
    .await
}
