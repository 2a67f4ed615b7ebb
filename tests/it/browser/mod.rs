//! The pages in a real browser: Chromium without a window, driven by [`driver`], used by [`tab`] as people use it. A test
//! has its browser for itself, which has forgotten the one before, and fails when the console holds an error at its end.
//!
//! `TEST_WITHOUT_BROWSER=1` leaves these tests out. `TEST_SCREENSHOTS=DIR` makes [`gallery`] keep pictures of all pages in that
//! folder; `tests/screenshots` does.

mod administer;
mod driver;
mod first_run;
mod gallery;
mod keyboard;
mod lively;
mod own;
mod tab;

use driver::without_browser;
