//! Scratch files, filled and already unlinked: nothing is left behind, however the process ends.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, Write as _};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A file name that goes when dropped.
pub(super) struct Name(pub(super) PathBuf);

impl Name {
    /// A name that no other run in the directory uses.
    pub(super) fn new(directory: &Path) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(directory.join(format!(".zcprof-workload-{}-{number}", std::process::id())))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}

/// A file of the directory with `length` bytes.
pub(super) fn scratch(directory: &Path, length: u64) -> anyhow::Result<File> {
    let name = Name::new(directory);
    let file = create(&name.0)?;
    fill(&file, length).with_context(|| format!("writing {length} bytes to {}", name.0.display()))?;
    Ok(file)
}

/// Takes a file's pages out of the page cache, every one: what is being added to the cache's lists just now, or written,
/// stays at first.
pub(super) fn evict(file: &File) -> anyhow::Result<()> {
    const TRIES: u32 = 200;
    file.sync_all().context("syncing a file")?;
    for _ in 0..TRIES {
        posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
        if !is_cached(file)? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    anyhow::bail!("a part of the file stays in the page cache, whatever is asked for")
}

/// Whether any page of a file is in the page cache.
fn is_cached(file: &File) -> anyhow::Result<bool> {
    const PAGE: usize = 4096;
    let len = usize::try_from(file.metadata()?.len())?;
    let Some(length) = NonZeroUsize::new(len) else { return Ok(false) };
    let mut pages = vec![0_u8; len.div_ceil(PAGE)];
    // SAFETY: the kernel chooses the place, and nothing there is looked at.
    let start = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, file, 0) }?;
    // SAFETY: the mapping is so long, and there is a byte for each of its pages, or more where pages are larger.
    let asked = unsafe { libc::mincore(start.as_ptr(), len, pages.as_mut_ptr()) };
    let error = std::io::Error::last_os_error();
    // SAFETY: mapped above, and nobody has it.
    unsafe { munmap(start, len) }?;
    anyhow::ensure!(asked == 0, "mincore: {error}");
    Ok(pages.iter().any(|page| page & 1 != 0))
}

/// The same, opened with O_DIRECT. Its blocks are really written, for a direct write to blocks that were only promised
/// would fall back to the page cache.
pub(super) fn direct(directory: &Path, length: u64) -> anyhow::Result<File> {
    let name = Name::new(directory);
    let file = create(&name.0)?;
    fill(&file, length).with_context(|| format!("writing {length} bytes to {}", name.0.display()))?;
    evict(&file).with_context(|| name.0.display().to_string())?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(&name.0)
        .with_context(|| format!("opening {} with O_DIRECT", name.0.display()))
}

/// A memfd with `length` bytes.
pub(super) fn memory(length: u64) -> anyhow::Result<File> {
    let file = File::from(memfd_create(c"zcprof-workload", MFdFlags::MFD_CLOEXEC).context("memfd_create")?);
    fill(&file, length).context("filling a memfd")?;
    Ok(file)
}

pub(super) fn create(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    options.open(path).with_context(|| format!("creating {}", path.display()))
}

/// Writes `length` bytes and goes back to the start.
pub(super) fn fill(mut file: &File, length: u64) -> std::io::Result<()> {
    let block = vec![0x5a; 1 << 20];
    let mut left = length;
    while left > 0 {
        let piece = left.min(block.len() as u64);
        file.write_all(&block[..usize::try_from(piece).unwrap_or(block.len())])?;
        left -= piece;
    }
    file.rewind()
}
