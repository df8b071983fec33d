//! The `peft` command.

fn main() -> std::process::ExitCode {
    burn_peft_cli::main()
}
