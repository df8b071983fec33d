//! Tells `peft doctor` what it was built with.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let compiler = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(compiler).arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    println!(
        "cargo:rustc-env=PEFT_RUSTC={}",
        version.unwrap_or_default().trim()
    );
    for (name, from) in [("PEFT_TARGET", "TARGET"), ("PEFT_OPT_LEVEL", "OPT_LEVEL")] {
        println!(
            "cargo:rustc-env={name}={}",
            env::var(from).unwrap_or_default()
        );
    }
}
