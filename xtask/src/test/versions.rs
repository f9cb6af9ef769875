//! git and tar of this host with a tree of files, on a root whose files take their time and come out of order.
//!
//! `./x soak git-slow` does it with a seed a round, now and then with thousands of files; `x test` with some hundred and one seed.

use super::{Context, Job, Place};
use crate::console::Console;
use crate::hosted::Hosted;
use crate::initramfs::Initramfs;
use anyhow::{Result, ensure};
use std::process::Command;
use std::time::Duration;

const NAME: &str = "git and tar on slow files";

/// Files of the sample, and the time it may take on a busy host.
const FEW: u32 = 300;
const PATIENCE: Duration = Duration::from_secs(300);

/// What the guest runs: a tree of so many files is committed, cloned as over a network, looked at, changed, packed and unpacked.
const SCRIPT: &str = r#"
set -e
files=$1
export HOME=/tmp/home GIT_CONFIG_NOSYSTEM=1 PATH=/versions:$PATH
mkdir -p $HOME /tmp/tree && cd /tmp/tree
git config --global user.name somebody
git config --global user.email somebody@example.org
git config --global init.defaultBranch main
git config --global gc.auto 0
i=0
while [ $i -lt $files ]; do
    folder=$((i / 100))/$((i / 10 % 10))
    mkdir -p $folder
    echo "this is file $i of $files" > $folder/$i
    i=$((i + 1))
done
head -c 300000 /dev/urandom > large
git init -q . && git add . && git commit -qm all
cd /tmp
git clone -q file:///tmp/tree clone
[ -z "$(git -C clone status --porcelain)" ]
git -C clone fsck --full --no-progress
echo more >> clone/large
rm clone/0/0/1
[ "$(git -C clone status --porcelain)" = " D 0/0/1
 M large" ]
git -C clone checkout -q -- .
mkdir copy
tar -C clone -cf - . | tar -C copy -xf -
diff -r clone copy
rm -r tree/.git copy/.git
diff -r tree copy
[ "$(find copy -type f | wc -l)" = $((files + 1)) ]
rm -r tree clone copy
echo "soak: $files files cloned"
"#;

/// The job of `x test`.
pub fn jobs() -> Vec<Job> {
    vec![Job::at(Place::Host, 2, NAME, Vec::new(), |_context: &Context, report| {
        report.check(NAME, on_slow_files(1, FEW).map(drop));
        Ok(())
    })]
}

/// Runs it with so many files on a root that is slow as the seed says. Returns what was printed.
///
/// # Errors
/// It failed, or this host has no git.
pub fn on_slow_files(seed: u64, files: u32) -> Result<String> {
    let archive = archive()?;
    let options = format!("quiet slow_files={seed}");
    let mut console =
        Console::start_on_host(&Hosted { cpus: 2, memory: 512, archive, options, engine: None, tool: None })?;
    console.expect_prompt(PATIENCE)?;
    let output = console.command(&format!("sh /versions/script {files}; echo status $?"), PATIENCE)?;
    ensure!(output.lines().any(|line| line.trim() == "status 0"), "with slow_files={seed}:\n{output}");
    Ok(output)
}

/// The usual guest with this host's git and tar.
fn archive() -> Result<Initramfs> {
    let mut archive = Initramfs::standard()?;
    for program in ["git", "tar"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output()?;
        let path = String::from_utf8_lossy(&found.stdout).trim().to_string();
        ensure!(!path.is_empty(), "there is no {program} on this host: install it (Debian: apt-get install {program})");
        archive.program_of_host(&path)?;
        archive.link(format!("versions/{program}"), path);
    }
    // git starts its other end by these names.
    for name in ["git-upload-pack", "git-receive-pack"] {
        archive.link(format!("versions/{name}"), "git");
    }
    archive.file("versions/script", 0o644, SCRIPT.as_bytes().to_vec());
    Ok(archive)
}
