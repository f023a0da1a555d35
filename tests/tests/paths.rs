//! Every call of each family counts on its row, with the operations and bytes that it really moved and nothing else.

use zc_tests::stage;

const ACTOR: &str = env!("CARGO_BIN_EXE_actor");
/// On the file system that the project is built on, which must have a block device behind it.
const DISK: &str = env!("CARGO_TARGET_TMPDIR");

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        $(#[test]
        fn $name() -> anyhow::Result<()> {
            stage::check(ACTOR, &[stringify!($name), DISK]).map(|_| ())
        })+
    };
}

scenarios! {
    reads, writes, direct, direct_tmpfs, devices, others, memfd,
    tcp, udp, unix_stream, unix_datagram, unix_seqpacket, pipe,
    sendfile, sendfile_odd, splice, splice_zero, tee, vmsplice, copy_file_range, process_vm,
    kinds, program, mmap_calls, spans, spans_many, mixed_iovecs, many_iovecs, empty_iovecs, remapped,
    wide,
}
