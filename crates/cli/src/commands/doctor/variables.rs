//! The environment variables that `peft` reads.

use serde_json::{Map, Value};

use super::private::{address, paths};

/// The kind of a variable's value.
enum Kind {
    /// A path, a number, a word.
    Open,
    /// A URL, which may hold a password.
    Address,
    /// A secret, which is not shown.
    Secret,
    /// A variable that other tools read, but not our downloads.
    NotRead,
}

/// Their names.
const NAMES: &[(&str, Kind)] = &[
    ("BURN_PEFT_CACHE", Kind::Open),
    ("BURN_PEFT_KERNELS", Kind::Open),
    ("RAYON_NUM_THREADS", Kind::Open),
    ("MIMALLOC_PURGE_DELAY", Kind::Open),
    ("HF_HOME", Kind::Open),
    ("HF_HUB_CACHE", Kind::Open),
    ("HF_ENDPOINT", Kind::Address),
    ("HF_TOKEN", Kind::Secret),
    ("HF_TOKEN_PATH", Kind::Open),
    ("HF_HUB_OFFLINE", Kind::Open),
    ("TRANSFORMERS_OFFLINE", Kind::Open),
    ("ALL_PROXY", Kind::Address),
    ("all_proxy", Kind::Address),
    ("HTTPS_PROXY", Kind::Address),
    ("https_proxy", Kind::Address),
    ("HTTP_PROXY", Kind::Address),
    ("http_proxy", Kind::Address),
    ("NO_PROXY", Kind::NotRead),
    ("no_proxy", Kind::NotRead),
    ("XDG_CACHE_HOME", Kind::Open),
    ("CUDA_PATH", Kind::Open),
    ("CUDA_VISIBLE_DEVICES", Kind::Open),
    ("VK_ICD_FILENAMES", Kind::Open),
    ("OMPI_COMM_WORLD_SIZE", Kind::Open),
    ("PMI_SIZE", Kind::Open),
    ("PMIX_RANK", Kind::Open),
    ("SLURM_PROCID", Kind::Open),
    ("NO_COLOR", Kind::Open),
    ("CLICOLOR", Kind::Open),
    ("CLICOLOR_FORCE", Kind::Open),
    ("TMPDIR", Kind::Open),
];

/// The variables that are set, with their values.
pub fn set() -> Vec<(&'static str, String)> {
    let names = NAMES.iter();
    let set = names.filter_map(|(name, kind)| {
        let value = std::env::var_os(name)?;
        Some((*name, shown(kind, &value.to_string_lossy())))
    });
    set.collect()
}

fn shown(kind: &Kind, value: &str) -> String {
    match kind {
        Kind::Secret => "(set, not shown)".to_string(),
        Kind::NotRead => "(set; peft does not read it)".to_string(),
        _ if value.is_empty() => String::new(),
        Kind::Open if !value.contains("://") => paths(value),
        Kind::Open | Kind::Address => address(value),
    }
}

/// The same as an object.
pub fn json() -> Value {
    let set = set().into_iter();
    Value::Object(
        set.map(|(name, value)| (name.to_string(), value.into()))
            .collect::<Map<_, _>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_by_its_kind() {
        let url = "https://me:secret@mirror/hf";
        assert_eq!(shown(&Kind::Address, url), "https://mirror/hf");
        assert_eq!(shown(&Kind::Open, url), "https://mirror/hf");
        assert_eq!(shown(&Kind::Secret, url), "(set, not shown)");
        assert_eq!(
            shown(&Kind::Address, "me:secret@mirror"),
            "(set, not a URL)"
        );
        assert_eq!(shown(&Kind::Open, "plain"), "plain");
        assert_eq!(shown(&Kind::Address, ""), "");
    }
}
