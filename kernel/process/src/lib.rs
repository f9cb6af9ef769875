//! Processes: what runs, who is whose parent, and what signals do to them.
//!
//! This page is the map of the room; each module says the rest.
//!
//! | module | holds |
//! | --- | --- |
//! | `kernel` | [`Kernel`]: the value everything hangs from (executor, process table, frames, mounts, options, hooks) |
//! | `process`, `thread` | [`Process`] (a thread group) and [`Thread`] (one future, one set of registers) |
//! | `run` | the heart: enter user mode, answer the trap, settle signals, again |
//! | `pid` | [`Processes`]: pid numbers, the family tree, groups and sessions, behind one lock |
//! | `clone`, `exec`, `exit`, `wait` | the life of a process |
//! | `signal` | sets, pending queues, actions, sending, delivery, frames |
//! | `group` | sessions, process groups, job control for the terminal |
//! | `credentials`, `limits`, `usage`, `timers` | who it is, what it may use, what it has used |
//!
//! ## The interface in one page (the signatures syscalls, procfs, tty and orrery build on)
//!
//! ```text
//! // kernel/syscalls implements this; orrery hands it to Kernel::new. No boxing.
//! pub trait SystemCalls: Clone + Send + Sync + 'static {
//!     fn dispatch(&self, thread: &Arc<Thread>, call: Call) -> impl Future<Output = Outcome> + Send;
//! }
//! pub struct Call { pub number: usize, pub arguments: [usize; 6] }
//! pub enum Outcome { Value(usize), Error(Errno), Interrupted(Interrupted), Registers /* already set: rt_sigreturn, execve */ }
//! pub enum Interrupted { Eintr, Restart /* ERESTARTSYS */, RestartAlways /* NOINTR */, RestartUnlessHandled /* NOHAND */,
//!                        RestartBlock(Restart) /* restart_syscall(2) resumes it */ }
//! pub enum Failure { Errno(Errno), Interrupted(Interrupted) }   // From<Errno>, From<Interrupted>: `?` in calls
//! impl From<Result<usize, Failure>> for Outcome
//!
//! impl Kernel {
//!     pub fn new(parts: Parts, calls: impl SystemCalls) -> Arc<Kernel>;
//!     pub fn spawn_init(self: &Arc<Self>, path: &[u8], arguments: Vec<Vec<u8>>, environment: Vec<Vec<u8>>, ...) -> Result<Arc<Process>>;
//!     pub fn executor(&self) -> &Arc<Executor>;      pub fn processes(&self) -> &Processes;
//!     pub fn hostname / set_hostname / domain_name;  pub fn options(&self) -> &Options { strace, norandmaps, .. }
//! }
//! pub struct Hooks { init_exited: Box<dyn Fn(ExitStatus)>, futex_wake: Box<dyn Fn(&AddressSpace, usize)>, report: Box<dyn Fn(fmt::Arguments)> }
//!
//! impl Processes {                                   // all quick: no scan but for `each`
//!     pub fn process(&self, pid: Pid) -> Option<Arc<Process>>;  pub fn thread(&self, tid: Pid) -> Option<Arc<Thread>>;
//!     pub fn each(&self, from: Pid) -> Option<Arc<Process>>;    // next process with pid >= from: /proc
//!     pub fn count(&self) -> usize; thread_count(); last_pid(); forks();
//!     pub fn parent(&Process) / group / session / children ...
//! }
//!
//! impl Thread {
//!     pub fn tid(&self) -> Pid;  pub fn process(&self) -> &Arc<Process>;  pub fn kernel(&self) -> &Arc<Kernel>;
//!     pub fn space(&self) -> Arc<AddressSpace>;  pub fn files(&self) -> Arc<FileTable>;  pub fn credentials(&self) -> Arc<Credentials>;
//!     pub fn with_registers<R>(&self, f: impl FnOnce(&mut Registers) -> R) -> R;   // its own future only
//!     pub async fn interruptible<F: Future>(&self, f: F) -> Result<F::Output, Interrupted>;   // Err(Interrupted::Restart)
//!     pub async fn killable<F: Future>(&self, f: F) -> Result<F::Output, Interrupted>;        // fatal signals only
//!     pub fn name() / set_name; set_clear_child_tid; set_robust_list; ...
//! }
//! impl Process {
//!     pub fn pid(); parent_pid(); group_id(); session_id(); state(); threads(); is_zombie();
//!     pub fn working_directory() / set_; root() / set_; umask() / set_umask;
//!     pub fn limits(); usage(); children_usage(); executable(); argument_area() (for cmdline/environ); ...
//! }
//!
//! // one plain function a call, typed arguments; kernel/syscalls parses and calls:
//! clone::clone(&Arc<Thread>, CloneRequest { flags, stack, parent_tid, child_tid, tls, exit_signal }) -> Result<Pid, Failure>   (async: vfork waits)
//! exec::execve(&Arc<Thread>, ExecRequest { path/open file, arguments, environment }) -> Result<(), Errno>   (async)
//! exec::copy_strings(&Thread, address) -> Result<Vec<..>, Errno>  (async; E2BIG rules)
//! exit::exit(&Thread, status), exit::exit_group(&Thread, status)
//! wait::wait(&Arc<Thread>, Target, WaitOptions) -> Result<Option<WaitResult { pid, uid, status: WaitStatus, usage }>, Failure>   (async)
//! group::{set_session, set_group, group_of, session_of}
//! signal::{send::kill(pid forms), send::tgkill, send::queue, action::set, set_mask, suspend, timed_wait, set_alternate_stack, pending, return_from_handler}
//! limits::{get, set}, usage::{times, rusage}, timers::{alarm, get, set}, credentials::{set_uid, set_resuid, ...}
//! ```
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
