//! Progress bars: shown on a terminal, and only for what takes a while.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is over sooner shows no bar.
const PATIENCE: Duration = Duration::from_millis(500);

/// A bar over steps.
pub(super) fn steps(total: u64) -> ProgressBar {
    styled(total, "{bar:40} {pos}/{len} {msg}")
}

/// A bar over bytes.
pub(super) fn bytes(total: u64) -> ProgressBar {
    styled(total, "{bar:40} {bytes}/{total_bytes} {bytes_per_sec}")
}

fn styled(total: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
    bar.enable_steady_tick(PATIENCE);
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
