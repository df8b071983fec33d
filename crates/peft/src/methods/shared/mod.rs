//! What several methods have in common.

pub(super) mod blocks;
pub(super) mod init_weights;
pub(super) mod lycoris;
pub(super) mod once;
pub(super) mod parts;
