//! The inspector of the site's own sessions, in the frame of the other pages.

use axum::Router;
use cloakroom::inspector::{Access, Inspector, Pages};

use super::layout;

/// The address at which the site has it.
const ADDRESS: &str = "/inspector";

/// Its pages, to be nested there: outside of the sessions, which it looks at and does not have.
pub(crate) fn router(inspector: Inspector, access: Access) -> Router {
    let pages = Pages::new(inspector, access);
    pages.in_frame(|page| layout::framed(ADDRESS, &page.title, &page.stylesheet, &page.content)).into_router()
}
