//! What the tests of the command share: programs to run, folders to run them in, terminals to sit at, and a look
//! for what was left behind.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod screen;

use launch::archive::Archive;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// `orrery run` with these words.
pub fn run(words: &[&str]) -> Run {
    let tool = Tool::new();
    let mut command = Command::new(&tool.0);
    command.arg("run").args(words).stdin(Stdio::null());
    Run { command, tool }
}

/// A command about to be started, and the tool it starts.
pub struct Run {
    pub command: Command,
    pub tool: Tool,
}

/// The tool under a name of its own, by which everything it started can be found again: processes of the guest are in
/// no process group or session of the tool, but their `/proc/PID/exe` tells.
#[derive(Debug)]
pub struct Tool(pub PathBuf);

impl Tool {
    pub fn new() -> Tool {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("orrery-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_file(&path);
        std::fs::hard_link(env!("CARGO_BIN_EXE_orrery"), &path).expect("the tool can be linked");
        Tool(path)
    }

    /// The processes that execute it: those of /proc/PID whose program it is.
    pub fn processes(&self) -> Vec<String> {
        let all = std::fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
        let ours = all.filter(|process| std::fs::read_link(process.join("exe")).is_ok_and(|program| program == self.0));
        ours.filter_map(|process| std::fs::read_to_string(process.join("stat")).ok()).collect()
    }

    /// No process of it lives on. What was killed may take a moment to vanish.
    pub fn nothing_is_left(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left behind: {left:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What a finished run gave.
#[derive(Debug)]
pub struct Outcome {
    pub status: ExitStatus,
    pub output: Vec<u8>,
    pub errors: String,
}

impl Outcome {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }
}

/// Runs a command to its end with this input; nothing may be left of it afterwards.
pub fn finish(run: Run, input: &[u8]) -> Outcome {
    let Run { mut command, tool } = run;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("orrery starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // A program that does not read its input closes the pipe: no error of ours.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let Output { status, stdout, stderr } = within(PATIENCE, child);
    writer.join().expect("the writer ends");
    tool.nothing_is_left();
    Outcome { status, output: stdout, errors: String::from_utf8_lossy(&stderr).into_owned() }
}

/// Waits for the end, but not for ever.
fn within(patience: Duration, child: Child) -> Output {
    let pid = child.id();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(patience) {
        Ok(output) => output.expect("waiting for orrery"),
        Err(_) => {
            signal(pid, rustix::process::Signal::KILL);
            panic!("orrery did not end within {patience:?}");
        }
    }
}

/// Waits for the end of a child whose streams are somebody else's.
pub fn wait(mut child: Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("waiting for orrery") {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("orrery did not end within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends a signal to a process we started.
pub fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process number");
    rustix::process::kill_process(pid, signal).expect("the process takes signals");
}

/// The exit status, with no signal in the way.
pub fn code(outcome: &Outcome) -> i32 {
    assert_eq!(outcome.status.signal(), None, "orrery was killed: {}", outcome.errors);
    outcome.status.code().expect("a status")
}

/// A static program compiled from C, once.
pub fn program(name: &str, source: &str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(path) = built.get(name) {
        return path.clone();
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs");
    std::fs::create_dir_all(&folder).expect("a folder for programs");
    // Other processes may do the same at the same time, so the program gets its name when it is whole.
    let made = folder.join(format!("{name}-{}", std::process::id()));
    let (path, file) = (folder.join(name), made.with_extension("c"));
    std::fs::write(&file, source).expect("the source can be written");
    let compile = |compiler: &str| {
        let mut command = Command::new(compiler);
        command.args(["-static", "-O1", "-w", "-o"]).arg(&made).arg(&file).output()
    };
    let output = compile("musl-gcc")
        .or_else(|_| compile("cc"))
        .expect("the tests compile C programs: there is neither musl-gcc nor cc (Debian: apt-get install musl-tools)");
    assert!(output.status.success(), "{name} does not compile: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_file(&file).expect("the source can be removed");
    std::fs::rename(&made, &path).expect("the program can be renamed");
    built.insert(name.into(), path.clone());
    path
}

/// A folder for a test's files, empty at first. Each test has names of its own.
pub fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder for tests");
    path
}

/// A BusyBox that needs no libraries.
pub fn busybox() -> PathBuf {
    let path = std::env::var_os("ORRERY_BUSYBOX").map_or_else(|| PathBuf::from("/bin/busybox"), PathBuf::from);
    assert!(path.is_file(), "the tests need a static BusyBox (Debian: apt-get install busybox-static)");
    path
}

/// Its applets that tests use.
const APPLETS: [&str; 22] = [
    "sh", "ls", "cat", "echo", "env", "pwd", "true", "false", "head", "yes", "seq", "wc", "stty", "sleep", "touch",
    "mkdir", "rm", "printf", "readlink", "ps", "mv", "test",
];

/// A root folder with BusyBox.
pub fn root_folder(name: &str) -> PathBuf {
    let root = folder(name);
    std::fs::create_dir(root.join("bin")).expect("a folder");
    std::fs::copy(busybox(), root.join("bin/busybox")).expect("BusyBox can be copied");
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    root
}

/// An initramfs with BusyBox, and /init as this script if there is one.
pub fn archive(init: Option<&str>) -> Archive {
    let mut archive = Archive::default();
    archive.file("bin/busybox", 0o755, std::fs::read(busybox()).expect("BusyBox can be read"));
    for applet in APPLETS {
        archive.link(format!("bin/{applet}"), "busybox");
    }
    if let Some(script) = init {
        archive.file("init", 0o755, script);
    }
    archive
}
