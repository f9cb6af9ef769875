//! Names about which a file system has to be asked that takes its time: who asks, who waits, and what becomes of two who want the same.

use super::*;
use std::sync::Barrier;
use std::thread;

impl Alone<'_> {
    async fn look(&self, name: &str) -> Asked<Path> {
        self.asked(|context, root| context.lookup(root, name.as_bytes(), Lookup::FOLLOW)).await
    }

    async fn open(&self, name: &str, flags: OpenFlags) -> Asked<()> {
        self.asked(|context, root| context.open(root, name.as_bytes(), flags, 0o666).map(drop)).await
    }
}

/// Polls all in turn, and lets time pass, until each has ended.
fn run_all(store: &SlowStore, mut futures: Vec<Pin<Box<dyn Future<Output = ()> + '_>>>) {
    let count = Arc::new(Count::default());
    while !futures.is_empty() {
        futures.retain_mut(|future| poll_once(future.as_mut(), &count).is_pending());
        store.queue().step();
    }
}

/// Files `a/f` and `b/f` of which nothing is cached.
fn cold_world(seed: u64) -> (World, Arc<SlowStore>, Arc<SlowNames>) {
    let (world, store, names) = World::slow(seed, 9);
    for directory in ["a", "b"] {
        world.mkdir(directory).unwrap();
        world.write_file(&format!("{directory}/f"), b"");
    }
    forget(&world);
    (world, store, names)
}

/// Forgets all names that nobody uses: files first, then what they were in.
fn forget(world: &World) {
    (0..4).for_each(|_| world.root.mount.super_block().forget_unused(u64::MAX));
}

#[test]
fn a_call_is_made_twice_for_each_wait_and_names_are_asked_for_once() {
    let (world, store, names) = cold_world(1);
    let before = names.lookups();
    let caller = Alone::new(&world);
    let found = run(caller.look("a/f"));
    assert_eq!((found.times, names.lookups() - before), (3, 2), "two waits, each with one more call");
    drop(found);
    // All is cached now, what is not there as well.
    assert_eq!(run(caller.look("a/f")).times, 1);
    assert_eq!(run(caller.look("a/none")).times, 2);
    let again = run(caller.look("a/none"));
    assert_eq!((again.times, again.result.err(), names.lookups() - before), (1, Some(ENOENT), 3));
    // A change waits for the name and for itself.
    let made = run(caller.asked(|context, root| context.mkdir(root, b"a/new", 0o755)));
    assert_eq!((made.times, made.result, names.lookups() - before), (3, Ok(()), 4));
    assert_eq!(store.queue().in_flight(), 0);
}

#[test]
fn of_many_who_look_a_name_up_one_asks() {
    let (world, store, names) = cold_world(2);
    let before = names.lookups();
    let callers: Vec<_> = (0..20).map(|_| Alone::new(&world)).collect();
    for name in ["a/f", "a/none"] {
        let futures = callers.iter().map(|caller| {
            let future: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(async move {
                let found = caller.look(name).await;
                assert_eq!(found.result.is_ok(), name == "a/f");
                assert!(found.times <= 3, "{} calls", found.times);
            });
            future
        });
        run_all(&store, futures.collect());
    }
    assert_eq!(names.lookups() - before, 3, "a, f and none");
}

#[test]
fn an_error_reaches_all_who_wait_and_is_not_kept() {
    let (world, store, names) = cold_world(3);
    run(Alone::new(&world).look("a")).result.unwrap();
    let before = names.lookups();
    store.queue().set_failing_turns(256);
    let callers: Vec<_> = (0..5).map(|_| Alone::new(&world)).collect();
    let futures = callers.iter().map(|caller| {
        let future: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(async move {
            let found = caller.look("a/f").await;
            assert_eq!((found.times, found.result.err()), (2, Some(Errno::EIO)));
        });
        future
    });
    run_all(&store, futures.collect());
    assert_eq!(names.lookups() - before, 1);
    for call in [b"a/new".as_slice(), b"a/f"] {
        let made = run(callers[0].asked(|context, root| context.mkdir(root, call, 0o755)));
        assert_eq!(made.result, Err(Errno::EIO));
    }
    store.queue().set_failing_turns(0);
    assert!(run(callers[0].look("a/f")).result.is_ok());
    assert_eq!(world.mkdir("a/new"), Ok(()));
}

#[test]
fn who_is_killed_while_he_asks_leaves_it_to_the_next() {
    let (world, store, names) = cold_world(4);
    let before = names.lookups();
    let (killed, next) = (Alone::new(&world), Alone::new(&world));
    let count = Arc::new(Count::default());
    let mut first = Box::pin(killed.look("a"));
    let mut second = Box::pin(next.look("a"));
    assert!(poll_once(first.as_mut(), &count).is_pending());
    assert!(poll_once(second.as_mut(), &count).is_pending());
    assert_eq!((names.lookups() - before, count.get()), (1, 0));
    drop(first);
    killed.walks.forget();
    assert_eq!(count.get(), 1, "who waited is woken");
    assert!(poll_once(second.as_mut(), &count).is_pending());
    assert_eq!(names.lookups() - before, 2, "and asks");
    while store.queue().step() {}
    assert!(run(second).result.is_ok());
}

#[test]
fn a_change_whose_caller_is_killed_goes_through() {
    let (world, store, names) = cold_world(5);
    let killed = Alone::new(&world);
    run(killed.look("a/none")).result.err().unwrap();
    let count = Arc::new(Count::default());
    let mut change = Box::pin(killed.asked(|context, root| context.mkdir(root, b"a/none", 0o755)));
    assert!(poll_once(change.as_mut(), &count).is_pending());
    drop(change);
    killed.walks.forget();
    let next = Alone::new(&world);
    let mut make = Box::pin(next.asked(|context, root| context.mkdir(root, b"a/other", 0o755)));
    assert!(poll_once(make.as_mut(), &count).is_pending(), "the directory is still being changed");
    drop(make);
    next.walks.forget();
    // A task of the kernel sees to it.
    let changes = world.vfs.unfinished_changes.clone();
    let mut completing = Box::pin(changes.complete());
    for _ in 0..50 {
        assert!(poll_once(completing.as_mut(), &count).is_pending());
        store.queue().step();
    }
    assert_eq!(world.mkdir("a/none"), Err(Errno::EEXIST));
    assert_eq!(world.mkdir("a/other"), Ok(()));
    assert_eq!(names.collisions(), 0);
}

/// A change that was not begun is not made.
#[test]
fn who_is_killed_before_his_change_begins_has_changed_nothing() {
    let (world, store, _) = cold_world(6);
    let [holder, killed] = [(); 2].map(|()| Alone::new(&world));
    run(holder.look("a/f")).result.unwrap();
    let count = Arc::new(Count::default());
    let mut first = Box::pin(holder.asked(|context, root| context.mkdir(root, b"a/one", 0o755)));
    let mut second = Box::pin(killed.asked(|context, root| context.mkdir(root, b"a/two", 0o755)));
    assert!(poll_once(first.as_mut(), &count).is_pending());
    assert!(poll_once(second.as_mut(), &count).is_pending());
    drop(second);
    killed.walks.forget();
    while poll_once(first.as_mut(), &count).is_pending() {
        store.queue().step();
    }
    assert!(world.look("a/one").is_ok());
    assert_eq!(world.look("a/two").err(), Some(ENOENT));
}

/// Of many who make one file with `O_EXCL` one does, and nobody sees half of it.
#[test]
fn of_many_who_create_a_name_one_does() {
    for seed in 1..=30 {
        let (world, store, names) = cold_world(seed);
        let made = AtomicUsize::new(0);
        let callers: Vec<_> = (0..6).map(|_| Alone::new(&world)).collect();
        let futures = callers.iter().map(|caller| {
            let made = &made;
            let future: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(async move {
                let flags = OpenFlags::READ_WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
                match caller.open("a/new", flags).await.result {
                    Ok(()) => drop(made.fetch_add(1, Ordering::Relaxed)),
                    Err(errno) => assert_eq!(errno, Errno::EEXIST),
                }
                assert!(caller.look("a/new").await.result.is_ok());
            });
            future
        });
        run_all(&store, futures.collect());
        assert_eq!((made.load(Ordering::Relaxed), names.collisions()), (1, 0), "seed {seed}");
    }
}

/// What two calls on cold names come to is what they come to one after the other, in one of the two orders.
#[test]
fn two_who_want_the_same_come_one_after_the_other() {
    type Call = fn(&Context<'_>, &Path) -> Result<()>;
    let calls: [(&str, Call); 9] = [
        ("look", |context, root| context.lookup(root, b"a/f", Lookup::FOLLOW).map(drop)),
        ("unlink", |context, root| context.unlink(root, b"a/f")),
        ("away", |context, root| context.rename((root, b"a/f"), (root, b"b/g"), RenameFlags::empty())),
        ("over", |context, root| context.rename((root, b"b/f"), (root, b"a/f"), RenameFlags::empty())),
        ("exchange", |context, root| context.rename((root, b"b/f"), (root, b"a/f"), RenameFlags::EXCHANGE)),
        ("rmdir", |context, root| context.rmdir(root, b"a/d")),
        ("create", |context, root| {
            context.open(root, b"a/d/new", OpenFlags::READ_WRITE | OpenFlags::CREATE, 0o666).map(drop)
        }),
        ("a into b", |context, root| context.rename((root, b"a/d"), (root, b"b/d/x"), RenameFlags::empty())),
        ("b into a", |context, root| context.rename((root, b"b/d"), (root, b"a/d/x"), RenameFlags::empty())),
    ];
    // What is where in the end, and what each call said.
    let end = |world: &World, results: [Result<()>; 2]| {
        let list = |name: &str| world.look(name).ok().map(|_| world.list(name));
        let files = ["a", "b", "a/d", "b/d", "a/d/x", "b/d/x"].map(list);
        let numbers = ["a/f", "b/f", "b/g"].map(|name| world.stat(name).map(|status| status.number).ok());
        (files, numbers, results)
    };
    let made = |seed: u64| {
        let (world, store, names) = cold_world(seed);
        world.mkdir("a/d").unwrap();
        world.mkdir("b/d").unwrap();
        forget(&world);
        (world, store, names)
    };
    for (first_name, first) in calls {
        for (second_name, second) in calls {
            let in_order = [[0, 1], [1, 0]].map(|order| {
                let (world, ..) = made(1);
                let caller = Alone::new(&world);
                let mut results = [Ok(()); 2];
                for index in order {
                    results[index] = run(caller.call([first, second][index]));
                }
                end(&world, results)
            });
            for seed in 2..8 {
                let (world, store, names) = made(seed);
                let callers = [(); 2].map(|()| Alone::new(&world));
                let results = std::cell::RefCell::new([Ok(()); 2]);
                let futures = callers.iter().zip([first, second]).enumerate().map(|(index, (caller, call))| {
                    let results = &results;
                    let future: Pin<Box<dyn Future<Output = ()> + '_>> = Box::pin(async move {
                        let result = caller.call(call).await;
                        results.borrow_mut()[index] = result;
                    });
                    future
                });
                run_all(&store, futures.collect());
                let both = end(&world, results.into_inner());
                assert!(in_order.contains(&both), "{first_name} and {second_name}, seed {seed}: {both:?}");
                assert_eq!(names.collisions(), 0);
            }
        }
    }
}

/// A file system whose name somebody waits for is in use; what is detached under him is still there for him.
#[test]
fn unmounting_while_somebody_waits_for_a_name() {
    for detach in [false, true] {
        let (world, store, _) = World::slow(7, 9);
        world.mkdir("m").unwrap();
        let tmpfs = world.vfs.file_system_types.find(b"tmpfs").unwrap().mount(b"none", "", &world).unwrap();
        let slow = SlowNames::over(tmpfs, store.queue());
        world.mount_on(&world.look("m").unwrap(), slow.clone()).unwrap();
        world.write_file("m/f", b"");
        let target = world.look("m").unwrap();
        target.mount.super_block().forget_unused(u64::MAX);
        slow.begin();
        let (caller, count) = (Alone::new(&world), Arc::new(Count::default()));
        let mut look = Box::pin(caller.look("m/f"));
        while slow.lookups() == 0 {
            assert!(poll_once(look.as_mut(), &count).is_pending());
            store.queue().step();
        }
        let unmounted = world.namespace.unmount(target, detach);
        assert_eq!(unmounted, if detach { Ok(()) } else { Err(Errno::EBUSY) });
        let found = run(look).result.unwrap();
        assert!(!found.dentry.is_removed());
    }
}

/// A name in lookup becomes a mount point when it has been found, for all who waited for it.
#[test]
fn mounting_on_a_name_in_lookup() {
    let (world, store, _) = cold_world(8);
    let [mounts, looks] = [(); 2].map(|()| Alone::new(&world));
    let filesystem = world.vfs.file_system_types.find(b"tmpfs").unwrap().mount(b"none", "", &world).unwrap();
    let mount = mounts.asked(|context, root| {
        let target = context.lookup(root, b"a", Lookup::FOLLOW)?;
        let none = MountFlags::empty();
        let mount = || world.namespace.mount(&world.vfs, filesystem.clone(), b"none", &target, none);
        context.on_mount_point(&target, mount)
    });
    let remove = looks.asked(|context, root| context.rename((root, b"a"), (root, b"c"), RenameFlags::empty()));
    let results = std::cell::RefCell::new(Vec::new());
    run_all(
        &store,
        vec![
            Box::pin(async {
                let mounted = mount.await.result;
                results.borrow_mut().push(mounted);
            }),
            Box::pin(async {
                let renamed = remove.await.result;
                results.borrow_mut().push(renamed);
            }),
        ],
    );
    assert!(results.into_inner().contains(&Ok(())), "one of them was first");
    assert_eq!(world.namespace.count(), if world.look("c").is_ok() { 1 } else { 2 });
}

/// Threads that look up, make, move and remove the same few names, while names are forgotten.
#[test]
fn threads_and_forgotten_names() {
    let (world, _, names) = cold_world(9);
    let (barrier, world) = (Barrier::new(3), &world);
    thread::scope(|scope| {
        for number in 0..3 {
            let barrier = &barrier;
            scope.spawn(move || {
                barrier.wait();
                let own = format!("a/{number}");
                for round in 0..200 {
                    world.mkdir(&own).unwrap();
                    let (from, to) = if round % 2 == 0 { ("a/f", "b/g") } else { ("b/g", "a/f") };
                    let root = &world.root;
                    let _ =
                        world.context().rename((root, from.as_bytes()), (root, to.as_bytes()), RenameFlags::empty());
                    assert!(world.look(&own).is_ok());
                    forget(world);
                    world.rmdir(&own).unwrap();
                }
            });
        }
    });
    assert_eq!(names.collisions(), 0);
    let left = usize::from(world.look("a/f").is_ok()) + usize::from(world.look("b/g").is_ok());
    assert_eq!(left, 1);
}
