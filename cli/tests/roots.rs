//! Root folders, volumes and initramfs archives.

mod common;

use common::{archive, code, finish, folder, root_folder, run};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn text(words: &[&str], input: &[u8]) -> String {
    let outcome = finish(run(words), input);
    assert_eq!(code(&outcome), 0, "{words:?}: {}{}", outcome.text(), outcome.errors);
    outcome.text()
}

fn name(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_folder_is_the_root() {
    let root = root_folder("root");
    std::fs::write(root.join("note"), "from the host\n").unwrap();
    let script = "cat /note; echo from the guest >/reply; mkdir /made; ls /";
    let listing = text(&[name(&root), "--", "sh", "-c", script], b"");
    assert!(listing.starts_with("from the host\n") && listing.contains("reply\n"), "{listing}");
    assert_eq!(std::fs::read_to_string(root.join("reply")).unwrap(), "from the guest\n");
    assert!(root.join("made").is_dir());
}

#[test]
fn a_folder_may_be_read_only() {
    let root = root_folder("read-only");
    std::fs::write(root.join("note"), "whole\n").unwrap();
    let script = "echo x >/note; echo x >/new; rm -f /note; cat /note";
    let outcome = finish(run(&["--read-only", name(&root), "--", "sh", "-c", script]), b"");
    assert_eq!(outcome.text(), "whole\n", "{}", outcome.errors);
    assert!(outcome.errors.contains("Read-only"), "{}", outcome.errors);
    assert!(!root.join("new").exists());
}

#[test]
fn nothing_leads_out_of_a_folder() {
    let root = root_folder("jail");
    let outside = folder("outside");
    std::fs::write(outside.join("secret"), "seen\n").unwrap();
    std::os::unix::fs::symlink(&outside, root.join("out")).unwrap();
    std::os::unix::fs::symlink("../../../../../../../..", root.join("up")).unwrap();
    let script = format!("cat /out/secret /up{0}/secret /../../../..{0}/secret {0}/secret", name(&outside));
    let outcome = finish(run(&[name(&root), "--", "sh", "-c", &script]), b"");
    assert_eq!(outcome.text(), "", "the guest got out");
    assert!(outcome.errors.contains("No such file"), "{}", outcome.errors);
}

#[test]
fn a_shell_in_a_folder_reads_its_script_from_a_pipe() {
    let root = root_folder("script");
    let shown = text(&[name(&root)], b"pwd\necho $0\necho one | wc -c\nexit 0\n");
    assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), ["/", "-sh", "4"]);
    assert_eq!(code(&finish(run(&[name(&root)]), b"exit 9\n")), 9);
}

#[test]
fn commands_are_found_or_not() {
    let root = root_folder("commands");
    std::fs::write(root.join("bin/notes"), "text").unwrap();
    for (command, status) in
        [("true", 0), ("false", 1), ("missing", 127), ("/bin/missing", 127), ("notes", 126), ("/bin", 126)]
    {
        let outcome = finish(run(&[name(&root), "--", command]), b"");
        assert_eq!(code(&outcome), status, "{command}: {}", outcome.errors);
        assert!(status < 2 || outcome.errors.contains(command), "{command}: {}", outcome.errors);
    }
    let empty = folder("empty-root");
    let outcome = finish(run(&[name(&empty)]), b"");
    assert_eq!(code(&outcome), 127);
    assert!(outcome.errors.contains("/bin/sh"), "{}", outcome.errors);
}

/// With its dynamic linker and libraries; a line of them, so that there are several processes.
#[test]
fn this_system_s_own_programs_run_in_its_root() {
    let script =
        "ls -d /usr; echo x 2>/dev/null >/new-file || echo refused; echo made >/tmp/file; cat /tmp/file | sort";
    assert_eq!(text(&["--read-only", "/", "--", "/bin/sh", "-c", script], b""), "/usr\nrefused\nmade\n");
    assert!(!Path::new("/new-file").exists());
}

#[test]
fn volumes_show_folders_where_they_are_asked_for() {
    let root = root_folder("with-volumes");
    let (writable, fixed) = (folder("writable"), folder("fixed"));
    std::fs::write(fixed.join("note"), "fixed\n").unwrap();
    let volumes = [format!("{}:/data", name(&writable)), format!("{}:/deep/er:ro", name(&fixed))];
    let script = "cat /deep/er/note; echo made >new; echo x >/deep/er/new; true";
    let words =
        ["--volume", &volumes[0], "--volume", &volumes[1], "--workdir", "/data", name(&root), "--", "sh", "-c", script];
    let outcome = finish(run(&words), b"");
    assert_eq!((code(&outcome), outcome.text().as_str()), (0, "fixed\n"), "{}", outcome.errors);
    assert!(outcome.errors.contains("Read-only"), "{}", outcome.errors);
    assert_eq!(std::fs::read_to_string(writable.join("new")).unwrap(), "made\n");
    assert!(!fixed.join("new").exists());
}

#[test]
fn a_program_alone_can_have_a_volume() {
    let data = folder("data");
    std::fs::write(data.join("note"), "read\n").unwrap();
    let volume = format!("{}:/some/where:ro", name(&data));
    let busybox = common::busybox();
    assert_eq!(text(&["--volume", &volume, name(&busybox), "--", "cat", "/some/where/note"], b""), "read\n");
}

#[test]
fn an_initramfs_starts_by_its_init() {
    let place = folder("archives");
    let script = "#!/bin/sh\nmkdir -p /proc\n/bin/busybox mount -t proc proc /proc\necho pid $$ $A\nexit 5\n";
    let plain = archive(Some(script)).bytes();
    let (plain_file, packed_file) = (place.join("plain"), place.join("packed"));
    std::fs::write(&plain_file, &plain).unwrap();
    std::fs::write(&packed_file, gzip(&plain)).unwrap();
    for file in [&plain_file, &packed_file] {
        let outcome = finish(run(&["--env", "A=one two", name(file)]), b"");
        assert_eq!((code(&outcome), outcome.text().as_str()), (5, "pid 1 one two\n"), "{}", outcome.errors);
        let words = [name(file), "--", "sh", "-c", "cat; exit 6"];
        let outcome = finish(run(&words), b"instead");
        assert_eq!((code(&outcome), outcome.text().as_str()), (6, "instead"), "{}", outcome.errors);
        assert_eq!(code(&finish(run(&[name(file), "--", "missing"]), b"")), 127);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use flate2::{Compression, write::GzEncoder};
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn a_damaged_archive_is_said_to_be() {
    let place = folder("damaged");
    let whole = archive(Some("#!/bin/sh\n")).bytes();
    let mut packed = gzip(&whole);
    let middle = packed.len() / 2;
    packed[middle] ^= 0xff;
    for (file, content) in [("cut", &whole[..whole.len() / 2]), ("packed", &packed)] {
        let path = place.join(file);
        std::fs::write(&path, content).unwrap();
        for words in [&[name(&path)][..], &[name(&path), "--", "sh", "-c", "true"]] {
            let outcome = finish(run(words), b"");
            assert_eq!(code(&outcome), 125, "{words:?}: {}", outcome.errors);
            assert!(outcome.errors.contains("damaged at byte"), "{words:?}: {}", outcome.errors);
        }
    }
    let path = place.join("without");
    std::fs::write(&path, archive(None).bytes()).unwrap();
    let outcome = finish(run(&[name(&path)]), b"");
    assert_eq!(code(&outcome), 125);
    assert!(outcome.errors.contains("no /init"), "{}", outcome.errors);
}

/// A place where another user finds the tool, and the words that make a command his.
struct OtherUser {
    place: PathBuf,
    tool: PathBuf,
    words: Vec<String>,
}

impl OtherUser {
    /// None if we may not be somebody else. Whoever may not read the build folder gets copies.
    fn new(number: u32) -> Option<OtherUser> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let place = std::env::temp_dir().join(format!("orrery-user-{number}-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let tool = place.join("orrery");
        std::fs::copy(env!("CARGO_BIN_EXE_orrery"), &tool).unwrap();
        let words = ["setpriv", &format!("--reuid={number}"), &format!("--regid={number}"), "--clear-groups"];
        Some(OtherUser { place, tool, words: words.map(String::from).to_vec() })
    }

    /// Runs BusyBox on Orrery, as this user, with these words before the command.
    fn busybox(&self, before: &[&str], words: &[&str]) -> Output {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).args(before).arg(&self.tool);
        command.args(["run", "--cpus", "2", name(&common::busybox()), "--"]).args(words);
        command.output().expect("the tests need setpriv(1) and prlimit(1), of util-linux")
    }
}

impl Drop for OtherUser {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.place);
    }
}

#[test]
fn an_ordinary_user_can_run_it() {
    // If we are one, all other tests have shown it.
    let Some(user) = OtherUser::new(65534) else { return };
    let output = user.busybox(&[], &["sh", "-c", "echo a | cat; exit 3"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, b"a\n");
}

#[test]
fn with_few_processes_it_works_or_says_what_is_missing() {
    // The limit does not hold for the superuser, and of our own processes there may be any number.
    let Some(user) = OtherUser::new(60_000 + std::process::id() % 5000) else { return };
    // Their programs take turns in a few processes of the host, so each is moved again and again.
    const PIPELINES: &str = "for i in 0 1 2 3 4 5 6 7; do ls / | sort | head -n 1 | cat; done";
    for most in (1..=16).chain([24, 40]) {
        let output = user.busybox(&["prlimit", &format!("--nproc={most}")], &["sh", "-c", PIPELINES]);
        let errors = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => assert_eq!(output.stdout, b"bin\n".repeat(8), "with {most}: {errors}"),
            Some(125) if most < 12 => {
                assert!(errors.contains("thread") || errors.contains("process"), "with {most}: {errors}")
            }
            status => panic!("with {most}: {status:?}, {errors}"),
        }
    }
}
