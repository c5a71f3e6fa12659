//! The program `xent`: evaluates prediction files with cross-entropy losses, on any GPU or on the CPU.

mod args;
mod bench;
mod devices;
mod drawing;
mod evaluate;
mod explain;
mod failure;
mod figures;
mod files;
mod inputs;
mod loss;
mod report;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Cli, Command};
use failure::Failure;

fn main() -> ExitCode {
    quiet_vulkan_loader();
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Evaluate(args) => evaluate::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Devices(args) => devices::run(args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Data(message)) => {
            report::say(&format!("xent: {message}"));
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            let name = match cli.command {
                Command::Evaluate(_) => "evaluate",
                Command::Explain(_) => "explain",
                Command::Bench(_) => "bench",
                Command::Devices(_) => "devices",
            };
            let mut command = Cli::command();
            command.build();
            let command = command.find_subcommand_mut(name).cloned().unwrap_or_default();
            command.bin_name(format!("xent {name}")).error(clap::error::ErrorKind::ValueValidation, message).exit()
        }
    }
}

/// Mesa's layers complain on standard error where this variable is not set, as in containers; standard error is ours.
fn quiet_vulkan_loader() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        #[expect(unsafe_code, reason = "no safe function sets an environment variable")]
        // SAFETY: this is the first thing that the program does: no other thread runs that could read the environment.
        unsafe {
            std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir());
        }
    }
}
