//! The `twincached` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    twincached::app::run(std::env::args_os(), std::env::vars_os())
}
