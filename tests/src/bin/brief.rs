//! A traced process that lives briefly: `brief BYTES [stop]` writes so many bytes to /dev/null in one call, stops if
//! asked to, and exits.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, ensure};
use zc_tests::script::{Script, arg, raw};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let bytes: usize = arguments.next().context("usage: brief BYTES [stop]")?.parse()?;
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    let buffer = vec![0_u8; bytes];
    let written = raw(libc::SYS_write, &[arg(null.as_raw_fd()), buffer.as_ptr() as usize, bytes])?;
    ensure!(written == bytes, "{written} bytes instead of {bytes}");
    if arguments.next().is_some() {
        let mut script = Script::default();
        script.expect("write:user:device null_sink", 1, bytes);
        script.end()?;
    }
    Ok(())
}
