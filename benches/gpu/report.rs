//! Runs the measurements one after the other, and writes the table.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use burn::tensor::FloatDType;
use burn_peft_device::{DeviceName, list};

use crate::measured::{Measured, SHAPES, SMOKE, Shape, conformance, measure};

const HELP: &str = "\
gpu_report [--device NAME] [--output FILE] [--smoke] [--minutes N]

Measures training with the shapes of three models on a GPU, and writes a table. --device: a name that
`peft devices` lists (default auto, the first GPU). --smoke: tiny models, to see that it runs.
--minutes: when to stop (default 7).";

const DTYPES: [(&str, FloatDType); 3] = [
    ("f32", FloatDType::F32),
    ("f16", FloatDType::F16),
    ("bf16", FloatDType::BF16),
];

/// By how much loss and gradients may differ from the CPU's, for each of [`DTYPES`]. With weights in 16
/// bits a GPU rounds the inputs of products to them too, and the CPU does not.
const BOUNDS: [[f64; 2]; 3] = [[1e-4, 1e-3], [1e-4, 5e-3], [8e-4, 4e-2]];

struct Given {
    device: String,
    output: PathBuf,
    smoke: bool,
    minutes: f64,
    /// The model and the type of this process's one measurement.
    one: Option<(usize, usize)>,
    /// The model whose numbers this process compares with the CPU's, and the type.
    compare: Option<(usize, usize)>,
}

fn given() -> Result<Given> {
    let mut given = Given {
        device: "auto".into(),
        output: "gpu-report.md".into(),
        smoke: false,
        minutes: 7.0,
        one: None,
        compare: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--device" => given.device = value()?,
            "--output" => given.output = value()?.into(),
            "--minutes" => given.minutes = value()?.parse()?,
            "--one" => given.one = Some((value()?.parse()?, value()?.parse()?)),
            "--compare" => given.compare = Some((value()?.parse()?, value()?.parse()?)),
            "--smoke" => given.smoke = true,
            "--help" | "-h" => {
                println!("{HELP}");
                std::process::exit(0);
            }
            other => bail!("{other} is not an option: --help lists them"),
        }
    }
    Ok(given)
}

pub fn main() -> Result<()> {
    let given = given()?;
    let shapes: &[Shape] = if given.smoke { &SMOKE } else { &SHAPES };
    let steps = if given.smoke { 2 } else { 12 };
    if let Some((shape, dtype)) = given.one {
        let device = burn_peft_device::open(given.device.parse::<DeviceName>()?)?;
        let shape = shapes.get(shape).context("no such model")?;
        let (_, dtype) = DTYPES.get(dtype).context("no such type")?;
        let measured = measure(shape, *dtype, steps, &device)?;
        println!("{}", serde_json::to_string(&measured)?);
        return Ok(());
    }
    if let Some((shape, dtype)) = given.compare {
        let device = burn_peft_device::open(given.device.parse::<DeviceName>()?)?;
        let shape = SMOKE.get(shape).context("no such model")?;
        let (_, dtype) = DTYPES.get(dtype).context("no such type")?;
        let apart = conformance(shape, *dtype, &device)?;
        println!("{}", serde_json::to_string(&apart)?);
        return Ok(());
    }
    all(&given, shapes)
}

fn all(given: &Given, shapes: &[Shape]) -> Result<()> {
    let ends = Instant::now() + Duration::from_secs_f64(60.0 * given.minutes);
    let text = head(given)?;
    print!("{text}");
    // Written row by row, so that the results so far are kept if the machine fails.
    let mut file = File::create(&given.output)?;
    file.write_all(text.as_bytes())?;
    let mut add = |line: String| {
        println!("{line}");
        writeln!(file, "{line}")
    };
    add(
        "\n| compared with the CPU | frozen weights | loss differs by | gradients by |\n\
         | --- | --- | ---: | ---: |"
            .into(),
    )?;
    for (dtype, ((dtype_name, _), bounds)) in DTYPES.iter().zip(BOUNDS).enumerate() {
        for (index, shape) in SMOKE.iter().enumerate() {
            let what = format!("| {} | {dtype_name}", shape.name);
            let arguments = ["--compare".into(), index.to_string(), dtype.to_string()];
            match child::<[f64; 2]>(given, &arguments, ends) {
                Ok([loss, gradients]) => {
                    let is_right = loss < bounds[0] && gradients < bounds[1];
                    let verdict = if is_right { "" } else { " **wrong**" };
                    add(format!("{what} | {loss:.1e} | {gradients:.1e}{verdict} |"))?;
                }
                Err(error) => add(format!("{what} | {error} | |"))?,
            }
        }
    }
    add("\n| model | frozen weights | batch | tokens/s | a step | launches | memory | compiled after the \
         warm-up | warm-up |\n| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"
        .into())?;
    for (dtype, (dtype_name, _)) in DTYPES.iter().enumerate() {
        for (index, shape) in shapes.iter().enumerate() {
            let [rows, seq] = shape.batch;
            let what = format!("| {} | {dtype_name} | {rows} × {seq}", shape.name);
            let arguments = ["--one".into(), index.to_string(), dtype.to_string()];
            match child::<Measured>(given, &arguments, ends) {
                Ok(found) => add(format!(
                    "{what} | {:.0} | {:.1} ms | {} | {:.2} GB | {} | {:.0} s |",
                    found.tokens_per_second,
                    1e3 * found.step_seconds,
                    found.launches,
                    found.bytes_reserved as f64 / 1e9,
                    found.compiled_after_warm_up,
                    found.warm_up_seconds,
                ))?,
                Err(error) => add(format!("{what} | {error} | | | | | |"))?,
            }
        }
    }
    println!("\nwritten to {}", given.output.display());
    Ok(())
}

/// The machine and the device.
fn head(given: &Given) -> Result<String> {
    let mut text = format!(
        "# burn-peft {} on a GPU\n\n- {} {}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    let name: DeviceName = given.device.parse()?;
    let device = burn_peft_device::open(name)?;
    let product = burn_peft_device::product(&device);
    let _ = writeln!(text, "- device `{}`: {product}", given.device);
    for found in list() {
        let gigabytes = |bytes: Option<u64>| match bytes {
            Some(bytes) => format!("{:.1} GB", bytes as f64 / 1e9),
            None => "unknown".into(),
        };
        let _ = writeln!(
            text,
            "- `{}`: {}, memory {}, largest tensor {}, {}",
            found.name,
            found.product,
            gigabytes(found.memory),
            gigabytes(found.max_tensor_bytes),
            found.dtypes.join(" ")
        );
    }
    Ok(text)
}

/// Runs this program in another process, which is killed when time is up, and returns its result.
fn child<T: serde::de::DeserializeOwned>(
    given: &Given,
    arguments: &[String],
    ends: Instant,
) -> Result<T> {
    if Instant::now() >= ends {
        bail!("no time was left");
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--device").arg(&given.device).args(arguments);
    // The reason is to be the last thing that it prints.
    command.env("RUST_BACKTRACE", "0");
    if given.smoke {
        command.arg("--smoke");
    }
    let output = tempfile::NamedTempFile::new()?;
    let errors = tempfile::NamedTempFile::new()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output.reopen()?)
        .stderr(errors.reopen()?)
        .spawn()?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= ends {
            child.kill()?;
            child.wait()?;
            bail!("no time was left");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let (output, errors) = (
        std::fs::read_to_string(output.path())?,
        std::fs::read_to_string(errors.path())?,
    );
    if !status.success() {
        // One line, for a cell of a table.
        let said = told(&errors).replace('|', "/");
        bail!("{}", said.chars().take(200).collect::<String>());
    }
    let last = output.lines().last().unwrap_or_default();
    serde_json::from_str(last).context("it printed no result")
}

/// The line that says why a process failed: the one after `panicked at`, or the last.
fn told(errors: &str) -> &str {
    let mut lines = errors.lines().filter(|line| !line.trim().is_empty());
    let last = lines.clone().next_back();
    let panicked = lines.find(|line| line.contains("panicked at"));
    let own = panicked.and_then(|_| lines.next());
    let said = own.or(last).unwrap_or("it ended without a message");
    said.strip_prefix("Error: ").unwrap_or(said)
}
