//! [`Drawn`]: what was drawn on the reserve.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};

/// As many kinds of work as are told apart.
const KINDS: usize = 512;

/// Bytes that were asked for by requests that can't be refused, on `CPUS` CPUs.
pub struct Drawn<const CPUS: usize> {
    /// What each CPU has drawn since it last looked, and what was the most at any time since.
    now: [AtomicUsize; CPUS],
    peak: [AtomicUsize; CPUS],
    /// The most of each kind of work.
    most: [AtomicU32; KINDS],
}

impl<const CPUS: usize> Drawn<CPUS> {
    /// Nothing was drawn.
    #[expect(clippy::new_without_default, reason = "there is one, a static")]
    pub const fn new() -> Drawn<CPUS> {
        Drawn {
            now: [const { AtomicUsize::new(0) }; CPUS],
            peak: [const { AtomicUsize::new(0) }; CPUS],
            most: [const { AtomicU32::new(0) }; KINDS],
        }
    }

    /// Counts a request that can't be refused.
    pub fn add(&self, cpu: usize, bytes: usize) {
        let Some((now, peak)) = self.now.get(cpu).zip(self.peak.get(cpu)) else { return };
        peak.fetch_max(now.fetch_add(bytes, Relaxed) + bytes, Relaxed);
    }

    /// Counts what comes back. What was there before doesn't count: it need not be of a class that is asked for.
    pub fn subtract(&self, cpu: usize, bytes: usize) {
        self.now.get(cpu).inspect(|now| now.store(now.load(Relaxed).saturating_sub(bytes), Relaxed));
    }

    /// What the CPU has drawn since the last call of this was for work of that kind.
    pub fn end(&self, cpu: usize, kind: u32) {
        self.now.get(cpu).inspect(|now| now.store(0, Relaxed));
        let drawn = self.peak.get(cpu).map_or(0, |peak| peak.swap(0, Relaxed));
        self.most.get(kind as usize).inspect(|most| _ = most.fetch_max(drawn as u32, Relaxed));
    }

    /// The most that was drawn for each kind of work, where anything was.
    pub fn each(&self, mut tell: impl FnMut(u32, u32)) {
        for (kind, most) in (0..).zip(&self.most) {
            match most.load(Relaxed) {
                0 => {}
                drawn => tell(kind, drawn),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_of_each_kind_is_kept() {
        let drawn = Drawn::<2>::new();
        drawn.add(0, 100);
        drawn.subtract(0, 70);
        drawn.add(0, 50);
        drawn.add(1, 7);
        drawn.end(0, 3);
        drawn.end(1, 4);
        drawn.add(0, 60);
        drawn.end(0, 3);
        drawn.add(2, 1000);
        drawn.end(2, 5);
        let mut told = Vec::new();
        drawn.each(|kind, most| told.push((kind, most)));
        assert_eq!(told, [(3, 100), (4, 7)]);
    }
}
