//! What was measured, as a table for people and as JSON for programs.

use anyhow::Result;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Which benchmark it is of.
    pub bench: &'static str,
    /// What was measured.
    pub name: String,
    /// The value, in `unit`.
    pub value: f64,
    /// `1/s`, `ms`, `µs`, `MiB`, …
    pub unit: &'static str,
    /// The bare limit of the same machine in the same run, in the same unit.
    pub beside: Option<Beside>,
    /// What it should be, where the project says so.
    pub target: Option<Target>,
}

/// A bare limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Beside {
    /// What it is a limit of.
    pub what: String,
    /// Its value, in the figure's unit.
    pub value: f64,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The value, in its unit.
    AtLeast(f64),
    /// The value, in its unit.
    Under(f64),
    /// The value divided by the bare limit.
    RatioAtLeast(f64),
    /// The value divided by what it is shown beside.
    RatioUnder(f64),
}

impl Figure {
    /// A figure without a limit beside it.
    pub fn new(bench: &'static str, name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { bench, name: name.into(), value, unit, beside: None, target: None }
    }

    /// The same beside a bare limit.
    #[must_use]
    pub fn beside(self, what: impl Into<String>, value: f64) -> Self {
        Self { beside: Some(Beside { what: what.into(), value }), ..self }
    }

    /// The same with what it should be.
    #[must_use]
    pub fn target(self, target: Target) -> Self {
        Self { target: Some(target), ..self }
    }

    /// The value divided by the bare limit.
    pub fn ratio(&self) -> Option<f64> {
        self.beside.as_ref().map(|beside| self.value / beside.value)
    }

    /// Whether it is what it should be.
    pub fn is_met(&self) -> Option<bool> {
        Some(match self.target? {
            Target::AtLeast(least) => self.value >= least,
            Target::Under(most) => self.value < most,
            Target::RatioAtLeast(least) => self.ratio()? >= least,
            Target::RatioUnder(most) => self.ratio()? < most,
        })
    }
}

/// The machine that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processors that this program may use.
    pub cores: usize,
    /// The processor, as the kernel calls it.
    pub processor: String,
    /// In GiB.
    pub memory: f64,
    /// The kernel's release.
    pub kernel: String,
}

impl Machine {
    fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let after = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let kib = after(&read("/proc/meminfo"), "MemTotal");
        let kib: f64 = kib.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            processor: after(&read("/proc/cpuinfo"), "model name"),
            memory: (kib / 1024.0 / 1024.0).round(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

/// Everything that was measured in one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    machine: Machine,
    figures: Vec<Figure>,
}

impl Report {
    /// Nothing yet, on this machine.
    pub fn new() -> Self {
        Self { machine: Machine::this(), figures: Vec::new() }
    }

    /// Takes one figure, and says it at once to who is watching.
    pub fn add(&mut self, figure: Figure) {
        eprintln(&format!("{}: {} = {} {}", figure.bench, figure.name, rounded(figure.value), figure.unit));
        self.figures.push(figure);
    }

    /// Whether a figure is not what it should be.
    pub fn has_missed(&self) -> bool {
        self.figures.iter().any(|figure| figure.is_met() == Some(false))
    }

    /// Prints it all on stdout.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn print(&self, json: bool) -> Result<()> {
        println(&if json { serde_json::to_string_pretty(self)? } else { self.to_string() });
        Ok(())
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Machine { cores, processor, memory, kernel } = &self.machine;
        writeln!(f, "{cores} cores of {processor}, {memory} GiB, Linux {kernel}")?;
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(["", "figure", "value", "unit", "bare limit", "ratio", "target"]);
        for figure in &self.figures {
            let beside = figure.beside.as_ref().map(|it| format!("{} ({})", rounded(it.value), it.what));
            let target = figure.target.map(|target| match target {
                Target::AtLeast(least) => format!("≥ {}", rounded(least)),
                Target::Under(most) => format!("< {}", rounded(most)),
                Target::RatioAtLeast(least) => format!("ratio ≥ {least}"),
                Target::RatioUnder(most) => format!("ratio < {most}"),
            });
            let met = figure.is_met().map(|met| if met { " met" } else { " MISSED" });
            table.add_row([
                figure.bench.to_owned(),
                figure.name.clone(),
                rounded(figure.value),
                figure.unit.to_owned(),
                beside.unwrap_or_default(),
                figure.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
                target.unwrap_or_default() + met.unwrap_or_default(),
            ]);
        }
        if let Some(column) = table.column_mut(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        write!(f, "{table}")
    }
}

/// Three digits that count.
fn rounded(value: f64) -> String {
    match value.abs() {
        0.0..1.0 => format!("{value:.3}"),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[expect(clippy::print_stdout, reason = "the report is what this program is for")]
fn println(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "progress of a long run")]
fn eprintln(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_by_value_or_by_ratio() {
        let figure = Figure::new("ingest", "requests", 600.0, "1/s").beside("bare", 1000.0);
        assert_eq!(figure.clone().target(Target::RatioAtLeast(0.6)).is_met(), Some(true));
        assert_eq!(figure.clone().target(Target::RatioAtLeast(0.61)).is_met(), Some(false));
        assert_eq!(figure.clone().target(Target::AtLeast(600.0)).is_met(), Some(true));
        assert_eq!(figure.clone().target(Target::Under(600.0)).is_met(), Some(false));
        assert_eq!(figure.is_met(), None);
        let alone = Figure { beside: None, ..figure };
        assert_eq!(alone.target(Target::RatioAtLeast(0.1)).is_met(), None, "nothing to compare with");
    }

    #[test]
    fn values_show_three_digits_that_count() {
        let shown = [0.0, 0.12345, 1.2345, 12.345, 123.45, 12345.6].map(rounded);
        assert_eq!(shown, ["0.000", "0.123", "1.23", "12.3", "123", "12346"]);
    }
}
