//! What a report shows of values that may contain a secret or a user's name.

use std::path::Path;

use url::Url;

/// Scheme, host, port and path of a URL, without user, password and query, which may contain
/// secrets.
pub fn address(text: &str) -> String {
    let shown = || {
        let url = Url::parse(text).ok()?;
        let host = url.host_str()?;
        let path = url.path().trim_end_matches('/');
        // In `http://me:1/2@host`, a parser takes the rest of the password for the path.
        let rest = [Some(path), url.query(), url.fragment()];
        if rest.into_iter().flatten().any(|part| part.contains('@')) {
            return None;
        }
        let port = url.port().map_or(String::new(), |port| format!(":{port}"));
        Some(format!("{}://{host}{port}{path}", url.scheme()))
    };
    shown().unwrap_or("(set, not a URL)".to_string())
}

/// A path, or a list of paths, with `~` for the home folder.
pub fn paths(text: &str) -> String {
    let home = std::env::home_dir();
    paths_of(text, home.as_deref())
}

fn paths_of(text: &str, home: Option<&Path>) -> String {
    let mark = if cfg!(windows) { ";" } else { ":" };
    let Some(home) = home.filter(|home| home.parent().is_some() && home.is_absolute()) else {
        return text.to_string();
    };
    let short = |path: &str| match Path::new(path).strip_prefix(home) {
        Ok(rest) => Path::new("~").join(rest).display().to_string(),
        Err(_) => path.to_string(),
    };
    text.split(mark).map(short).collect::<Vec<_>>().join(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_no_secret() {
        for (text, shown) in [
            ("https://huggingface.co", "https://huggingface.co"),
            ("https://me:secret@mirror:8080/hf", "https://mirror:8080/hf"),
            ("socks5://me:secret@mirror:1080", "socks5://mirror:1080"),
            ("https://secret@mirror/hf/", "https://mirror/hf"),
            ("https://mirror/hf?token=secret#secret", "https://mirror/hf"),
        ] {
            assert_eq!(address(text), shown);
        }
        for text in [
            "me:secret@mirror:8080",
            "secret@mirror",
            "secret",
            "https://me:sec/ret@mirror",
            "https://me:1/secret@mirror",
            "https://me:1?secret@mirror",
            "https://me:1#secret@mirror",
            "file:///secret",
        ] {
            assert_eq!(address(text), "(set, not a URL)", "{text}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn the_home_folder_is_not_named() {
        let home = Some(Path::new("/home/me"));
        for (text, shown) in [
            ("/home/me/.cache/x", "~/.cache/x"),
            ("/home/me/", "~/"),
            ("/home/melody/x", "/home/melody/x"),
            ("/etc/a.json:/home/me/b.json", "/etc/a.json:~/b.json"),
            ("relative", "relative"),
            ("4", "4"),
        ] {
            assert_eq!(paths_of(text, home), shown);
        }
        assert_eq!(paths_of("/x", Some(Path::new("/"))), "/x");
        assert_eq!(paths_of("/x", None), "/x");
    }
}
