//! [`Experience`]: when it pays that a CPU and its program wait awake for each other.

/// What a CPU has learnt about waiting awake, and being apart from its programs for it. What else the host's cores do is not
/// ours to know, nor how often programs take turns: when being apart has cost more than it gave, the two stay together for a while
/// before the next try. What was learnt with one program holds for the next.
#[derive(Clone, Copy, Default)]
pub struct Experience {
    /// What being apart has cost more than it gave, in entries awake; not below 0.
    loss: u32,
    /// Entries to stay together still.
    together: u32,
}

impl Experience {
    /// Waking sleeping cores, there and back, costs about 45 us; an entry on which nobody sleeps gives 6 us.
    const SLEEP: u32 = 8;
    const PATIENCE: u32 = 8 * Self::SLEEP;
    const TOGETHER: u32 = 2000;

    /// Whether to be apart this time.
    pub fn begin(&mut self) -> bool {
        self.together = self.together.saturating_sub(1);
        self.together == 0
    }

    /// An entry for which the two were apart is over: one of them slept on the way, or neither did.
    pub fn learn(&mut self, slept: bool) {
        self.loss = if slept { self.loss + Self::SLEEP } else { self.loss.saturating_sub(1) };
        if self.loss >= Self::PATIENCE {
            (self.loss, self.together) = (0, Self::TOGETHER);
        }
    }
}
