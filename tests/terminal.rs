//! What is shown on a terminal.

use std::process::Command;

use crate::common::{Lab, PEFT};

/// What `peft` writes to a terminal of so many columns; nothing where there is no `script` (of
/// util-linux) that makes one.
fn on_terminal(lab: &Lab, columns: usize, args: &str) -> Option<String> {
    let has_it = Command::new("script").arg("--version").output();
    let is_util_linux = has_it.is_ok_and(|output| {
        let version = String::from_utf8_lossy(&output.stdout).into_owned();
        version.contains("util-linux")
    });
    if !is_util_linux {
        eprintln!("skipped: there is no script of util-linux");
        return None;
    }
    let shell = format!("stty cols {columns} rows 40; exec {PEFT} {args}");
    let output = lab
        .command("script")
        .args(["-qec", &shell, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The lines as they are once written: without codes, and without what was drawn over.
fn lines(screen: &str) -> Vec<String> {
    let screen = console::strip_ansi_codes(screen).replace("\r\n", "\n");
    let drawn = screen.split(['\n', '\r']);
    drawn.map(|line| line.trim_end().to_string()).collect()
}

#[test]
fn a_run_fits_its_terminal() {
    let lab = Lab::new();
    for columns in [60, 80, 120] {
        let args = "train train.toml --set training.eval_strategy=steps \
                    --set training.eval_steps=2 --set training.output_dir=out";
        let dir = format!("{args}{columns}");
        let Some(screen) = on_terminal(&lab, columns, &dir) else {
            return;
        };
        let lines = lines(&screen);
        // Until the run ends; what is written then are paths and commands.
        let begun = lines.iter().position(|line| line == "before training:");
        let ended = lines.iter().position(|line| line.starts_with("written:"));
        for line in &lines[begun.unwrap()..ended.unwrap()] {
            let width = line.chars().count();
            assert!(width <= columns, "{width} > {columns}: {line}");
        }
        for beginning in [
            "step 1/3  ",
            "step 2/3  eval_loss ",
            "step 3/3  ",
            "  sample: the cat",
        ] {
            let found = lines.iter().any(|line| line.starts_with(beginning));
            assert!(found, "{beginning:?} is not in {lines:#?}");
        }
        let loss = |line: &&String| line.starts_with("step ") && line.contains("  loss ");
        assert_eq!(lines.iter().filter(loss).count(), 3, "{lines:#?}");
    }
}

#[test]
fn a_continuation_stands_behind_its_prompt_on_a_terminal() {
    let lab = Lab::new();
    let args = "generate --model model --max-new-tokens 4 --prompt 'the cat'";
    let Some(screen) = on_terminal(&lab, 80, args) else {
        return;
    };
    let piped = lab.ok(&[
        "generate",
        "--model",
        "model",
        "--max-new-tokens",
        "4",
        "--prompt",
        "the cat",
    ]);
    assert!(!piped.starts_with("the cat"), "{piped}");
    assert_eq!(
        lines(&screen).join("\n"),
        lines(&format!("the cat{piped}")).join("\n")
    );
}
