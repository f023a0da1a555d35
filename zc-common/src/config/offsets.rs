//! Where the running kernel keeps what the probes read.

/// Where the running kernel keeps what the probes read: byte offsets from its BTF, and how to read them.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offsets {
    /// `pt_regs`: the system call's number (x86 `orig_ax`, arm64 `syscallno`).
    pub regs_number: u64,
    /// `pt_regs`: the first five arguments of a native call.
    pub regs_arguments: [u64; 5],
    /// `pt_regs`: the first five arguments of a 32-bit call.
    pub regs_compat_arguments: [u64; 5],
    /// `task_struct.thread_info.status` (x86) or `.flags` (arm64).
    pub task_status: u64,
    /// The bit of it that marks a 32-bit call.
    pub compat_mask: u64,
    /// `task_struct.tgid`.
    pub task_tgid: u64,
    /// `task_struct.pid`.
    pub task_pid: u64,
    /// `task_struct.flags`.
    pub task_flags: u64,
    /// `task_struct.exit_state`.
    pub task_exit_state: u64,
    /// `task_struct.group_leader`.
    pub task_group_leader: u64,
    /// `task_struct.real_parent`.
    pub task_real_parent: u64,
    /// `task_struct.start_boottime`.
    pub task_start_boottime: u64,
    /// `task_struct.comm`.
    pub task_comm: u64,
    /// `task_struct.files`.
    pub task_files: u64,
    /// `task_struct.mm`.
    pub task_mm: u64,
    /// `task_struct.signal`.
    pub task_signal: u64,
    /// `task_struct.cgroups`.
    pub task_cgroups: u64,
    /// `task_struct.nvcsw`: voluntary context switches.
    pub task_nvcsw: u64,
    /// `task_struct.nivcsw`: involuntary ones.
    pub task_nivcsw: u64,
    /// `task_struct.min_flt`.
    pub task_min_flt: u64,
    /// `task_struct.maj_flt`.
    pub task_maj_flt: u64,
    /// `signal_struct.live`.
    pub signal_live: u64,
    /// `signal_struct.nvcsw`: of the process's threads that are gone; so the next three.
    pub signal_nvcsw: u64,
    /// `signal_struct.nivcsw`.
    pub signal_nivcsw: u64,
    /// `signal_struct.min_flt`.
    pub signal_min_flt: u64,
    /// `signal_struct.maj_flt`.
    pub signal_maj_flt: u64,
    /// `css_set.dfl_cgrp`.
    pub css_set_dfl_cgrp: u64,
    /// `cgroup.kn`.
    pub cgroup_kn: u64,
    /// `kernfs_node.id`.
    pub kernfs_id: u64,
    /// `files_struct.fdt`.
    pub files_fdt: u64,
    /// `fdtable.max_fds`.
    pub fdt_max_fds: u64,
    /// `fdtable.fd`.
    pub fdt_fd: u64,
    /// `file.f_mode`.
    pub file_mode: u64,
    /// `file.f_flags`.
    pub file_flags: u64,
    /// `file.f_inode`.
    pub file_inode: u64,
    /// `file.f_op`.
    pub file_op: u64,
    /// `file.f_pos`.
    pub file_pos: u64,
    /// `inode.i_mode`.
    pub inode_mode: u64,
    /// `inode.i_sb`.
    pub inode_sb: u64,
    /// `inode.i_rdev`.
    pub inode_rdev: u64,
    /// `inode.i_size`.
    pub inode_size: u64,
    /// `inode.i_blkbits`.
    pub inode_blkbits: u64,
    /// `super_block.s_magic`.
    pub sb_magic: u64,
    /// `super_block.s_bdev`.
    pub sb_bdev: u64,
    /// `file_operations.copy_file_range`.
    pub fop_copy_file_range: u64,
    /// `file_operations.remap_file_range`.
    pub fop_remap_file_range: u64,
    /// `socket_alloc.vfs_inode` less `socket_alloc.socket`: how far a socket lies before its inode.
    pub socket_to_inode: u64,
    /// `socket.sk`.
    pub socket_sk: u64,
    /// `sock.__sk_common.skc_family`.
    pub sock_family: u64,
    /// `sock.sk_type`.
    pub sock_type: u64,
    /// `sock.sk_protocol`.
    pub sock_protocol: u64,
    /// `sock.sk_flags`.
    pub sock_flags: u64,
    /// The bit of it that SO_ZEROCOPY sets; 0 where it is not known.
    pub sock_zerocopy: u64,
    /// `sock.__sk_common.skc_num`: the local port.
    pub sock_port: u64,
    /// `sock.__sk_common.skc_dport`: the peer's port, in network order.
    pub sock_peer_port: u64,
    /// `sock.__sk_common.skc_daddr`: the peer's IPv4 address.
    pub sock_peer: u64,
    /// `sock.__sk_common.skc_v6_daddr`: its IPv6 address; 0 where the kernel has none.
    pub sock_peer_v6: u64,
    /// `unix_sock.peer`; 0 where the kernel's BTF lacks what tells unix sockets' names.
    pub unix_peer: u64,
    /// `unix_sock.addr`.
    pub unix_address: u64,
    /// `unix_address.len`.
    pub unix_length: u64,
    /// `unix_address.name`: a `sockaddr_un`.
    pub unix_name: u64,
    /// `tcp_sock.write_seq`.
    pub tcp_write_seq: u64,
    /// `sock.__sk_common.skc_state`.
    pub sock_state: u64,
    /// `sock.sk_socket`.
    pub sock_socket: u64,
    /// `inode.i_ino`.
    pub inode_number: u64,
    /// `inet_connection_sock.icsk_ulp_ops`; 0 where the kernel's BTF lacks what tells kernel TLS.
    pub sock_ulp: u64,
    /// `inet_connection_sock.icsk_ulp_data`.
    pub sock_ulp_data: u64,
    /// `tcp_ulp_ops.name`.
    pub ulp_name: u64,
    /// `tls_context.tx_conf`: three bits, the lowest of a byte.
    pub tls_configuration: u64,
    /// `sk_buff.sk`.
    pub skb_sk: u64,
    /// `sk_buff.dev`.
    pub skb_dev: u64,
    /// `sk_buff.len`.
    pub skb_len: u64,
    /// `sk_buff.data_len`.
    pub skb_data_len: u64,
    /// `sk_buff.head`.
    pub skb_head: u64,
    /// `sk_buff.data`.
    pub skb_data: u64,
    /// `sk_buff.end`.
    pub skb_end: u64,
    /// `sk_buff.transport_header`.
    pub skb_transport: u64,
    /// `skb_shared_info.flags`.
    pub shared_flags: u64,
    /// 1 where the tracepoint `tcp_retransmit_skb` has a third argument (6.15 on): an error, with which nothing was sent.
    pub retransmit_says_error: u64,
    /// `net_device.name`.
    pub device_name: u64,
    /// `net_device.dev.parent`: null for a virtual device.
    pub device_parent: u64,
    /// `net_device.rx_handler`: null unless a bridge or its kin takes what the device receives.
    pub device_handler: u64,
    /// `mm_struct.mm_lock_seq`.
    pub mm_lock_seq: u64,
    /// How that sequence counts: [`SEQUENCE_NONE`] and its kin.
    pub mm_sequence: u64,
    /// `mm_struct.mm_mt.ma_root`.
    pub mm_tree_root: u64,
    /// `maple_range_64.pivot`.
    pub maple_range_pivot: u64,
    /// `maple_range_64.slot`.
    pub maple_range_slot: u64,
    /// `maple_arange_64.pivot`.
    pub maple_arange_pivot: u64,
    /// `maple_arange_64.slot`.
    pub maple_arange_slot: u64,
    /// `mm_struct.context.ctx_id`.
    pub mm_context: u64,
    /// What tells a memory map from others: the same, or `mm_struct.context.id` on aarch64.
    pub mm_space: u64,
    /// `mm_struct.rss_stat[MM_FILEPAGES].count`.
    pub mm_file_pages: u64,
    /// `mm_struct.rss_stat[MM_FILEPAGES].counters`.
    pub mm_file_pages_local: u64,
    /// `bpf_array.pptrs`.
    pub array_cpus: u64,
    /// `kernel_siginfo.si_code`.
    pub siginfo_code: u64,
    /// `vm_area_struct.vm_mm`.
    pub vma_mm: u64,
    /// `vm_area_struct.vm_start`.
    pub vma_start: u64,
    /// `vm_area_struct.vm_end`.
    pub vma_end: u64,
    /// `vm_area_struct.vm_flags`.
    pub vma_flags: u64,
    /// `vm_area_struct.vm_file`.
    pub vma_file: u64,
    /// `linux_binprm.filename`.
    pub binprm_filename: u64,
    /// `bpf_iter_meta.seq`.
    pub meta_seq: u64,
    /// `page.mapping`.
    pub page_mapping: u64,
    /// `page.compound_head`.
    pub page_compound_head: u64,
    /// `address_space.host`.
    pub mapping_host: u64,
    /// `inode.i_mapping`.
    pub inode_mapping: u64,
    /// `bio.bi_bdev`.
    pub bio_bdev: u64,
    /// `bio.bi_opf`.
    pub bio_opf: u64,
    /// `bio.bi_iter.bi_size`.
    pub bio_size: u64,
    /// `bio.bi_io_vec`, whose first word is a page.
    pub bio_io_vec: u64,
    /// `block_device.bd_disk`.
    pub bdev_disk: u64,
    /// `gendisk.major`.
    pub disk_major: u64,
    /// `gendisk.first_minor`.
    pub disk_first_minor: u64,
    /// `gendisk.disk_name`.
    pub disk_name: u64,
    /// `gendisk.fops`.
    pub disk_fops: u64,
    /// `block_device_operations.submit_bio`.
    pub disk_submit_bio: u64,
    /// `ext4_inode_info.vfs_inode`, 0 where the kernel's BTF lacks it.
    pub ext4_vfs_inode: u64,
    /// `ext4_inode_info.i_flags`.
    pub ext4_flags: u64,
    /// `io_kiocb.opcode`.
    pub request_opcode: u64,
    /// `io_kiocb.flags`.
    pub request_flags: u64,
    /// `io_kiocb.file`.
    pub request_file: u64,
    /// `io_kiocb.ctx`.
    pub request_ring: u64,
    /// `io_kiocb.buf_index`.
    pub request_buffer: u64,
    /// `io_kiocb.cqe.user_data`.
    pub request_user_data: u64,
    /// `io_kiocb.cqe.res`.
    pub request_result: u64,
    /// `io_kiocb.cqe.flags`; before the request is issued its descriptor.
    pub request_cqe_flags: u64,
    /// `io_kiocb.comp_list`.
    pub request_list: u64,
    /// `io_kiocb.work`.
    pub request_work: u64,
    /// `task_struct.worker_private`: of one of io_uring's workers its `io_worker`.
    pub task_worker: u64,
    /// `io_worker.cur_work`: the work of the request that it is at.
    pub worker_work: u64,
    /// `io_kiocb.tctx` (6.13 on) or `io_kiocb.task`.
    pub request_task: u64,
    /// `io_uring_task.task`; 0 where the request names the task itself.
    pub context_task: u64,
    /// `io_rw.addr`.
    pub rw_address: u64,
    /// `io_rw.len`.
    pub rw_length: u64,
    /// `io_sr_msg.buf`.
    pub sr_buffer: u64,
    /// `io_sr_msg.len`.
    pub sr_length: u64,
    /// `io_sr_msg.done_io`.
    pub sr_done: u64,
    /// `io_sr_msg.msg_flags`.
    pub sr_message_flags: u64,
    /// `io_sr_msg.flags`.
    pub sr_flags: u64,
    /// `io_splice.splice_fd_in`.
    pub splice_source: u64,
    /// `io_splice.flags`.
    pub splice_flags: u64,
    /// `io_ring_ctx.submit_state.compl_reqs.first`.
    pub ring_completing: u64,
    /// `io_ring_ctx.io_bl_xa.xa_head`.
    pub ring_groups: u64,
    /// `io_ring_ctx.io_bl`: an array of the first 64 groups (6.1); 0 where there is none.
    pub ring_first_groups: u64,
    /// Size of an `io_buffer_list`.
    pub group_size: u64,
    /// `io_buffer_list.buf_ring`.
    pub group_ring: u64,
    /// `io_buffer_list.nr_entries`.
    pub group_entries: u64,
    /// `io_buffer_list.head`.
    pub group_head: u64,
    /// `io_buffer_list.mask`.
    pub group_mask: u64,
    /// `io_buffer.addr`.
    pub provided_address: u64,
    /// `xa_node.shift`.
    pub xarray_shift: u64,
    /// `xa_node.slots`.
    pub xarray_slots: u64,
    /// 1 where the tracepoint `io_uring_complete` has a pointer to the CQE (6.15 on) and not its fields.
    pub uring_cqe_by_pointer: u64,
}

/// The memory map has no change sequence (before 6.4): look every buffer up.
pub const SEQUENCE_NONE: u64 = 0;
/// It grows when a writer lets go (6.4 to 6.13).
pub const SEQUENCE_AT_UNLOCK: u64 = 1;
/// It is odd while a writer holds the map, and even otherwise (6.14 on).
pub const SEQUENCE_ODD_WHILE_LOCKED: u64 = 2;
