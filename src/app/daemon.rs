//! `-d`: going to the background by starting anew, as all code here is safe and `fork` is not.
//!
//! The program starts itself again with the same arguments and one end of a pipe as standard
//! input. The child does the whole start with the terminal still attached, so that what goes wrong
//! is seen, and leaves the terminal when it is ready; the byte it then sends lets the parent exit
//! with status 0. Without that byte the parent takes on the child's exit status.

use std::env;
use std::fs::File;
use std::io::{self, Read, Write, pipe};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use crate::config::status;
use crate::settings::Settings;

/// Tells the child that it is one.
const CHILD_MARK: &str = "_TWINCACHED_IN_BACKGROUND";
const READY: u8 = b'+';

/// Whether this process was started by [`start_child`].
pub(super) fn is_child() -> bool {
    env::var_os(CHILD_MARK).is_some()
}

/// Starts the child and waits until it is ready or has failed.
pub(super) fn start_child() -> io::Result<ExitCode> {
    let (mut news, news_end) = pipe()?;
    let mut args = env::args_os();
    let mut command = Command::new(env::current_exe()?);
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    let mut child = command.args(args).env(CHILD_MARK, "1").stdin(news_end).spawn()?;
    drop(command);
    let mut heard = Vec::new();
    news.read_to_end(&mut heard)?;
    if heard == [READY] {
        return Ok(ExitCode::SUCCESS);
    }
    let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(status::OS_ERROR)))
}

/// The child is ready: leaves the terminal and the folder it was started in, and lets the parent
/// go. With `-v` it goes on logging to where the parent did.
pub(super) fn leave_terminal(settings: &Settings) -> io::Result<()> {
    let mut news = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Fails only for the leader of a group, which has no terminal to be rid of.
    let _ = setsid();
    if !settings.enable_coredumps {
        chdir("/")?;
    }
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    if settings.verbosity == 0 {
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
    }
    // A parent that is gone needs no news.
    let _ = news.write_all(&[READY]);
    Ok(())
}
