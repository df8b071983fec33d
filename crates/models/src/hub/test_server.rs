//! A local Hub, for the tests of this crate and of the command.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub const COMMIT: &str = "607a30d783dfa663caf39e06633721c8d4cfcd7e";

/// A Hub with one repository, `org/tiny`: `/org/tiny/resolve/REVISION/FILE`, with ranges, redirects
/// (relative for most files, to another address for weights, as on the Hub) and 404.
pub struct Server {
    pub endpoint: String,
    /// Every request's path and headers, in order.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub fn start(files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let files: HashMap<String, Vec<u8>> = files
            .iter()
            .map(|(name, bytes)| (name.to_string(), bytes.to_vec()))
            .collect();
        let (base, log) = (endpoint.clone(), requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &base, &files, &log);
            }
        });
        Self { endpoint, requests }
    }

    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn answer(
    mut stream: TcpStream,
    base: &str,
    files: &HashMap<String, Vec<u8>>,
    log: &Mutex<Vec<String>>,
) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let head: Vec<String> = lines
        .map_while(|l| l.ok())
        .take_while(|l| !l.is_empty())
        .collect();
    let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)) else {
        return;
    };
    let seen = log
        .lock()
        .unwrap()
        .iter()
        .filter(|r| r.starts_with("GET /cdn/cut.bin"))
        .count();
    log.lock().unwrap().push(head.join("\n"));
    let range = head.iter().find_map(|line| {
        let (name, value) = line.split_once(": bytes=")?;
        name.eq_ignore_ascii_case("range")
            .then(|| value.split_once('-').unwrap())
    });

    let name = path.rsplit('/').next().unwrap();
    let hub = format!("ETag: \"etag-{name}\"\r\nX-Repo-Commit: {COMMIT}\r\n");
    let (status, headers, body) = match (files.get(name), path) {
        _ if path.starts_with("/closed/") => {
            let message = "X-Error-Message: Access to model closed/model is restricted.\r\n";
            ("401 Unauthorized", message.to_string(), &[][..])
        }
        (Some(bytes), path) if path.starts_with("/cdn/") => {
            let (from, to) = range.unwrap_or(("0", ""));
            let from = from.parse::<usize>().unwrap();
            let to = to.parse::<usize>().map_or(bytes.len(), |to| to + 1);
            let content = format!("{from}-{}/{}", to - 1, bytes.len());
            let headers = format!("{hub}Content-Range: bytes {content}\r\n");
            ("206 Partial Content", headers, &bytes[from..to])
        }
        _ if path.starts_with("/api/datasets/org/tiny/revision/") => {
            let list = files.get("list.json").map_or(&[][..], Vec::as_slice);
            ("200 OK", hub, list)
        }
        (Some(_), path)
            if path
                .trim_start_matches("/datasets")
                .starts_with("/org/tiny/resolve/") =>
        {
            let to = if name.ends_with(".safetensors") {
                base
            } else {
                ""
            };
            let headers = format!("{hub}Location: {to}/cdn/{name}\r\n");
            ("307 Temporary Redirect", headers, &[][..])
        }
        _ => ("404 Not Found", String::new(), &[][..]),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n",
        body.len()
    );
    write!(stream, "{head}Connection: close\r\n\r\n").unwrap();
    // The first transfer of `cut.bin` (after the request for its size) breaks off.
    let cut = path.starts_with("/cdn/cut.bin") && seen == 1;
    let _ = stream.write_all(if cut { &body[..body.len() / 2] } else { body });
}
