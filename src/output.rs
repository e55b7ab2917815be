//! How verbs speak: data to stdout, words to stderr, tables for people, JSON for programs.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use comfy_table::{Attribute, Cell, ColumnConstraint, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

/// Away from a terminal, progress is one line as often as this.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// A terminal of this many columns has room for an id in one piece.
const WIDE: u16 = 120;

/// How a verb ended, when it did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All is well: 0.
    Fine,
    /// It ran, and found something: 3.
    Found,
}

/// Something that must run for this verb does not answer: exit with 4.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotReachable(pub String);

/// Arguments that clap cannot know to be wrong: exit with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongUse(pub String);

/// How this process speaks.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// JSON instead of tables.
    pub json: bool,
    /// No words, no progress; data and errors alone.
    pub quiet: bool,
    /// Bold and colors.
    pub color: bool,
}

impl Output {
    /// One line of data.
    ///
    /// # Errors
    ///
    /// When nobody reads any more; the caller passes it on, and the process ends quietly.
    pub fn line(self, text: impl AsRef<str>) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{}", text.as_ref())?;
        stdout.flush()
    }

    /// One value as one line of JSON.
    ///
    /// # Errors
    ///
    /// As [`Output::line`].
    pub fn value(self, value: &impl Serialize) -> io::Result<()> {
        self.line(serde_json::to_string(value)?)
    }

    /// Words for a person.
    pub fn words(self, text: impl AsRef<str>) {
        if !self.quiet {
            // Nobody to tell that stderr is closed.
            let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
        }
    }

    /// A table for a person.
    ///
    /// # Errors
    ///
    /// As [`Output::line`].
    pub fn table(self, head: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        if !io::stdout().is_terminal() {
            // A pipe has no width: one line per row, whatever its length.
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        let bold = |text: &&str| {
            let cell = Cell::new(text);
            if self.color { cell.add_attribute(Attribute::Bold) } else { cell }
        };
        table.set_header(head.iter().map(bold));
        table.add_rows(rows);
        let is_wide = table.width().is_none_or(|width| width >= WIDE);
        if let Some(first) = table.column_mut(0).filter(|_| is_wide) {
            // Ids stand first, and are there to be copied. In a narrow terminal they would leave no room for the rest.
            first.set_constraint(ColumnConstraint::ContentWidth);
        }
        self.line(trimmed(&table.to_string()))
    }

    /// Progress toward `total`: a bar on a terminal, else one line now and then.
    pub fn progress(self, what: &'static str, total: u64) -> Progress {
        let bar = if self.quiet || !io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            let bar = ProgressBar::new(total).with_prefix(what);
            let style = ProgressStyle::with_template("{prefix:12} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar
        };
        Progress { output: self, what, total, done: 0, bar, said: Instant::now() }
    }
}

/// `1 event`, `2 events`.
pub fn counted(count: impl TryInto<u64>, what: &str) -> String {
    let count = count.try_into().unwrap_or(u64::MAX);
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A table without the blanks that its layout leaves around lines.
fn trimmed(table: &str) -> String {
    let lines: Vec<&str> = table.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// Progress of one piece of work.
pub struct Progress {
    output: Output,
    what: &'static str,
    total: u64,
    done: u64,
    bar: ProgressBar,
    said: Instant,
}

impl Progress {
    /// So much is done by now.
    pub fn at(&mut self, done: u64) {
        self.done = done;
        self.bar.set_position(done);
        if self.bar.is_hidden() && self.said.elapsed() >= PROGRESS_EVERY {
            self.said = Instant::now();
            self.output.words(format!("{}: {} of {}", self.what, self.done, self.total));
        }
    }

    /// One more is done.
    pub fn step(&mut self) {
        self.at(self.done + 1);
    }

    /// It is over.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!(
            [counted(0_u64, "event"), counted(1_u64, "event"), counted(2_usize, "event")],
            ["0 events", "1 event", "2 events"]
        );
    }

    #[test]
    fn tables_have_no_blanks_at_the_ends_of_lines() {
        assert_eq!(trimmed("a  \n b \n"), "a\n b");
    }
}
