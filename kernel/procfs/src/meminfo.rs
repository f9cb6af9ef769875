//! The texts about memory: proc_meminfo(5), proc_vmstat(5), proc_buddyinfo(5).

use abi::Result;
use machine::memory::{FrameSource, HUGE_PAGE_ORDER};
use memory::{Memory, PAGE_SIZE};

use crate::system::View;
use crate::text::{Text, kib, pages};

/// Memory of the machine at one moment, in bytes.
struct Totals {
    total: u64,
    free: u64,
    /// Pages of files, which all live in tmpfs: shared memory, which can't be had back.
    files: u64,
    anonymous: u64,
    /// Of that, in huge pages.
    huge: u64,
    /// The kernel's heap.
    slab: u64,
    /// Of the kernel's heap, what is mapped page by page.
    vmalloc: u64,
    kernel_stacks: u64,
    /// What all programs were promised.
    committed: u64,
}

impl Totals {
    fn of(memory: &Memory) -> Totals {
        let bytes = |frames: usize| (frames * PAGE_SIZE) as u64;
        let (frames, heap) = (memory.frames(), machine::memory::heap_usage());
        let (total, free) = (frames.total_frames(), frames.free_frames());
        let slab = heap.slabs.iter().map(|slab| slab.frames).sum::<usize>() + heap.large_frames;
        let of_kernel = slab + heap.vmalloc_table_frames + heap.stack_frames;
        let files = bytes(memory.file_pages() as usize);
        Totals {
            total: bytes(total),
            free: bytes(free),
            files,
            anonymous: bytes(total.saturating_sub(free).saturating_sub(of_kernel)).saturating_sub(files),
            huge: HUGE_PAGE_ORDER.map_or(0, |order| bytes(machine::memory::huge_pages() << order)),
            slab: bytes(slab),
            vmalloc: bytes(heap.vmalloc_frames),
            kernel_stacks: bytes(heap.stack_frames),
            committed: bytes(memory.committed()),
        }
    }
}

/// Free blocks of each order.
pub(crate) fn buddyinfo(system: &View<'_>, text: &mut Text) -> Result<()> {
    text.put(format_args!("Node 0, zone {:>8} ", "Normal"));
    for count in system.kernel.memory().frames().free_by_order() {
        text.put(format_args!("{count:6} "));
    }
    text.put(format_args!("\n"));
    Ok(())
}

pub(crate) fn meminfo(system: &View<'_>, text: &mut Text) -> Result<()> {
    show(&Totals::of(system.kernel.memory()), text);
    Ok(())
}

fn show(memory: &Totals, text: &mut Text) {
    // Shared memory counts as cached, but cannot be dropped: it ages with the anonymous pages.
    let aging = memory.anonymous.saturating_add(memory.files);
    let lines = [
        ("MemTotal", memory.total),
        ("MemFree", memory.free),
        ("MemAvailable", memory.free),
        ("Buffers", 0),
        ("Cached", memory.files),
        ("SwapCached", 0),
        ("Active", aging),
        ("Inactive", 0),
        ("Active(anon)", aging),
        ("Inactive(anon)", 0),
        ("Active(file)", 0),
        ("Inactive(file)", 0),
        ("Unevictable", 0),
        ("Mlocked", 0),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", memory.anonymous),
        ("Mapped", 0),
        ("Shmem", memory.files),
        ("KReclaimable", 0),
        ("Slab", memory.slab),
        ("SReclaimable", 0),
        ("SUnreclaim", memory.slab),
        ("KernelStack", memory.kernel_stacks),
        ("PageTables", 0),
        ("SecPageTables", 0),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("CommitLimit", memory.total / 2),
        ("Committed_AS", memory.committed),
        ("VmallocTotal", 34_359_738_367 * 1024),
        ("VmallocUsed", memory.vmalloc),
        ("VmallocChunk", 0),
        ("Percpu", 0),
        ("AnonHugePages", memory.huge),
    ];
    for (name, bytes) in lines {
        field(text, name);
        text.put(format_args!("{:>8} kB\n", kib(bytes)));
    }
    for name in ["HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp"] {
        field(text, name);
        text.put(format_args!("{:>8}\n", 0));
    }
    for (name, size) in [("Hugepagesize", 2048), ("Hugetlb", 0)] {
        field(text, name);
        text.put(format_args!("{size:>8} kB\n"));
    }
}

/// The name of a value, padded.
fn field(text: &mut Text, name: &str) {
    let start = text.len();
    text.put(format_args!("{name}:"));
    text.pad(start, 16);
}

pub(crate) fn vmstat(system: &View<'_>, text: &mut Text) -> Result<()> {
    let memory = Totals::of(system.kernel.memory());
    let lines = [
        ("nr_free_pages", pages(memory.free)),
        ("nr_mlock", 0),
        ("nr_anon_pages", pages(memory.anonymous)),
        ("nr_mapped", 0),
        ("nr_file_pages", pages(memory.files)),
        ("nr_dirty", 0),
        ("nr_writeback", 0),
        ("nr_shmem", pages(memory.files)),
        ("nr_kernel_stack", kib(memory.kernel_stacks)),
        ("nr_page_table_pages", 0),
        ("nr_slab_reclaimable", 0),
        ("nr_slab_unreclaimable", pages(memory.slab)),
        ("pgpgin", 0),
        ("pgpgout", 0),
        ("pswpin", 0),
        ("pswpout", 0),
        ("pgfault", 0),
        ("pgmajfault", 0),
        ("oom_kill", 0),
    ];
    lines.iter().for_each(|(name, value)| text.put(format_args!("{name} {value}\n")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_aligns_as_linux_does() {
        let memory = Totals {
            total: 64 << 20,
            free: 32 << 20,
            files: 4 << 20,
            anonymous: 8 << 20,
            huge: 2 << 20,
            slab: 1 << 20,
            vmalloc: 0,
            kernel_stacks: 0,
            committed: 0,
        };
        let mut text = Text::new();
        show(&memory, &mut text);
        let text = String::from_utf8(text.finish().unwrap()).unwrap();
        let head = "MemTotal:          65536 kB\nMemFree:           32768 kB\nMemAvailable:      32768 kB\n";
        assert!(text.starts_with(head), "{text}");
        for line in [
            "Cached:             4096 kB",
            "Active(anon):      12288 kB",
            "AnonPages:          8192 kB",
            "AnonHugePages:      2048 kB",
            "CommitLimit:       32768 kB",
            "HugePages_Total:       0",
        ] {
            assert!(text.lines().any(|ours| ours == line), "{line:?} in {text}");
        }
    }
}
