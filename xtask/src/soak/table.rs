//! The soaks there are.

use super::Entry;
use super::round::Kind;
use crate::run::Place;
use std::time::Duration;

/// No round is longer, so that one that fails is soon had again.
pub const LONGEST_ROUND: Duration = Duration::from_secs(60);

/// All of them, in the order in which they are listed.
pub const SOAKS: &[Entry] = &[
    Entry {
        name: "wall",
        what: "programs that lie at random to the kernel of the host machine about what they do",
        round: Kind::Room { package: "machine", test: "platform::tests::liar::from_the_environment" },
    },
    Entry {
        name: "handshake",
        what: "all orders of the words by which the host machine's kernel and a guest thread take turns",
        round: Kind::Room { package: "lines", test: "handshake::tests::no_wake_up_is_lost_in_any_order" },
    },
    Entry {
        name: "slow-files",
        what: "the tests of files on a store that delays, mixes up and fails its requests, a seed a round",
        round: Kind::Room { package: "fs", test: "slow::from_the_environment" },
    },
    Entry {
        name: "git-slow",
        what: "git clone, git status and tar of files that take their time, on the host machine: 100, and 5,000 in each fiftieth round",
        round: Kind::Versioned { files: 100 },
    },
    Entry {
        name: "fuzz-host",
        what: "random system calls with hostile arguments, as an ordinary user, on the host machine",
        round: Kind::Booted { place: Place::Host, cpus: 4, memory: 256, command: fuzz },
    },
    Entry {
        name: "fuzz-pc",
        what: "the same on the bare machine",
        round: Kind::Booted { place: Place::Microvm, cpus: 2, memory: 256, command: fuzz },
    },
    Entry {
        name: "leaks",
        what: "a group of calls or of paths of /proc and /sys 10,000 times each, whether anything stays (30 rounds are all)",
        round: Kind::Booted { place: Place::Host, cpus: 4, memory: 256, command: leaks },
    },
    Entry {
        name: "allocations",
        what: "each request for kernel memory up to the first prompt fails once, on the host machine",
        round: Kind::Failing { place: Place::Host },
    },
    Entry {
        name: "allocations-pc",
        what: "the same on the bare machine",
        round: Kind::Failing { place: Place::Microvm },
    },
    Entry {
        name: "objects",
        what: "each kind of thing a program can make, until it is refused, on the bare machine with 24 MiB to 2 GiB",
        round: Kind::Exhausted,
    },
    Entry {
        name: "console",
        what: "vi and long output at the console of the bare machine, beside ten busy processes",
        round: Kind::Typed { place: Place::Q35, cpus: 2, busy: 10 },
    },
    Entry {
        name: "trinity",
        what: "Debian's trinity, random system calls that know their arguments, as an ordinary user on both machines",
        round: Kind::Packed { package: "trinity", program: "/usr/bin/trinity", command: trinity },
    },
    Entry {
        name: "stress-ng",
        what: "Debian's stress-ng, every stressor that needs no network, as an ordinary user on both machines",
        round: Kind::Packed { package: "stress-ng", program: "/usr/bin/stress-ng", command: stress_ng },
    },
];

/// The seed is the number of the group.
fn leaks(seed: u64, _seconds: u64) -> String {
    format!("leaks 10000 {seed}")
}

fn fuzz(seed: u64, seconds: u64) -> String {
    format!("fuzz {seed} {seconds} 4 user")
}

/// It may well end itself, in the middle of a line, and its files are nobody's: what counts is that the machine is alive.
fn trinity(seed: u64, seconds: u64) -> String {
    let options = format!("-q -s {} -C 4 -l off --disable-fds=sockets", seed as u32);
    format!(
        "mkdir -m 777 /tmp/t; timeout -s KILL {seconds} su -s /bin/sh user -c 'cd /tmp/t && exec trinity {options}' \
         >/tmp/said 2>&1; tail -n 5 /tmp/said; echo; killall -9 trinity; true"
    )
}

/// Stressors that are left out: those of a network and of sockets, those that need a device or a right nobody has here, and
/// those that fail without timer_create(2), timerfd_create(2), signalfd(2), inotify(7), ioprio_get(2), ptrace(2) and tee(2), which
/// are not done yet.
const NOT_STRESSED: [&str; 38] = [
    "af-alg",
    "dccp",
    "epoll",
    "icmp-flood",
    "netdev",
    "netlink-proc",
    "netlink-task",
    "ping-sock",
    "rawpkt",
    "rawsock",
    "rawudp",
    "sctp",
    "sock",
    "sockabuse",
    "sockdiag",
    "sockfd",
    "sockmany",
    "sockpair",
    "tun",
    "udp",
    "udp-flood",
    "gpu",
    "rawdev",
    "smi",
    "physpage",
    "memhotplug",
    "cpu-online",
    "bind-mount",
    "inotify",
    "sigfd",
    "ioprio",
    "ptrace",
    "vm-segv",
    "tee",
    "timerfd",
    "clock",
    "hrtimers",
    "timer",
];

/// Four stressors of the seed's choice, one after the other, each with two workers; a wrong result (status 2), a signal (5) or
/// a hang fails. 1, 3 and 4 say that it did not begin: for want of a right, of resources, of a call.
fn stress_ng(seed: u64, seconds: u64) -> String {
    let each = (seconds / 4).max(2);
    format!(
        "mkdir -m 777 /tmp/s; cd /tmp/s; all=$(stress-ng --stressors | tr ' ' '\\n' | grep -vxE '{left_out}'); \
         count=$(echo \"$all\" | wc -l); bad=0; for i in 0 1 2 3; do \
         one=$(echo \"$all\" | sed -n $(((({seed} / 4 * 4 + i) % count) + 1))p); echo $one; \
         su -s /bin/sh user -c \"stress-ng --$one 2 --timeout {each} --verify --pathological --temp-path /tmp/s --quiet\"; status=$?; \
         case $status in 0|1|3|4) ;; *) echo $one: status $status; bad=1 ;; esac; done; [ $bad = 0 ]",
        left_out = NOT_STRESSED.join("|"),
    )
}
