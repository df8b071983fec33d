//! The environment variables that `peft` reads.

use serde_json::{Map, Value};

/// Their names, and whether the value is secret.
const NAMES: &[(&str, bool)] = &[
    ("BURN_PEFT_CACHE", false),
    ("BURN_PEFT_KERNELS", false),
    ("RAYON_NUM_THREADS", false),
    ("MIMALLOC_PURGE_DELAY", false),
    ("HF_HOME", false),
    ("HF_HUB_CACHE", false),
    ("HF_ENDPOINT", false),
    ("HF_TOKEN", true),
    ("HF_TOKEN_PATH", false),
    ("HF_HUB_OFFLINE", false),
    ("TRANSFORMERS_OFFLINE", false),
    ("XDG_CACHE_HOME", false),
    ("CUDA_PATH", false),
    ("CUDA_VISIBLE_DEVICES", false),
    ("VK_ICD_FILENAMES", false),
    ("OMPI_COMM_WORLD_SIZE", false),
    ("PMI_SIZE", false),
    ("PMIX_RANK", false),
    ("SLURM_PROCID", false),
    ("NO_COLOR", false),
    ("CLICOLOR", false),
    ("CLICOLOR_FORCE", false),
    ("TMPDIR", false),
];

/// Those that are set, with their values.
pub fn set() -> Vec<(&'static str, String)> {
    let names = NAMES.iter();
    let set = names.filter_map(|(name, is_secret)| {
        let value = std::env::var_os(name)?;
        let shown = if *is_secret {
            "(set, not shown)".to_string()
        } else {
            without_password(&value.to_string_lossy())
        };
        Some((*name, shown))
    });
    set.collect()
}

/// The same as an object.
pub fn json() -> Value {
    let set = set().into_iter();
    Value::Object(
        set.map(|(name, value)| (name.to_string(), value.into()))
            .collect::<Map<_, _>>(),
    )
}

/// A URL without its user and password.
pub fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_string();
    };
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_left_out() {
        for (url, shown) in [
            ("https://huggingface.co", "https://huggingface.co"),
            ("https://me:secret@mirror:8080/hf", "https://mirror:8080/hf"),
            ("https://mirror/a@b", "https://mirror/a@b"),
            ("/home/me", "/home/me"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}
