use std::collections::HashMap;
use std::net::TcpListener;

use super::test_server::{COMMIT, Server};
use super::*;

fn options(server: &Server, cache: &Path) -> HubOptions {
    HubOptions {
        endpoint: server.endpoint.clone(),
        token: None,
        cache: Some(cache.to_path_buf()),
        offline: false,
    }
}

fn message(result: Result<ModelFiles>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn files_are_fetched_once_and_then_come_from_the_cache() {
    let weights: Vec<u8> = (0..100_000u32).map(|i| i as u8).collect();
    let server = Server::start(&[("config.json", b"{}"), ("model.safetensors", &weights)]);
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(&server, cache.path());
    options.token = Some("hf_secret".into());

    let (required, optional) = (&["config.json", "model.safetensors"], &["tokenizer.json"]);
    let files = options.resolve("org/tiny", required, optional).unwrap();
    assert_eq!(
        fs::read(files.get("model.safetensors").unwrap()).unwrap(),
        weights
    );
    assert_eq!(files.find("tokenizer.json").unwrap(), None);
    let snapshot = format!("models--org--tiny/snapshots/{COMMIT}");
    assert_eq!(files.path(), cache.path().join(snapshot));
    let requests = server.take_requests();
    assert!(!requests.is_empty());
    for request in requests {
        assert!(
            request.contains("Authorization: Bearer hf_secret"),
            "{request}"
        );
        assert!(
            !request.to_lowercase().contains("accept-encoding: gzip"),
            "{request}"
        );
    }

    options.offline = true;
    let again = options.resolve("org/tiny", required, optional).unwrap();
    assert_eq!(again.path(), files.path());
    let pinned = options
        .resolve(&format!("org/tiny@{COMMIT}"), required, optional)
        .unwrap();
    assert_eq!(pinned.path(), files.path());
    assert_eq!(server.take_requests(), Vec::<String>::new());

    let error = message(options.resolve("org/tiny", &["tokenizer.json"], &[]));
    assert!(
        error.contains("tokenizer.json: not in the cache"),
        "{error}"
    );
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
}

#[test]
fn a_gguf_file_of_a_repository_is_a_model() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/gguf/models/starcoder2.gguf"
    );
    let bytes = fs::read(path).unwrap();
    let server = Server::start(&[("m.gguf", &bytes), ("x.gguf", b"x")]);
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(&server, cache.path());
    let get = |options: &HubOptions, model| options.resolve(model, &["config.json"], &[]);
    for model in ["org/tiny:m.gguf", "org/tiny@v1:m.gguf"] {
        let files = get(&options, model).unwrap();
        let config = fs::read_to_string(files.get("config.json").unwrap()).unwrap();
        assert!(config.contains("starcoder2"), "{config}");
    }
    server.take_requests();
    options.offline = true;
    get(&options, "org/tiny:m.gguf").unwrap();
    assert_eq!(server.take_requests(), Vec::<String>::new());
    options.offline = false;
    let error = message(get(&options, "org/tiny:x.gguf"));
    assert!(error.contains("x.gguf: the first word"), "{error}");
    let error = message(get(&options, "org/tiny:none.gguf"));
    assert!(error.contains("none.gguf: status 404"), "{error}");
    server.take_requests();
    for outside in ["org/tiny:../m.gguf", "org/tiny:/m.gguf"] {
        let error = message(get(&options, outside));
        assert!(error.contains(outside), "{error}");
    }
    assert_eq!(server.take_requests(), Vec::<String>::new());
}

#[test]
fn a_cache_whose_reference_is_edited_or_lost_works_offline() {
    let server = Server::start(&[("config.json", b"{}")]);
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(&server, cache.path());
    let get = |options: &HubOptions| options.resolve("org/tiny", &["config.json"], &["x.json"]);
    let whole = get(&options).unwrap();
    let reference = cache.path().join("models--org--tiny/refs/main");
    for content in [format!("{COMMIT}\n"), format!(" {COMMIT}\r\n")] {
        fs::write(&reference, content).unwrap();
        server.take_requests();
        // Online too: existing files are not fetched again.
        let files = options.resolve("org/tiny", &["config.json"], &[]).unwrap();
        assert_eq!(files.path(), whole.path());
        assert_eq!(server.take_requests(), Vec::<String>::new());
    }
    options.offline = true;
    for content in ["", "0123456789"] {
        fs::write(&reference, content).unwrap();
        assert_eq!(get(&options).unwrap().path(), whole.path(), "{content:?}");
    }
    fs::remove_file(&reference).unwrap();
    assert_eq!(get(&options).unwrap().path(), whole.path());
    // Another revision is not guessed.
    let error = message(options.resolve("org/tiny@v2", &["config.json"], &[]));
    assert!(error.contains("not in the cache"), "{error}");
    let none = message(options.resolve("org/none", &["config.json"], &[]));
    assert!(none.contains("not in the cache"), "{none}");
}

#[test]
fn a_transfer_that_breaks_off_goes_on_where_it_stopped() {
    let bytes: Vec<u8> = (0..50_000u32).map(|i| (i * 7) as u8).collect();
    let server = Server::start(&[("cut.bin", &bytes)]);
    let cache = tempfile::tempdir().unwrap();
    let files = options(&server, cache.path())
        .resolve("org/tiny@v1", &["cut.bin"], &[])
        .unwrap();
    assert_eq!(fs::read(files.get("cut.bin").unwrap()).unwrap(), bytes);
    let requests = server.take_requests();
    assert!(
        requests
            .iter()
            .any(|r| r.to_lowercase().contains("range: bytes=25000-"))
    );
    assert!(
        requests[0].starts_with("GET /org/tiny/resolve/v1/cut.bin "),
        "{}",
        requests[0]
    );
}

#[test]
fn a_file_of_the_wrong_length_does_not_stay_in_the_cache() {
    let server = Server::start(&[("config.json", b"{}")]);
    let cache = tempfile::tempdir().unwrap();
    let options = options(&server, cache.path());
    let files = options.resolve("org/tiny", &["config.json"], &[]).unwrap();
    let path = files.get("config.json").unwrap();
    let hub = files.hub.unwrap();
    let error = hub
        .check_size("config.json", path.clone(), 3)
        .unwrap_err()
        .to_string();
    assert!(error.contains("received 2 bytes of 3"), "{error}");
    assert!(!path.exists() && hub.cached("config.json").is_none());
    options.resolve("org/tiny", &["config.json"], &[]).unwrap();
}

#[test]
fn a_split_of_a_data_set_is_fetched() {
    let names = [
        "README.md",
        "data/test.jsonl",
        "data/train-0.jsonl",
        "data/train-1.jsonl",
    ];
    let list = names
        .map(|name| format!("{{\"rfilename\": \"{name}\"}}"))
        .join(",");
    let list = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{list}]}}");
    let server = Server::start(&[
        ("list.json", list.as_bytes()),
        ("train-0.jsonl", b"{}"),
        ("train-1.jsonl", b"{}\n"),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(&server, cache.path());
    let paths = options.dataset("org/tiny:train").unwrap().unwrap();
    let snapshot = cache
        .path()
        .join(format!("datasets--org--tiny/snapshots/{COMMIT}"));
    let expected = ["data/train-0.jsonl", "data/train-1.jsonl"].map(|name| snapshot.join(name));
    assert_eq!(paths, expected);
    assert_eq!(fs::read(&paths[1]).unwrap(), b"{}\n");
    let requests = server.take_requests();
    let first = requests
        .iter()
        .find(|request| request.contains("/resolve/"))
        .unwrap();
    assert!(
        first.starts_with("GET /datasets/org/tiny/resolve/main/data/train-0.jsonl "),
        "{first}"
    );

    let error = options.dataset("org/tiny:dev").unwrap_err().to_string();
    assert!(
        error.starts_with("Hub data set org/tiny (revision main) has no file of the split"),
        "{error}"
    );
    let error = options.dataset("org/none:train").unwrap_err().to_string();
    assert!(
        error.contains("Hub data set org/none") && error.contains("status 404"),
        "{error}"
    );
    options.offline = true;
    assert_eq!(
        options.dataset("org/tiny:train").unwrap().unwrap(),
        expected
    );
    let error = options.dataset("org/none:train").unwrap_err().to_string();
    assert!(error.contains("HF_HUB_OFFLINE forbids"), "{error}");
    assert_eq!(options.dataset("missing.jsonl").unwrap(), None);
}

#[test]
fn what_the_server_refuses_is_explained() {
    let server = Server::start(&[("adapter_config.json", b"{}")]);
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(&server, cache.path());

    let adapter = message(options.resolve("org/tiny", &["config.json"], &[]));
    assert!(
        adapter.contains("org/tiny (revision main), config.json: this is an adapter"),
        "{adapter}"
    );
    let missing = message(options.resolve("org/tiny", &["vocab.json"], &[]));
    assert!(
        missing.contains("status 404 at http://127.0.0.1"),
        "{missing}"
    );
    assert!(
        missing.contains("/org/tiny/resolve/main/vocab.json"),
        "{missing}"
    );
    let closed = message(options.resolve("closed/model", &["config.json"], &[]));
    for part in [
        "closed/model",
        "config.json",
        "status 401 (Access to model",
        "set HF_TOKEN",
    ] {
        assert!(closed.contains(part), "{part}: {closed}");
    }

    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    options.endpoint = format!("http://{free}");
    let away = message(options.resolve("org/other", &["config.json"], &[]));
    assert!(
        away.contains("cannot be reached") && away.contains("HF_HUB_OFFLINE=1"),
        "{away}"
    );
    options.endpoint = "huggingface.co".into();
    let endpoint = message(options.resolve("org/other", &["config.json"], &[]));
    assert!(
        endpoint.contains("HF_ENDPOINT = \"huggingface.co\" does not start"),
        "{endpoint}"
    );
}

#[test]
fn a_folder_needs_no_hub() {
    let dir = tempfile::tempdir().unwrap();
    let options = HubOptions {
        endpoint: String::new(),
        token: None,
        cache: None,
        offline: false,
    };
    let model = dir.path().to_str().unwrap();
    let missing = message(options.resolve(model, &["config.json"], &[]));
    assert!(
        missing.contains(model) && missing.contains("has no config.json"),
        "{missing}"
    );
    fs::write(dir.path().join("adapter_config.json"), "{}").unwrap();
    let adapter = message(options.resolve(model, &["config.json"], &[]));
    assert!(adapter.contains("is an adapter"), "{adapter}");
    fs::write(dir.path().join("config.json"), "{}").unwrap();
    let files = options
        .resolve(model, &["config.json"], &["vocab.json"])
        .unwrap();
    assert_eq!(
        files.get("config.json").unwrap(),
        dir.path().join("config.json")
    );
    assert_eq!(files.find("vocab.json").unwrap(), None);

    let file = dir.path().join("config.json");
    let error = message(options.resolve(file.to_str().unwrap(), &[], &[]));
    assert!(error.contains("is a file"), "{error}");
    for path in [
        "/no/such",
        "./gpt2",
        "../x",
        "a/b/c",
        "runs/",
        "gpt2/config.json",
        "",
        "a@",
    ] {
        let error = message(options.resolve(path, &[], &[]));
        assert!(error.contains("there is no such folder"), "{path}: {error}");
    }
    assert_eq!(parse_id("gpt2"), Some(("gpt2", "main")));
    assert_eq!(
        parse_id("org/na-me_1.5@refs/pr/1"),
        Some(("org/na-me_1.5", "refs/pr/1"))
    );
}

#[test]
fn the_environment_is_read_as_huggingface_hub_reads_it() {
    let read = |variables: &[(&str, &str)]| {
        let map: HashMap<_, _> = variables.iter().copied().collect();
        let get = |name: &str| map.get(name).map(ToString::to_string);
        HubOptions::from_variables(get, Some("/home/me".into()))
    };
    let plain = read(&[("HF_TOKEN", " ")]);
    assert_eq!(plain.endpoint, "https://huggingface.co");
    assert_eq!(plain.cache, Some("/home/me/.cache/huggingface/hub".into()));
    assert!(!plain.offline);
    let xdg = read(&[("XDG_CACHE_HOME", "/c")]);
    assert_eq!(xdg.cache, Some("/c/huggingface/hub".into()));

    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("token"), "hf_stored\n").unwrap();
    let hf_home = home.path().to_str().unwrap();
    let stored = read(&[("HF_HOME", hf_home), ("HF_HUB_OFFLINE", "True")]);
    assert_eq!(stored.token.as_deref(), Some("hf_stored"));
    assert_eq!(stored.cache, Some(home.path().join("hub")));
    assert!(stored.offline);
    let given = read(&[
        ("HF_HOME", hf_home),
        ("HF_TOKEN", "hf_given"),
        ("HF_HUB_CACHE", "/cache"),
        ("HF_ENDPOINT", "http://mirror/"),
        ("HF_HUB_OFFLINE", "0"),
    ]);
    assert_eq!(given.token.as_deref(), Some("hf_given"));
    assert_eq!(given.cache, Some("/cache".into()));
    assert_eq!(given.endpoint, "http://mirror");
    assert!(!given.offline);
}
