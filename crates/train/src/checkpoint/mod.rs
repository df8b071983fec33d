//! What a run leaves in its folder, and how another run resumes from it.

pub(crate) mod best;
pub(crate) mod checkpoints;
pub(crate) mod files;
pub(crate) mod identity;
pub(crate) mod info;
pub(crate) mod old_run;
pub(crate) mod rank_files;
pub(crate) mod run_folder;
pub(crate) mod saved;
pub(crate) mod whole;
