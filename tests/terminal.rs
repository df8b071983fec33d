//! The output on a terminal.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::{Lab, PEFT};

/// Whether there is the `script` of util-linux, which can make terminals.
fn has_script() -> bool {
    let has_it = Command::new("script").arg("--version").output();
    let is_util_linux = has_it.is_ok_and(|output| {
        let version = String::from_utf8_lossy(&output.stdout).into_owned();
        version.contains("util-linux")
    });
    if !is_util_linux {
        eprintln!("skipped: there is no script of util-linux");
    }
    is_util_linux
}

/// What `peft` writes to a terminal with this many columns; `None` if no terminal can be made.
fn on_terminal(lab: &Lab, columns: usize, args: &str) -> Option<String> {
    if !has_script() {
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

/// The rows of a terminal with this many columns, including those that were overwritten.
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
        // Only until the run ends: paths and commands follow, which may be longer.
        let begun = rows.iter().position(|row| row == "before training:");
        let ended = rows
            .iter()
            .position(|row| row.starts_with("after training"));
        let rows = &rows[begun.unwrap() + 1..ended.unwrap()];
        // A row with another beginning is the rest of one that was wrapped.
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

/// What `peft` writes to a terminal on which someone types. Each step is a text to wait for, after
/// that of the step before, and the text that is typed then.
fn typed(lab: &Lab, args: &str, steps: &[(&str, &str)]) -> String {
    let mut command = lab.command("script");
    let pipes = command
        .args(["-qec", &format!("exec {PEFT} {args}"), "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let (mut keys, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (sender, written) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = out.read(&mut bytes) {
            sender.send(bytes[..count].to_vec()).ok();
        }
    });
    let (mut screen, mut seen) = (Vec::new(), 0);
    let begun = Instant::now();
    for (awaited, keystrokes) in steps {
        let find = |text: &[u8]| {
            let mut places = text.windows(awaited.len().max(1));
            places.position(|place| place.starts_with(awaited.as_bytes()))
        };
        let at = loop {
            if let Some(at) = find(&screen[seen..]) {
                break at;
            }
            let text = String::from_utf8_lossy(&screen[seen..]);
            let is_late = begun.elapsed() > Duration::from_secs(120);
            assert!(!is_late, "{awaited:?} is not in {text}");
            let more = written.recv_timeout(Duration::from_secs(1));
            screen.extend(more.unwrap_or_default());
        };
        seen += at + awaited.len();
        keys.write_all(keystrokes.as_bytes()).unwrap();
    }
    let status = child.wait().unwrap();
    screen.extend(written.iter().flatten());
    let screen = String::from_utf8_lossy(&screen).into_owned();
    assert!(status.success(), "{screen}");
    screen
}

/// The model's answer is long enough to be stopped.
#[test]
fn a_conversation_at_a_terminal() {
    if !has_script() {
        return;
    }
    let lab = Lab::new();
    let mut config = lab.config();
    config["n_positions"] = 50_000.into();
    lab.write("config.json", config.to_string());
    lab.ok(&["init", "config.json", "--output", "chat", "--seed", "1"]);
    lab.write("chat/tokenizer.json", lab.read("model/tokenizer.json"));
    let template = "{% for m in messages %}{{ m.role[0] }} {{ m.content }} {% endfor %}a ";
    let config = json!({ "chat_template": template, "eos_token": "<|endoftext|>" });
    lab.write("chat/tokenizer_config.json", config.to_string());

    let args = "chat chat --ignore-eos --max-new-tokens";
    let steps = [
        ("> ", "the cat\r"),
        ("(cut off after 4 tokens", ""),
        ("> ", "/exit\r"),
    ];
    let screen = typed(&lab, &format!("{args} 4"), &steps);
    assert!(screen.contains("/help lists the commands"), "{screen}");

    // A word of the answer, after the typed line, shows that the answer has begun.
    let answer = lab.ok(&[
        "generate", "--model", "chat", "--chat", "--prompt", "the cat",
    ]);
    let words = answer.split(|c: char| !c.is_ascii_alphanumeric());
    let word = words.max_by_key(|word| word.len()).unwrap();
    assert!(!word.is_empty(), "{answer}");
    let interrupt = "\u{3}";
    let steps = [
        ("> ", "the cat\r"),
        ("the cat", ""),
        ("\n", ""),
        (word, interrupt),
        ("(stopped)", ""),
        ("> ", "/undo\r"),
        ("taken back: \"the cat\"", ""),
        ("> ", "/exit\r"),
    ];
    typed(&lab, &format!("{args} 49000"), &steps);
}
