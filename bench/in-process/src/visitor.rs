//! A visitor of a site in this process, with a cookie.

use anyhow::{Context, ensure};
use axum::body::{Body, to_bytes};
use axum::http::header::{ACCEPT, COOKIE, HOST, SET_COOKIE, USER_AGENT};
use axum::http::{HeaderValue, Request, Uri};
use axum::response::Response;

use crate::sites::Site;

/// A visitor who has logged in.
pub struct Visitor {
    site: Site,
    cookie: HeaderValue,
}

impl Visitor {
    /// One who has no session yet.
    pub fn stranger(site: Site) -> Self {
        Self { site, cookie: HeaderValue::from_static("none=1") }
    }

    /// Logs in, and keeps the cookies of that.
    ///
    /// # Errors
    /// If the site has not accepted the login.
    pub async fn login(site: Site) -> anyhow::Result<Self> {
        let mut visitor = Self::stranger(site);
        let response = visitor.get("/login").await;
        ensure!(response.status().is_success(), "the login came to {}", response.status());
        let mut cookies = Vec::new();
        for cookie in response.headers().get_all(SET_COOKIE) {
            cookies.push(cookie.to_str()?.split(';').next().unwrap_or_default());
        }
        // Bare axum sets none, but reads past one that is as long as the others'.
        let cookies = if cookies.is_empty() { format!("sessionid={}", "x".repeat(32)) } else { cookies.join("; ") };
        visitor.cookie = HeaderValue::try_from(cookies)?;
        Ok(visitor)
    }

    /// One request, whose response's body is not read.
    pub async fn get(&mut self, path: &'static str) -> Response {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("127.0.0.1:8000"));
        headers.insert(USER_AGENT, HeaderValue::from_static("cloakroom-bench"));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        headers.insert(COOKIE, self.cookie.clone());
        self.site.call(request).await
    }

    /// As many requests as asked for.
    pub async fn repeat(&mut self, path: &'static str, requests: u64) {
        for _ in 0..requests {
            drop(self.get(path).await);
        }
    }

    /// One request, which has to succeed, and its body.
    ///
    /// # Errors
    /// If it did not succeed.
    pub async fn text(&mut self, path: &'static str) -> anyhow::Result<String> {
        let response = self.get(path).await;
        ensure!(response.status().is_success(), "{path} came to {}", response.status());
        let body = to_bytes(response.into_body(), 1 << 20).await.context("the body")?;
        Ok(String::from_utf8(body.to_vec())?)
    }
}
