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

/// The rows of a terminal of so many columns, what was drawn over among them.
fn rows(screen: &str, columns: usize) -> Vec<String> {
    let screen = console::strip_ansi_codes(screen);
    let mut rows = vec![String::new()];
    let mut width = 0;
    for c in screen.chars() {
        if matches!(c, '\n' | '\r') || width == columns {
            rows.push(String::new());
            width = 0;
        }
        if !c.is_control() {
            rows.last_mut().unwrap().push(c);
            width += 1;
        }
    }
    rows.retain_mut(|row| {
        row.truncate(row.trim_end().len());
        !row.is_empty()
    });
    rows
}

#[test]
fn a_run_fits_its_terminal() {
    let lab = Lab::new();
    for columns in [60, 80, 120] {
        let args = "train train.toml --set training.eval_strategy=steps \
                    --set training.eval_steps=2 --set training.output_dir=out";
        let Some(screen) = on_terminal(&lab, columns, &format!("{args}{columns}")) else {
            return;
        };
        let rows = rows(&screen, columns);
        // Until the run ends; what is written then are paths and commands.
        let begun = rows.iter().position(|row| row == "before training:");
        let ended = rows
            .iter()
            .position(|row| row.starts_with("after training"));
        let rows = &rows[begun.unwrap() + 1..ended.unwrap()];
        // A row that begins in the middle of something is the rest of one that wrapped.
        for row in rows {
            let whole = ["  ", "step ", "█", "░", "evaluating "];
            let is_whole = whole.iter().any(|beginning| row.starts_with(beginning));
            assert!(is_whole, "{columns}: {row}");
        }
        for beginning in [
            "  evaluation: ",
            "step 2/3  eval_loss ",
            "  sample: the cat",
        ] {
            let found = rows.iter().any(|row| row.starts_with(beginning));
            assert!(found, "{beginning:?} is not in {rows:#?}");
        }
        for step in 1..=3 {
            let logged = format!("step {step}/3  ");
            let logged = |row: &&String| row.starts_with(&logged) && row.contains("  loss ");
            assert_eq!(rows.iter().filter(logged).count(), 1, "{rows:#?}");
        }
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
    assert_eq!(rows(&screen, 80), rows(&format!("the cat{piped}"), 80));
}
