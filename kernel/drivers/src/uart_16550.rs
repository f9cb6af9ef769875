//! The 16550 UART: COM1 of q35 and microvm, and of most real PCs. See the PC16550D data sheet.
//!
//! **Receiving.** The chip interrupts at the first byte; the handler empties its FIFO into the user in batches. When the user has
//! no room the receive interrupt is switched off and the bytes stay in the chip, which holds the sender back (QEMU stops
//! reading its input; a real line loses bytes and counts an overrun) until [`Uart::resume`].
//!
//! **Sending.** [`Uart::start`] puts bytes into the FIFO for as long as the chip says it is empty: 16 at a time on silicon; on
//! QEMU, which sends at once, everything. Only if the chip is still busy is its interrupt asked for. So there is no
//! state "sending" that could be lost: whoever adds output calls `start`, and so does the interrupt.
//!
//! **The FIFO** is emptied when it is switched on, and whoever pipes input into a virtual machine does not wait for us. If something had
//! arrived before, more comes as soon as that is read, and would be lost; such a chip goes on byte by byte, which holds the sender back
//! (QEMU). Its FIFO is switched on when something is sent after the line has been quiet for a second.
//!
//! **Who synchronises.** One spin lock covers the registers of the sending side and the interrupt enable register. The receiving side
//! belongs to one CPU at a time; another one that comes meanwhile leaves a note to look once more.

use alloc::sync::{Arc, Weak};

use machine::device::PortWindow;
use sync::SpinLock;

use crate::one_at_a_time::OneAtATime;
use crate::serial::{LineSettings, Parity, Received, SerialCounters, SerialUser};

/// A register, by its offset. Some offsets are different registers for reading, for writing, and under `DLAB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Register {
    /// Receive buffer, transmit holding; divisor low under `DLAB`.
    Data = 0,
    /// Interrupt enable; divisor high under `DLAB`.
    InterruptEnable = 1,
    /// Interrupt identification when read, FIFO control when written.
    InterruptIdentification = 2,
    /// Line control.
    LineControl = 3,
    /// Modem control.
    ModemControl = 4,
    /// Line status.
    LineStatus = 5,
    /// Modem status.
    ModemStatus = 6,
    /// Keeps a byte and does nothing.
    Scratch = 7,
}

/// Access to the eight registers: ports, or a test's imitation.
pub trait Registers: Send + Sync {
    /// Reads a register; reading may have effects.
    fn read(&self, register: Register) -> u8;
    /// Writes a register.
    fn write(&self, register: Register, value: u8);
}

impl Registers for PortWindow {
    fn read(&self, register: Register) -> u8 {
        self.read_u8(register as u16)
    }

    fn write(&self, register: Register, value: u8) {
        self.write_u8(register as u16, value);
    }
}

/// Bits of the registers.
mod bits {
    pub const ENABLE_RECEIVED: u8 = 0x01;
    pub const ENABLE_SENT: u8 = 0x02;
    pub const ENABLE_LINE_STATUS: u8 = 0x04;
    pub const NO_INTERRUPT: u8 = 0x01;
    pub const FIFO_WORKS: u8 = 0xc0;
    /// On, both emptied, interrupt at the first byte: latency matters, and the handler empties it anyway.
    pub const FIFO_ENABLE_AND_CLEAR: u8 = 0x07;
    pub const DIVISOR_ACCESS: u8 = 0x80;
    pub const BREAK: u8 = 0x40;
    /// DTR and RTS for the other side, OUT2 to let interrupts through.
    pub const MODEM_READY: u8 = 0x0b;
    pub const DATA_READY: u8 = 0x01;
    pub const OVERRUN: u8 = 0x02;
    pub const PARITY_OR_FRAMING: u8 = 0x0c;
    pub const BREAK_RECEIVED: u8 = 0x10;
    pub const HOLDING_EMPTY: u8 = 0x20;
    pub const ALL_SENT: u8 = 0x40;
}

/// The chip's clock divided by 16: its highest speed.
const HIGHEST_SPEED: u32 = 115_200;
/// Bytes the FIFO takes.
const FIFO_SIZE: usize = 16;
/// Items given to the user at once.
const BATCH: usize = 64;
/// Nanoseconds without a byte after which none is expected in the moment in which the FIFO is switched on.
const QUIET: u64 = 1_000_000_000;
/// Rounds of one interrupt, or of one [`Uart::start`], before others get a turn: a chip gone mad holds up nobody.
const ROUNDS: usize = 1024;

/// A driver of one 16550.
pub struct Uart<R: Registers = PortWindow> {
    registers: R,
    state: SpinLock<State>,
    user: SpinLock<Option<Weak<dyn SerialUser>>>,
    receiving: OneAtATime,
}

struct State {
    /// What the interrupt enable register holds.
    enabled: u8,
    /// Bytes that may be sent at once.
    burst: usize,
    /// When the last byte came ([`machine::time::now`]) to a chip whose FIFO is still to be switched on.
    fifo_waits_since: Option<u64>,
    counters: SerialCounters,
    /// What had arrived before the chip was set up, and how much: for the user when there is one.
    early: ([Received; FIFO_SIZE], usize),
}

impl<R: Registers> Uart<R> {
    /// Sets the chip up, silent until [`Uart::attach`]. `None`: there is no chip behind these registers.
    pub fn new(registers: R) -> Option<Arc<Uart<R>>> {
        for pattern in [0x5a, 0xa5] {
            registers.write(Register::Scratch, pattern);
            if registers.read(Register::Scratch) != pattern {
                return None;
            }
        }
        registers.write(Register::InterruptEnable, 0);
        let (mut counters, mut early) = (SerialCounters::default(), [Received::Break; FIFO_SIZE]);
        let count = counters.take(&registers, &mut early);
        registers.write(Register::ModemControl, bits::MODEM_READY);
        let fifo_waits_since = (count > 0).then(machine::time::now);
        let mut state = State { enabled: 0, burst: 1, fifo_waits_since, counters, early: (early, count) };
        if count == 0 {
            state.enable_fifo(&registers);
        }
        let uart = Uart {
            registers,
            state: SpinLock::new(state),
            user: SpinLock::new(None),
            receiving: OneAtATime::default(),
        };
        uart.configure(LineSettings::default());
        Some(Arc::new(uart))
    }

    /// Gives the line to its user, and begins to receive.
    pub fn attach(&self, user: Weak<dyn SerialUser>) {
        *self.user.lock() = Some(user);
        let (early, count) = self.state.lock().early;
        if let (Some(user), Some(early @ [_, ..])) = (self.user(), early.get(..count)) {
            self.receiving.run(|| user.receive(early));
            self.state.lock().early.1 = 0;
        }
        self.set_enabled(bits::ENABLE_RECEIVED | bits::ENABLE_LINE_STATUS, true);
        self.start();
    }

    fn user(&self) -> Option<Arc<dyn SerialUser>> {
        self.user.lock().as_ref().and_then(Weak::upgrade)
    }

    /// Changes speed and format. Bytes under way may be damaged by it.
    pub fn configure(&self, settings: LineSettings) {
        let format = settings.data_bits.saturating_sub(5).min(3)
            | if settings.two_stop_bits { 0x04 } else { 0 }
            | match settings.parity {
                Parity::None => 0,
                Parity::Odd => 0x08,
                Parity::Even => 0x18,
            };
        let _state = self.state.lock();
        if let Some(divisor) = HIGHEST_SPEED.checked_div(settings.speed) {
            let [low, high, ..] = divisor.clamp(1, 0xffff).to_le_bytes();
            self.registers.write(Register::LineControl, format | bits::DIVISOR_ACCESS);
            self.registers.write(Register::Data, low);
            self.registers.write(Register::InterruptEnable, high);
        }
        self.registers.write(Register::LineControl, format);
    }

    /// Begins or ends a break.
    pub fn set_break(&self, on: bool) {
        let _state = self.state.lock();
        let control = self.registers.read(Register::LineControl) & !bits::BREAK;
        self.registers.write(Register::LineControl, control | if on { bits::BREAK } else { 0 });
    }

    /// What went over the line so far.
    pub fn counters(&self) -> SerialCounters {
        self.state.lock().counters
    }

    /// Whether the last bit has left the chip.
    pub fn all_sent(&self) -> bool {
        self.registers.read(Register::LineStatus) & bits::ALL_SENT != 0
    }

    fn set_enabled(&self, interrupts: u8, on: bool) {
        self.state.lock().set_enabled(&self.registers, interrupts, on);
    }

    /// The interrupt handler. Returns when the chip asks for nothing more, so that an edge-triggered line can rise again.
    pub fn interrupt(&self) {
        for _ in 0..ROUNDS {
            if self.registers.read(Register::InterruptIdentification) & bits::NO_INTERRUPT != 0 {
                return;
            }
            self.receive();
            self.start();
            self.registers.read(Register::ModemStatus);
        }
    }

    /// The user has room again.
    pub fn resume(&self) {
        self.set_enabled(bits::ENABLE_RECEIVED | bits::ENABLE_LINE_STATUS, true);
        self.receive();
    }

    /// Hands received bytes to the user until the chip has none or the user no room.
    fn receive(&self) {
        self.receiving.run(|| {
            if let Some(user) = self.user() {
                self.receive_for(&*user);
            }
        });
    }

    fn receive_for(&self, user: &dyn SerialUser) {
        for _ in 0..ROUNDS {
            let mut batch = [Received::Break; BATCH];
            let room = user.room();
            let mut state = self.state.lock();
            // Each round says it anew: a `resume` that came since the last one must not be forgotten.
            state.set_enabled(&self.registers, bits::ENABLE_RECEIVED | bits::ENABLE_LINE_STATUS, room > 0);
            if room == 0 {
                return;
            }
            let count = state.counters.take(&self.registers, batch.get_mut(..room.min(BATCH)).unwrap_or_default());
            if state.fifo_waits_since.is_some() && count > 0 {
                state.fifo_waits_since = Some(machine::time::now());
            }
            drop(state);
            let Some(received @ [_, ..]) = batch.get(..count) else { return };
            user.receive(received);
        }
    }

    /// Sends what the user has, as far as the chip takes it now; for the rest its interrupt is switched on.
    pub fn start(&self) {
        if let Some(user) = self.user() {
            self.send_for(&*user, false);
            user.fetched();
        }
    }

    /// As [`Uart::start`], but wakes nobody, so it may be called under any lock except the user's: for the messages of
    /// the kernel. An interrupt is asked for even when all is sent, and its handler does the waking.
    pub fn start_quietly(&self) {
        if let Some(user) = self.user() {
            self.send_for(&*user, true);
        }
    }

    fn send_for(&self, user: &dyn SerialUser, quietly: bool) {
        let mut sent = 0;
        let mut state = self.state.lock();
        if let Some(since) = state.fifo_waits_since {
            state.enable_fifo_if_quiet(&self.registers, since);
        }
        let mut wants_interrupt = true;
        for _ in 0..ROUNDS {
            if self.registers.read(Register::LineStatus) & bits::HOLDING_EMPTY == 0 {
                break;
            }
            let mut burst = [0; FIFO_SIZE];
            let length = burst.get_mut(..state.burst).map_or(0, |burst| user.fetch(burst));
            if length == 0 {
                wants_interrupt = quietly && sent > 0;
                break;
            }
            burst.iter().take(length).for_each(|&byte| self.registers.write(Register::Data, byte));
            sent += length;
        }
        state.counters.sent += sent as u64;
        state.set_enabled(&self.registers, bits::ENABLE_SENT, wants_interrupt);
    }
}

impl State {
    /// Switches the FIFO on, which empties it, if there is one.
    fn enable_fifo<R: Registers>(&mut self, registers: &R) {
        registers.write(Register::InterruptIdentification, bits::FIFO_ENABLE_AND_CLEAR);
        let works = registers.read(Register::InterruptIdentification) & bits::FIFO_WORKS == bits::FIFO_WORKS;
        self.burst = if works { FIFO_SIZE } else { 1 };
        self.fifo_waits_since = None;
    }

    /// The same, if nothing is in the chip and nothing came for a while.
    fn enable_fifo_if_quiet<R: Registers>(&mut self, registers: &R, since: u64) {
        let quiet = machine::time::now().saturating_sub(since) >= QUIET;
        let idle = || registers.read(Register::LineStatus) & (bits::DATA_READY | bits::ALL_SENT) == bits::ALL_SENT;
        if quiet && idle() {
            self.enable_fifo(registers);
        }
    }

    /// Switches interrupts on or off, touching the chip only for a change.
    fn set_enabled<R: Registers>(&mut self, registers: &R, interrupts: u8, on: bool) {
        let enabled = if on { self.enabled | interrupts } else { self.enabled & !interrupts };
        if enabled != self.enabled {
            self.enabled = enabled;
            registers.write(Register::InterruptEnable, enabled);
        }
    }
}

impl SerialCounters {
    /// Takes what the chip has received, as far as there is place for it. Returns how much.
    fn take<R: Registers>(&mut self, registers: &R, places: &mut [Received]) -> usize {
        let mut count = 0;
        for place in places {
            let status = registers.read(Register::LineStatus);
            if status & bits::OVERRUN != 0 {
                self.overruns += 1;
            }
            if status & bits::DATA_READY == 0 {
                break;
            }
            *place = self.classify(status, registers.read(Register::Data));
            count += 1;
        }
        count
    }

    fn classify(&mut self, status: u8, byte: u8) -> Received {
        if status & bits::BREAK_RECEIVED != 0 {
            self.breaks += 1;
            return Received::Break;
        }
        self.received += 1;
        if status & bits::PARITY_OR_FRAMING != 0 {
            self.damaged += 1;
            return Received::Damaged(byte);
        }
        Received::Byte(byte)
    }
}

#[cfg(test)]
mod tests;
