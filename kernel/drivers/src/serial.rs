//! Serial lines, whatever the chip.

/// What arrived on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A byte in good order.
    Byte(u8),
    /// A byte with a parity or framing error.
    Damaged(u8),
    /// A break: the line was held low for longer than a byte.
    Break,
}

/// Who uses a serial line: a terminal. Called with interrupts off.
pub trait SerialUser: Send + Sync {
    /// How many items [`SerialUser::receive`] would take. While it is 0 the chip is left alone, until [`Uart::resume`] is
    /// called.
    ///
    /// [`Uart::resume`]: crate::Uart::resume
    fn room(&self) -> usize;

    /// Takes what arrived, as many as there was room for; no lock of the driver is held. Nobody else receives meanwhile.
    fn receive(&self, received: &[Received]);

    /// Fills `buffer` with bytes to send and returns how many. The driver holds its lock: this may not call it.
    fn fetch(&self, buffer: &mut [u8]) -> usize;

    /// There may be room for output again; no lock of the driver is held.
    fn fetched(&self);
}

/// Parity bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parity {
    /// None.
    #[default]
    None,
    /// An odd number of ones.
    Odd,
    /// An even number of ones.
    Even,
}

/// How bytes are put on the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineSettings {
    /// Bits per second; 0 leaves the speed as it is.
    pub speed: u32,
    /// 5 to 8.
    pub data_bits: u8,
    /// Two stop bits rather than one.
    pub two_stop_bits: bool,
    /// Parity.
    pub parity: Parity,
}

impl Default for LineSettings {
    /// 115200 8N1, what every console expects.
    fn default() -> LineSettings {
        LineSettings { speed: 115_200, data_bits: 8, two_stop_bits: false, parity: Parity::None }
    }
}

/// What went over a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SerialCounters {
    /// Bytes received, damaged ones too.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Times the chip had to throw received bytes away.
    pub overruns: u64,
    /// Bytes received with parity or framing errors.
    pub damaged: u64,
    /// Breaks received.
    pub breaks: u64,
}
