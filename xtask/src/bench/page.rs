//! The page of the book that keeps the measurements: text around tables, each between markers.

use crate::paths;
use anyhow::{Context, Result};

/// Puts the tables that were measured in place of the old ones.
pub fn write(tables: &[(&str, String)]) -> Result<()> {
    let path = paths::root().join("docs/src/benchmarks.md");
    let mut page = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    for (name, table) in tables {
        page = replaced(&page, name, table).with_context(|| format!("{} has no markers for {name}", path.display()))?;
    }
    std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

/// The page with what stands between the markers of `name` replaced.
fn replaced(page: &str, name: &str, table: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- begin {name} -->"), format!("<!-- end {name} -->"));
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{table}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::replaced;

    #[test]
    fn only_the_table_changes() {
        let page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n";
        assert_eq!(replaced(page, "x", "new\n").unwrap(), "a\n<!-- begin x -->\nnew\n<!-- end x -->\nb\n");
        assert!(replaced(page, "y", "new\n").is_none());
    }
}
