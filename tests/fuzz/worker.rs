//! The process that reads: one input after the other. It prints a line for every one that fails.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use crate::Options;
use crate::allocator::{held, measured, trace};
use crate::corpus::Case;
use crate::readers::{Given, Reader, readers, write};
use crate::spoil::spoil;
use crate::values::Values;

/// The inputs of one process. There is a limit because libraries keep some of what they have read.
pub const BATCH: u64 = 5000;
/// An input that takes longer, in seconds, is reported. The machine may just be busy.
const SLOW: f64 = 2.0;

static PANIC: Mutex<String> = Mutex::new(String::new());

/// Everything that an input depends on.
struct Search {
    given: Given,
    readers: Vec<Reader>,
    /// For each undamaged file of each reader: the memory that it uses, and its size.
    needs: Vec<Vec<(usize, usize)>>,
    values: Values,
    folder: PathBuf,
    seed: u64,
}

impl Search {
    fn new(options: &Options, scratch: &Path) -> Self {
        // Readers write into this folder, and paths in files do not depend on its place.
        std::env::set_current_dir(scratch).expect("the folder is there");
        let given = Given::new(scratch);
        let mut readers = readers(scratch);
        let values = Values::of(readers.iter().flat_map(|reader| &reader.cases));
        if let Some(name) = &options.reader {
            readers.retain(|reader| reader.name == name.as_str());
        }
        assert!(!readers.is_empty(), "there is no such reader");
        let mut search = Self {
            given,
            readers,
            needs: Vec::new(),
            values,
            folder: scratch.join("input"),
            seed: options.seed,
        };
        // Only from here on: a panic up to here is not a finding, and is printed as usual.
        std::panic::set_hook(Box::new(|panic| {
            *PANIC
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()) = panic.to_string();
            eprintln!("{panic}");
            if std::env::var_os("RUST_BACKTRACE").is_some() {
                eprintln!("{}", std::backtrace::Backtrace::force_capture());
            }
        }));
        for number in 0..search.readers.len() {
            let need = |case: &Case| (search.read(number, case).1, size(case));
            let needs = search.readers[number].cases.iter().map(need).collect();
            search.needs.push(needs);
        }
        search
    }

    /// The input of this index, and the number of its reader.
    fn input(&self, index: u64) -> (usize, Case) {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(index);
        let numbers: Vec<usize> = (0..self.readers.len()).collect();
        let weighted = numbers.choose_weighted(&mut rng, |number| self.readers[*number].share);
        let number = weighted.copied().unwrap_or_default();
        let cases = &self.readers[number].cases;
        let mut case = cases.choose(&mut rng).cloned().unwrap_or_default();
        if !rng.random_ratio(1, 500) {
            spoil(&mut case, cases, &self.values, &mut rng);
        }
        (number, case)
    }

    /// The memory that a case of this size may use: that of the most demanding undamaged file of
    /// its reader, in proportion to the size.
    fn justified(&self, number: usize, case: &Case) -> usize {
        let scaled = |&(need, bytes): &(usize, usize)| {
            (need as f64 * (size(case) as f64 / bytes.max(1) as f64).max(1.0)) as usize
        };
        let most = self.needs[number].iter().map(scaled).max();
        most.unwrap_or_default().max(self.readers[number].granted)
    }

    /// Reads a case, and returns the peak of its memory, too.
    fn read(&self, number: usize, case: &Case) -> (Outcome, usize) {
        write(&self.folder, case);
        let answer = self.read_folder(number);
        let _ = fs::remove_dir_all(&self.folder);
        answer
    }

    fn read_folder(&self, number: usize) -> (Outcome, usize) {
        let read = || (self.readers[number].read)(&self.given, &self.folder);
        let (answer, peak) = measured(|| catch_unwind(AssertUnwindSafe(read)));
        let outcome = match answer {
            Ok(Ok(())) => Outcome::Read,
            Ok(Err(problem)) => Outcome::Refused(problem),
            Err(_) => Outcome::Panic(
                PANIC
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .clone(),
            ),
        };
        (outcome, peak)
    }
}

#[derive(Debug)]
enum Outcome {
    Read,
    Refused(String),
    Panic(String),
}

fn size(case: &Case) -> usize {
    case.iter().map(|(_, bytes)| bytes.len()).sum()
}

/// Reads every `step`th input of a batch. `scratch/progress` has the number of the one that is
/// being read.
pub fn run(options: &Options, scratch: &Path, from: u64, step: u64) -> ExitCode {
    let search = Search::new(options, scratch);
    let progress = File::create(scratch.join("progress")).expect("a file for the progress");
    let mut counts = vec![[0u64; 2]; search.readers.len()];
    let mut out = std::io::stdout().lock();
    let mut tell = |line: serde_json::Value| {
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
    };
    let told = |counts: &mut Vec<[u64; 2]>, tell: &mut dyn FnMut(serde_json::Value)| {
        for (reader, count) in search.readers.iter().zip(counts) {
            let [read, refused] = std::mem::take(count);
            tell(json!({"reader": reader.name, "read": read, "refused": refused}));
        }
    };
    let before = held();
    for index in (0..BATCH)
        .map(|n| from + n * step)
        .take_while(|index| *index < options.inputs)
    {
        // Without this number, an abort could not be reported either.
        progress
            .write_at(&(index + 1).to_le_bytes(), 0)
            .expect("the progress is written");
        let (number, case) = search.input(index);
        let start = Instant::now();
        let (outcome, peak) = search.read(number, &case);
        let seconds = start.elapsed().as_secs_f64();
        let name = search.readers[number].name;
        let mut finding = |kind: &str, what: String| {
            tell(json!({"index": index, "reader": name, "kind": kind, "what": what}))
        };
        match outcome {
            Outcome::Panic(what) => finding("panic", what),
            Outcome::Read => counts[number][0] += 1,
            Outcome::Refused(problem) => {
                counts[number][1] += 1;
                if problem.trim().is_empty() {
                    finding("silent", "an error without a word".into());
                }
            }
        }
        let justified = search.justified(number, &case);
        if peak > 2 * justified {
            finding(
                "memory",
                format!(
                    "{peak} bytes held for {} of files, which justify {justified}",
                    size(&case)
                ),
            );
        }
        if seconds > SLOW {
            finding("slow", format!("{seconds:.1} s"));
        }
        // Not only at the end, since this process is ended when the time is over.
        if (index / step).is_multiple_of(50) {
            told(&mut counts, &mut tell);
        }
    }
    told(&mut counts, &mut tell);
    tell(json!({"kept": held().saturating_sub(before)}));
    ExitCode::SUCCESS
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the input")
}

/// Reads one input, and prints the result and the place where memory beyond the bound is allocated.
pub fn one(options: &Options, index: u64, keep: Option<PathBuf>) -> ExitCode {
    let keep = keep.map(|keep| std::path::absolute(keep).expect("a path"));
    let scratch = scratch();
    let search = Search::new(options, scratch.path());
    let (number, case) = search.input(index);
    if let Some(keep) = keep {
        write(&keep, &case);
    }
    let justified = search.justified(number, &case);
    for (name, bytes) in &case {
        let text: String = String::from_utf8_lossy(bytes).chars().take(3000).collect();
        println!("== {name}, {} bytes\n{text}", bytes.len());
    }
    println!(
        "== read by {}, {justified} bytes are justified",
        search.readers[number].name
    );
    trace(2 * justified);
    let (outcome, peak) = search.read(number, &case);
    println!("{outcome:?}\n{peak} bytes held at the most");
    let fine = !matches!(outcome, Outcome::Panic(_)) && peak <= 2 * justified;
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Reads a copy of a folder.
pub fn read(name: &str, folder: &Path) -> ExitCode {
    let options = Options {
        inputs: 0,
        seconds: None,
        seed: 1,
        jobs: 1,
        reader: Some(name.into()),
        output: None,
    };
    let folder = std::path::absolute(folder).expect("a path");
    let scratch = scratch();
    let search = Search::new(&options, scratch.path());
    let files = fs::read_dir(folder)
        .expect("the folder")
        .filter_map(|entry| entry.ok());
    let case = files.filter_map(|file| {
        Some((
            file.file_name().to_string_lossy().into_owned(),
            fs::read(file.path()).ok()?,
        ))
    });
    let (outcome, peak) = search.read(0, &case.collect());
    println!("{outcome:?}\n{peak} bytes held at the most");
    ExitCode::SUCCESS
}
