//! futex(2): the argument salad of one call, taken apart. The table of waiters is the process room's.

use alloc::sync::Arc;
use core::pin::pin;

use abi::Errno;
use abi::raw::general as raw;
use abi::time::Timespec;
use memory::{AddressSpace, UserFault};
use process::futex::{ANY, Key, Line};
use process::{Call, Failure, Interrupted, Resume, Thread};
use sync::Budget;
use vfs::NotReady;

use crate::argument::{Address, In};

/// The arguments behind the operation; what they mean depends on it.
#[derive(Clone, Copy)]
struct Arguments {
    word: usize,
    value: u32,
    /// A pointer to a time, or a count (`val2`).
    timeout: usize,
    second: usize,
    third: u32,
    private: bool,
}

/// futex(2), of its many operations the one that is asked for most and waits for nothing: waking threads of one process.
pub(crate) fn futex(
    thread: &Arc<Thread>,
    word: Address,
    operation: i32,
    value: u32,
    _timeout: usize,
    _second: Address,
    third: u32,
) -> Result<usize, NotReady> {
    const WAKE: u32 = raw::FUTEX_WAKE | raw::FUTEX_PRIVATE_FLAG;
    const WAKE_BITSET: u32 = raw::FUTEX_WAKE_BITSET | raw::FUTEX_PRIVATE_FLAG;
    let bits = match operation as u32 {
        WAKE => ANY,
        WAKE_BITSET if third != 0 => third,
        _ => return Err(NotReady::WouldBlock),
    };
    let key = Key::new(thread.space(), word.0, true)?;
    let (futexes, count) = (thread.kernel().futexes(), wake_count(value));
    if count > 1 && futexes.is_crowded(key) {
        return Err(NotReady::WouldBlock);
    }
    Ok(futexes.wake(key, count, bits))
}

/// How many are to be woken. Linux counts after each one woken, so even 0 wakes one; negative numbers likewise.
fn wake_count(value: u32) -> usize {
    (value as i32).max(1) as usize
}

/// futex(2)
pub(crate) async fn futex_waiting(
    thread: &Arc<Thread>,
    word: Address,
    operation: i32,
    value: u32,
    timeout: usize,
    second: Address,
    third: u32,
) -> Result<usize, Failure> {
    let operation = operation as u32;
    let arguments = Arguments {
        word: word.0,
        value,
        timeout,
        second: second.0,
        third,
        private: operation & raw::FUTEX_PRIVATE_FLAG != 0,
    };
    let real_time = operation & raw::FUTEX_CLOCK_REALTIME != 0;
    let command = operation & !(raw::FUTEX_PRIVATE_FLAG | raw::FUTEX_CLOCK_REALTIME);
    if real_time && !matches!(command, raw::FUTEX_WAIT | raw::FUTEX_WAIT_BITSET | raw::FUTEX_WAIT_REQUEUE_PI) {
        return Err(Errno::ENOSYS.into());
    }
    match command {
        raw::FUTEX_WAIT => wait(thread, arguments, ANY, Deadline::Relative).await,
        raw::FUTEX_WAIT_BITSET if real_time => wait(thread, arguments, third, Deadline::RealTime).await,
        raw::FUTEX_WAIT_BITSET => wait(thread, arguments, third, Deadline::Monotonic).await,
        raw::FUTEX_WAKE => wake(thread, arguments, ANY).await,
        raw::FUTEX_WAKE_BITSET => wake(thread, arguments, third).await,
        raw::FUTEX_REQUEUE => requeue(thread, arguments, None).await,
        raw::FUTEX_CMP_REQUEUE => requeue(thread, arguments, Some(third)).await,
        raw::FUTEX_WAKE_OP => wake_op(thread, arguments).await,
        // Linux without CONFIG_FUTEX_PI says the same to the priority-inheriting ones.
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// How a time is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deadline {
    Relative,
    Monotonic,
    RealTime,
}

async fn wait(thread: &Arc<Thread>, arguments: Arguments, bits: u32, meaning: Deadline) -> Result<usize, Failure> {
    let timeout = In::<Timespec>::at(arguments.timeout).fetch_optional(thread).await?;
    let timeout = timeout.map(Timespec::to_nanoseconds).transpose()?;
    if bits == 0 {
        return Err(Errno::EINVAL.into());
    }
    let now = machine::time::now();
    let deadline = timeout.map(|time| match meaning {
        Deadline::Relative => now.saturating_add(time),
        Deadline::Monotonic => time,
        Deadline::RealTime => time.saturating_sub(machine::time::wall_clock()).saturating_add(now),
    });
    wait_until(thread, arguments, bits, deadline).await
}

/// Waits while the word has its value, up to `deadline`.
async fn wait_until(
    thread: &Arc<Thread>,
    arguments: Arguments,
    bits: u32,
    deadline: Option<u64>,
) -> Result<usize, Failure> {
    let space = thread.space();
    let key = key_of(thread, arguments.word, arguments.private).await?;
    let futexes = thread.kernel().futexes();
    let mut waiting = loop {
        let unchanged = || Ok(space.space().load_u32(arguments.word)? == arguments.value);
        match futexes.enter(key, bits, unchanged) {
            Ok(Some(waiting)) => break waiting,
            Ok(None) => return Err(Errno::EAGAIN.into()),
            Err(fault) => space.fault_in(fault).await?,
        }
    };
    let result = thread.interruptible(pin!(thread.kernel().executor().timeout(deadline, &mut waiting))).await;
    // A wake-up that came just before the time was up, or the signal came, counts: the waker was told it woke somebody.
    if waiting.leave() {
        return Ok(0);
    }
    match result {
        Ok(_) => Err(Errno::ETIMEDOUT.into()),
        // Started again, a relative time would begin anew.
        Err(_) if deadline.is_some() => {
            let Arguments { word, value, private, .. } = arguments;
            let call = [word, value as usize, usize::from(private), bits as usize, 0, 0];
            let call = Call { number: raw::__NR_futex as usize, arguments: call };
            Err(Interrupted::RestartBlock(Resume { call, deadline }).into())
        }
        Err(interrupted) => Err(interrupted.into()),
    }
}

/// A wait that was interrupted goes on until the deadline it had.
pub(crate) async fn resume_wait(thread: &Arc<Thread>, resume: Resume) -> Result<usize, Failure> {
    let [word, value, private, bits, ..] = resume.call.arguments;
    let arguments = Arguments { word, value: value as u32, private: private != 0, timeout: 0, second: 0, third: 0 };
    wait_until(thread, arguments, bits as u32, resume.deadline).await
}

/// The key of a word. Which word it is of those that may be shared is only known where there is memory.
async fn key_of(thread: &Arc<Thread>, word: usize, private: bool) -> Result<Key, Failure> {
    let space = thread.space();
    let key = Key::new(space, word, private)?;
    if !private {
        while let Err(fault) = space.space().load_u32(word) {
            space.fault_in(fault).await?;
        }
    }
    Ok(key)
}

async fn wake(thread: &Arc<Thread>, arguments: Arguments, bits: u32) -> Result<usize, Failure> {
    if bits == 0 {
        return Err(Errno::EINVAL.into());
    }
    let key = key_of(thread, arguments.word, arguments.private).await?;
    Ok(wake_line(thread, key, wake_count(arguments.value), bits, Line::default()).await)
}

/// Wakes those of a line, up to `count`. Is not given up: who was told of a change of his word must learn of it.
async fn wake_line(thread: &Arc<Thread>, key: Key, count: usize, bits: u32, mut line: Line) -> usize {
    let mut woken = 0;
    let mut budget = Budget::new();
    while !line.is_over() {
        let some = thread.kernel().futexes().wake_some(key, count - woken, bits, &mut line);
        woken += some;
        budget.pace(1 + some).await;
    }
    woken
}

async fn requeue(thread: &Arc<Thread>, arguments: Arguments, expected: Option<u32>) -> Result<usize, Failure> {
    let count = |value: i32| usize::try_from(value).map_err(|_| Errno::EINVAL);
    let (wake, carry) = (count(arguments.value as i32)?, count(arguments.timeout as i32)?);
    let space = thread.space();
    let from = key_of(thread, arguments.word, arguments.private).await?;
    let to = key_of(thread, arguments.second, arguments.private).await?;
    let unchanged = || match expected {
        Some(expected) => Ok(space.space().load_u32(arguments.word)? == expected),
        None => Ok(true),
    };
    let futexes = thread.kernel().futexes();
    let mut line = Line::default();
    let (mut woken, mut moved) = loop {
        match futexes.requeue(from, to, (wake, carry), &mut line, unchanged) {
            Ok(Some(some)) => break some,
            Ok(None) => return Err(Errno::EAGAIN.into()),
            Err(fault) => space.fault_in(fault).await?,
        }
    };
    let mut budget = Budget::new();
    while !line.is_over() {
        budget.pace(1).await;
        // It is decided already. What the word is now is no matter.
        let decided = || Ok::<_, UserFault>(true);
        let rest = (wake.saturating_sub(woken), carry.saturating_sub(moved));
        let some = futexes.requeue(from, to, rest, &mut line, decided).ok().flatten().unwrap_or_default();
        (woken, moved) = (woken + some.0, moved + some.1);
    }
    Ok(woken + moved)
}

async fn wake_op(thread: &Arc<Thread>, arguments: Arguments) -> Result<usize, Failure> {
    let operation = WakeOperation::new(arguments.third)?;
    let space = thread.space();
    let one = key_of(thread, arguments.word, arguments.private).await?;
    let other = key_of(thread, arguments.second, arguments.private).await?;
    let count = |value: i32| value.max(1) as usize;
    let (first, second) = (count(arguments.value as i32), count(arguments.timeout as i32));
    let (both, [one_line, other_line]) = loop {
        match thread.kernel().futexes().change(one, other, || operation.apply(space, arguments.second)) {
            Ok(changed) => break changed,
            Err(fault) => space.fault_in(fault).await?,
        }
    };
    let woken = wake_line(thread, one, first, ANY, one_line).await;
    Ok(if both { woken + wake_line(thread, other, second, ANY, other_line).await } else { woken })
}

/// What FUTEX_WAKE_OP does to the second word: four bits of operation, four of comparison, twelve of each operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WakeOperation {
    operation: u32,
    operand: i32,
    comparison: u32,
    comparand: i32,
}

impl WakeOperation {
    fn new(encoded: u32) -> Result<WakeOperation, Errno> {
        let signed = |bits: u32| ((bits << 20) as i32) >> 20;
        let mut operation = encoded >> 28;
        let mut operand = signed(encoded >> 12);
        if operation & raw::FUTEX_OP_OPARG_SHIFT != 0 {
            operation &= !raw::FUTEX_OP_OPARG_SHIFT;
            // Linux takes a shift that is too large modulo 32, and grumbles in its log.
            operand = 1i32.wrapping_shl(operand as u32);
        }
        let comparison = encoded >> 24 & 0xf;
        if operation > raw::FUTEX_OP_XOR || comparison > raw::FUTEX_OP_CMP_GE {
            return Err(Errno::ENOSYS);
        }
        Ok(WakeOperation { operation, operand, comparison, comparand: signed(encoded) })
    }

    /// Changes the word, and says whether its old value compares.
    fn apply(self, space: &AddressSpace, address: usize) -> Result<bool, UserFault> {
        let mut old = space.space().load_u32(address)?;
        loop {
            match space.space().compare_exchange_u32(address, old, self.changed(old))? {
                Ok(_) => return Ok(self.compares(old as i32)),
                Err(current) => old = current,
            }
        }
    }

    fn changed(self, old: u32) -> u32 {
        let operand = self.operand as u32;
        match self.operation {
            raw::FUTEX_OP_SET => operand,
            raw::FUTEX_OP_ADD => old.wrapping_add(operand),
            raw::FUTEX_OP_OR => old | operand,
            raw::FUTEX_OP_ANDN => old & !operand,
            _ => old ^ operand,
        }
    }

    fn compares(self, old: i32) -> bool {
        match self.comparison {
            raw::FUTEX_OP_CMP_EQ => old == self.comparand,
            raw::FUTEX_OP_CMP_NE => old != self.comparand,
            raw::FUTEX_OP_CMP_LT => old < self.comparand,
            raw::FUTEX_OP_CMP_LE => old <= self.comparand,
            raw::FUTEX_OP_CMP_GT => old > self.comparand,
            _ => old >= self.comparand,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `FUTEX_OP` of the manual page.
    fn encode(operation: u32, operand: i32, comparison: u32, comparand: i32) -> u32 {
        operation << 28 | comparison << 24 | (operand as u32 & 0xfff) << 12 | comparand as u32 & 0xfff
    }

    #[test]
    fn wake_operations_are_decoded_as_in_the_manual_page() {
        let add = WakeOperation::new(encode(raw::FUTEX_OP_ADD, -1, raw::FUTEX_OP_CMP_GT, 1)).unwrap();
        assert_eq!(add, WakeOperation { operation: 1, operand: -1, comparison: 4, comparand: 1 });
        assert_eq!(add.changed(5), 4);
        assert!(add.compares(2) && !add.compares(1));
        let set = WakeOperation::new(encode(raw::FUTEX_OP_SET | 8, 4, raw::FUTEX_OP_CMP_EQ, 0)).unwrap();
        assert_eq!(set.changed(99), 16);
        assert_eq!(WakeOperation::new(encode(5, 0, 0, 0)), Err(Errno::ENOSYS));
        assert_eq!(WakeOperation::new(encode(0, 0, 6, 0)), Err(Errno::ENOSYS));
        let and_not = WakeOperation::new(encode(raw::FUTEX_OP_ANDN, 3, raw::FUTEX_OP_CMP_LE, -1)).unwrap();
        assert_eq!(and_not.changed(7), 4);
        assert!(and_not.compares(-1) && !and_not.compares(0));
    }
}
