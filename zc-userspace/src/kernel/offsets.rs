//! Where the running kernel keeps what the probes read.

use zc_common::config::{Offsets, SEQUENCE_AT_UNLOCK, SEQUENCE_NONE, SEQUENCE_ODD_WHILE_LOCKED, Types};

use super::btf::Btf;

/// A field that the probes can't do without and this kernel lacks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("this kernel's BTF has no field {structure}.{field}; zcprof supports Linux 6.1 and later")]
pub struct MissingField {
    structure: &'static str,
    field: &'static str,
}

/// Resolves every offset.
///
/// # Errors
/// If the kernel lacks a field that has no substitute.
pub(super) fn resolve(btf: &Btf<'_>) -> Result<Offsets, MissingField> {
    let need = |structure, field| btf.offset(structure, field).ok_or(MissingField { structure, field });
    let has = |structure, field| btf.offset(structure, field).is_some();
    let mm_sequence = if !has("mm_struct", "mm_lock_seq") {
        SEQUENCE_NONE
    } else if has("mm_struct", "mm_lock_seq.sequence") {
        SEQUENCE_ODD_WHILE_LOCKED
    } else {
        SEQUENCE_AT_UNLOCK
    };
    let registers = registers(btf)?;
    // Of optional probes, which are not attached where these are lacking.
    let of_probe = |structure, field| btf.offset(structure, field).unwrap_or(0);
    Ok(Offsets {
        regs_number: registers.number,
        regs_arguments: registers.arguments,
        regs_compat_arguments: registers.compat_arguments,
        task_status: need("task_struct", registers.status)?,
        compat_mask: registers.compat_mask,
        task_tgid: need("task_struct", "tgid")?,
        task_pid: need("task_struct", "pid")?,
        task_flags: need("task_struct", "flags")?,
        task_exit_state: need("task_struct", "exit_state")?,
        task_group_leader: need("task_struct", "group_leader")?,
        task_real_parent: need("task_struct", "real_parent")?,
        task_start_boottime: need("task_struct", "start_boottime")?,
        task_comm: need("task_struct", "comm")?,
        task_files: need("task_struct", "files")?,
        task_mm: need("task_struct", "mm")?,
        task_signal: need("task_struct", "signal")?,
        task_cgroups: need("task_struct", "cgroups")?,
        task_nvcsw: need("task_struct", "nvcsw")?,
        task_nivcsw: need("task_struct", "nivcsw")?,
        task_min_flt: need("task_struct", "min_flt")?,
        task_maj_flt: need("task_struct", "maj_flt")?,
        signal_live: need("signal_struct", "live")?,
        signal_nvcsw: need("signal_struct", "nvcsw")?,
        signal_nivcsw: need("signal_struct", "nivcsw")?,
        signal_min_flt: need("signal_struct", "min_flt")?,
        signal_maj_flt: need("signal_struct", "maj_flt")?,
        css_set_dfl_cgrp: need("css_set", "dfl_cgrp")?,
        cgroup_kn: need("cgroup", "kn")?,
        kernfs_id: need("kernfs_node", "id")?,
        files_fdt: need("files_struct", "fdt")?,
        fdt_max_fds: need("fdtable", "max_fds")?,
        fdt_fd: need("fdtable", "fd")?,
        file_mode: need("file", "f_mode")?,
        file_flags: need("file", "f_flags")?,
        file_inode: need("file", "f_inode")?,
        file_op: need("file", "f_op")?,
        file_pos: need("file", "f_pos")?,
        inode_mode: need("inode", "i_mode")?,
        inode_sb: need("inode", "i_sb")?,
        inode_rdev: need("inode", "i_rdev")?,
        inode_size: need("inode", "i_size")?,
        inode_blkbits: need("inode", "i_blkbits")?,
        sb_magic: need("super_block", "s_magic")?,
        sb_bdev: need("super_block", "s_bdev")?,
        fop_copy_file_range: need("file_operations", "copy_file_range")?,
        fop_remap_file_range: need("file_operations", "remap_file_range")?,
        socket_to_inode: need("socket_alloc", "vfs_inode")? - need("socket_alloc", "socket")?,
        socket_sk: need("socket", "sk")?,
        sock_family: need("sock", "__sk_common.skc_family")?,
        sock_type: need("sock", "sk_type")?,
        sock_protocol: need("sock", "sk_protocol")?,
        sock_flags: of_probe("sock", "__sk_common.skc_flags"),
        sock_zerocopy: btf.enumerator("sock_flags", "SOCK_ZEROCOPY").map_or(0, |bit| 1 << bit),
        sock_port: of_probe("sock", "__sk_common.skc_num"),
        sock_peer_port: of_probe("sock", "__sk_common.skc_dport"),
        sock_peer: of_probe("sock", "__sk_common.skc_daddr"),
        sock_peer_v6: of_probe("sock", "__sk_common.skc_v6_daddr"),
        unix_peer: if tells_unix_names(btf) { of_probe("unix_sock", "peer") } else { 0 },
        unix_address: of_probe("unix_sock", "addr"),
        unix_length: of_probe("unix_address", "len"),
        unix_name: of_probe("unix_address", "name"),
        tcp_write_seq: of_probe("tcp_sock", "write_seq"),
        sock_state: of_probe("sock", "__sk_common.skc_state"),
        sock_socket: of_probe("sock", "sk_socket"),
        inode_number: of_probe("inode", "i_ino"),
        sock_ulp: if tells_tls(btf) { of_probe("inet_connection_sock", "icsk_ulp_ops") } else { 0 },
        sock_ulp_data: of_probe("inet_connection_sock", "icsk_ulp_data"),
        ulp_name: of_probe("tcp_ulp_ops", "name"),
        tls_configuration: of_probe("tls_context", "tx_conf"),
        skb_sk: of_probe("sk_buff", "sk"),
        skb_dev: of_probe("sk_buff", "dev"),
        skb_len: of_probe("sk_buff", "len"),
        skb_data_len: of_probe("sk_buff", "data_len"),
        skb_head: of_probe("sk_buff", "head"),
        skb_data: of_probe("sk_buff", "data"),
        skb_end: of_probe("sk_buff", "end"),
        skb_transport: of_probe("sk_buff", "transport_header"),
        shared_flags: of_probe("skb_shared_info", "flags"),
        retransmit_says_error: u64::from(btf.tracepoint_arguments("tcp_retransmit_skb") == Some(3)),
        device_name: of_probe("net_device", "name"),
        device_parent: of_probe("net_device", "dev.parent"),
        device_handler: of_probe("net_device", "rx_handler"),
        mm_lock_seq: btf.offset("mm_struct", "mm_lock_seq").unwrap_or(0),
        mm_sequence,
        mm_tree_root: need("mm_struct", "mm_mt.ma_root")?,
        maple_range_pivot: need("maple_range_64", "pivot")?,
        maple_range_slot: need("maple_range_64", "slot")?,
        maple_arange_pivot: need("maple_arange_64", "pivot")?,
        maple_arange_slot: need("maple_arange_64", "slot")?,
        mm_context: of_probe("mm_struct", "context.ctx_id"),
        mm_space: space(btf).unwrap_or(0),
        mm_file_pages: of_probe("mm_struct", "rss_stat") + of_probe("percpu_counter", "count"),
        mm_file_pages_local: of_probe("mm_struct", "rss_stat") + of_probe("percpu_counter", "counters"),
        array_cpus: of_probe("bpf_array", "pptrs"),
        siginfo_code: need("kernel_siginfo", "si_code")?,
        vma_mm: need("vm_area_struct", "vm_mm")?,
        vma_start: need("vm_area_struct", "vm_start")?,
        vma_end: need("vm_area_struct", "vm_end")?,
        vma_flags: need("vm_area_struct", "vm_flags")?,
        vma_file: need("vm_area_struct", "vm_file")?,
        binprm_filename: need("linux_binprm", "filename")?,
        meta_seq: need("bpf_iter_meta", "seq")?,
        page_mapping: of_probe("page", "mapping"),
        page_compound_head: of_probe("page", "compound_head"),
        mapping_host: of_probe("address_space", "host"),
        inode_mapping: of_probe("inode", "i_mapping"),
        bio_bdev: of_probe("bio", "bi_bdev"),
        bio_opf: of_probe("bio", "bi_opf"),
        bio_size: of_probe("bio", "bi_iter.bi_size"),
        bio_io_vec: of_probe("bio", "bi_io_vec"),
        bdev_disk: of_probe("block_device", "bd_disk"),
        disk_major: of_probe("gendisk", "major"),
        disk_first_minor: of_probe("gendisk", "first_minor"),
        disk_name: of_probe("gendisk", "disk_name"),
        disk_fops: of_probe("gendisk", "fops"),
        disk_submit_bio: of_probe("block_device_operations", "submit_bio"),
        ext4_vfs_inode: btf.offset("ext4_inode_info", "vfs_inode").unwrap_or(0),
        ext4_flags: btf.offset("ext4_inode_info", "i_flags").unwrap_or(0),
        request_opcode: of_probe("io_kiocb", "opcode"),
        request_flags: of_probe("io_kiocb", "flags"),
        request_file: of_probe("io_kiocb", "file"),
        request_ring: of_probe("io_kiocb", "ctx"),
        request_buffer: of_probe("io_kiocb", "buf_index"),
        request_user_data: of_probe("io_kiocb", "cqe.user_data"),
        request_result: of_probe("io_kiocb", "cqe.res"),
        request_cqe_flags: of_probe("io_kiocb", "cqe.flags"),
        request_list: of_probe("io_kiocb", "comp_list"),
        request_work: of_probe("io_kiocb", "work"),
        task_worker: of_probe("task_struct", "worker_private"),
        worker_work: of_probe("io_worker", "cur_work"),
        request_task: btf.offset("io_kiocb", "tctx").unwrap_or_else(|| of_probe("io_kiocb", "task")),
        context_task: if has("io_kiocb", "tctx") { of_probe("io_uring_task", "task") } else { 0 },
        rw_address: of_probe("io_rw", "addr"),
        rw_length: of_probe("io_rw", "len"),
        sr_buffer: of_probe("io_sr_msg", "buf"),
        sr_length: of_probe("io_sr_msg", "len"),
        sr_done: of_probe("io_sr_msg", "done_io"),
        sr_message_flags: of_probe("io_sr_msg", "msg_flags"),
        sr_flags: of_probe("io_sr_msg", "flags"),
        splice_source: of_probe("io_splice", "splice_fd_in"),
        splice_flags: of_probe("io_splice", "flags"),
        ring_completing: of_probe("io_ring_ctx", "submit_state.compl_reqs.first"),
        ring_groups: of_probe("io_ring_ctx", "io_bl_xa.xa_head"),
        ring_first_groups: of_probe("io_ring_ctx", "io_bl"),
        group_size: btf.size("io_buffer_list").unwrap_or(0),
        group_ring: of_probe("io_buffer_list", "buf_ring"),
        group_entries: of_probe("io_buffer_list", "nr_entries"),
        group_head: of_probe("io_buffer_list", "head"),
        group_mask: of_probe("io_buffer_list", "mask"),
        provided_address: of_probe("io_buffer", "addr"),
        xarray_shift: of_probe("xa_node", "shift"),
        xarray_slots: of_probe("xa_node", "slots"),
        uring_cqe_by_pointer: u64::from(btf.tracepoint_arguments("io_uring_complete") == Some(3)),
    })
}

/// Whether a TCP socket with kernel TLS can be told: three bits at the start of a byte.
fn tells_tls(btf: &Btf<'_>) -> bool {
    btf.bit_offset("tls_context", "tx_conf").is_some_and(|bits| bits % 8 == 0)
        && btf.offset("tcp_ulp_ops", "name").is_some()
        && btf.offset("inet_connection_sock", "icsk_ulp_data").is_some()
}

/// Whether the names of unix sockets can be told; where unix sockets are a module they can't.
fn tells_unix_names(btf: &Btf<'_>) -> bool {
    let fields = [("unix_sock", "addr"), ("unix_address", "len"), ("unix_address", "name")];
    lacking(btf, &fields).is_none()
}

/// What counting peers can't do without and this kernel lacks, if anything.
pub(super) fn peers_lacks(btf: &Btf<'_>) -> Option<String> {
    lacking(btf, &[("sock", "__sk_common.skc_dport"), ("sock", "__sk_common.skc_daddr")])
}

/// What the probes of network devices can't do without and this kernel lacks, if anything.
pub(super) fn net_lacks(btf: &Btf<'_>) -> Option<String> {
    const FIELDS: [(&str, &str); 16] = [
        ("sock", "__sk_common.skc_num"),
        ("tcp_sock", "write_seq"),
        ("sock", "__sk_common.skc_state"),
        ("sock", "sk_socket"),
        ("inode", "i_ino"),
        ("sk_buff", "sk"),
        ("sk_buff", "dev"),
        ("sk_buff", "len"),
        ("sk_buff", "data_len"),
        ("sk_buff", "head"),
        ("sk_buff", "data"),
        ("sk_buff", "end"),
        ("sk_buff", "transport_header"),
        ("skb_shared_info", "flags"),
        ("net_device", "dev.parent"),
        ("net_device", "rx_handler"),
    ];
    lacking(btf, &FIELDS)
}

/// What the probes of disk I/O can't do without and this kernel lacks, if anything.
pub(super) fn block_lacks(btf: &Btf<'_>) -> Option<String> {
    const FIELDS: [(&str, &str); 14] = [
        ("page", "mapping"),
        ("page", "compound_head"),
        ("address_space", "host"),
        ("inode", "i_mapping"),
        ("bio", "bi_bdev"),
        ("bio", "bi_opf"),
        ("bio", "bi_iter.bi_size"),
        ("bio", "bi_io_vec"),
        ("block_device", "bd_disk"),
        ("gendisk", "major"),
        ("gendisk", "first_minor"),
        ("gendisk", "disk_name"),
        ("gendisk", "fops"),
        ("block_device_operations", "submit_bio"),
    ];
    lacking(btf, &FIELDS)
}

/// What the probe of mapped pages can't do without and this kernel lacks, if anything.
pub(super) fn mapping_lacks(btf: &Btf<'_>) -> Option<String> {
    /// As many as the kernel half tells apart.
    const CPUS: usize = 128;
    const FIELDS: [(&str, &str); 5] = [
        ("bpf_array", "pptrs"),
        ("mm_struct", "context.ctx_id"),
        ("mm_struct", "rss_stat"),
        ("percpu_counter", "count"),
        ("percpu_counter", "counters"),
    ];
    if btf.tracepoint_arguments("rss_stat") == Some(3) {
        return Some("before 6.2 a memory map's counters lag behind the faults".to_owned());
    }
    // SAFETY: only asks.
    if unsafe { libc::sysconf(libc::_SC_NPROCESSORS_CONF) } > CPUS as libc::c_long {
        return Some(format!("more than {CPUS} processors"));
    }
    lacking(btf, &FIELDS)
}

/// Where a memory map has what tells it from others: on x86-64 a number that is never used twice, on aarch64 its
/// address space's (arch/x86/include/asm/mmu.h, arch/arm64/include/asm/mmu.h, v6.1).
fn space(btf: &Btf<'_>) -> Option<u64> {
    btf.offset("mm_struct", "context.ctx_id").or_else(|| btf.offset("mm_struct", "context.id"))
}

/// What looking for pass-through can't do without and this kernel lacks, if anything.
pub(super) fn pass_through_lacks(btf: &Btf<'_>) -> Option<String> {
    space(btf).is_none().then(|| "this kernel's BTF does not tell memory maps apart".to_owned())
}

/// What io_uring's probes can't do without and this kernel lacks, if anything.
pub(super) fn uring_lacks(btf: &Btf<'_>) -> Option<String> {
    const FIELDS: [(&str, &str); 30] = [
        ("io_kiocb", "opcode"),
        ("io_kiocb", "flags"),
        ("io_kiocb", "file"),
        ("io_kiocb", "ctx"),
        ("io_kiocb", "buf_index"),
        ("io_kiocb", "cqe.user_data"),
        ("io_kiocb", "cqe.res"),
        ("io_kiocb", "cqe.flags"),
        ("io_kiocb", "comp_list"),
        ("io_kiocb", "work"),
        ("task_struct", "worker_private"),
        ("io_worker", "cur_work"),
        ("io_rw", "addr"),
        ("io_rw", "len"),
        ("io_sr_msg", "buf"),
        ("io_sr_msg", "len"),
        ("io_sr_msg", "done_io"),
        ("io_sr_msg", "msg_flags"),
        ("io_sr_msg", "flags"),
        ("io_splice", "splice_fd_in"),
        ("io_splice", "flags"),
        ("io_ring_ctx", "submit_state.compl_reqs.first"),
        ("io_ring_ctx", "io_bl_xa.xa_head"),
        ("io_buffer_list", "buf_ring"),
        ("io_buffer_list", "nr_entries"),
        ("io_buffer_list", "head"),
        ("io_buffer_list", "mask"),
        ("io_buffer", "addr"),
        ("xa_node", "shift"),
        ("xa_node", "slots"),
    ];
    let owner = btf.offset("io_kiocb", "task").or_else(|| btf.offset("io_uring_task", "task"));
    lacking(btf, &FIELDS)
        .or_else(|| owner.is_none().then(|| "this kernel's BTF does not tell an io_uring request's task".to_owned()))
}

/// The first of these fields that this kernel lacks, as a reason.
fn lacking(btf: &Btf<'_>, fields: &[(&str, &str)]) -> Option<String> {
    let (structure, field) = fields.iter().find(|(structure, field)| btf.offset(structure, field).is_none())?;
    Some(format!("this kernel's BTF has no field {structure}.{field}"))
}

/// BTF ids of the structures that the probes cast addresses to.
///
/// # Errors
/// If the kernel lacks one.
pub(super) fn types(btf: &Btf<'_>) -> Result<Types, MissingField> {
    let need = |structure| btf.structure(structure).map(u64::from).ok_or(MissingField { structure, field: "(any)" });
    let optional = |structure| btf.structure(structure).map_or(0, u64::from);
    Ok(Types {
        task: need("task_struct")?,
        files: need("files_struct")?,
        fdtable: need("fdtable")?,
        mm: need("mm_struct")?,
        list_head: need("list_head")?,
        file: need("file")?,
        inode: need("inode")?,
        super_block: need("super_block")?,
        socket: need("socket")?,
        sock: need("sock")?,
        tcp: optional("inet_connection_sock"),
        unix: optional("unix_sock"),
        request: optional("io_kiocb"),
        request_context: optional("io_uring_task"),
        request_rw: optional("io_rw"),
        request_sr: optional("io_sr_msg"),
    })
}

struct Registers {
    number: u64,
    arguments: [u64; 5],
    compat_arguments: [u64; 5],
    status: &'static str,
    compat_mask: u64,
}

fn all<const N: usize>(btf: &Btf<'_>, fields: [&'static str; N]) -> Result<[u64; N], MissingField> {
    let mut offsets = [0; N];
    for (offset, field) in offsets.iter_mut().zip(fields) {
        *offset = btf.offset("pt_regs", field).ok_or(MissingField { structure: "pt_regs", field })?;
    }
    Ok(offsets)
}

/// The system-call conventions (arch/x86/entry, v6.1): 64-bit calls pass their arguments in rdi, rsi, rdx, r10, r8 …,
/// 32-bit ones in ebx, ecx, edx, esi, edi …; `TS_COMPAT` marks the latter.
#[cfg(target_arch = "x86_64")]
fn registers(btf: &Btf<'_>) -> Result<Registers, MissingField> {
    Ok(Registers {
        number: all(btf, ["orig_ax"])?[0],
        arguments: all(btf, ["di", "si", "dx", "r10", "r8"])?,
        compat_arguments: all(btf, ["bx", "cx", "dx", "si", "di"])?,
        status: "thread_info.status",
        compat_mask: 2,
    })
}

/// arch/arm64/include/asm/ptrace.h, v6.1: at sys_exit x0 holds the result, and orig_x0 the first argument; `TIF_32BIT`
/// is bit 22 of the thread's flags.
#[cfg(target_arch = "aarch64")]
fn registers(btf: &Btf<'_>) -> Result<Registers, MissingField> {
    let [first] = all(btf, ["orig_x0"])?;
    let [regs] = all(btf, ["regs"])?;
    let arguments = [first, regs + 8, regs + 16, regs + 24, regs + 32];
    Ok(Registers {
        number: all(btf, ["syscallno"])?[0],
        arguments,
        compat_arguments: arguments,
        status: "thread_info.flags",
        compat_mask: 1 << 22,
    })
}
