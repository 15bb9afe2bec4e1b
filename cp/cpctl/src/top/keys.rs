// SPDX-License-Identifier: GPL-2.0

//! What keys do.

use cp_core::UserId;
use cp_proto::Overview;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::screen::{Row, Sort, rows, sort};

/// The most digits of a number of pages.
const DIGITS: usize = 12;

/// What keys mean now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They choose an order or a guest.
    Watch,
    /// They are digits: how many pages the guest shall give up.
    Ask { user: UserId, digits: String },
    /// Any key ends the help.
    Help,
}

/// What a key has somebody else do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    End,
    /// Send the guest a `CMM SHRINK`.
    Shrink {
        user: UserId,
        pages: u64,
    },
}

/// The view: what is seen, and what has been chosen.
#[derive(Clone, Debug)]
pub struct View {
    /// In whose name orders are sent.
    pub operator: UserId,
    pub overview: Overview,
    /// In the order in which they are shown.
    pub rows: Vec<Row>,
    pub sort: Sort,
    /// Stays with the guest wherever its row goes.
    pub selected: Option<UserId>,
    pub mode: Mode,
    /// What came of the last order; until the next key.
    pub notice: String,
}

impl View {
    /// Nothing has been chosen.
    pub fn new(operator: UserId, overview: Overview) -> Self {
        let mut view = Self {
            operator,
            rows: rows(None, &overview),
            overview,
            sort: Sort::Resident,
            selected: None,
            mode: Mode::Watch,
            notice: String::new(),
        };
        view.order();
        view
    }

    /// Shows a later overview.
    pub fn update(&mut self, overview: Overview) {
        self.rows = rows(Some(&self.overview), &overview);
        self.overview = overview;
        self.order();
    }

    fn order(&mut self) {
        sort(&mut self.rows, self.sort);
        if self.place().is_none() {
            self.select(0);
        }
    }

    /// Which row is the selected one.
    pub fn place(&self) -> Option<usize> {
        let selected = self.selected?;
        self.rows
            .iter()
            .position(|row| row.guest.user_id == selected)
    }

    fn select(&mut self, place: usize) {
        let last = self.rows.len().saturating_sub(1);
        self.selected = self.rows.get(place.min(last)).map(|row| row.guest.user_id);
    }

    /// A key was pressed.
    pub fn key(&mut self, key: KeyEvent) -> Option<Order> {
        self.notice.clear();
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Some(Order::End);
        }
        match &mut self.mode {
            Mode::Watch => return self.watch(key.code),
            Mode::Help => self.mode = Mode::Watch,
            Mode::Ask { user, digits } => match key.code {
                KeyCode::Char(digit @ '0'..='9') if digits.len() < DIGITS => digits.push(digit),
                KeyCode::Backspace => drop(digits.pop()),
                KeyCode::Esc => self.mode = Mode::Watch,
                KeyCode::Enter => {
                    let user = *user;
                    let pages = digits.parse().ok();
                    self.mode = Mode::Watch;
                    return pages.map(|pages| Order::Shrink { user, pages });
                }
                _ => {}
            },
        }
        None
    }

    fn watch(&mut self, code: KeyCode) -> Option<Order> {
        let place = self.place().unwrap_or(0);
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return Some(Order::End),
            KeyCode::Up => self.select(place.saturating_sub(1)),
            KeyCode::Down => self.select(place + 1),
            KeyCode::Char('?') => self.mode = Mode::Help,
            KeyCode::Char('S') => {
                if let Some(user) = self.selected {
                    let digits = String::new();
                    self.mode = Mode::Ask { user, digits };
                }
            }
            KeyCode::Char(key) => {
                if let Some(sort) = Sort::of_key(key) {
                    self.sort = sort;
                    self.order();
                }
            }
            _ => {}
        }
        None
    }
}
