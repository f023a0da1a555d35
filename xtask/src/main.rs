//! Everything the project runs on itself: `cargo xtask …`.

fn main() -> std::process::ExitCode {
    xtask::main()
}
