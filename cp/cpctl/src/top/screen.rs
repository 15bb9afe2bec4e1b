// SPDX-License-Identifier: GPL-2.0

//! What is to be seen: two overviews become rows, in an order; columns are those for which there is room.

use std::cmp::Reverse;

use cp_core::page_state::{Content, Usage};
use cp_proto::{GuestUse, Overview};

/// The order of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Resident,
    PagesIn,
    Cpu,
    UserId,
    Preserved,
}

impl Sort {
    /// The order that a key stands for.
    pub fn of_key(key: char) -> Option<Self> {
        Some(match key {
            'r' => Self::Resident,
            'p' => Self::PagesIn,
            'c' => Self::Cpu,
            'u' => Self::UserId,
            's' => Self::Preserved,
            _ => return None,
        })
    }

    /// What the footer calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resident => "resident",
            Self::PagesIn => "page-ins",
            Self::Cpu => "CPU",
            Self::UserId => "user ID",
            Self::Preserved => "preserved",
        }
    }
}

/// A guest, and what it did in each second between two overviews.
#[derive(Clone, Debug)]
pub struct Row {
    pub guest: GuestUse,
    pages_in: Option<u64>,
    pages_out: Option<u64>,
    /// In hundredths of one CPU.
    cpu: Option<u64>,
}

impl Row {
    /// There are no rates of a guest that was not there before, or has logged on again.
    fn new(guest: GuestUse, before: Option<(&GuestUse, u64)>) -> Self {
        let rate = |count: fn(&GuestUse) -> u64, each: u64| {
            let (before, elapsed_us) = before?;
            let more = count(&guest).checked_sub(count(before))?;
            more.saturating_mul(each).checked_div(elapsed_us)
        };
        Self {
            pages_in: rate(|guest| guest.pages_in, 1_000_000),
            pages_out: rate(|guest| guest.pages_out, 1_000_000),
            cpu: rate(|guest| guest.cpu_time_us, 100),
            guest,
        }
    }
}

/// The rows of an overview, in no order yet.
pub fn rows(before: Option<&Overview>, now: &Overview) -> Vec<Row> {
    let earlier = before.and_then(|before| {
        let elapsed_us = now.time_us.checked_sub(before.time_us)?;
        Some((before, elapsed_us))
    });
    now.guests
        .iter()
        .map(|guest| {
            let before = earlier.and_then(|(before, elapsed_us)| {
                let same = |other: &&GuestUse| other.user_id == guest.user_id;
                Some((before.guests.iter().find(same)?, elapsed_us))
            });
            Row::new(guest.clone(), before)
        })
        .collect()
}

/// Puts rows in order: the largest figure first, equal ones by user ID.
pub fn sort(rows: &mut [Row], by: Sort) {
    rows.sort_by_key(|row| {
        let figure = match by {
            Sort::Resident => Some(row.guest.resident),
            Sort::PagesIn => row.pages_in,
            Sort::Cpu => row.cpu,
            Sort::UserId => None,
            Sort::Preserved => Some(row.guest.preserved),
        };
        (Reverse(figure), row.guest.user_id)
    });
}

/// What is shown of a guest. If there is not room for all columns, the last ones are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    UserId,
    Resident,
    Preserved,
    PagesIn,
    Cpu,
    Asked,
    Tmem,
    Unused,
    Volatile,
    PotentiallyVolatile,
    Stable,
    Storage,
    PagesOut,
}

impl Column {
    const ALL: [Self; 13] = [
        Self::UserId,
        Self::Resident,
        Self::Preserved,
        Self::PagesIn,
        Self::Cpu,
        Self::Asked,
        Self::Tmem,
        Self::Unused,
        Self::Volatile,
        Self::PotentiallyVolatile,
        Self::Stable,
        Self::Storage,
        Self::PagesOut,
    ];

    /// The title, and the width.
    fn head(self) -> (&'static str, usize) {
        match self {
            Self::UserId => ("USERID", 8),
            Self::Resident => ("RESIDENT", 8),
            Self::Preserved => ("PAGEDOUT", 8),
            Self::PagesIn => ("IN/S", 6),
            Self::Cpu => ("CPU%", 4),
            Self::Asked => ("SHRINK", 7),
            Self::Tmem => ("TMEM", 7),
            Self::Unused => ("U", 7),
            Self::Volatile => ("V", 7),
            Self::PotentiallyVolatile => ("P", 7),
            Self::Stable => ("S", 8),
            Self::Storage => ("STORAGE", 8),
            Self::PagesOut => ("OUT/S", 6),
        }
    }

    fn cell(self, row: &Row) -> String {
        let guest = &row.guest;
        let pages = |usage| {
            let all: u64 = Content::ALL
                .map(|content| guest.states[(usage, content)])
                .iter()
                .sum();
            Some(all)
        };
        let figure = match self {
            Self::UserId => return guest.user_id.to_string(),
            Self::Resident => Some(guest.resident),
            Self::Preserved => Some(guest.preserved),
            Self::PagesIn => row.pages_in,
            Self::Cpu => row.cpu,
            Self::Asked => guest.asked,
            Self::Tmem => Some(guest.tmem_frames),
            Self::Unused => pages(Usage::Unused),
            Self::Volatile => pages(Usage::Volatile),
            Self::PotentiallyVolatile => pages(Usage::PotentiallyVolatile),
            Self::Stable => pages(Usage::Stable),
            Self::Storage => Some(guest.storage),
            Self::PagesOut => row.pages_out,
        };
        figure.map_or("-".into(), |figure| figure.to_string())
    }
}

/// As many of some texts as fit into a line, all but the first after a gap.
fn fitting(texts: impl IntoIterator<Item = String>, gap: &str, width: usize) -> String {
    let mut line = String::new();
    for text in texts {
        let gap = if line.is_empty() { "" } else { gap };
        if !line.is_empty() && line.len() + gap.len() + text.len() > width {
            break;
        }
        line += gap;
        line += &text;
    }
    line
}

/// Texts of which the first is most worth its room.
pub fn words(texts: impl IntoIterator<Item = String>, width: usize) -> String {
    fitting(texts, "  ", width)
}

/// The line above the rows.
pub fn titles(width: usize) -> String {
    line(|column| column.head().0.into(), width)
}

/// The line of a guest.
pub fn guest(row: &Row, width: usize) -> String {
    line(|column| column.cell(row), width)
}

fn line(text: impl Fn(Column) -> String, width: usize) -> String {
    let cell = |column: Column| {
        let (_, width) = column.head();
        match column {
            Column::UserId => format!("{:width$}", text(column)),
            _ => format!("{:>width$}", text(column)),
        }
    };
    fitting(Column::ALL.map(cell), " ", width)
}

/// The system, in three lines.
pub fn system(overview: &Overview, width: usize) -> [String; 3] {
    let Overview { frames, paging, .. } = overview;
    let second = overview.time_us / 1_000_000;
    let time = [second / 3600 % 24, second / 60 % 60, second % 60];
    let [hour, minute, second] = time;
    [
        words(
            [
                overview.system.clone(),
                format!("{hour:02}:{minute:02}:{second:02} UTC"),
                format!("guests {}", overview.guests.len()),
            ],
            width,
        ),
        words(
            [
                format!("frames {}", frames.all),
                format!("available {}", frames.available),
                format!("guests {}", frames.guests),
                format!("tmem {}", frames.tmem_ephemeral + frames.tmem_persistent),
                format!("ephemeral {}", frames.tmem_ephemeral),
            ],
            width,
        ),
        if paging.pages == 0 {
            "no paging".into()
        } else {
            words(
                [
                    format!("paging {}/s", paging.rate),
                    format!("in use {}", paging.in_use),
                    format!("pages {}", paging.pages),
                ],
                width,
            )
        },
    ]
}

/// The pages of all guests by their states, in as many lines as a title and [`Content`] have.
pub fn states(overview: &Overview, width: usize) -> Vec<String> {
    let line = |name: &str, cell: &dyn Fn(Usage) -> String| {
        let cells = Usage::ALL.map(|usage| format!("{:>9}", cell(usage)));
        fitting([format!("{name:9}")].into_iter().chain(cells), "", width)
    };
    let row = |(name, content)| {
        let sum = |usage| {
            let pages = overview
                .guests
                .iter()
                .map(|guest| guest.states[(usage, content)]);
            pages.sum::<u64>().to_string()
        };
        line(name, &sum)
    };
    let names = ["resident", "preserved", "zero"];
    [line("pages", &|usage| usage.letter().to_string())]
        .into_iter()
        .chain(names.into_iter().zip(Content::ALL).map(row))
        .collect()
}
