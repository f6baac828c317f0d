//! How tables look: no borders, two spaces between columns, aligned, as wide as the terminal allows.

use crate::printer::Printer;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};

/// A table to be filled with rows.
pub(crate) struct Rows {
    table: Table,
}

/// What a cell's colour says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tone {
    /// It works.
    Good,
    /// It changes right now.
    Busy,
    /// Somebody should look.
    Bad,
    /// Beside the point.
    Faint,
}

impl Rows {
    /// With these headings; those that start with `>` are aligned to the right (numbers).
    pub(crate) fn new(printer: &Printer, headings: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if printer.colour() {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        if let Some(width) = printer.width() {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
        }
        table.set_header(headings.iter().map(|heading| {
            let heading = heading.trim_start_matches('>');
            let cell = Cell::new(heading);
            if printer.colour() { cell.add_attribute(Attribute::Bold) } else { cell }
        }));
        for (column, heading) in table.column_iter_mut().zip(headings) {
            column.set_padding((0, 2));
            if heading.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { table }
    }

    /// One row; build its cells with [`plain`] and [`toned`].
    pub(crate) fn push(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.table.add_row(cells.into_iter().collect::<Vec<_>>());
    }

    /// The whole table, with no spaces at line ends.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        for line in self.table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A cell of the usual colour.
pub(crate) fn plain(content: impl ToString) -> Cell {
    Cell::new(content)
}

/// A cell whose colour says something.
pub(crate) fn toned(content: impl ToString, tone: Tone) -> Cell {
    let cell = Cell::new(content);
    match tone {
        Tone::Good => cell.fg(Color::Green),
        Tone::Busy => cell.fg(Color::Yellow),
        Tone::Bad => cell.fg(Color::Red),
        Tone::Faint => cell.fg(Color::DarkGrey),
    }
}

/// Label and value pairs, the values aligned, their further lines too.
pub(crate) fn pairs(printer: &Printer, pairs: &[(&str, String)]) -> String {
    let width = pairs.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (label, value) in pairs {
        let padded = format!("{label:width$}");
        text.push_str(&printer.faint(&padded));
        text.push_str("  ");
        text.push_str(&value.replace('\n', &format!("\n{:width$}  ", "")));
        text.push('\n');
    }
    text
}
