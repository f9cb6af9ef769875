//! Programs of a few instructions on machines of their own, with a kernel that only looks at how they come back.

mod attacks;
mod liar;

use super::machine::{Configuration, Engine, run};
use crate::memory::{Access, Frame, PAGE_SIZE, Space};
use crate::user::{Exception, PageFault, Registers, Trap, enter};
use crate::{cpu, power, time};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const CODE: usize = 0x40_0000;
const DATA: usize = 0x50_0000;
const WRITABLE: Access = Access::READ.union(Access::WRITE);

/// Runs `kernel` on a machine with so many CPUs, once with each engine.
fn on_machine(cpus: usize, kernel: fn() -> !) -> u8 {
    let with =
        |engine| run(Configuration { cpus, memory: 64 << 20, engine, ..Configuration::default() }, kernel).unwrap();
    let status = with(Engine::Ptrace);
    assert_eq!(with(Engine::SharedMemory), status);
    status
}

/// A space with a program at [`CODE`] and a page of data.
fn program(code: &[u8]) -> (Arc<Space>, Registers) {
    let space = Space::new().unwrap();
    let frame = Frame::zeroed().unwrap();
    frame.write(0, code);
    space.map(CODE, frame, Access::READ | Access::EXECUTE).unwrap();
    space.map(DATA, Frame::zeroed().unwrap(), WRITABLE).unwrap();
    (space, Registers::new(CODE, DATA + PAGE_SIZE).unwrap())
}

/// Lets a program go on until it comes back for something else than an interrupt.
fn next(registers: &mut Registers, space: &Arc<Space>) -> Trap {
    loop {
        match enter(registers, space) {
            Trap::Interrupted => {}
            trap => return trap,
        }
    }
}

#[test]
fn a_system_call_comes_back_with_its_registers() {
    fn kernel() -> ! {
        // mov eax, 39; mov edi, 7; syscall; mov [DATA], rax; syscall
        let code = [0xb8, 39, 0, 0, 0, 0xbf, 7, 0, 0, 0, 0x0f, 5, 0x48, 0x89, 4, 0x25, 0, 0, 0x50, 0, 0x0f, 5];
        let (space, mut registers) = program(&code);
        assert_eq!(next(&mut registers, &space), Trap::Syscall);
        assert_eq!((registers.syscall_number(), registers.arguments()[0]), (39, 7));
        assert_eq!((registers.general.rip, registers.general.rax as isize), (CODE + 12, -38));
        registers.set_result(0x1234);
        assert_eq!(next(&mut registers, &space), Trap::Syscall);
        assert_eq!(space.load_u32(DATA).unwrap(), 0x1234);
        power::off(7)
    }
    assert_eq!(on_machine(1, kernel), 7);
}

#[test]
fn faults_say_where_and_what_was_tried() {
    fn kernel() -> ! {
        let fault = |code: &[u8], prepare: fn(&Space)| {
            let (space, mut registers) = program(code);
            prepare(&space);
            next(&mut registers, &space)
        };
        let page_fault =
            |address: usize, access, present| Trap::PageFault(PageFault { address: address.into(), access, present });
        let read = [0x8b, 4, 0x25, 0, 0, 0x60, 0]; // mov eax, [0x600000]
        assert_eq!(fault(&read, |_| {}), page_fault(0x60_0000, Access::READ, false));
        let write = [0x89, 4, 0x25, 8, 0, 0x50, 0]; // mov [DATA + 8], eax
        let protect = |space: &Space| space.gather().protect(DATA..DATA + PAGE_SIZE, Access::READ);
        assert_eq!(fault(&write, protect), page_fault(DATA + 8, Access::WRITE, true));
        let jump = [0xb8, 0, 0, 0x50, 0, 0xff, 0xe0]; // mov eax, DATA; jmp rax
        assert_eq!(fault(&jump, |_| {}), page_fault(DATA, Access::EXECUTE, true));
        let exception = |vector, offset| Trap::Exception(Exception { vector, error: 0, address: CODE + offset });
        assert_eq!(fault(&[0x31, 0xc9, 0xf7, 0xf1], |_| {}), exception(0, 2), "div ecx");
        assert_eq!(fault(&[0x0f, 0x0b], |_| {}), exception(6, 0), "ud2");
        assert_eq!(fault(&[0xcc], |_| {}), exception(3, 1), "int3");
        assert_eq!(fault(&[0xf4], |_| {}), exception(13, 0), "hlt");
        assert_eq!(fault(&[0xcd, 0x80], |_| {}), exception(13, 0), "int 0x80");
        // AMD's CPUs have no `sysenter` in 64-bit mode. On Intel's it forgets where it was; what is told instead is no address of ours.
        let Trap::Exception(sysenter) = fault(&[0x0f, 0x34], |_| {}) else { panic!("no exception") };
        assert!(matches!(sysenter.vector, 6 | 13), "{sysenter:?}");
        assert!(sysenter.address == CODE || sysenter.address < 0x1_0000, "{sysenter:x?}");
        // mov rax, 0xffffffffff600000; call rax: the vsyscall page
        let vsyscall = [0x48, 0xc7, 0xc0, 0, 0, 0x60, 0xff, 0xff, 0xd0];
        assert_eq!(fault(&vsyscall, |_| {}), page_fault(0xffff_ffff_ff60_0000, Access::EXECUTE, false));
        power::off(0)
    }
    assert_eq!(on_machine(1, kernel), 0);
}

#[test]
fn a_program_that_never_comes_back_is_interrupted_by_the_alarm() {
    fn kernel() -> ! {
        let (space, mut registers) = program(&[0xeb, 0xfe]); // jmp itself
        for _ in 0..3 {
            let deadline = time::now() + 2_000_000;
            time::set_alarm(Some(deadline));
            // An interrupt for a program that was on its way back already comes with the next: once.
            let mut times = 0;
            while times == 0 || time::now() < deadline {
                assert_eq!(enter(&mut registers, &space), Trap::Interrupted);
                assert_eq!(registers.general.rip, CODE);
                times += 1;
            }
            assert!(times <= 2, "{times}");
        }
        power::off(0)
    }
    assert_eq!(on_machine(1, kernel), 0);
}

#[test]
fn programs_on_other_cpus_see_changes_at_once() {
    static ROUNDS: AtomicUsize = AtomicUsize::new(0);
    fn kernel() -> ! {
        ROUNDS.store(0, Ordering::SeqCst);
        // 1: inc dword [DATA]; jmp 1b
        let (space, registers) = program(&[0xff, 4, 0x25, 0, 0, 0x50, 0, 0xeb, 0xf7]);
        let registers = std::sync::Mutex::new(Some(registers));
        cpu::start(Arc::new(move |cpu| {
            if cpu == 1 {
                let mut registers = registers.lock().unwrap().take().unwrap();
                loop {
                    match enter(&mut registers, &space) {
                        Trap::Interrupted => {}
                        Trap::PageFault(fault) if fault.address == DATA.into() => {
                            ROUNDS.fetch_add(1, Ordering::SeqCst);
                        }
                        trap => panic!("{trap:?}"),
                    }
                }
            }
            let value = || space.load_u32(DATA).unwrap();
            while value() == 0 {
                cpu::relax();
            }
            for round in 0..20 {
                space.gather().protect(DATA..DATA + PAGE_SIZE, Access::READ);
                let before = value();
                while ROUNDS.load(Ordering::SeqCst) == round {
                    cpu::relax();
                }
                assert_eq!(value(), before, "a store got through after its right was taken");
                space.gather().protect(DATA..DATA + PAGE_SIZE, WRITABLE);
                while value() == before {
                    cpu::relax();
                }
                // It may have faulted more than once before.
                ROUNDS.store(round + 1, Ordering::SeqCst);
            }
            power::off(3)
        }))
    }
    assert_eq!(on_machine(2, kernel), 3);
}

#[test]
fn extended_state_is_each_program_s_own() {
    fn kernel() -> ! {
        // movq xmm0, rdi; syscall; movq rsi, xmm0; syscall
        let code = [0x66, 0x48, 0x0f, 0x6e, 0xc7, 0x0f, 5, 0x66, 0x48, 0x0f, 0x7e, 0xc6, 0x0f, 5];
        let (space, mut first) = program(&code);
        let mut second = Registers::new(CODE, DATA + PAGE_SIZE).unwrap();
        (first.general.rdi, second.general.rdi) = (0x1111, 0x2222);
        assert_eq!(next(&mut first, &space), Trap::Syscall);
        let mut child = first.duplicate().unwrap();
        assert_eq!(next(&mut second, &space), Trap::Syscall);
        second.park();
        for (registers, value) in [(&mut first, 0x1111), (&mut second, 0x2222), (&mut child, 0x1111)] {
            assert_eq!(next(registers, &space), Trap::Syscall);
            assert_eq!(registers.general.rsi, value);
            registers.park();
        }
        power::off(0)
    }
    assert_eq!(on_machine(1, kernel), 0);
}

/// As the host would, if it had refused a guest thread just now.
fn refuse_guest_thread() {
    let pool = super::machine::current().stubs.as_ref().unwrap();
    let _ = pool.make_room(std::io::ErrorKind::WouldBlock.into(), stubs::processes::ended());
}

/// The length of the extended state in a signal frame of this host: what a program has that asked for no more.
fn host_s_state_length() -> usize {
    static LENGTH: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn look(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // Where the kernel says so: struct _fpx_sw_bytes.
        const LENGTH_WORD: usize = 480;
        // SAFETY: the kernel hands a handler of this kind a whole frame.
        let length = unsafe {
            let state = (*context.cast::<libc::ucontext_t>()).uc_mcontext.fpregs;
            state.cast::<u8>().add(LENGTH_WORD).cast::<u32>().read_unaligned()
        };
        LENGTH.store(length as usize, Ordering::Relaxed);
    }
    // SAFETY: the handler does nothing but look.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = look as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()), 0);
        libc::raise(libc::SIGUSR2);
    }
    LENGTH.load(Ordering::Relaxed)
}

/// A host that has AMX would give 8 KiB more to who asked for them, and signal stacks would be too small.
#[test]
fn an_extended_state_is_as_long_as_on_the_host() {
    static EXPECTED: AtomicUsize = AtomicUsize::new(0);
    fn kernel() -> ! {
        let mut registers = Registers::new(CODE, DATA + PAGE_SIZE).unwrap();
        assert_eq!(registers.extended_state().len(), EXPECTED.load(Ordering::Relaxed));
        power::off(0)
    }
    EXPECTED.store(host_s_state_length(), Ordering::Relaxed);
    assert_eq!(on_machine(1, kernel), 0);
}

#[test]
fn a_program_keeps_its_extended_state_when_its_guest_thread_makes_room() {
    fn kernel() -> ! {
        // movq xmm0, rdi; syscall; movq rsi, xmm0; syscall
        let code = [0x66, 0x48, 0x0f, 0x6e, 0xc7, 0x0f, 5, 0x66, 0x48, 0x0f, 0x7e, 0xc6, 0x0f, 5];
        let (space, mut registers) = program(&code);
        registers.general.rdi = 0x1234_5678;
        assert_eq!(next(&mut registers, &space), Trap::Syscall);
        let stub = space.0.stub().unwrap();
        while stub.host_thread().process != 0 {
            refuse_guest_thread();
        }
        // An entry that an interrupt ends before the program is in the new thread, which makes room as well.
        assert!(Arc::ptr_eq(&space.0.enter().unwrap(), &stub));
        stub.leave();
        while stub.host_thread().process != 0 {
            refuse_guest_thread();
        }
        assert_eq!(next(&mut registers, &space), Trap::Syscall);
        assert_eq!(registers.general.rsi, 0x1234_5678);
        power::off(0)
    }
    let configuration = Configuration { cpus: 1, engine: Engine::SharedMemory, ..Configuration::default() };
    assert_eq!(run(configuration, kernel).unwrap(), 0);
}

/// Guest threads make room at every moment, those at which their programs' registers are saved too.
#[test]
fn extended_state_survives_while_another_cpu_makes_room_all_the_time() {
    const ROUNDS: usize = 10_000;
    fn kernel() -> ! {
        cpu::start(Arc::new(|cpu| {
            if cpu == 1 {
                make_room_all_the_time();
            }
            // again: movq rsi, xmm0; movq xmm0, rdi; syscall; jmp again
            let code = [0x66, 0x48, 0x0f, 0x7e, 0xc6, 0x66, 0x48, 0x0f, 0x6e, 0xc7, 0x0f, 5, 0xeb, 0xf2];
            let (space, mut registers) = program(&code);
            for round in 1..ROUNDS {
                registers.general.rdi = round;
                assert_eq!(next(&mut registers, &space), Trap::Syscall);
                assert_eq!(registers.general.rsi, round - 1, "in round {round}");
                // Its guest thread makes room now, or while its registers are saved.
                (0..round * 97 % 256).for_each(|_| std::hint::spin_loop());
                registers.park();
            }
            power::off(0)
        }))
    }
    fn make_room_all_the_time() -> ! {
        loop {
            refuse_guest_thread();
            cpu::relax();
        }
    }
    let configuration = Configuration { cpus: 2, engine: Engine::SharedMemory, ..Configuration::default() };
    assert_eq!(run(configuration, kernel).unwrap(), 0);
}

#[test]
fn every_number_of_a_system_call_comes_back() {
    fn kernel() -> ! {
        let (space, mut registers) = program(&[0x0f, 5, 0xeb, 0xfc]); // 1: syscall; jmp 1b
        // 336 is a call of newer hosts' uprobes that passes any filter, and fails without a word to us.
        for number in
            (0..336).chain(337..600).chain([0x4000_0000, 0x4000_0000 + 512, 1 << 32, usize::MAX >> 1, usize::MAX])
        {
            registers.general.rax = number;
            assert_eq!(next(&mut registers, &space), Trap::Syscall, "{number}");
            assert_eq!(registers.syscall_number(), number);
            assert_eq!(registers.general.rax as isize, -38);
        }
        power::off(0)
    }
    assert_eq!(on_machine(1, kernel), 0);
}

#[test]
fn a_program_is_stepped_instruction_by_instruction() {
    fn kernel() -> ! {
        let (space, mut registers) = program(&[0x90, 0x90, 0xff, 0xc0, 0x0f, 5]); // nop; nop; inc eax; syscall
        registers.set_single_step(true);
        for offset in [1, 2, 4] {
            let step = Trap::Exception(Exception { vector: 1, error: 0, address: CODE + offset });
            assert_eq!(next(&mut registers, &space), step);
        }
        registers.set_single_step(false);
        assert_eq!(next(&mut registers, &space), Trap::Syscall);
        assert_eq!(registers.syscall_number(), 1);
        power::off(0)
    }
    assert_eq!(on_machine(1, kernel), 0);
}

#[test]
fn more_mappings_than_the_host_allows_take_turns() {
    fn kernel() -> ! {
        const PAGES: usize = 70_000;
        // mov edi, AREA; mov ecx, PAGES; 1: add al, [rdi]; add rdi, 4096; dec ecx; jnz 1b; syscall
        let mut code = vec![0xbf, 0, 0, 0, 0x10, 0xb9];
        code.extend((PAGES as u32).to_le_bytes());
        code.extend([0x02, 0x07, 0x48, 0x81, 0xc7, 0, 0x10, 0, 0, 0xff, 0xc9, 0x75, 0xf3, 0x0f, 5]);
        let (space, mut registers) = program(&code);
        // One frame everywhere: no two neighbours can be one mapping.
        let frame = Frame::zeroed().unwrap();
        frame.write(0, &[1]);
        space.map_batch(0x1000_0000_usize, (0..PAGES).map(|_| frame.clone()), Access::READ, || true).unwrap();
        assert_eq!(next(&mut registers, &space), Trap::Syscall);
        assert_eq!(registers.syscall_number(), PAGES % 256);
        power::off(0)
    }
    assert_eq!(on_machine(1, kernel), 0);
}

#[test]
fn one_frame_can_not_fill_the_host_with_entries() {
    fn kernel() -> ! {
        let space = Space::new().unwrap();
        let frame = Frame::zeroed().unwrap();
        let pages = |start: usize| (0..10_000).map(move |page| start + page * PAGE_SIZE);
        let mut mapped = 0;
        while pages(0x1000_0000 + mapped * PAGE_SIZE)
            .try_for_each(|page| space.map(page, frame.clone(), Access::READ))
            .is_ok()
        {
            mapped += 10_000;
            assert!(mapped < 1_000_000, "64 MiB of memory have 16,384 frames");
        }
        assert!(mapped > 0 && space.resident() >= mapped);
        drop(space);
        let (space, mut registers) = program(&[0x0f, 5]);
        assert_eq!(next(&mut registers, &space), Trap::Syscall);
        power::off(0)
    }
    assert_eq!(on_machine(1, kernel), 0);
}

#[test]
fn more_programs_than_stubs_take_turns() {
    fn kernel() -> ! {
        let code = [0xff, 4, 0x25, 0, 0, 0x50, 0, 0x0f, 5, 0xeb, 0xf5]; // 1: inc dword [DATA]; syscall; jmp 1b
        let (first, _) = program(&code);
        let mut programs: Vec<_> = (0..1100)
            .map(|_| {
                let space = Space::new().unwrap();
                space.map(CODE, first.frame_at(CODE).unwrap(), Access::READ | Access::EXECUTE).unwrap();
                space.map(DATA, Frame::zeroed().unwrap(), WRITABLE).unwrap();
                (space, Registers::new(CODE, DATA + PAGE_SIZE).unwrap())
            })
            .collect();
        for round in 1..=2 {
            for (space, registers) in &mut programs {
                assert_eq!(next(registers, space), Trap::Syscall);
                assert_eq!(space.load_u32(DATA).unwrap(), round);
            }
        }
        power::off(0)
    }
    assert_eq!(on_machine(1, kernel), 0);
}

#[test]
fn a_kernel_that_panics_ends_with_a_failing_status() {
    fn kernel() -> ! {
        panic!("on purpose")
    }
    assert_eq!(on_machine(2, kernel), 101);
}

#[test]
fn a_kernel_can_start_no_program_and_open_no_socket() {
    fn kernel() -> ! {
        let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::PermissionDenied;
        assert!(std::process::Command::new("/bin/true").spawn().is_err_and(refused));
        assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_err_and(refused));
        let (space, mut registers) = program(&[0x0f, 5]);
        assert_eq!(next(&mut registers, &space), Trap::Syscall);
        power::off(0)
    }
    assert_eq!(on_machine(1, kernel), 0);
    assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_ok(), "whoever started the machine is not confined");
}

/// Machine code: sets a register to a number.
fn set(code: &mut Vec<u8>, register: [u8; 2], value: usize) {
    code.extend(register);
    code.extend(value.to_le_bytes());
}

const RAX: [u8; 2] = [0x48, 0xb8];
const RDI: [u8; 2] = [0x48, 0xbf];
const RSI: [u8; 2] = [0x48, 0xbe];
const RDX: [u8; 2] = [0x48, 0xba];
const R8: [u8; 2] = [0x49, 0xb8];
const R9: [u8; 2] = [0x49, 0xb9];
const R10: [u8; 2] = [0x49, 0xba];
const R11: [u8; 2] = [0x49, 0xbb];
const JUMP_TO_R11: [u8; 3] = [0x41, 0xff, 0xe3];

/// Where the stubs' own code has a `syscall` instruction: the first one that makes a call of its own choice.
fn gadget() -> usize {
    super::stub::one_call()
}

#[test]
fn a_jump_into_the_stub_s_code_makes_no_call_of_the_host() {
    fn kernel() -> ! {
        // mmap(DATA, 4096, read + write, shared + fixed, the machine's memory, 0): would show the stubs' own code, for a start.
        let call = [(RDI, DATA), (RSI, PAGE_SIZE), (RDX, 3), (R10, 0x11), (R8, 0), (R9, 0)];
        for number in [libc::SYS_mmap, libc::SYS_munmap, libc::SYS_getpid, libc::SYS_kill, libc::SYS_clone] {
            let mut code = Vec::new();
            set(&mut code, RAX, number as usize);
            call.iter().for_each(|(register, value)| set(&mut code, *register, *value));
            set(&mut code, R11, gadget());
            code.extend(JUMP_TO_R11);
            let (space, mut registers) = program(&code);
            space.compare_exchange_u32(DATA, 0, 77).unwrap().unwrap();
            // It comes back as a call of the program's, made from a strange place.
            let trap = next(&mut registers, &space);
            match trap {
                Trap::Syscall => assert_eq!(registers.syscall_number(), number as usize),
                // Traced, it looks like one of the ways into a 32-bit kernel.
                Trap::Exception(exception) => assert_eq!(exception.vector, 13),
                trap => panic!("{trap:?}"),
            }
            assert_eq!(space.load_u32(DATA).unwrap(), 77);
        }
        power::off(0)
    }
    assert_eq!(on_machine(1, kernel), 0);
}

#[test]
fn a_stub_s_own_pages_can_t_be_written_or_made_to_mislead_the_kernel() {
    fn kernel() -> ! {
        let top = crate::memory::USER_TOP;
        // Stores to the stub's pages of code and of calls fault, and the fault is beyond user space.
        for target in [top, top + PAGE_SIZE] {
            let mut code = Vec::new();
            set(&mut code, RAX, target);
            code.extend([0xc6, 0x00, 0x90]); // mov byte [rax], 0x90
            let (space, mut registers) = program(&code);
            match next(&mut registers, &space) {
                Trap::PageFault(fault) => assert_eq!((fault.address, fault.access), (target.into(), Access::WRITE)),
                trap => panic!("{trap:?}"),
            }
        }
        // A program that scribbles over all of its block can spoil its own run, and no more: the next one is fine.
        let mut code = Vec::new();
        set(&mut code, RDI, super::stub::BLOCKS);
        set(&mut code, RAX, 0xffff_ffff_ffff_ffff);
        code.extend([0xb9, 0, 0x10, 0, 0]); // mov ecx, 4096
        code.extend([0xf3, 0x48, 0xab, 0x0f, 0x05]); // rep stosq; syscall
        let (space, mut registers) = program(&code);
        let trap = next(&mut registers, &space);
        assert!(matches!(trap, Trap::PageFault(_) | Trap::Syscall | Trap::Lost), "{trap:?}");
        drop((space, registers));
        let (space, mut registers) = program(&[0x0f, 5]);
        assert_eq!(next(&mut registers, &space), Trap::Syscall);
        power::off(0)
    }
    assert_eq!(on_machine(1, kernel), 0);
}

#[test]
fn a_stub_says_nothing_of_the_program_before() {
    const SECRET: usize = 0x0123_4567_89ab_cdef;
    const MASK: usize = 0x5555_5555_5555_5555;
    fn kernel() -> ! {
        let (space, mut registers) = program(&[0x66, 0x48, 0x0f, 0x6e, 0xc7, 0x0f, 5]); // movq xmm0, rdi; syscall
        (registers.general.rdi, registers.general.r15) = (SECRET, SECRET);
        // The frame of its trap lies where no later one does.
        registers.general.rsp = super::stub::BLOCKS + super::stub::BLOCK_SIZE / 2;
        assert_eq!(next(&mut registers, &space), Trap::Syscall);
        drop((space, registers));

        // Counts in rdi the words from rsi on, rcx of them, that are rbx when combined with rdx.
        let code = [
            0x48, 0x8b, 0x06, // 1: mov rax, [rsi]
            0x48, 0x31, 0xd0, // xor rax, rdx
            0x48, 0x39, 0xd8, // cmp rax, rbx
            0x75, 0x03, // jne 2f
            0x48, 0xff, 0xc7, // inc rdi
            0x48, 0x83, 0xc6, 0x08, // 2: add rsi, 8
            0x48, 0xff, 0xc9, // dec rcx
            0x75, 0xe9, // jnz 1b
            0x31, 0xc0, // xor eax, eax
            0x0f, 0x05, // syscall
        ];
        let (space, mut registers) = program(&code);
        let general = &mut registers.general;
        (general.rsi, general.rcx) = (super::stub::BLOCKS, super::stub::BLOCK_SIZE / 8);
        (general.rdx, general.rbx) = (MASK, SECRET ^ MASK);
        assert_eq!(next(&mut registers, &space), Trap::Syscall);
        let end = super::stub::BLOCKS + super::stub::BLOCK_SIZE;
        assert_eq!((registers.general.rsi, registers.general.rdi), (end, 0), "all was looked at, nothing was found");
        power::off(0)
    }
    let configuration = Configuration { cpus: 1, engine: Engine::SharedMemory, ..Configuration::default() };
    assert_eq!(run(configuration, kernel).unwrap(), 0);
}

#[test]
fn a_program_that_blocks_its_signals_is_lost_at_the_next_interrupt() {
    fn kernel() -> ! {
        // rt_sigreturn from the stub's code with a frame of the program's own: all signals blocked, and at CODE + 64 a loop.
        let mut code = vec![0xfe, 0x04, 0x25, 0, 0, 0x50, 0]; // inc byte [DATA]: the host must find the frame
        set(&mut code, RAX, libc::SYS_rt_sigreturn as usize);
        code.extend([0x48, 0xbc]); // mov rsp, DATA + 1024
        code.extend((DATA + 1024).to_le_bytes());
        set(&mut code, R11, gadget());
        code.extend(JUMP_TO_R11);
        code.resize(64, 0x90);
        code.extend([0xeb, 0xfe]);
        let (space, mut registers) = program(&code);
        let put = |offset: usize, value: usize| space.write(DATA + 1024 + offset, &value.to_le_bytes()).unwrap();
        put(40 + 15 * 8, DATA + 512); // rsp
        put(40 + 16 * 8, CODE + 64); // rip
        put(40 + 17 * 8, 0x202);
        put(40 + 18 * 8, 0x002b_0000_0000_0033); // the segments
        put(296, usize::MAX); // the signal mask
        // Traced, the call is the program's own; untraced, the host does it, and then nothing but killing helps.
        loop {
            time::set_alarm(Some(time::now() + 20_000_000));
            match enter(&mut registers, &space) {
                Trap::Interrupted => {}
                Trap::Syscall | Trap::Exception(_) | Trap::Lost => break,
                trap => panic!("{trap:?} {:x?}", registers.general),
            }
        }
        let (space, mut registers) = program(&[0x0f, 5]);
        assert_eq!(next(&mut registers, &space), Trap::Syscall);
        power::off(0)
    }
    assert_eq!(on_machine(1, kernel), 0);
}

#[test]
fn several_machines_live_in_one_process() {
    fn kernel() -> ! {
        let (space, mut registers) = program(&[0x0f, 5, 0xeb, 0xfc]); // syscall; jmp itself
        for _ in 0..1000 {
            assert_eq!(next(&mut registers, &space), Trap::Syscall);
        }
        power::off(0)
    }
    let machines: Vec<_> = (0..4).map(|_| std::thread::spawn(|| on_machine(1, kernel))).collect();
    machines.into_iter().for_each(|machine| assert!(machine.join().is_ok()));
}
