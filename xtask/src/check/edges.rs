//! The life of a thread is drawn in `docs/src/life-of-a-thread.md`, with a table that says which function each edge is. The functions
//! name their edges; so a reader finds the one from the other, and a function that moves takes the drawing with it.

use super::{fail_with, files, paths, shown};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;

const PAGE: &str = "docs/src/life-of-a-thread.md";

/// What a comment says before the number of its edge. ("Edges 3 and 4" are two.)
const MARK: &str = " of the life of a thread";

/// Where an edge is, file and function.
type Place = (String, String);

/// See the page.
pub fn check() -> Result<String> {
    let page = std::fs::read_to_string(paths::root().join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let drawn = rows(&page);
    ensure!(!drawn.is_empty(), "{PAGE} has no table of edges");
    let mut named: BTreeMap<u32, Vec<Place>> = BTreeMap::new();
    for file in files("kernel", &["rs"])? {
        let text = std::fs::read_to_string(&file)?;
        for (edge, function) in named_in(&text) {
            named.entry(edge).or_default().push((shown(&file), function));
        }
    }
    fail_with(complaints(&drawn, &named))
}

/// The rows `| edges | \`file\` | \`function\` | ...` of the page.
fn rows(page: &str) -> BTreeMap<u32, Place> {
    let mut drawn = BTreeMap::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, edges, file, function, ..] = cells[..] else { continue };
        for edge in numbers(edges) {
            drawn.insert(edge, (file.into(), function.into()));
        }
    }
    drawn
}

/// The edges that comments of a file name, with the function below each.
fn named_in(text: &str) -> Vec<(u32, String)> {
    let mut named = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some((before, _)) = line.split_once(MARK).filter(|_| line.trim_start().starts_with("///")) else {
            continue;
        };
        let edges = before.rsplit_once("Edge").map_or("", |(_, edges)| edges);
        let function = lines[at..].iter().find_map(|line| line.split_once("fn ")).map_or("", |(_, rest)| rest);
        let name: String = function.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
        named.extend(numbers(edges).map(|edge| (edge, name.clone())));
    }
    named
}

fn numbers(text: &str) -> impl Iterator<Item = u32> {
    text.split(|letter: char| !letter.is_ascii_digit()).filter_map(|number| number.parse().ok())
}

fn complaints(drawn: &BTreeMap<u32, Place>, named: &BTreeMap<u32, Vec<Place>>) -> Vec<String> {
    let mut complaints = Vec::new();
    for (edge, place) in drawn {
        let (file, function) = place;
        match named.get(edge).map(Vec::as_slice) {
            Some([only]) if only == place => {}
            Some(places) => {
                complaints.push(format!("edge {edge} is `{function}` in {file} on {PAGE}, and named at {places:?}"));
            }
            None => complaints.push(format!("edge {edge}: no comment of `{function}` in {file} names it")),
        }
    }
    let unknown = named.keys().filter(|edge| !drawn.contains_key(edge));
    complaints.extend(unknown.map(|edge| format!("edge {edge} is named at {:?} and not on {PAGE}", named[edge])));
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "| edge | file | function |\n| ---: | --- | --- |\n| 1 | `a.rs` | `make` | makes |\n| 3, 4 | `b.rs` | `enter` | x |\n";

    #[test]
    fn a_table_and_comments_that_agree_are_fine() {
        let drawn = rows(TABLE);
        assert_eq!(drawn.keys().copied().collect::<Vec<_>>(), [1, 3, 4]);
        let found = named_in("/// Edges 3 and 4 of the life of a thread.\n#[inline]\npub(crate) fn enter<T>() {}\n");
        assert_eq!(found, [(3, "enter".into()), (4, "enter".into())]);
        let mut named = BTreeMap::from([(1, vec![("a.rs".into(), "make".into())])]);
        named.extend(found.into_iter().map(|(edge, name)| (edge, vec![("b.rs".to_string(), name)])));
        assert_eq!(complaints(&drawn, &named), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_or_elsewhere_is_found() {
        let named = BTreeMap::from([
            (1, vec![("a.rs".to_string(), "other".to_string())]),
            (4, vec![("b.rs".into(), "enter".into()), ("c.rs".into(), "enter".into())]),
            (9, vec![("b.rs".into(), "enter".into())]),
        ]);
        let complaints = complaints(&rows(TABLE), &named);
        assert_eq!(complaints.len(), 4, "{complaints:?}");
    }
}
