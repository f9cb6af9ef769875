use super::*;
use std::collections::VecDeque;
use std::sync::Mutex;

/// A 16550 as its data sheet describes it, with a wire of our own.
#[derive(Default)]
struct Chip {
    absent: bool,
    without_fifo: bool,
    /// The transmitter is busy until [`Wire::sends`]; otherwise it sends at once, like QEMU.
    slow: bool,
    registers: [u8; 8],
    divisor: [u8; 2],
    fifo_control: u8,
    arrived: VecDeque<(u8, u8)>,
    /// What the other side sends as soon as there is room and the line is open.
    waiting: VecDeque<(u8, u8)>,
    /// There is room since something was read.
    coming: bool,
    overrun: bool,
    holding: Vec<u8>,
    wire: Vec<u8>,
}

impl Chip {
    fn status(&mut self) -> u8 {
        let mut status = if self.holding.is_empty() { bits::HOLDING_EMPTY | bits::ALL_SENT } else { 0 };
        if let Some((flags, _)) = self.arrived.front() {
            status |= bits::DATA_READY | flags;
        }
        if std::mem::take(&mut self.overrun) {
            status |= bits::OVERRUN;
        }
        status
    }

    fn cause(&self) -> u8 {
        let enabled = self.registers[1];
        let fifo = if self.fifo_control & 1 != 0 && !self.without_fifo { bits::FIFO_WORKS } else { 0 };
        fifo | if enabled & bits::ENABLE_RECEIVED != 0 && !self.arrived.is_empty() {
            0x04
        } else if enabled & bits::ENABLE_SENT != 0 && self.holding.is_empty() {
            0x02
        } else {
            bits::NO_INTERRUPT
        }
    }
}

#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Chip>>);

impl Registers for Wire {
    fn read(&self, register: Register) -> u8 {
        let mut chip = self.0.lock().unwrap();
        if chip.absent {
            return 0xff;
        }
        match register {
            Register::Data => {
                chip.coming = true;
                chip.arrived.pop_front().map_or(0, |(_, byte)| byte)
            }
            Register::LineStatus => chip.status(),
            Register::InterruptIdentification => chip.cause(),
            other => chip.registers[other as usize],
        }
    }

    fn write(&self, register: Register, value: u8) {
        let mut chip = self.0.lock().unwrap();
        let divisor = chip.registers[Register::LineControl as usize] & bits::DIVISOR_ACCESS != 0;
        match register {
            Register::Data if divisor => chip.divisor[0] = value,
            Register::InterruptEnable if divisor => chip.divisor[1] = value,
            Register::Data if chip.slow => {
                chip.holding.push(value);
                assert!(chip.holding.len() <= if chip.without_fifo { 1 } else { 16 }, "the FIFO overflows");
            }
            Register::Data => chip.wire.push(value),
            Register::InterruptIdentification => {
                chip.fifo_control = value;
                if std::mem::take(&mut chip.coming) {
                    let next = chip.waiting.pop_front();
                    chip.arrived.extend(next);
                }
                if value & 0x02 != 0 {
                    chip.arrived.clear();
                }
            }
            other => chip.registers[other as usize] = value,
        }
    }
}

impl Wire {
    fn arrive(&self, items: impl IntoIterator<Item = (u8, u8)>) {
        self.0.lock().unwrap().arrived.extend(items);
    }

    /// The slow transmitter puts what it holds on the wire.
    fn sends(&self) {
        let mut chip = self.0.lock().unwrap();
        let held = std::mem::take(&mut chip.holding);
        chip.wire.extend(held);
    }
}

#[derive(Default)]
struct User {
    received: Mutex<Vec<Received>>,
    limit: Mutex<usize>,
    output: Mutex<VecDeque<u8>>,
    fetched: Mutex<usize>,
}

impl SerialUser for User {
    fn room(&self) -> usize {
        *self.limit.lock().unwrap() - self.received.lock().unwrap().len()
    }

    fn receive(&self, received: &[Received]) {
        self.received.lock().unwrap().extend_from_slice(received);
    }

    fn fetch(&self, buffer: &mut [u8]) -> usize {
        let mut output = self.output.lock().unwrap();
        let count = buffer.len().min(output.len());
        buffer.iter_mut().zip(output.drain(..count)).for_each(|(place, byte)| *place = byte);
        count
    }

    fn fetched(&self) {
        *self.fetched.lock().unwrap() += 1;
    }
}

fn bench(prepare: impl FnOnce(&mut Chip)) -> (Wire, Arc<Uart<Wire>>, Arc<User>) {
    let wire = Wire::default();
    prepare(&mut wire.0.lock().unwrap());
    let uart = Uart::new(wire.clone()).unwrap();
    let user = Arc::new(User { limit: Mutex::new(10_000), ..User::default() });
    let weak: Weak<User> = Arc::downgrade(&user);
    uart.attach(weak);
    (wire, uart, user)
}

#[test]
fn an_absent_chip_is_noticed() {
    let wire = Wire::default();
    wire.0.lock().unwrap().absent = true;
    assert!(Uart::new(wire).is_none());
}

#[test]
fn the_chip_is_set_up_for_115200_8n1() {
    let (wire, uart, _user) = bench(|_| {});
    {
        let chip = wire.0.lock().unwrap();
        assert_eq!((chip.divisor, chip.registers[3], chip.registers[1]), ([1, 0], 0x03, 0x05));
    }
    uart.configure(LineSettings { speed: 9600, data_bits: 7, two_stop_bits: true, parity: Parity::Even });
    let chip = wire.0.lock().unwrap();
    assert_eq!((chip.divisor, chip.registers[3], chip.registers[1]), ([12, 0], 0x1e, 0x05));
}

#[test]
fn everything_received_reaches_the_user_with_its_errors() {
    let (wire, uart, user) = bench(|_| {});
    wire.arrive((0..200).map(|byte| (0, byte)));
    wire.arrive([(0x04, b'p'), (0x10, 0), (0x08, b'f')]);
    wire.0.lock().unwrap().overrun = true;
    uart.interrupt();
    let mut expected: Vec<_> = (0..200).map(Received::Byte).collect();
    expected.extend([Received::Damaged(b'p'), Received::Break, Received::Damaged(b'f')]);
    assert_eq!(*user.received.lock().unwrap(), expected);
    let counters = SerialCounters { received: 202, sent: 0, overruns: 1, damaged: 2, breaks: 1 };
    assert_eq!(uart.counters(), counters);
}

#[test]
fn what_arrives_before_the_chip_is_set_up_is_not_lost() {
    let (wire, uart, user) = bench(|chip| {
        chip.arrived.push_back((0, b'e'));
        chip.waiting.extend([(0, b'c'), (0, b'h'), (0, b'o')]);
    });
    let rest = std::mem::take(&mut wire.0.lock().unwrap().waiting);
    wire.arrive(rest);
    uart.interrupt();
    assert_eq!(*user.received.lock().unwrap(), b"echo".map(Received::Byte));
    let counters = SerialCounters { received: 4, ..SerialCounters::default() };
    assert_eq!(uart.counters(), counters);
}

#[test]
fn the_fifo_of_a_chip_with_early_input_is_switched_on_when_the_line_is_quiet() {
    while machine::time::now() < QUIET {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let (wire, uart, user) = bench(|chip| chip.arrived.push_back((0, b'e')));
    let fifo = || wire.0.lock().unwrap().fifo_control & 1 != 0;
    let send = || {
        user.output.lock().unwrap().push_back(b'x');
        uart.start();
    };
    let last_byte_long_ago = || {
        let since = &mut uart.state.lock().fifo_waits_since;
        *since = since.map(|since| since.checked_sub(QUIET).unwrap());
    };
    send();
    assert!(!fifo(), "a byte came just now");
    last_byte_long_ago();
    wire.arrive([(0, b'c')]);
    send();
    assert!(!fifo(), "a byte is in the chip");
    uart.interrupt();
    send();
    assert!(!fifo(), "another one may follow that byte");
    last_byte_long_ago();
    wire.0.lock().unwrap().slow = true;
    send();
    assert!(fifo());
    send();
    wire.sends();
    wire.arrive([(0, b'h')]);
    uart.interrupt();
    wire.sends();
    assert_eq!(wire.0.lock().unwrap().wire, b"xxxxx");
    assert_eq!(*user.received.lock().unwrap(), b"ech".map(Received::Byte));
    assert_eq!(uart.state.lock().burst, FIFO_SIZE);
}

#[test]
fn a_user_without_room_leaves_bytes_in_the_chip_until_resumed() {
    let (wire, uart, user) = bench(|_| {});
    *user.limit.lock().unwrap() = 3;
    wire.arrive((0..10).map(|byte| (0, byte)));
    uart.interrupt();
    assert_eq!(user.received.lock().unwrap().len(), 3);
    assert_eq!(wire.0.lock().unwrap().registers[1] & bits::ENABLE_RECEIVED, 0, "or the line would never fall");
    user.received.lock().unwrap().clear();
    *user.limit.lock().unwrap() = 100;
    uart.resume();
    assert_eq!(*user.received.lock().unwrap(), (3..10).map(Received::Byte).collect::<Vec<_>>());
    assert_eq!(wire.0.lock().unwrap().registers[1] & bits::ENABLE_RECEIVED, 1);
}

#[test]
fn a_chip_that_sends_at_once_needs_no_interrupt() {
    let (wire, uart, user) = bench(|_| {});
    user.output.lock().unwrap().extend(b"hello, world: more than sixteen bytes".iter());
    uart.start();
    let chip = wire.0.lock().unwrap();
    assert_eq!(chip.wire, b"hello, world: more than sixteen bytes");
    assert_eq!(chip.registers[1] & bits::ENABLE_SENT, 0);
    assert_eq!(uart.state.lock().counters.sent, 37);
    assert!(*user.fetched.lock().unwrap() > 0);
}

#[test]
fn sending_quietly_leaves_the_waking_to_the_interrupt() {
    let (wire, uart, user) = bench(|_| {});
    let fetched = *user.fetched.lock().unwrap();
    user.output.lock().unwrap().extend(b"message");
    uart.start_quietly();
    assert_eq!((wire.0.lock().unwrap().wire.as_slice(), *user.fetched.lock().unwrap()), (&b"message"[..], fetched));
    uart.interrupt();
    assert_eq!(*user.fetched.lock().unwrap(), fetched + 1);
    assert_eq!(wire.0.lock().unwrap().registers[1] & bits::ENABLE_SENT, 0, "once");
}

#[test]
fn a_busy_chip_is_fed_by_its_interrupt_sixteen_at_a_time() {
    let (wire, uart, user) = bench(|chip| chip.slow = true);
    let text: Vec<u8> = (0..100).collect();
    user.output.lock().unwrap().extend(&text);
    uart.start();
    let mut interrupts = 0;
    while wire.0.lock().unwrap().wire.len() < text.len() {
        assert_eq!(wire.0.lock().unwrap().holding.len(), 16.min(text.len() - interrupts * 16));
        wire.sends();
        uart.interrupt();
        interrupts += 1;
    }
    assert_eq!((&wire.0.lock().unwrap().wire, interrupts), (&text, 7));
    assert_eq!(wire.0.lock().unwrap().registers[1] & bits::ENABLE_SENT, 0);
    assert!(uart.all_sent());
}

#[test]
fn a_chip_without_fifo_is_fed_byte_by_byte() {
    let (wire, uart, user) = bench(|chip| (chip.slow, chip.without_fifo) = (true, true));
    user.output.lock().unwrap().extend(b"abc");
    uart.start();
    for _ in 0..3 {
        wire.sends();
        uart.interrupt();
    }
    assert_eq!(wire.0.lock().unwrap().wire, b"abc");
}

#[test]
fn receivers_that_race_lose_and_reorder_nothing() {
    let (wire, uart, user) = bench(|_| {});
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| (0..2000).for_each(|_| uart.interrupt()));
        }
        for byte in 0..5000u32 {
            wire.arrive([(0, byte as u8)]);
            uart.resume();
        }
    });
    uart.interrupt();
    let received = user.received.lock().unwrap();
    assert_eq!(*received, (0..5000u32).map(|byte| Received::Byte(byte as u8)).collect::<Vec<_>>());
}
