//! Damages files at random and reads them: no reader may panic, end the process, hang, or use more
//! than twice the memory that the file justifies. `docs/fuzzing.md` says how to run it.

mod allocator;
mod corpus;
mod parent;
mod readers;
mod spoil;
mod values;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The options of the command line.
pub struct Options {
    inputs: u64,
    seconds: Option<Duration>,
    seed: u64,
    jobs: usize,
    reader: Option<String>,
    output: Option<PathBuf>,
}

const HELP: &str = "\
cargo test --release -p burn-peft-cli --test fuzz -- OPTIONS

  --inputs N       inputs to try (2000; with --seconds as many as there is time for)
  --seconds N      stop after so many seconds
  --seed N         decides every input (1)
  --jobs N         processes (as many as there are processors)
  --reader NAME    this kind of file alone
  --output FILE    the figures as Markdown
  --one N          input N again, in this process, which says where it fails
  --keep DIR       with --one: leave the input's files there
  --read NAME DIR  read a folder as a reader does
";

fn main() -> ExitCode {
    let mut options = Options {
        inputs: 2000,
        seconds: None,
        seed: 1,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        reader: None,
        output: None,
    };
    let (mut one, mut keep, mut read, mut child) = (None, None, None, None);
    let (mut given, mut args) = (false, std::env::args().skip(1));
    while let Some(arg) = args.next() {
        let mut value = || {
            args.next()
                .unwrap_or_else(|| usage(&format!("{arg} needs a value")))
        };
        match arg.as_str() {
            "--inputs" => (options.inputs, given) = (number(&value()), true),
            "--seconds" => options.seconds = Some(Duration::from_secs(number(&value()))),
            "--seed" => options.seed = number(&value()),
            "--jobs" => options.jobs = number(&value()).max(1) as usize,
            "--reader" => options.reader = Some(value()),
            "--output" => options.output = Some(value().into()),
            "--one" => one = Some(number(&value())),
            "--keep" => keep = Some(PathBuf::from(value())),
            "--read" => read = Some((value(), PathBuf::from(value()))),
            "--worker" => {
                child = Some((PathBuf::from(value()), number(&value()), number(&value())))
            }
            "--help" => usage(""),
            // `cargo test` passes on its options and the names of tests. If they are not about this
            // test, it does nothing.
            "--list" => return ExitCode::SUCCESS,
            name if !name.starts_with('-') && !"fuzz".contains(name) => return ExitCode::SUCCESS,
            _ => {}
        }
    }
    if options.seconds.is_some() && !given {
        options.inputs = u64::MAX;
    }
    if let Some((scratch, from, step)) = child {
        return worker::run(&options, &scratch, from, step);
    }
    if let Some((name, folder)) = read {
        return worker::read(&name, &folder);
    }
    match one {
        Some(index) => worker::one(&options, index, keep),
        None => parent::run(&options),
    }
}

fn number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|_| usage(&format!("{text} is not a number")))
}

fn usage(problem: &str) -> ! {
    eprintln!("{problem}\n{HELP}");
    std::process::exit(2)
}
