//! `--model ID`: the model comes from the Hub, here from a server on this machine.

#[path = "../crates/models/src/hub/test_server.rs"]
pub mod server;

use crate::common::{Answer, Lab, PEFT};
use server::Server;

#[test]
fn a_model_is_fetched_once_and_then_used_offline() {
    let lab = Lab::new();
    let names = ["config.json", "model.safetensors", "tokenizer.json"];
    let files = names.map(|name| (name, lab.read(&format!("model/{name}"))));
    let server = Server::start(&files.each_ref().map(|(name, bytes)| (*name, &bytes[..])));
    let generate = |offline: &str| -> Answer {
        let mut command = lab.command(PEFT);
        command.env("HF_ENDPOINT", &server.endpoint);
        command.env("HF_HUB_OFFLINE", offline);
        command.env("HF_TOKEN", "hf_secret");
        command.args(["generate", "--model", "org/tiny", "--prompt", "the cat"]);
        command.output().unwrap().into()
    };

    let without = generate("1");
    without.failed(&["org/tiny", "config.json", "HF_HUB_OFFLINE"]);
    assert!(server.take_requests().is_empty());

    let fetched = generate("0");
    assert_eq!(fetched.code, Some(0), "{fetched:?}");
    let requests = server.take_requests();
    assert!(
        requests
            .iter()
            .any(|request| request.contains("Bearer hf_secret"))
    );
    let local = lab.ok(&["generate", "--model", "model", "--prompt", "the cat"]);
    assert_eq!(fetched.out, local);

    let cached = generate("1");
    assert_eq!(cached.out, local, "{cached:?}");
    assert!(server.take_requests().is_empty());
}
