//! Text for a terminal.

use std::fmt::Write;
use std::path::Path;

/// Text for people, at most 80 columns wide but for commands and paths, which must stay whole.
#[derive(Default)]
pub(super) struct Page(pub(super) String);

/// Columns of a page.
const WIDTH: usize = 80;
/// Where the text of an entry begins.
pub(super) const ENTRY: usize = 15;

impl Page {
    pub(super) fn line(&mut self, text: &str) {
        self.0.push_str(text);
        self.0.push('\n');
    }

    /// A named line, wrapped under itself.
    pub(super) fn entry(&mut self, name: &str, text: &str) {
        self.paragraph(6, ENTRY, &format!("{name:<width$}{text}", width = ENTRY - 6));
    }

    /// A named path, which must stay whole too.
    pub(super) fn path(&mut self, name: &str, path: &Path) {
        let width = ENTRY - 6;
        let _ = writeln!(self.0, "      {name:<width$}{}", path.display());
    }

    /// A command on a line of its own, and what it does below it.
    pub(super) fn mend(&mut self, name: &str, command: Option<&str>, effect: &str) {
        match command {
            None => self.entry(name, effect),
            Some(command) => {
                let width = ENTRY - 6;
                let _ = writeln!(self.0, "      {name:<width$}$ {command}");
                self.entry("", effect);
            }
        }
    }

    /// Words wrapped at [`WIDTH`], the first line indented by `first` and the others by `rest`.
    pub(super) fn paragraph(&mut self, first: usize, rest: usize, text: &str) {
        let mut line = " ".repeat(first);
        // Spaces that align the first word stay.
        let lead = text.find(|c: char| c != ' ').unwrap_or(0);
        line.push_str(&text[..lead]);
        let mut empty = true;
        for word in text[lead..].split_inclusive(' ') {
            if !empty && line.chars().count() + word.trim_end().chars().count() > WIDTH {
                self.line(line.trim_end());
                line = " ".repeat(rest);
            }
            line.push_str(word);
            empty = false;
        }
        self.line(line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_stay_within_eighty_columns_and_commands_stay_whole() {
        let mut page = Page::default();
        page.entry("why", &"seven12 ".repeat(30));
        page.mend("mend", Some(&"x".repeat(100)), "does it");
        let lines: Vec<&str> = page.0.lines().collect();
        assert!(lines[0].starts_with("      why      seven12 seven12"));
        assert!(lines[1].starts_with("               seven12"));
        assert!(lines.iter().filter(|l| !l.contains('$')).all(|l| l.chars().count() <= WIDTH));
        assert!(page.0.contains(&format!("      mend     $ {}\n", "x".repeat(100))));
        assert!(page.0.ends_with("               does it\n"));
    }
}
