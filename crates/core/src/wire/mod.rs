//! Wire formats, one file each.

pub mod cache_key;
pub mod cookie;
mod digits;
pub mod django_auth;
pub mod django_items;
pub mod django_redis;
pub mod expiry;
mod memo;
pub mod pickle;
pub mod session_data;
pub mod signing;
