//! Copies within files and memories: copy_file_range, process_vm_readv and _writev.

use std::io::{IoSlice, IoSliceMut};
use std::path::Path;

use nix::fcntl;
use nix::sys::uio::{RemoteIoVec, process_vm_readv, process_vm_writev};
use nix::unistd::getpid;

use super::Workload;
use super::drive::{Moved, Stage};
use super::fixture::Fixture::{self, Disk, File, Mapping, User};
use super::reflink::shares_blocks;

fn copy_file_range(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    Ok(fcntl::copy_file_range(stage.source.fd()?, None, stage.sink.fd()?, None, len)?.into())
}

fn copy_file_range_offset(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let (mut from, mut to) = (stage.source.offset(), stage.sink.offset());
    Ok(fcntl::copy_file_range(stage.source.fd()?, Some(&mut from), stage.sink.fd()?, Some(&mut to), len)?.into())
}

/// The other process is this one.
fn read_process(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let remote = remote(stage.source.bytes(len)?);
    let local = IoSliceMut::new(stage.sink.bytes(len)?);
    Ok(process_vm_readv(getpid(), &mut [local], &[remote])?.into())
}

fn write_process(stage: &mut Stage, len: usize) -> nix::Result<Moved> {
    let remote = remote(stage.sink.bytes(len)?);
    let local = IoSlice::new(stage.source.bytes(len)?);
    Ok(process_vm_writev(getpid(), &[local], &[remote])?.into())
}

fn remote(buffer: &mut [u8]) -> RemoteIoVec {
    RemoteIoVec { base: buffer.as_mut_ptr() as usize, len: buffer.len() }
}

const fn copied(id: &'static str, source: Fixture, sink: Fixture, about: &'static str) -> Workload {
    Workload::new(id, source, sink, copy_file_range, about).needs(not_shared)
}

/// One for each row.
pub(super) const MAIN: &[Workload] = &[
    copied("copy_file_range:file:file", File, File, "copy a range from file to file"),
    copied("copy_file_range:file:disk", File, Disk, "copy a range to a file opened with O_DIRECT"),
    copied("copy_file_range:disk:file", Disk, File, "copy a range from a file opened with O_DIRECT"),
    copied("copy_file_range:disk:disk", Disk, Disk, "copy a range, both files opened with O_DIRECT"),
    Workload::new("process_vm_read:user:user", User, User, read_process, "process_vm_readv of its own memory"),
    Workload::new("process_vm_read:user:mapping", User, Mapping, read_process, "process_vm_readv into a mapping"),
    Workload::new("process_vm_write:user:user", User, User, write_process, "process_vm_writev to its own memory"),
    Workload::new("process_vm_write:mapping:user", Mapping, User, write_process, "process_vm_writev from a mapping"),
];

/// With offsets and other flags.
pub(super) const VARIANTS: &[Workload] =
    &[Workload::new("copy_file_range:file:file", File, File, copy_file_range_offset, "with offsets")
        .needs(not_shared)
        .variant("offset")];

/// Where files can share blocks, copy_file_range shares them instead of copying.
fn not_shared(directory: &Path) -> Option<String> {
    shares_blocks(directory)
        .then(|| format!("copy_file_range shares blocks on {}: give a directory on ext4, say", directory.display()))
}
