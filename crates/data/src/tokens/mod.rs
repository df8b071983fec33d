//! Rows as tokens with labels: made once, cached in a file, and read from there.

pub(crate) mod asked;
pub(crate) mod cache;
pub(crate) mod classes;
pub(crate) mod encode;
pub(crate) mod example;
pub(crate) mod examples;
pub(crate) mod joined;
pub(crate) mod lm;
pub(crate) mod of_rows;
pub(crate) mod pipeline;
pub(crate) mod preference;
pub(crate) mod rows;
pub(crate) mod seen;
pub(crate) mod store;
pub(crate) mod stores;
pub(crate) mod tags;
pub(crate) mod task;
pub(crate) mod texts;
pub(crate) mod tokenize;
pub(crate) mod train_on;
