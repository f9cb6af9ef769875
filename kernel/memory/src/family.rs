//! Who maps an anonymous page: the reverse map of what is in no file.
//!
//! Anonymous pages spread by fork alone. So those who can map one are of one *family*: the space of a program, as exec(2) made it, and all that
//! descend from it by fork and have not executed another. A page that is made for a program gets a tag ([`Frame::set_tag`]): its family,
//! and its *home*, the address at which it was made, or its place in the file of which it is a private copy. Fork leaves both as they are.
//! mremap(2) moves pages, and the area they go to knows how far from their homes they are ([`Area::home`](crate::Area::home)). (Linux's
//! `anon_vma`, and the `vm_pgoff` of anonymous areas.)
//!
//! Nobody keeps a list of a page's places: who looks for them asks each space of the family for areas that show that home, and looks
//! whether they show that very frame ([`Memory::visit_anonymous`]). So a fault writes one word more, and a fork enters one space, and a tag that is out of
//! date (the frame has become another's page, the family is gone) finds nobody, or who has the frame indeed.
//!
//! The home of a page of a stack that was moved, and then grew by more than lay below it, would lie below 0: that page is not found.
//!
//! A family holds its spaces weakly; each leaves when it is dropped. Its lock, that of its members ([`Mappings`]), is taken by fork and exit alone.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};

use machine::memory::{Frame, MmuGather};
use sync::SpinLock;

use crate::address_space::{AddressSpace, Layout};
use crate::area::Area;
use crate::kernel_memory::Memory;
use crate::pager::{Mappings, Visited};

/// The bits of a tag that are the home: an address of 48 bits, without that in the page.
pub(crate) const HOME: usize = 0x0000_ffff_ffff_f000;

/// The bits that are the family. Four are left over.
const FAMILY: u64 = 0xffff_0000_0000_0ff0;

/// Whose page a frame is, in its tag: 0 is no family's.
#[derive(Clone, Copy)]
struct Tag(u64);

impl Tag {
    /// The family, as all its members' pages have it.
    fn family(self) -> u64 {
        self.0 & FAMILY
    }

    fn home(self) -> usize {
        self.0 as usize & HOME
    }
}

/// The word for the family with this number, of which 24 bits count.
fn word_of(number: u64) -> u64 {
    (number << 4 | number >> 8 << 48) & FAMILY
}

/// Parts of the table of families: those that are founded one after the other are in different ones, so that programs that begin and end at
/// the same time don't meet.
const SHARDS: usize = 16;

/// All families, by their words.
#[derive(Default)]
pub(crate) struct Families {
    shards: [Shard; SHARDS],
    next: AtomicU64,
}

/// A part of the table.
type Shard = SpinLock<BTreeMap<u64, Weak<Family>>>;

/// Spaces that may map one another's anonymous pages.
struct Family {
    word: u64,
    members: Mappings,
    all: Arc<Families>,
}

/// One space's being in its family, until it is dropped.
pub(crate) struct Membership {
    family: Arc<Family>,
    /// The family's, at hand.
    word: u64,
    id: u64,
}

impl Families {
    /// A family of its own for the space with number `id`.
    pub fn found(self: &Arc<Families>, id: u64, space: &Weak<AddressSpace>) -> Membership {
        loop {
            let word = word_of(self.next.fetch_add(1, Ordering::Relaxed));
            let mut shard = self.shard(word).lock();
            if word == 0 || shard.contains_key(&word) {
                continue;
            }
            let family = Arc::new(Family { word, members: Mappings::new(), all: self.clone() });
            shard.insert(word, Arc::downgrade(&family));
            drop(shard);
            return family.enter(id, space);
        }
    }

    fn of(&self, tag: Tag) -> Option<Arc<Family>> {
        let word = tag.family();
        self.shard(word).lock().get(&word)?.upgrade()
    }

    /// The part in which a word stands.
    fn shard(&self, word: u64) -> &Shard {
        // The last one's number is that of the first.
        let [first, others @ ..] = &self.shards;
        others.get((word >> 4) as usize % SHARDS).unwrap_or(first)
    }
}

impl Family {
    fn enter(self: Arc<Family>, id: u64, space: &Weak<AddressSpace>) -> Membership {
        self.members.add(id, space);
        Membership { word: self.word, family: self, id }
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        let gone = self.all.shard(self.word).lock().remove(&self.word);
        drop(gone);
    }
}

impl Membership {
    /// A child with number `id` joins the family of its parent, before it gets a page.
    pub fn join(&self, id: u64, space: &Weak<AddressSpace>) -> Membership {
        self.family.clone().enter(id, space)
    }

    /// The tag of a page that is made here, with its home; the lowest four bits don't count.
    #[inline]
    pub fn tag(&self, home: usize) -> u64 {
        self.word.wrapping_add(home as u64)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.family.members.remove(self.id);
    }
}

impl Memory {
    /// Calls `visit` with each space that maps `frame` as a page of its own or of its family, the area, the page's address and what takes it out,
    /// with the space's lock held. A page that goes from one place to another meanwhile may be missed; a space that is copied meanwhile is visited
    /// later. Called without locks.
    pub fn visit_anonymous(
        &self,
        frame: &Frame,
        mut visit: impl FnMut(&Arc<AddressSpace>, &Area, usize, &mut MmuGather<'_>),
    ) -> Visited {
        let tag = Tag(frame.tag());
        let Some(family) = self.families().of(tag) else { return Visited::default() };
        family.members.visit(|space| {
            space.change_pages(|layout, gather| {
                if let Some((area, page)) = space.page_of(layout, tag.home(), frame.number()) {
                    visit(space, area, page, gather);
                }
            });
        })
    }
}

impl AddressSpace {
    /// Where the space shows this frame, whose home that is. There is one place at most: nothing in a space shares an anonymous page.
    fn page_of<'a>(&self, layout: &'a Layout, home: usize, frame: usize) -> Option<(&'a Area, usize)> {
        let shown = |area: &'a Area| {
            let page = area.page_at_home(home)?;
            self.space().lookup(page).filter(|mapping| mapping.frame_number == frame)?;
            Some((area, page))
        };
        let at_home = layout.areas.containing(home).and_then(shown);
        // Else among areas that were moved, and private copies of files.
        at_home.or_else(|| layout.areas.ascending(0).find_map(shown))
    }
}
