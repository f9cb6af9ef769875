//! Attacks on the wall around a guest, by programs that know how it is built. Each is made twice: once as things are, and must fail; and once with what stops
//! it switched off ([`probe`]), and must succeed: so it is known to reach what it attacks.

use super::*;
use crate::platform::machine;
use crate::platform::stub::probe::{self, Mending, Step};
use crate::platform::stub::{BLOCK_SIZE, BLOCKS, Gone};
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

const COUNT: usize = 0x60_0000;
const OTHER: usize = 0x70_0000;
const PAGE: Range<usize> = DATA..DATA + PAGE_SIZE;

/// What must happen at last, on however busy a host.
pub const AT_LAST: Duration = Duration::from_secs(120);

/// Runs `kernel` on a machine of this engine; what is to be switched off there it finds in `OFF`.
fn attack(cpus: usize, engine: Engine, kernel: fn() -> !) -> u8 {
    run(Configuration { cpus, memory: 64 << 20, engine, ..Configuration::default() }, kernel).unwrap()
}

/// Makes the attack as things are, and without the mending, on guest threads.
fn with_and_without(mending: Mending, cpus: usize, kernel: fn() -> !) {
    with_and_without_on(Engine::SharedMemory, mending, cpus, kernel);
}

fn with_and_without_on(engine: Engine, mending: Mending, cpus: usize, kernel: fn() -> !) {
    *OFF.lock().unwrap() = None;
    assert_eq!(attack(cpus, engine, kernel), HELD, "the attack succeeded");
    *OFF.lock().unwrap() = Some(mending);
    assert_eq!(attack(cpus, engine, kernel), BROKEN, "without {mending:?} nothing happened either");
}

/// The statuses of a machine whose wall held, or did not.
const HELD: u8 = 10;
const BROKEN: u8 = 11;

/// The tests run one at a time where they share a process.
static ONE: Mutex<()> = Mutex::new(());
static OFF: Mutex<Option<Mending>> = Mutex::new(None);

fn begin() {
    if let Some(mending) = *OFF.lock().unwrap() {
        probe::switch_off(mending);
    }
}

fn end(held: bool) -> ! {
    power::off(if held { HELD } else { BROKEN })
}

/// mov rax, value; mov [rdi + offset], rax
fn store(code: &mut Vec<u8>, offset: usize, value: usize) {
    set(code, RAX, value);
    code.extend([0x48, 0x89, 0x87]);
    code.extend((offset as u32).to_le_bytes());
}

/// Writes a trap into the block of `cpu` that never was: system call `number`, made at CODE. Nothing is said of it yet.
pub fn forge(code: &mut Vec<u8>, cpu: usize, number: usize) {
    let block = BLOCKS + cpu * BLOCK_SIZE;
    set(code, RDI, block);
    for (offset, value) in [
        (16, libc::SIGSYS as usize),
        (24, block + 0x1000),
        (32, block + 0x1400),
        (0x1008, 1),
        (0x1010, CODE),
        (0x1018, 0xc000_003e << 32),
        (0x1400 + 224, block + 0x2000),
        (0x1400 + 40 + 18 * 8, 0x002b_0000_0000_0033),
        (0x1400 + 40 + 16 * 8, CODE),
        (0x1400 + 40 + 13 * 8, number),
    ] {
        store(code, offset, value);
    }
}

/// mov dword [rdi], 1: "I have trapped".
const CLAIM: [u8; 6] = [0xc7, 0x07, 1, 0, 0, 0];

/// inc dword [address]
pub fn increment(code: &mut Vec<u8>, address: usize) {
    code.extend([0xff, 4, 0x25]);
    code.extend((address as u32).to_le_bytes());
}

/// Returns from a signal that never was, with all signals blocked, to `to`.
fn block_signals(code: &mut Vec<u8>, to: usize) {
    sigreturn(code, to, usize::MAX);
}

/// Returns from a signal that never was to `to`, with the signals of a mask blocked. The frame is written below DATA + 2048.
pub fn sigreturn(code: &mut Vec<u8>, to: usize, mask: usize) {
    set(code, RDI, DATA + 1024);
    for (offset, value) in [
        (40 + 15 * 8, DATA + 512),
        (40 + 16 * 8, to),
        (40 + 17 * 8, 0x202),
        (40 + 18 * 8, 0x002b_0000_0000_0033),
        (296, mask),
    ] {
        store(code, offset, value);
    }
    set(code, RAX, libc::SYS_rt_sigreturn as usize);
    code.extend([0x48, 0xbc]); // mov rsp, DATA + 1024
    code.extend((DATA + 1024).to_le_bytes());
    set(code, R11, gadget());
    code.extend(JUMP_TO_R11);
}

fn value(frame: &Frame) -> u32 {
    let mut bytes = [0; 4];
    frame.read(0, &mut bytes);
    u32::from_ne_bytes(bytes)
}

/// Whether a word changes: in a while if it must not, at last if it must.
fn changes(word: impl Fn() -> u32, must: bool) -> bool {
    let (start, first) = (Instant::now(), word());
    while start.elapsed() < if must { AT_LAST } else { Duration::from_millis(30) } {
        if word() != first {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// Waits until something has happened.
fn until(what: &str, mut happened: impl FnMut() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < AT_LAST, "{what}");
        cpu::relax();
    }
}

/// What takes the right to write a page, or to see it, from a program.
type Taking = fn(Arc<Space>);

const THE_SPACE_IS_GONE: &str = "the space is gone";

const TAKINGS: [(&str, Taking); 9] = [
    ("unmap", |space| space.gather().unmap(PAGE)),
    ("no access", |space| space.gather().protect(PAGE, Access::empty())),
    ("no access, then unmap", |space| {
        space.gather().protect(PAGE, Access::empty());
        space.gather().unmap(PAGE);
    }),
    ("read only", |space| space.gather().protect(PAGE, Access::READ)),
    ("fork", |space| {
        let child = Space::new().unwrap();
        space.gather().share_with(&child, PAGE, true).unwrap();
    }),
    ("another page instead", |space| space.map(DATA, Frame::zeroed().unwrap(), WRITABLE).unwrap()),
    ("another space's page instead", |space| {
        let (parent, _) = program(&[]);
        parent.gather().share_with(&space, PAGE, true).unwrap();
    }),
    ("move", |space| space.gather().move_range(PAGE, OTHER).unwrap()),
    (THE_SPACE_IS_GONE, drop),
];

/// A program that counts in two pages, and says after a while that it has stopped.
fn counting_liar() -> Vec<u8> {
    let mut code = Vec::new();
    increment(&mut code, DATA);
    increment(&mut code, COUNT);
    forge(&mut code, 0, 10);
    code.extend(CLAIM);
    increment(&mut code, DATA); // 1:
    increment(&mut code, COUNT);
    code.extend([0xeb, 0xf0]); // jmp 1b
    code
}

/// uaf.c, cow.c, and the boundary's test: a program that said it had stopped goes on writing what it has no right to any more.
#[test]
fn a_program_that_lies_loses_a_right_with_the_call_that_takes_it() {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    fn kernel() -> ! {
        begin();
        let mut seen = 0;
        let is_off = OFF.lock().unwrap().is_some();
        // The threads of a space that is gone are killed in any case.
        let takings = &TAKINGS[..TAKINGS.len() - usize::from(is_off)];
        for (name, take) in takings {
            let (space, mut registers) = program(&counting_liar());
            let count = Frame::zeroed().unwrap();
            space.map(COUNT, count.clone(), WRITABLE).unwrap();
            let frame = space.frame_at(DATA).unwrap();
            assert_eq!(next(&mut registers, &space), Trap::Syscall, "{name}: forged");
            assert_eq!(registers.syscall_number(), 10);
            assert!(changes(|| value(&count), true), "{name}: it has not stopped");
            RUNNING.fetch_add(1, Ordering::SeqCst);
            let losses = probe::count(Step::Loss);
            let kept = (*name != THE_SPACE_IS_GONE).then(|| space.clone());
            take(space);
            assert!(is_off || probe::count(Step::Loss) > losses, "{name}: nothing was taken");
            let is_written = changes(|| value(&frame), is_off);
            assert!(!is_written || is_off, "{name}: a page was written after its right was taken");
            seen += usize::from(is_written);
            drop((kept, registers));
        }
        assert!(!is_off || seen == takings.len(), "only {seen} ways without the mending");
        end(seen == 0)
    }
    let _one = ONE.lock();
    with_and_without(Mending::LossAtOnce, 1, kernel);
    assert_eq!(
        RUNNING.load(Ordering::SeqCst),
        2 * TAKINGS.len() - 1,
        "each time the program ran while it was said to be stopped"
    );
}

/// A program says that it has stopped, and goes on in its stub when that belongs to another program with the same code: it would go on counting
/// in the other's pages.
#[test]
fn a_program_that_lies_does_not_go_on_in_the_space_that_gets_its_stub() {
    static COUNTED: Mutex<Option<Frame>> = Mutex::new(None);
    fn kernel() -> ! {
        begin();
        cpu::start(Arc::new(|cpu| if cpu == 0 { lie_and_hand_on() } else { watch_the_count() }))
    }
    fn lie_and_hand_on() -> ! {
        let mut code = counting_liar();
        let honest = CODE + code.len();
        code.extend([0x0f, 5]); // syscall
        let (first, mut liar) = program(&code);
        let count = Frame::zeroed().unwrap();
        first.map(COUNT, count.clone(), WRITABLE).unwrap();
        assert_eq!(next(&mut liar, &first), Trap::Syscall, "forged");
        assert!(changes(|| value(&count), true), "it has not stopped");
        let stub = first.0.stub().unwrap();

        let pool = machine::current().stubs.as_ref().unwrap();
        until("a stub is always being made", || pool.use_up());
        let (second, _) = program(&code);
        let other_count = Frame::zeroed().unwrap();
        second.map(COUNT, other_count.clone(), WRITABLE).unwrap();
        *COUNTED.lock().unwrap() = Some(other_count.clone());
        let mut registers = Registers::new(honest, DATA + PAGE_SIZE).unwrap();
        assert_eq!(next(&mut registers, &second), Trap::Syscall);
        assert!(Arc::ptr_eq(&second.0.stub().unwrap(), &stub), "it has the liar's stub");
        let held = !changes(|| value(&other_count), false) && value(&other_count) == 0;
        stop_watching_and_end(held)
    }
    fn watch_the_count() -> ! {
        loop {
            let is_counted = COUNTED.lock().unwrap().as_ref().is_some_and(|count| value(count) > 0);
            if is_counted {
                stop_watching_and_end(false);
            }
            cpu::relax();
        }
    }
    fn stop_watching_and_end(held: bool) -> ! {
        // The frame belongs to this machine, and not to the next.
        let counted = COUNTED.lock().unwrap().take();
        drop(counted);
        end(held)
    }
    let _one = ONE.lock();
    with_and_without(Mending::Retirement, 2, kernel);
}

/// The same while an honest program runs on another CPU, which nobody has told to stop.
#[test]
fn a_right_is_lost_while_the_program_runs_on_another_cpu() {
    static PROGRAM: Mutex<Option<(Arc<Space>, Registers)>> = Mutex::new(None);
    static DONE: AtomicUsize = AtomicUsize::new(0);
    fn kernel() -> ! {
        DONE.store(0, Ordering::SeqCst);
        cpu::start(Arc::new(|cpu| {
            if cpu == 1 {
                loop {
                    let Some((space, mut registers)) = PROGRAM.lock().unwrap().take() else {
                        cpu::relax();
                        continue;
                    };
                    assert!(matches!(next(&mut registers, &space), Trap::PageFault(_)));
                    DONE.fetch_add(1, Ordering::SeqCst);
                }
            }
            // A space that programs run in is not dropped.
            for (round, (name, take)) in TAKINGS[..TAKINGS.len() - 1].iter().enumerate() {
                let (space, registers) = program(&counting_liar()[counting_liar().len() - 16..]);
                let count = Frame::zeroed().unwrap();
                space.map(COUNT, count.clone(), WRITABLE).unwrap();
                let frame = space.frame_at(DATA).unwrap();
                *PROGRAM.lock().unwrap() = Some((space.clone(), registers));
                until("it runs", || value(&count) > 0);
                take(space.clone());
                assert!(!changes(|| value(&frame), false), "{name}");
                // If what it has there now allows it, it goes on.
                space.gather().protect(PAGE, Access::READ);
                until("it faults", || DONE.load(Ordering::SeqCst) > round);
            }
            power::off(HELD)
        }))
    }
    let _one = ONE.lock();
    for engine in [Engine::Ptrace, Engine::SharedMemory] {
        assert_eq!(attack(2, engine, kernel), HELD);
    }
}

/// A read-only page that is replaced by the program's own copy: from then on it must see the copy.
#[test]
fn a_copy_on_write_page_is_replaced_for_a_program_that_lies() {
    fn kernel() -> ! {
        begin();
        let mut code = vec![0x8b, 0x04, 0x25, 0, 0, 0x50, 0]; // mov eax, [DATA]
        increment(&mut code, COUNT);
        forge(&mut code, 0, 10);
        code.extend(CLAIM);
        code.extend([0x8b, 0x04, 0x25, 0, 0, 0x50, 0]); // 1: mov eax, [DATA]
        code.extend([0x89, 0x04, 0x25, 0, 0, 0x60, 0]); // mov [COUNT], eax
        code.extend([0xeb, 0xf0]); // jmp 1b
        let (space, mut registers) = program(&code);
        let seen = Frame::zeroed().unwrap();
        space.map(COUNT, seen.clone(), WRITABLE).unwrap();
        let other = Space::new().unwrap();
        space.gather().share_with(&other, PAGE, true).unwrap();
        assert_eq!(next(&mut registers, &space), Trap::Syscall, "forged");
        assert!(space.break_copy_on_write(DATA, WRITABLE, 0, || true).unwrap());
        space.compare_exchange_u32(DATA, 0, 1).unwrap().unwrap();
        other.break_copy_on_write(DATA, WRITABLE, 0, || true).unwrap();
        other.compare_exchange_u32(DATA, 0, 2).unwrap().unwrap();
        let is_off = OFF.lock().unwrap().is_some();
        let new = if is_off { 2 } else { 1 };
        until("it sees one of the two", || value(&seen) == new);
        std::thread::sleep(Duration::from_millis(30));
        end(value(&seen) == 1)
    }
    let _one = ONE.lock();
    with_and_without(Mending::LossAtOnce, 1, kernel);
}

/// poison.c: a program makes the host reset how its stub handles signals. Whoever gets the stub next dies of it.
#[test]
fn a_program_can_t_poison_the_stub_of_the_next() {
    fn kernel() -> ! {
        begin();
        let (mut lost, mut same) = (0, 0);
        for _ in 0..8 {
            let mut code = Vec::new();
            block_signals(&mut code, CODE + 1024);
            code.resize(1024, 0x90);
            forge(&mut code, 0, 231);
            code.extend(CLAIM);
            code.extend([0x0f, 5, 0x0f, 0x0b]); // syscall: with SIGSYS blocked, it dies; ud2
            let (space, mut registers) = program(&code);
            space.write(DATA, &[0; 8]).unwrap();
            assert_eq!(next(&mut registers, &space), Trap::Syscall, "forged");
            assert_eq!(registers.syscall_number(), 231);
            let stub = space.0.enter().unwrap();
            stub.leave();
            until("its thread dies", || stub.has_guest_ended(0));
            let handed_on = probe::count(Step::HandedOn);
            drop((space, registers));
            assert_eq!(probe::count(Step::HandedOn), handed_on + 1, "the stub is for the next program");
            let (space, mut registers) = program(&[0xb8, 39, 0, 0, 0, 0x0f, 5]); // mov eax, 39; syscall
            let trap = next(&mut registers, &space);
            // Unless one was made in this instant, it has the same stub; a stub it lost is nobody's by now.
            same += usize::from(space.0.stub().is_none_or(|its| Arc::ptr_eq(&stub, &its)));
            lost += usize::from(trap != Trap::Syscall);
        }
        assert!(same > 0, "nobody got the stub");
        end(lost == 0)
    }
    let _one = ONE.lock();
    with_and_without(Mending::OwnHandlers, 1, kernel);
}

/// A guest thread with the stubs' filter only can map what it likes: so it never runs a program.
#[test]
fn a_thread_that_runs_a_program_has_its_filter() {
    fn kernel() -> ! {
        begin();
        let starts = probe::count(Step::Start);
        let mut executed = 0;
        for number in [libc::SYS_mmap, libc::SYS_munmap, libc::SYS_getppid, libc::SYS_mprotect] {
            let mut code = Vec::new();
            set(&mut code, RAX, number as usize);
            for (register, argument) in [(RDI, DATA), (RSI, PAGE_SIZE), (RDX, 3), (R10, 0x11), (R8, 0), (R9, 0)] {
                set(&mut code, register, argument);
            }
            set(&mut code, R11, gadget());
            code.extend(JUMP_TO_R11);
            let (space, mut registers) = program(&code);
            match next(&mut registers, &space) {
                Trap::Syscall => assert_eq!(registers.syscall_number(), number as usize),
                // The trap behind the call.
                Trap::Exception(Exception { vector: 3, .. }) => executed += 1,
                trap => panic!("{trap:?}"),
            }
        }
        assert_eq!(probe::count(Step::Start) - starts, 4, "each had a new thread");
        assert!(executed == 0 || executed == 4);
        end(executed == 0)
    }
    let _one = ONE.lock();
    with_and_without(Mending::Filter, 1, kernel);
}

/// escape.c, hang4.c: while a guest thread is made its siblings write its block, and it is interrupted all the time; they want it to put its
/// registers where they can have them.
#[test]
fn siblings_can_t_redirect_a_thread_that_is_being_made() {
    const FAKE: usize = 0x100_0000;
    /// As often as the kernel has been made to believe that a thread which was just made has trapped.
    const FORGED: usize = 50;
    fn kernel() -> ! {
        begin();
        // CPU 0: says for CPU 1's thread that it has trapped, and that its stack is elsewhere, for ever.
        let mut code = Vec::new();
        for page in (FAKE..FAKE + BLOCK_SIZE).step_by(PAGE_SIZE) {
            increment(&mut code, page + 8);
        }
        let again = code.len();
        forge(&mut code, 1, 39);
        store(&mut code, 56, FAKE + 0x1000);
        store(&mut code, 72, BLOCK_SIZE - 0x1000);
        code.extend(CLAIM);
        let back = again as i32 - code.len() as i32 - 5;
        code.push(0xe9);
        code.extend(back.to_le_bytes());
        let (space, mut registers) = program(&code);
        for page in (FAKE..FAKE + BLOCK_SIZE).step_by(PAGE_SIZE) {
            space.map(page, Frame::zeroed().unwrap(), WRITABLE).unwrap();
        }
        let honest = Frame::zeroed().unwrap();
        honest.write(0, &[0x0f, 5, 0xeb, 0xfc]); // 1: syscall; jmp 1b
        space.map(OTHER, honest, Access::READ | Access::EXECUTE).unwrap();
        let is_hit = AtomicBool::new(false);
        let registers = Mutex::new(Some(registers_of_liar(&mut registers)));
        cpu::start(Arc::new(move |cpu| {
            let alarm = || time::set_alarm(Some(time::now() + 1_000_000));
            match cpu {
                0 => {
                    let mut registers = registers.lock().unwrap().take().unwrap();
                    loop {
                        let _ = enter(&mut registers, &space);
                    }
                }
                1 => {
                    let most = if OFF.lock().unwrap().is_some() { usize::MAX } else { FORGED };
                    let (start, mut forged) = (Instant::now(), 0);
                    while forged < most {
                        let mut registers = Registers::new(OTHER, DATA + PAGE_SIZE).unwrap();
                        alarm();
                        let trap = enter(&mut registers, &space);
                        let Some(stub) = space.0.stub() else { continue };
                        // Whatever it said: has it been where it should not?
                        let words = [0, 32].map(|offset| space.load_u32(FAKE + offset).unwrap());
                        if words != [0, 0] {
                            is_hit.store(true, Ordering::SeqCst);
                            break;
                        }
                        assert!(start.elapsed() < AT_LAST, "nothing happened");
                        stub.end_guest(1);
                        forged += usize::from(trap == Trap::Syscall && registers.syscall_number() == 39);
                    }
                    end(!is_hit.load(Ordering::SeqCst))
                }
                _ => loop {
                    cpu::kick(1);
                    std::thread::sleep(Duration::from_micros(300));
                    cpu::relax();
                },
            }
        }))
    }
    fn registers_of_liar(registers: &mut Registers) -> Registers {
        registers.duplicate().unwrap()
    }
    let _one = ONE.lock();
    with_and_without(Mending::StackByKernel, 3, kernel);
}

/// hang.c to hang3.c: a program that never comes back is given up, and nobody else waits for it meanwhile.
#[test]
fn nobody_waits_for_a_program_that_does_not_come_back() {
    static IS_LOST: AtomicBool = AtomicBool::new(false);
    static RAN: AtomicUsize = AtomicUsize::new(0);
    fn kernel() -> ! {
        begin();
        IS_LOST.store(false, Ordering::SeqCst);
        let mut code = Vec::new();
        increment(&mut code, COUNT);
        block_signals(&mut code, CODE + 1024);
        code.resize(1024, 0x90);
        increment(&mut code, COUNT);
        code.extend([0xeb, 0xf7]);
        let (space, registers) = program(&code);
        space.write(DATA, &[0; 8]).unwrap();
        let count = Frame::zeroed().unwrap();
        space.map(COUNT, count.clone(), WRITABLE).unwrap();
        let registers = Mutex::new(Some(registers));
        cpu::start(Arc::new(move |cpu| {
            if cpu == 1 {
                let mut registers = registers.lock().unwrap().take().unwrap();
                while enter(&mut registers, &space) != Trap::Lost {}
                IS_LOST.store(true, Ordering::SeqCst);
                loop {
                    cpu::relax();
                }
            }
            until("it runs", || value(&count) > 1);
            // The same space, and other programs, go on all the time.
            let start = Instant::now();
            let is_off = OFF.lock().unwrap().is_some();
            let given_up = || probe::count(Step::Deadline) > 2;
            while !(IS_LOST.load(Ordering::SeqCst) || is_off && given_up()) {
                assert!(start.elapsed() < AT_LAST, "it is waited for without an end");
                space.map(OTHER, Frame::zeroed().unwrap(), WRITABLE).unwrap();
                space.gather().unmap(OTHER..OTHER + PAGE_SIZE);
                let (other, mut registers) = program(&[0x0f, 5]);
                assert_eq!(next(&mut registers, &other), Trap::Syscall);
                RAN.fetch_add(1, Ordering::SeqCst);
                cpu::kick(1);
                // Not so many changes that the stub is emptied, which would end a program that can't be told of faults.
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(probe::count(Step::Deadline) > 0 && RAN.load(Ordering::SeqCst) > 0);
            assert!(is_off || IS_LOST.load(Ordering::SeqCst));
            end(IS_LOST.load(Ordering::SeqCst))
        }))
    }
    let _one = ONE.lock();
    with_and_without(Mending::Deadline, 2, kernel);
}

/// CPU 1 does `wait`, which ends by a deadline only; says how that went.
fn wait_in_vain(wait: impl Fn() -> bool + Send + Sync + 'static) -> ! {
    let is_over = AtomicBool::new(false);
    cpu::start(Arc::new(move |cpu| {
        if cpu == 1 {
            is_over.store(wait(), Ordering::SeqCst);
            loop {
                cpu::relax();
            }
        }
        let is_off = OFF.lock().unwrap().is_some();
        let given_up = || probe::count(Step::Deadline) > 2;
        let start = Instant::now();
        while !(is_over.load(Ordering::SeqCst) || is_off && given_up()) {
            assert!(start.elapsed() < AT_LAST, "it is waited for without an end");
            cpu::kick(1);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(probe::count(Step::Deadline) > 0);
        end(is_over.load(Ordering::SeqCst))
    }))
}

/// A traced program that does not come back when it is interrupted, because the host loses the signal, is given up.
#[test]
fn a_traced_program_that_does_not_come_back_is_given_up() {
    fn kernel() -> ! {
        begin();
        let (space, registers) = program(&[0xeb, 0xfe]); // jmp itself
        let registers = Mutex::new(registers);
        probe::switch_off(Mending::Interrupt);
        probe::switch_off(Mending::LongPatience);
        wait_in_vain(move || {
            let mut registers = registers.lock().unwrap();
            while enter(&mut registers, &space) != Trap::Lost {}
            true
        })
    }
    let _one = ONE.lock();
    with_and_without_on(Engine::Ptrace, Mending::Deadline, 2, kernel);
}

/// A stub that does not come back from a call that it makes for the kernel is given up.
#[test]
fn a_stub_that_hangs_in_a_call_is_given_up() {
    fn kernel() -> ! {
        begin();
        wait_in_vain(|| {
            let (space, mut registers) = program(&[0x0f, 5, 0xeb, 0xfc]); // 1: syscall; jmp 1b
            assert_eq!(next(&mut registers, &space), Trap::Syscall);
            let stub = space.0.enter().unwrap();
            // Not before: a busy host may well take longer for a call that does not hang.
            probe::switch_off(Mending::LongPatience);
            stub.hang() == Err(Gone)
        })
    }
    let _one = ONE.lock();
    for engine in [Engine::Ptrace, Engine::SharedMemory] {
        with_and_without_on(engine, Mending::Deadline, 2, kernel);
    }
}

/// Stubs that somebody kills while they are in stock are no loss.
#[test]
fn a_program_gets_another_stub_if_a_fresh_one_is_gone() {
    fn kernel() -> ! {
        begin();
        let pool = machine::current().stubs.as_ref().unwrap();
        let (space, mut registers) = program(&[0x0f, 5, 0xeb, 0xfc]);
        until("there is a stock", || pool.kill_stock());
        let trap = next(&mut registers, &space);
        assert!(probe::count(Step::FreshStubGone) > 0, "it had one that was gone");
        end(trap == Trap::Syscall)
    }
    let _one = ONE.lock();
    with_and_without(Mending::FreshStub, 1, kernel);
}

/// A space that shows pages is given others instead: it must show those, and count what it has.
#[test]
fn pages_shared_with_a_child_replace_what_it_shows() {
    fn kernel() -> ! {
        let entries = || machine::current().entries.load(Ordering::SeqCst);
        let before = entries();
        {
            // 1: mov edi, [DATA]; syscall; jmp 1b
            let code = [0x8b, 0x3c, 0x25, 0, 0, 0x50, 0, 0x0f, 5, 0xeb, 0xf5];
            let (child, mut registers) = program(&code);
            child.write(DATA, &1_u32.to_le_bytes()).unwrap();
            assert_eq!(next(&mut registers, &child), Trap::Syscall);
            assert_eq!(registers.arguments()[0], 1);
            let old = child.frame_at(DATA).unwrap();
            let (parent, _) = program(&code);
            parent.write(DATA, &2_u32.to_le_bytes()).unwrap();
            parent.gather().share_with(&child, PAGE, true).unwrap();
            assert_eq!(old.references(), 1, "the child has let it go");
            assert_eq!(next(&mut registers, &child), Trap::Syscall);
            assert_eq!(registers.arguments()[0], 2);
            assert_eq!(entries() - before, parent.resident() + child.resident());
        }
        assert_eq!(entries(), before);
        power::off(HELD)
    }
    let _one = ONE.lock();
    for engine in [Engine::Ptrace, Engine::SharedMemory] {
        assert_eq!(attack(1, engine, kernel), HELD);
    }
}

/// Without the filter there is no machine: it does not go on, and says what is missing.
#[test]
fn a_host_that_takes_no_filter_ends_the_machine() {
    fn kernel() -> ! {
        probe::switch_off(Mending::FilterTaken);
        let (space, mut registers) = program(&[0x0f, 5]);
        let trap = next(&mut registers, &space);
        assert_eq!(trap, Trap::Lost, "no program runs");
        loop {
            cpu::relax();
        }
    }
    let configuration = Configuration { cpus: 1, engine: Engine::SharedMemory, ..Configuration::default() };
    let error = run(configuration, kernel).unwrap_err().to_string();
    assert!(error.contains("seccomp") && error.contains("docs/src/host-machine.md"), "{error}");
}
