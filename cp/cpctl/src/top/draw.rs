// SPDX-License-Identifier: GPL-2.0

//! Puts what is to be seen onto a terminal, or into lines.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{List, ListState, Paragraph};

use super::keys::{Mode, View};
use super::screen;

/// The least height of a terminal in which there is room for more than guests.
const TALL: u16 = 16;

const DECISIONS: &str = "VMRM";

const HELP: [&str; 9] = [
    "r  sort by resident pages",
    "p  sort by page-ins a second",
    "c  sort by CPU time",
    "u  sort by user ID",
    "s  sort by pages paged out",
    "Up, Down  select a guest",
    "S  send it CMM SHRINK",
    "q, Esc  end",
    "any key  back",
];

/// All of it, for who does not see a terminal.
pub fn lines(view: &View, width: usize) -> Vec<String> {
    let gap = || [String::new()];
    let mut lines: Vec<_> = screen::system(&view.overview, width).into();
    lines.extend(gap());
    lines.extend(screen::states(&view.overview, width));
    lines.extend(gap());
    lines.push(screen::titles(width));
    lines.extend(view.rows.iter().map(|row| screen::guest(row, width)));
    if !view.overview.decisions.is_empty() {
        lines.extend(gap());
        lines.push(DECISIONS.into());
        lines.extend(view.overview.decisions.iter().cloned());
    }
    lines
}

/// As much as there is room for.
pub fn draw(frame: &mut Frame, view: &View) {
    let area = frame.area();
    let width = usize::from(area.width);
    let tall = area.height >= TALL;
    let states = screen::states(&view.overview, width);
    let decisions = decisions(view, usize::from(area.height / 4));
    let shown = |lines: &[_]| if tall { lines.len() as u16 } else { 0 };
    let [
        system_area,
        states_area,
        titles_area,
        guests_area,
        decisions_area,
        footer_area,
    ] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(shown(&states)),
        Constraint::Length(1),
        Constraint::Min(1),
        Constraint::Length(shown(&decisions)),
        Constraint::Length(1),
    ])
    .areas(area);
    let text =
        |lines: Vec<String>| Paragraph::new(lines.into_iter().map(Line::from).collect::<Vec<_>>());
    let reversed = Style::new().add_modifier(Modifier::REVERSED);
    let bold = Style::new().add_modifier(Modifier::BOLD);
    frame.render_widget(
        text(screen::system(&view.overview, width).into()),
        system_area,
    );
    frame.render_widget(text(states), states_area);
    frame.render_widget(text(decisions), decisions_area);
    frame.render_widget(text(vec![footer(view, width)]).style(reversed), footer_area);
    if view.mode == Mode::Help {
        frame.render_widget(
            text(HELP.map(String::from).into()),
            titles_area.union(guests_area),
        );
        return;
    }
    frame.render_widget(text(vec![screen::titles(width)]).style(bold), titles_area);
    let guests = view.rows.iter().map(|row| screen::guest(row, width));
    frame.render_stateful_widget(
        List::new(guests).highlight_style(reversed),
        guests_area,
        &mut ListState::default().with_selected(view.place()),
    );
}

/// The title and the latest ones, for which there is room.
fn decisions(view: &View, room: usize) -> Vec<String> {
    let all = &view.overview.decisions;
    if all.is_empty() {
        return Vec::new();
    }
    let latest = &all[all.len().saturating_sub(room)..];
    [DECISIONS.into()]
        .into_iter()
        .chain(latest.iter().cloned())
        .collect()
}

fn footer(view: &View, width: usize) -> String {
    match &view.mode {
        Mode::Ask { user, digits } => screen::words(
            [
                format!("{user}: CMM SHRINK {digits}_"),
                "Enter: send".into(),
                "Esc: do not".into(),
                format!("as {}", view.operator),
            ],
            width,
        ),
        _ if !view.notice.is_empty() => view.notice.clone(),
        _ => screen::words(
            [
                format!("by {}", view.sort.name()),
                "?: help".into(),
                "q: end".into(),
                "S: shrink".into(),
                "r p c u s: sort".into(),
            ],
            width,
        ),
    }
}
