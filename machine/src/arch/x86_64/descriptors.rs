//! Segments, task state and interrupt descriptors: the tables the CPU itself reads.

use super::block::Block;
use super::{paging, traps};
use core::mem::size_of;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::{lgdt, lidt, load_tss};
use x86_64::registers::segmentation::SegmentSelector;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::tss::TaskStateSegment;

// The selectors are Linux's, since programs see theirs.
/// The kernel's code segment.
pub const KERNEL_CODE: u16 = 0x10;
/// The kernel's data segment.
pub const KERNEL_DATA: u16 = 0x18;
/// The base from which `sysret` computes the program's two segments.
pub const USER_BASE: u16 = 0x23;
/// The program's data and stack segment.
pub const USER_DATA: u16 = 0x2b;
/// The program's code segment.
pub const USER_CODE: u16 = 0x33;
const TASK: u16 = 0x40;

/// Bytes of the stack of an exception that cannot trust the current stack.
const INTERRUPT_STACK: usize = 8192;
/// Exceptions with stacks of their own.
const WITH_OWN_STACK: [u8; 3] = [2, 8, 18];

/// One CPU's tables.
#[repr(C)]
pub struct Descriptors {
    segments: [u64; 10],
    task: TaskStateSegment,
}

impl Descriptors {
    /// Tables that have yet to be loaded.
    pub const fn new() -> Descriptors {
        Descriptors {
            segments: [
                0,
                0,
                0x00af_9b00_0000_ffff, // kernel code: 64-bit
                0x00cf_9300_0000_ffff, // kernel data
                0,                     // 32-bit programs are not supported
                0x00cf_f300_0000_ffff, // user data
                0x00af_fb00_0000_ffff, // user code: 64-bit
                0,
                0, // the task state, two words
                0,
            ],
            task: TaskStateSegment::new(),
        }
    }
}

/// Allocates the interrupt stacks of `block` and fills in its task state. None if memory is out.
///
/// # Safety
/// Before the block's CPU has loaded its tables, and nobody else looks at them.
pub unsafe fn prepare(block: &'static Block) -> Option<()> {
    // SAFETY: the caller says that we have them alone.
    let descriptors = unsafe { &mut *block.descriptors.get() };
    let task = &mut descriptors.task;
    task.privilege_stack_table[0] = VirtAddr::new(block.entry_stack_top() as u64);
    task.iomap_base = size_of::<TaskStateSegment>() as u16;
    let mut tops = [VirtAddr::zero(); 7];
    for slot in tops.iter_mut().take(WITH_OWN_STACK.len()) {
        let top = paging::map_stack(INTERRUPT_STACK)? - 16;
        // The handler finds the block here, since it cannot trust GS.
        // SAFETY: the last words of a stack just mapped for us.
        unsafe { (top as *mut *const Block).write(block) };
        *slot = VirtAddr::new(top as u64);
    }
    task.interrupt_stack_table = tops;
    let base = (&raw const *task).addr() as u64;
    let limit = size_of::<TaskStateSegment>() as u64 - 1;
    descriptors.segments[8] = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    descriptors.segments[9] = base >> 32;
    Some(())
}

/// Loads the tables of `block` into this CPU. Clears GS: the block must be adopted afterwards.
///
/// # Safety
/// On the block's own CPU, after `prepare`, with interrupts off.
pub unsafe fn load(block: &'static Block) {
    // SAFETY: the tables are leaked with their block, the selectors lie in them, and the interrupt table is static.
    unsafe {
        let descriptors = &*block.descriptors.get();
        lgdt(&DescriptorTablePointer {
            limit: size_of::<[u64; 10]>() as u16 - 1,
            base: VirtAddr::from_ptr(&descriptors.segments),
        });
        CS::set_reg(SegmentSelector(KERNEL_CODE));
        SS::set_reg(SegmentSelector(KERNEL_DATA));
        DS::set_reg(SegmentSelector(0));
        ES::set_reg(SegmentSelector(0));
        load_tss(SegmentSelector(TASK));
        load_interrupt_table();
    }
}

/// One descriptor of the interrupt table.
#[repr(C, align(16))]
#[derive(Clone, Copy)]
struct Gate(u64, u64);

static GATES: spin::Once<[Gate; 256]> = spin::Once::new();

/// Loads the interrupt table, the same for all CPUs.
///
/// # Safety
/// The code segment must be the kernel's. Interrupts need the rest of [`load`].
pub unsafe fn load_interrupt_table() {
    let gates = GATES.call_once(|| {
        core::array::from_fn(|vector| {
            let vector = vector as u8;
            let own_stack = WITH_OWN_STACK.iter().position(|own| *own == vector);
            let stack = own_stack.map_or(0, |index| index as u64 + 1);
            // A program may execute int3 and into by itself.
            let privilege = if matches!(vector, 3 | 4) { 3 } else { 0 };
            let stub = traps::stub(vector) as u64;
            let low = stub & 0xffff | u64::from(KERNEL_CODE) << 16 | stack << 32 | (0x8e | privilege << 5) << 40;
            Gate(low | (stub >> 16 & 0xffff) << 48, stub >> 32)
        })
    });
    let limit = size_of::<[Gate; 256]>() as u16 - 1;
    // SAFETY: the table is static and its stubs are the entry code.
    unsafe { lidt(&DescriptorTablePointer { limit, base: VirtAddr::from_ptr(gates) }) };
}
