//! The parent process, which starts the processes that read, and counts.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Options;
use crate::worker::BATCH;

/// An input that takes longer counts as hanging.
const HANGS: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Figures {
    /// By reader: how many inputs were read, and how many refused.
    counts: BTreeMap<String, [u64; 2]>,
    findings: Vec<(u64, String)>,
    kept: u64,
}

/// Runs the test, and prints the findings.
pub fn run(options: &Options) -> ExitCode {
    let start = Instant::now();
    let (figures, done) = (Mutex::new(Figures::default()), AtomicU64::new(0));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (figures, done, over) = (&figures, &done, &over);
        let jobs = (0..options.jobs as u64)
            .map(|job| scope.spawn(move || batches(options, job, start, figures, done)));
        let jobs: Vec<_> = jobs.collect();
        scope.spawn(move || {
            let mut told = Instant::now();
            while !over.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(200));
                if told.elapsed().as_secs() >= 60 {
                    told = Instant::now();
                    let found = lock(figures).findings.len();
                    eprintln!(
                        "{} inputs after {} s, {found} findings",
                        done.load(Relaxed),
                        start.elapsed().as_secs()
                    );
                }
            }
        });
        for job in jobs {
            job.join().expect("the thread has not panicked");
        }
        over.store(true, Relaxed);
    });
    let mut figures = figures
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    figures.findings.sort();
    let table = table(options, &figures, start.elapsed());
    print!("{table}");
    if let Some(path) = &options.output {
        fs::write(path, &table).expect("the figures are written");
    }
    if figures.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn lock(figures: &Mutex<Figures>) -> std::sync::MutexGuard<'_, Figures> {
    figures
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// One job's share of the inputs, in one process after the other.
fn batches(
    options: &Options,
    job: u64,
    start: Instant,
    figures: &Mutex<Figures>,
    done: &AtomicU64,
) {
    let step = options.jobs as u64;
    let mut from = job;
    while from < options.inputs && options.seconds.is_none_or(|limit| start.elapsed() < limit) {
        // In memory, if there is such a folder.
        let shm = Path::new("/dev/shm");
        let folder = if shm.is_dir() {
            tempfile::tempdir_in(shm)
        } else {
            tempfile::tempdir()
        };
        let folder = folder.expect("a folder for the inputs");
        let mut child = begin(options, folder.path(), from);
        let out = child.stdout.take().expect("it was piped");
        let reading = || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                take(&line, figures);
            }
        };
        let at = |folder: &Path| -> Option<u64> {
            let bytes = fs::read(folder.join("progress")).ok()?;
            Some(u64::from_le_bytes(*bytes.first_chunk()?))
        };
        let ended = std::thread::scope(|scope| {
            scope.spawn(reading);
            wait(&mut child, options, start, || at(folder.path()))
        });
        let last = at(folder.path());
        let next = last.map_or(from, |last| last - 1 + step);
        done.fetch_add((next - from) / step, Relaxed);
        if let Ended::Badly(how) = ended {
            let said = fs::read_to_string(folder.path().join("said")).unwrap_or_default();
            let begin = said.char_indices().rev().nth(300).map_or(0, |(at, _)| at);
            let said = said[begin..].trim();
            let index = last.map_or(from, |last| last - 1);
            eprintln!("input {index}: {how}");
            lock(figures)
                .findings
                .push((index, format!("{how} {said}")));
        }
        if next == from {
            return;
        }
        from = next;
    }
}

/// Starts a process for the inputs from this number on.
fn begin(options: &Options, folder: &Path, from: u64) -> Child {
    let numbers = [options.inputs, options.seed, from, options.jobs as u64];
    let [inputs, seed, from, step] = numbers.map(|number| number.to_string());
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--inputs", &inputs, "--seed", &seed]);
    if let Some(reader) = &options.reader {
        command.args(["--reader", reader]);
    }
    command.arg("--worker").arg(folder).args([from, step]);
    let said = File::create(folder.join("said")).expect("a file for what it says");
    let command = command
        .env("RAYON_NUM_THREADS", "1")
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("RUST_BACKTRACE")
        .env("MIMALLOC_PURGE_DELAY", "-1")
        .stdout(Stdio::piped())
        .stderr(said);
    command.spawn().expect("the program starts")
}

enum Ended {
    Well,
    OutOfTime,
    Badly(String),
}

fn wait(
    child: &mut Child,
    options: &Options,
    start: Instant,
    at: impl Fn() -> Option<u64>,
) -> Ended {
    let mut since = (at(), Instant::now());
    loop {
        if let Some(status) = child.try_wait().expect("it is waited for") {
            return if status.success() {
                Ended::Well
            } else {
                Ended::Badly(format!("abort: {status}"))
            };
        }
        let now = at();
        if now != since.0 {
            since = (now, Instant::now());
        }
        let hangs = since.1.elapsed() > HANGS;
        let late = options.seconds.is_some_and(|limit| start.elapsed() > limit);
        if hangs || late {
            let _ = child.kill();
            let _ = child.wait();
            return if hangs {
                Ended::Badly("hang".into())
            } else {
                Ended::OutOfTime
            };
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads a worker's message.
fn take(line: &str, figures: &Mutex<Figures>) {
    let Ok(line) = serde_json::from_str::<Value>(line) else {
        return;
    };
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_string();
    let number = |key: &str| line[key].as_u64().unwrap_or_default();
    let mut figures = lock(figures);
    if line["kind"].is_string() {
        let found = format!("{} of {}: {}", text("kind"), text("reader"), text("what"));
        eprintln!("input {}: {found}", number("index"));
        figures.findings.push((number("index"), found));
    } else if line["kept"].is_u64() {
        figures.kept = figures.kept.max(number("kept"));
    } else {
        let count = figures.counts.entry(text("reader")).or_default();
        count[0] += number("read");
        count[1] += number("refused");
    }
}

fn table(options: &Options, figures: &Figures, time: Duration) -> String {
    let all: u64 = figures.counts.values().flatten().sum();
    let mut text = format!(
        "seed {}, {all} inputs in {} s, {} findings\n\n",
        options.seed,
        time.as_secs(),
        figures.findings.len()
    );
    text += "| reader | inputs | read all the same | refused with an error |\n| --- | --- | --- | --- |\n";
    for (reader, [read, refused]) in &figures.counts {
        text += &format!("| {reader} | {} | {read} | {refused} |\n", read + refused);
    }
    text += &format!(
        "\nheld on to after {BATCH} inputs: {} kB at the most\n",
        figures.kept / 1000
    );
    for (index, finding) in &figures.findings {
        text += &format!("- input {index}: {finding}\n");
    }
    text
}
