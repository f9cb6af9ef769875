//! Path resolution, path_resolution(7): from a name to a [`Path`].
//!
//! The hot path is the loop of [`Walk::descend`]: permission to search and one look into the directory's table, without a lock or a count of
//! references, until the one to the file that is found. Symbolic links put their text on a small stack of texts still to be walked, so nothing
//! recurses; a path without links allocates nothing.

use alloc::borrow::Cow;
use alloc::sync::Arc;

use abi::{Errno, Result};
use bitflags::bitflags;
use machine::memory::fallible;
use machine::rcu::{self, ReadSection, Shared};
use smallvec::SmallVec;

use crate::caller::Caller;
use crate::credentials::{Access, Credentials};
use crate::dentry::Dentry;
use crate::inode::{FileKind, Link};
use crate::mount::{Mount, Path};
use crate::name;
use crate::paused_walk::{AT_ONCE, PausedWalks};

/// How many symbolic links one resolution follows: `MAXSYMLINKS`.
const MAX_LINKS: usize = 40;

/// How often a resolution is tried again.
const RETRIES: usize = 8;

/// How often one that waits is: what it found has more time to be exchanged. A file that is saved every hundred microseconds is met at last.
const WAITING_RETRIES: usize = 400;

/// Runs a resolution, and again if what it found was exchanged before it was used: by somebody outside, where the file
/// system is kept elsewhere.
#[inline]
pub(crate) fn unless_stale<T>(caller: &dyn Caller, mut resolve: impl FnMut() -> Result<T>) -> Result<T> {
    let mut result = resolve();
    for _ in 0..RETRIES {
        if !matches!(result, Err(Errno::ESTALE)) {
            break;
        }
        if let Some(walks) = caller.paused_walks()
            && walks.restart() > WAITING_RETRIES
        {
            break;
        }
        result = resolve();
    }
    result
}

bitflags! {
    /// How a path is to be resolved.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Lookup: u32 {
        /// Follow a symbolic link in the last component.
        const FOLLOW = 1 << 0;
        /// Fail with `ENOTDIR` unless it is a directory.
        const DIRECTORY = 1 << 1;
        /// An empty path is the starting point itself: `AT_EMPTY_PATH`.
        const EMPTY_PATH = 1 << 2;
    }
}

/// Whose view a path is resolved in, and with whose rights. Made for one system call; borrows everything.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// What `/` is.
    pub root: &'a Path,
    /// Whose rights.
    pub credentials: &'a Credentials,
    /// Who asks: symbolic links like `/proc/self` and devices like `/dev/tty` want to know.
    pub caller: &'a dyn Caller,
    /// The bits new files don't get.
    pub umask: u32,
}

impl Context<'_> {
    /// Resolves `name`, from `start` unless it is absolute.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, `ENAMETOOLONG`, `ENOMEM`, `ESTALE`; `ERESTART` when the call is to be made again
    /// after others ran ([`crate::PausedWalks`]), which all functions give that resolve paths.
    pub fn lookup(&self, start: &Path, name: &[u8], how: Lookup) -> Result<Path> {
        unless_stale(self.caller, || self.lookup_once(start, name, how))
    }

    fn lookup_once(&self, start: &Path, name: &[u8], how: Lookup) -> Result<Path> {
        if name.is_empty() && how.contains(Lookup::EMPTY_PATH) {
            return Ok(start.clone());
        }
        let mut walk = Walk::new(self, start, name, Takes::Last);
        walk.begin()?;
        walk.walk_to_end(how.contains(Lookup::FOLLOW))?;
        if (how.contains(Lookup::DIRECTORY) || walk.position.trailing_slash) && !walk.position.dentry.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        Ok(walk.into_path())
    }
}

/// A name in a walk's current text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Component {
    begin: usize,
    end: usize,
    /// Its hash in the directory the walk stands in.
    pub hash: u64,
}

/// What the last component of a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// A proper name.
    Name(Component),
    /// `.`
    Dot,
    /// `..`
    DotDot,
    /// There is none: the path was `/`.
    Root,
}

/// A text of which components are still to be walked.
#[derive(Clone)]
enum Text {
    /// The path that the call was given.
    Given,
    Link(Arc<[u8]>),
}

/// A text, and how far into it the walk has come.
#[derive(Clone)]
struct Progress {
    text: Text,
    at: usize,
}

impl Progress {
    #[inline]
    fn bytes<'b>(&'b self, given: &'b [u8]) -> &'b [u8] {
        match &self.text {
            Text::Given => given,
            Text::Link(bytes) => bytes,
        }
    }
}

/// Which components a walk takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    /// All but the last, whatever it is: to make or remove it.
    Parent,
    /// The last as well, and what it leads to if it is a link.
    Last,
}

/// Where a resolution under way is, and what is left to walk. As long as it has not gone anywhere it borrows where it began, and counts no
/// references.
pub(crate) struct Position<'a> {
    mount: Cow<'a, Arc<Mount>>,
    dentry: Cow<'a, Arc<Dentry>>,
    /// What is walked now. Its remainder comes before those of `outer`.
    current: Progress,
    /// The texts that symbolic links interrupted, each with at least one component left.
    outer: SmallVec<[Progress; 1]>,
    links: usize,
    /// The last component was followed by a slash, so it must be a directory.
    trailing_slash: bool,
}

impl<'a> Position<'a> {
    /// The beginning of a path that is given with this start.
    #[inline]
    fn at(start: &'a Path) -> Position<'a> {
        Position {
            mount: Cow::Borrowed(&start.mount),
            dentry: Cow::Borrowed(&start.dentry),
            current: Progress { text: Text::Given, at: 0 },
            outer: SmallVec::new(),
            links: 0,
            trailing_slash: false,
        }
    }

    /// The same position, for another walk.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub(crate) fn try_clone(&self) -> Result<Position<'static>> {
        let mut outer = SmallVec::new();
        fallible(|| outer.try_reserve_exact(self.outer.len())).map_err(|_| Errno::ENOMEM)?;
        // bounded: room was made before
        outer.extend(self.outer.iter().cloned());
        let mount = Cow::Owned(Arc::clone(&self.mount));
        let dentry = Cow::Owned(Arc::clone(&self.dentry));
        Ok(Position {
            mount,
            dentry,
            current: self.current.clone(),
            outer,
            links: self.links,
            trailing_slash: self.trailing_slash,
        })
    }
}

/// A reference of one's own.
fn owned<T>(reference: Cow<'_, Arc<T>>) -> Arc<T> {
    match reference {
        Cow::Borrowed(reference) => reference.clone(),
        Cow::Owned(reference) => reference,
    }
}

/// A resolution under way.
pub(crate) struct Walk<'a, 'c> {
    context: &'a Context<'c>,
    start: &'a Path,
    name: &'a [u8],
    takes: Takes,
    position: Position<'a>,
    /// How many bytes of links were walked since others ran.
    walked: usize,
}

impl<'a, 'c> Walk<'a, 'c> {
    /// A walk from the root or from `start`.
    #[inline]
    pub(crate) fn new(context: &'a Context<'c>, start: &'a Path, name: &'a [u8], takes: Takes) -> Walk<'a, 'c> {
        let start = if name.first() == Some(&b'/') { context.root } else { start };
        Walk { context, start, name, takes, position: Position::at(start), walked: 0 }
    }

    /// Begins at the start, or where a walk of the same call stopped.
    #[inline]
    pub(crate) fn begin(&mut self) -> Result<()> {
        if self.name.is_empty() {
            return Err(Errno::ENOENT);
        }
        if !self.position.dentry.is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if let Some(walks) = self.context.caller.paused_walks()
            && walks.any()
        {
            self.resume(walks);
        }
        Ok(())
    }

    /// Goes on where it stopped.
    #[cold]
    fn resume(&mut self, walks: &PausedWalks) {
        // A call that did not wait for what it was to wait for is given no more time for it.
        walks.give_up_wait();
        if let Some(position) = walks.find(self.start, self.name, self.takes) {
            self.position = position;
        }
    }

    /// The mount it is in.
    pub(crate) fn mount(&self) -> &Arc<Mount> {
        &self.position.mount
    }

    /// Where it stands.
    pub(crate) fn dentry(&self) -> &Arc<Dentry> {
        &self.position.dentry
    }

    /// Whether the last component was followed by a slash, so that it must be a directory.
    pub(crate) fn trailing_slash(&self) -> bool {
        self.position.trailing_slash
    }

    pub(crate) fn into_path(self) -> Path {
        Path { mount: owned(self.position.mount), dentry: owned(self.position.dentry) }
    }

    /// The name a [`Last::Name`] stands for.
    pub(crate) fn name(&self, component: Component) -> &[u8] {
        self.position.current.bytes(self.name).get(component.begin..component.end).unwrap_or_default()
    }

    /// Walks everything but the last component. The walk then stands in the directory that is to have it, and may
    /// search it.
    pub(crate) fn walk_to_last(&mut self) -> Result<Last> {
        loop {
            if let Reached::Last(last) = self.descend(Stop::BeforeLast)? {
                return Ok(last);
            }
            if let Some(last) = self.step()? {
                return Ok(last);
            }
        }
    }

    /// Walks to where the path leads, following a link in the last component if `follow` says so, or if a slash is behind it.
    pub(crate) fn walk_to_end(&mut self, follow: bool) -> Result<()> {
        loop {
            match self.descend(Stop::AtLast { follow })? {
                Reached::End => return Ok(()),
                Reached::Last(last) => return self.finish(last, follow || self.position.trailing_slash),
                Reached::Unknown => {}
            }
            if let Some(last) = self.step()? {
                return self.finish(last, follow || self.position.trailing_slash);
            }
        }
    }

    /// Goes down through directories that are in the cache, in one section: it takes no lock, counts no reference but that to where it stops,
    /// and writes to nothing that another CPU might. Stops before whatever needs more than that: links, `..`, what the cache
    /// does not have.
    #[inline]
    fn descend(&mut self, stop: Stop) -> Result<Reached> {
        let section = rcu::read();
        let text = self.position.current.bytes(self.name);
        let innermost = self.position.outer.is_empty();
        let mut at = Cached { mount: (&*self.position.mount).into(), dentry: (&*self.position.dentry).into() };
        let mut next = skip_slashes(text, self.position.current.at);
        let mut reached = Ok(Reached::Unknown);
        for _ in 0..AT_ONCE_DOWN {
            let (end, hash) = name::scan(at.dentry.seed(), text, next);
            let name = text.get(next..end).unwrap_or_default();
            if name.is_empty() {
                break;
            }
            if let Err(errno) = self.context.credentials.check(at.dentry.inode().permissions(), Access::EXECUTE) {
                reached = Err(errno);
                break;
            }
            let behind = skip_slashes(text, end);
            if innermost && behind == text.len() {
                let last = Component { begin: next, end, hash };
                reached = at.arrive(&section, last, name, behind != end, stop);
                if !matches!(reached, Ok(Reached::Unknown)) {
                    self.position.trailing_slash |= behind != end;
                    next = behind;
                }
                break;
            }
            if name != b"." {
                let Some(below) = at.below(&section, hash, name).filter(|below| below.dentry.is_directory()) else {
                    break;
                };
                at = below;
            }
            next = behind;
        }
        let (dentry, mount) = (at.dentry_if_other(&self.position), at.mount_if_other(&self.position));
        drop(section);
        self.position.current.at = next;
        if let Some(dentry) = dentry {
            self.position.dentry = Cow::Owned(dentry);
        }
        if let Some(mount) = mount {
            self.position.mount = Cow::Owned(mount);
        }
        reached
    }

    /// Takes one component, with locks and references; or tells that it is the last, which is left.
    #[cold]
    fn step(&mut self) -> Result<Option<Last>> {
        let text = self.position.current.bytes(self.name);
        let begin = skip_slashes(text, self.position.current.at);
        let (end, hash) = name::scan(self.position.dentry.seed(), text, begin);
        let name = text.get(begin..end).unwrap_or_default();
        let Some(&first) = name.first() else {
            // Only the text `/`, or a link to it with nothing behind, has no component at all.
            return Ok(match self.position.outer.pop() {
                Some(outer) => {
                    self.position.current = outer;
                    None
                }
                None => Some(Last::Root),
            });
        };
        let next = skip_slashes(text, end);
        self.may_search()?;
        let dots = if first == b'.' { dots(name) } else { None };
        if next == text.len() && self.position.outer.is_empty() {
            self.position.trailing_slash |= next != end;
            self.position.current.at = next;
            return Ok(Some(dots.unwrap_or(Last::Name(Component { begin, end, hash }))));
        }
        if let Some(dots) = dots {
            self.position.current.at = next;
            if dots == Last::DotDot {
                self.up();
            }
            return Ok(None);
        }
        let found = self.lookup(begin, hash, name)?;
        self.position.current.at = next;
        match found.kind() {
            FileKind::Directory => self.enter(found),
            // What the link's text leads to is walked before the rest of this text.
            FileKind::Symlink => {
                self.follow(&found)?;
                if !self.position.dentry.is_directory() {
                    return Err(Errno::ENOTDIR);
                }
            }
            _ => return Err(Errno::ENOTDIR),
        }
        Ok(None)
    }

    /// The entry `name` of the directory the walk stands in, which begins at `begin` in the current text.
    fn lookup(&self, begin: usize, hash: u64, name: &[u8]) -> Result<Arc<Dentry>> {
        let found = self.position.dentry.lookup(self.context.caller, hash, name);
        if matches!(found, Err(Errno::ERESTART)) {
            self.keep_before(begin)?;
        }
        found
    }

    /// The call waits for a name: it goes on before that.
    #[cold]
    fn keep_before(&self, begin: usize) -> Result<()> {
        let Some(walks) = self.context.caller.paused_walks() else { return Ok(()) };
        let mut position = self.position.try_clone()?;
        position.current.at = begin;
        walks.keep(self.start, self.name, self.takes, position)
    }

    /// What the last component leads to, for who makes the file if there is none.
    pub(crate) fn lookup_to_create(&self, component: Component) -> Result<Arc<Dentry>> {
        self.position.dentry.lookup_to_create(self.context.caller, component.hash, self.name(component))
    }

    /// Takes the last component too, following links if wanted; where links lead, the walk goes on.
    fn finish(&mut self, mut last: Last, follow: bool) -> Result<()> {
        loop {
            let component = match last {
                Last::Name(component) => component,
                Last::Root | Last::Dot => return Ok(()),
                Last::DotDot => {
                    self.up();
                    return Ok(());
                }
            };
            let found = self.lookup(component.begin, component.hash, self.name(component))?;
            if found.kind() != FileKind::Symlink || !follow {
                self.enter(found);
                return Ok(());
            }
            match self.follow_last(&found)? {
                Some(next) => last = next,
                None => return Ok(()),
            }
        }
    }
}

/// How far [`Walk::descend`] is to go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// To the directory that has the last component, or is to have it.
    BeforeLast,
    /// To the file itself, unless it is a link that is to be followed.
    AtLast { follow: bool },
}

/// Where [`Walk::descend`] stopped.
enum Reached {
    /// Before the last component.
    Last(Last),
    /// At the file itself.
    End,
    /// Before a component that is not for it.
    Unknown,
}

/// Where a walk is in a section.
#[derive(Clone, Copy)]
struct Cached<'s> {
    mount: Shared<'s, Mount>,
    dentry: Shared<'s, Dentry>,
}

impl<'s> Cached<'s> {
    /// What the name leads to, through mounts; the dentry may be negative. None if it takes a lock to tell.
    // Without the call: the inner part of each path walk.
    #[inline(always)]
    fn below(self, section: &'s ReadSection, hash: u64, name: &[u8]) -> Option<Cached<'s>> {
        let dentry = self.dentry.get().find(section, hash, name)?;
        if !dentry.is_mount_point() {
            return Some(Cached { dentry, ..self });
        }
        let mount = top_of(section, self.mount.get(), dentry.get())?;
        Some(Cached { mount, dentry: mount.get().root().into() })
    }

    /// Takes the last component, as far as it is to be taken here.
    #[inline]
    fn arrive(
        &mut self,
        section: &'s ReadSection,
        last: Component,
        name: &[u8],
        slash: bool,
        stop: Stop,
    ) -> Result<Reached> {
        let dots = dots(name);
        let Stop::AtLast { follow } = stop else { return Ok(Reached::Last(dots.unwrap_or(Last::Name(last)))) };
        if let Some(dots) = dots {
            return Ok(Reached::Last(dots));
        }
        let Some(found) = self.below(section, last.hash, name) else { return Ok(Reached::Unknown) };
        if found.dentry.is_negative() {
            return Err(Errno::ENOENT);
        }
        if found.dentry.kind() == FileKind::Symlink && (follow || slash) {
            return Ok(Reached::Unknown);
        }
        *self = found;
        Ok(Reached::End)
    }

    fn dentry_if_other(self, position: &Position<'_>) -> Option<Arc<Dentry>> {
        let other = !self.dentry.is((&*position.dentry).into());
        other.then(|| self.dentry.to_arc())
    }

    fn mount_if_other(self, position: &Position<'_>) -> Option<Arc<Mount>> {
        let other = !self.mount.is((&*position.mount).into());
        other.then(|| self.mount.to_arc())
    }
}

/// The last of the mounts on a dentry of `mount`, each on the root of the one before. None if it takes a lock to tell.
fn top_of<'s>(section: &'s ReadSection, mount: &'s Mount, dentry: &Dentry) -> Option<Shared<'s, Mount>> {
    let mut top = mount.find_mounted(section, dentry)?;
    while top.root().is_mount_point() {
        top = top.get().find_mounted(section, top.root())?;
    }
    Some(top)
}

/// How many components a walk takes in one section at most: who waits for readers spins meanwhile.
const AT_ONCE_DOWN: usize = 64;

/// The first place at or after `at` that is no slash.
#[inline]
fn skip_slashes(text: &[u8], mut at: usize) -> usize {
    while text.get(at) == Some(&b'/') {
        at += 1;
    }
    at
}

/// `.` and `..`, which are no names.
#[inline]
fn dots(name: &[u8]) -> Option<Last> {
    match name {
        b"." => Some(Last::Dot),
        b".." => Some(Last::DotDot),
        _ => None,
    }
}

/// Where following a link led.
enum Followed {
    /// To a file: the walk stands there.
    Arrived,
    /// To a text, which is now walked.
    Text,
}

impl Walk<'_, '_> {
    /// Permission to look something up in the directory the walk stands in.
    #[inline]
    fn may_search(&self) -> Result<()> {
        self.context.credentials.check(self.position.dentry.inode().permissions(), Access::EXECUTE)
    }

    /// Stands on what was found, or on what is mounted there.
    #[inline]
    pub(crate) fn enter(&mut self, found: Arc<Dentry>) {
        self.position.dentry = Cow::Owned(found);
        if self.position.dentry.is_mount_point() {
            self.cross_mounts();
        }
    }

    #[cold]
    fn cross_mounts(&mut self) {
        let here = Path { mount: Arc::clone(&self.position.mount), dentry: Arc::clone(&self.position.dentry) };
        self.stand(here.topmost());
    }

    fn stand(&mut self, path: Path) {
        self.position.mount = Cow::Owned(path.mount);
        self.position.dentry = Cow::Owned(path.dentry);
    }

    /// `..`: never above the root, and out of the mount whose root this is.
    pub(crate) fn up(&mut self) {
        loop {
            let root = self.context.root;
            if Arc::ptr_eq(&self.position.dentry, &root.dentry) && Arc::ptr_eq(&self.position.mount, &root.mount) {
                break;
            }
            if Arc::ptr_eq(&self.position.dentry, self.position.mount.root()) {
                let Some(outer) = self.position.mount.mount_point() else { break };
                self.stand(outer);
                continue;
            }
            if let Some(parent) = self.position.dentry.parent() {
                self.position.dentry = Cow::Owned(parent);
            }
            break;
        }
        if self.position.dentry.is_mount_point() {
            self.cross_mounts();
        }
    }

    /// Follows a link found in the directory the walk stands in.
    #[cold]
    #[expect(clippy::disallowed_methods, reason = "room was made before")]
    fn follow(&mut self, link: &Arc<Dentry>) -> Result<Followed> {
        self.position.links += 1;
        if self.position.links > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        let text = match link.inode().read_link(self.context.caller)? {
            Link::Path(path) => {
                self.stand(path);
                return Ok(Followed::Arrived);
            }
            Link::Text(text) => text,
        };
        match text.first() {
            None => return Err(Errno::ENOENT),
            Some(b'/') => self.stand(self.context.root.clone()),
            Some(_) => {}
        }
        self.walked += text.len();
        let interrupted = core::mem::replace(&mut self.position.current, Progress { text: Text::Link(text), at: 0 });
        if interrupted.at < interrupted.bytes(self.name).len() {
            fallible(|| self.position.outer.try_reserve(1)).map_err(|_| Errno::ENOMEM)?;
            self.position.outer.push(interrupted);
        }
        if self.walked > AT_ONCE { self.pause() } else { Ok(Followed::Text) }
    }

    /// Stops here, and is gone on with when others have run; unless the kernel itself walks.
    fn pause(&self) -> Result<Followed> {
        let Some(walks) = self.context.caller.paused_walks() else { return Ok(Followed::Text) };
        walks.count_pause()?;
        walks.keep(self.start, self.name, self.takes, self.position.try_clone()?)?;
        Err(Errno::ERESTART)
    }

    /// For open(2), whose last component may come into being: follows `link`, and says what the last component is then.
    /// `None`: the link led straight to a file, where the walk now stands.
    pub(crate) fn follow_last(&mut self, link: &Arc<Dentry>) -> Result<Option<Last>> {
        match self.follow(link)? {
            Followed::Arrived => Ok(None),
            Followed::Text => self.walk_to_last().map(Some),
        }
    }
}
