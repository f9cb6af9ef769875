//! Names that are not there: the file system is asked once, and what comes after is believed.

use super::*;
use std::collections::BTreeMap;
use std::sync::Mutex;

use vfs::{File, FileSystem, Inode, NewInode, OpenRequest, Permissions, Statistics};

/// A file system that is one directory, which counts how often it is asked for a name.
#[derive(Default)]
struct Counting {
    asked: AtomicUsize,
    files: Mutex<BTreeMap<Vec<u8>, Arc<dyn Inode>>>,
}

struct Empty;

impl Inode for Empty {
    fn attributes(&self) -> Attributes {
        Attributes { mode: 0o100_644, ..Attributes::default() }
    }

    fn permissions(&self) -> Permissions {
        Permissions { mode: 0o100_644, user: 0, group: 0 }
    }

    fn open(self: Arc<Self>, _: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Err(Errno::EIO)
    }
}

struct Root(Arc<Counting>);

impl Inode for Root {
    fn attributes(&self) -> Attributes {
        Attributes { mode: 0o040_755, ..Attributes::default() }
    }

    fn permissions(&self) -> Permissions {
        Permissions { mode: 0o040_755, user: 0, group: 0 }
    }

    fn open(self: Arc<Self>, _: &OpenRequest<'_>) -> Result<Arc<dyn File>> {
        Err(Errno::EIO)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        self.0.files.lock().unwrap().get(name).cloned().ok_or(Errno::ENOENT)
    }

    fn create(&self, name: &[u8], _: &NewInode<'_>) -> Result<Arc<dyn Inode>> {
        let file: Arc<dyn Inode> = Arc::new(Empty);
        self.0.files.lock().unwrap().insert(name.to_vec(), file.clone());
        Ok(file)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.0.files.lock().unwrap().remove(name).map(|_| ()).ok_or(Errno::ENOENT)
    }
}

struct Mounted(Arc<Root>);

impl FileSystem for Mounted {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.0.clone()
    }

    fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}

fn counted() -> (World, Arc<Counting>) {
    let counting = Arc::new(Counting::default());
    let root = Arc::new(Root(counting.clone()));
    let world = World::new();
    world.mkdir("m").unwrap();
    let target = world.look("m").unwrap();
    world.namespace.mount(&world.vfs, Arc::new(Mounted(root)), b"none", &target, MountFlags::empty()).unwrap();
    (world, counting)
}

impl Counting {
    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::Relaxed)
    }
}

#[test]
fn an_absent_name_is_asked_for_once() {
    let (world, counting) = counted();
    for _ in 0..3 {
        assert_eq!(world.stat("m/absent").map(|_| ()), Err(Errno::ENOENT));
        assert_eq!(world.stat("m/absent/below").map(|_| ()), Err(Errno::ENOENT));
        assert_eq!(world.open("m/absent", OpenFlags::empty()).map(|_| ()), Err(Errno::ENOENT));
        assert_eq!(world.unlink("m/absent"), Err(Errno::ENOENT));
    }
    assert_eq!(counting.asked(), 1);
    // Who makes it is not misled, nor who asks then, nor who asks when it is gone again.
    world.context().mknod(&world.root, b"m/absent", 0, 0).unwrap();
    assert!(world.stat("m/absent").is_ok());
    world.unlink("m/absent").unwrap();
    assert_eq!(world.stat("m/absent").map(|_| ()), Err(Errno::ENOENT));
    world.context().mknod(&world.root, b"m/absent", 0, 0).unwrap();
    assert_eq!(world.context().mknod(&world.root, b"m/absent", 0, 0), Err(Errno::EEXIST));
}

/// Of any number of absent names only so many are kept, and the last ones are; those that are in use stay, whatever their number.
#[test]
fn absent_names_are_bounded() {
    let (world, counting) = counted();
    let names = || (0..5000).map(|number| format!("m/absent{number}"));
    for name in names() {
        assert_eq!(world.stat(&name).map(|_| ()), Err(Errno::ENOENT));
    }
    assert_eq!(counting.asked(), 5000);
    assert!(world.stat("m/absent4999").is_err() && counting.asked() == 0);
    assert!(world.stat("m/absent0").is_err() && counting.asked() == 1);
    let kept = names().rev().take_while(|name| world.stat(name).is_err() && counting.asked() == 0).count();
    assert!((10..1000).contains(&kept), "{kept} are kept");
}

/// Two threads ask for a name and make and remove it: what one of them has done the other sees.
#[test]
fn absent_names_and_makers_together() {
    let world = World::new();
    let world = &world;
    let turn = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            machine::cpu::set_current(1);
            for round in 0..3000 {
                world.create("f").unwrap();
                turn.store(2 * round + 1, Ordering::SeqCst);
                while turn.load(Ordering::SeqCst) != 2 * round + 2 {
                    let _ = world.stat("f");
                    std::thread::yield_now();
                }
            }
        });
        for round in 0..3000 {
            while turn.load(Ordering::SeqCst) != 2 * round + 1 {
                let _ = world.stat("f");
                std::thread::yield_now();
            }
            assert!(world.stat("f").is_ok(), "round {round}");
            world.unlink("f").unwrap();
            assert_eq!(world.stat("f").map(|_| ()), Err(Errno::ENOENT), "round {round}");
            turn.store(2 * round + 2, Ordering::SeqCst);
        }
    });
}
