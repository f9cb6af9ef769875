//! [`Machine`]: one machine in this process, from [`run`] to its end. Several can run at once.
//!
//! Everything of a machine hangs from its value: its frames, its CPUs, its clock, its devices, the processes its programs
//! run in. A thread that works for a machine is told so once ([`Machine::adopt`]), and the boundary's functions find
//! it by [`current`]. A thread that was told nothing, as in the tests of the rooms, works for a small machine
//! that runs no programs.
//!
//! The end, [`Machine::off`], unwinds: the CPU that asked for it by a panic payload of its own, the others as soon as they come
//! to a place where interrupts are taken. So every guard is dropped, and the caller of [`run`] goes on with the status.

use super::confine;
use super::cpu::Cpus;
use super::device::{self, Devices, Installed};
use super::frames::Zone;
use super::heap::{self, MachineHeap};
use super::stub::{self, Pool};
use super::time::{self, Clock};
use crate::cpu::MAX_CPUS;
use crate::debug::Describe;
use crate::memory::FrameSource;
use setup::Power;
pub use setup::{Configuration, Engine, MORE_PROCESSES, StartError};
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicUsize;
use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use stubs::outside::Outside;

/// The status when the kernel panicked.
const PANICKED: u8 = 101;

/// Frames of a thread's own machine that was told nothing: 64 MiB.
const DEFAULT_FRAMES: usize = if cfg!(miri) { 8 } else { 64 } << 20 >> 12;

/// One machine. It stays for the life of the process, since threads may look at it late; what it holds of the host is
/// given back when it ends.
pub struct Machine {
    pub zone: Zone,
    /// What its threads allocate.
    pub heap: MachineHeap,
    /// Pages that the maps of all spaces have.
    pub entries: AtomicUsize,
    pub source: OnceLock<&'static dyn FrameSource>,
    pub cpus: Cpus,
    pub clock: Clock,
    pub devices: Installed,
    /// The processes programs run in. A default machine has none.
    pub stubs: Option<Pool>,
    pub describe: OnceLock<Describe>,
    /// Who looks at what confined threads can't.
    pub outside: Outside,
    power: Power,
}

/// The payload that unwinds the CPUs of a machine that is off.
struct PoweredOff;

/// Locks a mutex of the machine. A thread that unwound while it held one has left it whole: all of them guard single steps.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static CURRENT: Cell<Option<&'static Machine>> = const { Cell::new(None) };
}

/// The machine of threads that were told of none.
static DEFAULT: LazyLock<&'static Machine> = LazyLock::new(|| {
    let zone = match Zone::new(DEFAULT_FRAMES, DEFAULT_FRAMES / 2) {
        Ok(zone) => zone,
        Err(error) => {
            eprintln!("orrery: no memory for a test machine: {error}");
            std::process::abort()
        }
    };
    Machine::new(zone, 4, Devices::default(), None)
});

/// The machine this thread works for.
#[inline]
pub fn current() -> &'static Machine {
    match CURRENT.get() {
        Some(machine) => machine,
        None => &DEFAULT,
    }
}

/// The machine this thread was told to work for.
#[inline]
pub fn current_if_told() -> Option<&'static Machine> {
    CURRENT.get()
}

/// Runs `body` as a thread of `machine`. It must not unwind.
pub fn as_if_of<R>(machine: &'static Machine, body: impl FnOnce() -> R) -> R {
    let before = CURRENT.replace(Some(machine));
    let result = body();
    CURRENT.set(before);
    result
}

/// Runs `kernel` on a new machine until it is switched off, and returns the status it was switched off with: 101 if the
/// kernel panicked. The calling thread waits, and makes processes for programs meanwhile.
///
/// # Errors
/// The host refuses what a machine needs.
pub fn run(configuration: Configuration, kernel: fn() -> !) -> Result<u8, StartError> {
    let Configuration { cpus, memory, engine, devices } = configuration;
    let cpus = cpus.clamp(1, MAX_CPUS);
    let engine = if stub::is_possible() { engine } else { Engine::Ptrace };
    let zone = Zone::for_programs(memory >> 12, stub::own_pages(cpus, engine)).map_err(|reason| StartError {
        step: "make the guest's memory (memfd_create, mmap)",
        advice: "give it less memory, or raise the limits on addresses and on the size of files (ulimit -v, -f)",
        reason,
    })?;
    let pool = Pool::new(&zone, cpus, engine)?;
    super::frames::expect_shortage();
    let machine: &'static Machine = Machine::new(zone, cpus, devices, Some(pool));
    let outside = thread::Builder::new().name("outside".into()).spawn(|| machine.outside.serve());
    let outside = outside.map_err(|reason| StartError { step: "start a thread", advice: MORE_PROCESSES, reason });
    let outside = match outside {
        Ok(outside) => outside,
        Err(error) => {
            end_stubs(machine);
            return Err(error);
        }
    };
    let boot = machine.spawn("cpu 0", 0, move || kernel());
    // Before stubs take the last processes the host allows.
    machine.cpus.start_watch(machine);
    if let Some(pool) = &machine.stubs {
        pool.serve(machine);
    }
    let status = machine.power.wait_until_off();
    // The CPUs' threads end by themselves; nothing of the host may be taken away while one is still at it.
    if let Some(boot) = boot {
        let _ = boot.join();
    }
    machine.cpus.join();
    machine.outside.end();
    let _ = outside.join();
    end_stubs(machine);
    machine.devices.finish();
    machine.zone.release();
    machine.power.refusal().map_or(Ok(status), Err)
}

fn end_stubs(machine: &Machine) {
    if let Some(pool) = &machine.stubs {
        pool.end();
    }
}

impl Machine {
    fn new(zone: Zone, cpus: usize, devices: Devices, stubs: Option<Pool>) -> &'static Machine {
        let machine: &'static Machine = Box::leak(Box::new(Machine {
            heap: MachineHeap::new(&zone.numbers()),
            zone,
            entries: AtomicUsize::new(0),
            source: OnceLock::new(),
            cpus: Cpus::new(cpus),
            clock: time::new(),
            devices: Installed::new(devices, device::LENT),
            stubs,
            describe: OnceLock::new(),
            outside: Outside::default(),
            power: Power::default(),
        }));
        heap::register(machine);
        machine
    }

    /// Makes this thread work for the machine.
    pub fn adopt(&'static self) {
        CURRENT.set(Some(self));
    }

    /// A thread that plays `cpu` and runs `main`. However it ends, the machine is off then.
    pub fn spawn(
        &'static self,
        name: &str,
        cpu: usize,
        main: impl FnOnce() + Send + 'static,
    ) -> Option<thread::JoinHandle<()>> {
        let is_confined = confine::is_confined();
        let result = thread::Builder::new().name(name.into()).spawn(move || {
            self.adopt();
            if is_confined {
                confine::inherit();
            } else if self.stubs.is_some()
                && let Err(error) = confine::confine(self.devices.has_folders())
            {
                return self.refuse(error);
            }
            super::cpu::set_current(cpu);
            if let Err(payload) = catch_unwind(AssertUnwindSafe(main)) {
                self.unwound(&*payload);
            }
        });
        let refused =
            |reason| self.refuse(StartError { step: "start a thread for a CPU", advice: MORE_PROCESSES, reason });
        result.map_err(refused).ok()
    }

    /// Switches the machine off for want of something that no program can run without.
    pub fn refuse(&self, error: StartError) {
        self.power.note_refusal(error);
        self.switch_off(PANICKED);
    }

    /// A CPU's thread has unwound to its end.
    fn unwound(&self, payload: &(dyn Any + Send)) {
        if !payload.is::<PoweredOff>() {
            // The panic's own message is out already. As on `pc`, the machine stops.
            if let Some(describe) = self.describe.get() {
                let mut text = String::new();
                describe(&mut text);
                super::debug::emergency_print(format_args!("{text}"));
            }
            self.switch_off(PANICKED);
        }
    }

    fn switch_off(&self, status: u8) {
        self.power.switch_off(status);
        self.cpus.kick_all();
        if let Some(pool) = &self.stubs {
            pool.wake();
        }
    }

    /// Switches the machine off and unwinds this CPU.
    pub fn off(&self, status: u8) -> ! {
        self.switch_off(status);
        resume_unwind(Box::new(PoweredOff))
    }

    /// Whether the machine is off: then nobody should begin anything.
    pub fn is_off(&self) -> bool {
        self.power.is_off()
    }

    /// Unwinds this CPU if the machine is off. Called where interrupts are taken and where a CPU spins.
    #[inline]
    pub fn check_power(&self) {
        if self.power.is_off_by_now() && !thread::panicking() && !heap::is_inside() {
            resume_unwind(Box::new(PoweredOff));
        }
    }
}

/// What a handler of an interrupt is, on this machine.
pub use lines::Handler as InterruptHandler;
