//! A page found without its file's lock, and who takes it out meanwhile: every order.

#![allow(clippy::disallowed_methods, reason = "a test may fail by memory")]

use loom::sync::Arc;
use loom::thread;
use models::every_order;
use models::memory::{Frame, PAGE_SIZE};
use models::rcu;
use models::tree::{Removed, Tree};

const PAGE: u64 = PAGE_SIZE as u64;
/// The page that is looked for, and the number of its frame.
const INDEX: u64 = 1;
const OLD: usize = 7;

/// A file of two pages.
fn file() -> Arc<Tree> {
    rcu::wait_for_readers();
    let tree = Tree::of_size(2 * PAGE);
    tree.insert(0, Frame::new(6));
    tree.insert(INDEX, Frame::new(OLD));
    // All that is looked at has been made before there are threads: loom orders an object's first value behind its making only.
    assert!(tree.find(INDEX, false).is_some());
    Arc::new(tree)
}

/// Runs both at once: one looks, the other changes the file.
fn together(switches: usize, look: fn(&Tree), change: fn(&Tree)) {
    every_order(Some(switches), move || {
        let tree = file();
        let looking = thread::spawn({
            let tree = tree.clone();
            move || look(&tree)
        });
        change(&tree);
        looking.join().unwrap();
    });
}

/// Takes the page out as reclaim does.
fn take_out(tree: &Tree) {
    drop(tree.with(INDEX / 32, |leaf| leaf.take(INDEX as usize)));
}

#[test]
fn a_page_that_was_cut_off_is_not_found_in_the_file_that_grew_again() {
    fn look(tree: &Tree) {
        if let Some((frame, size)) = tree.find(INDEX, false) {
            frame.read();
            assert_ne!(size, 3 * PAGE, "the page of before, and the size of after");
        }
    }
    fn cut_and_grow(tree: &Tree) {
        let mut removed = Removed::default();
        tree.set_size(PAGE);
        tree.cut(INDEX, &mut removed);
        drop(removed);
        tree.set_size(3 * PAGE);
    }
    together(3, look, cut_and_grow);
}

#[test]
fn who_finds_a_page_has_it_though_it_is_given_back() {
    fn look(tree: &Tree) {
        if let Some((frame, _)) = tree.find(INDEX, false) {
            frame.read();
            assert_eq!(frame.number(), OLD);
        }
    }
    together(3, look, take_out);
}

#[test]
fn a_page_that_is_fetched_again_is_another() {
    fn look(tree: &Tree) {
        if let Some((frame, _)) = tree.find(INDEX, false) {
            frame.read();
            assert!(frame.number() == OLD || frame.references() > 1, "{}", frame.number());
        }
    }
    fn replace(tree: &Tree) {
        take_out(tree);
        tree.insert(INDEX, Frame::new(OLD + 1));
    }
    together(2, look, replace);
}

/// A file grows beyond what the tree's root reaches: its pages stay where they are found.
#[test]
fn no_page_is_missed_while_the_tree_grows() {
    fn look(tree: &Tree) {
        let number = tree.find(INDEX, false).map(|(frame, _)| frame.number());
        assert_eq!(number, Some(OLD));
    }
    together(2, look, |tree| tree.insert(16 * 32, Frame::new(9)));
}
