// SPDX-License-Identifier: GPL-2.0

use clap::CommandFactory;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyModifiers};
use serde_json::{Value, from_value};

use super::keys::Mode;
use super::*;

fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

fn linux01() -> Value {
    json!({ "user_id": "LINUX01", "storage": 131_072, "resident": 70000, "preserved": 5000,
            "states": [[60000, 5000, 1000], [0, 0, 50072], [2000, 0, 0], [8000, 0, 5000]],
            "asked": 20000, "pages_in": 1000, "pages_out": 6000, "tmem_frames": 9024, "cpu_time_us": 5_000_000 })
}

fn linux02() -> Value {
    json!({ "user_id": "LINUX02", "storage": 65536, "resident": 50000, "preserved": 0,
            "states": [[50000, 0, 0], [0, 0, 15536], [0, 0, 0], [0, 0, 0]],
            "asked": null, "pages_in": 0, "pages_out": 0, "tmem_frames": 0, "cpu_time_us": 1_000_000 })
}

fn before() -> Overview {
    from_value(json!({
        "system": "COOPMEM", "time_us": 3_723_000_000_u64,
        "frames": { "all": 131_072, "available": 2048, "guests": 120_000,
                    "tmem_ephemeral": 8000, "tmem_persistent": 1024 },
        "paging": { "pages": 262_144, "in_use": 5000, "rate": 120 },
        "guests": [linux01(), linux02()],
        "decisions": ["01:02:00 short of 3000 frames", "01:02:00 LINUX01 SHRINK 20000"],
    }))
    .unwrap()
}

/// Two seconds later.
fn after() -> Overview {
    let mut overview = before();
    overview.time_us += 2_000_000;
    overview.guests[0].pages_in += 500;
    overview.guests[0].pages_out += 100;
    overview.guests[0].cpu_time_us += 1_900_000;
    overview.guests[1].cpu_time_us += 20_000;
    overview
}

fn view() -> View {
    let mut view = View::new(user("VMRMSVM"), before());
    view.update(after());
    view
}

fn drawn(view: &View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, view)).unwrap();
    let buffer = terminal.backend().buffer();
    buffer
        .content()
        .chunks(width.into())
        .map(|line| {
            let line: String = line.iter().map(|cell| cell.symbol()).collect();
            line.trim_end().into()
        })
        .collect()
}

fn press(view: &mut View, code: KeyCode) -> Option<Order> {
    view.key(KeyEvent::new(code, KeyModifiers::NONE))
}

fn typed(view: &mut View, keys: &str) -> Option<Order> {
    keys.chars()
        .fold(None, |_, key| press(view, KeyCode::Char(key)))
}

fn order(view: &View) -> Vec<String> {
    view.rows
        .iter()
        .map(|row| row.guest.user_id.to_string())
        .collect()
}

#[test]
fn the_command_is_well_formed() {
    Command::command().debug_assert();
    let command =
        |words: &[&str]| Command::new(&words.iter().map(|&word| word.into()).collect::<Vec<_>>());
    let top = |interval, once| Command::Top(Top { interval, once });
    assert_eq!(command(&["TOP"]).unwrap(), top(2, false));
    assert_eq!(
        command(&["top", "--interval", "5", "--once"]).unwrap(),
        top(5, true)
    );
    assert!(command(&["top", "--interval", "0"]).is_err());
    assert!(command(&["top", "LINUX01"]).is_err());
}

#[test]
fn a_usual_terminal_shows_all_but_the_last_columns() {
    let mut expected = vec![
        "COOPMEM  01:02:05 UTC  guests 2",
        "frames 131072  available 2048  guests 120000  tmem 9024  ephemeral 8000",
        "paging 120/s  in use 5000  pages 262144",
        "pages            S        U        P        V",
        "resident    110000        0     2000     8000",
        "preserved     5000        0        0        0",
        "zero          1000    65608        0     5000",
        "USERID   RESIDENT PAGEDOUT   IN/S CPU%  SHRINK    TMEM       U       V       P",
        "LINUX01     70000     5000    250   95   20000    9024   50072   13000    2000",
        "LINUX02     50000        0      0    1       -       0   15536       0       0",
    ];
    expected.extend([""; 10]);
    expected.extend([
        "VMRM",
        "01:02:00 short of 3000 frames",
        "01:02:00 LINUX01 SHRINK 20000",
        "by resident  ?: help  q: end  S: shrink  r p c u s: sort",
    ]);
    assert_eq!(drawn(&view(), 80, 24), expected);
}

#[test]
fn a_narrow_terminal_shows_what_counts_most() {
    let mut expected = vec![
        "COOPMEM  01:02:05 UTC",
        "frames 131072  available 2048",
        "paging 120/s  in use 5000",
        "USERID   RESIDENT PAGEDOUT",
        "LINUX01     70000     5000",
        "LINUX02     50000        0",
    ];
    expected.extend([""; 3]);
    expected.push("by resident  ?: help  q: end");
    assert_eq!(drawn(&view(), 30, 10), expected);
    for (width, height) in [(1, 1), (8, 3), (200, 2), (3, 50)] {
        drawn(&view(), width, height);
    }
}

#[test]
fn a_pipe_gets_all_columns_once() {
    let view = View::new(user("OPERATOR"), before());
    let lines = draw::lines(&view, usize::MAX);
    assert_eq!(
        lines[9..11],
        [
            "USERID   RESIDENT PAGEDOUT   IN/S CPU%  SHRINK    TMEM       U       V       P        S  STORAGE  OUT/S",
            "LINUX01     70000     5000      -    -   20000    9024   50072   13000    2000    66000   131072      -",
        ]
    );
    assert_eq!(lines.last().unwrap(), "01:02:00 LINUX01 SHRINK 20000");
    let json = once(&view).json;
    assert_eq!(json["guests"][0]["states"]["V"]["r"], 8000);
    assert_eq!(json["frames"]["available"], 2048);
}

#[test]
fn a_system_without_paging_says_so() {
    let mut overview = before();
    overview.paging = Default::default();
    overview.guests.clear();
    let mut view = View::new(user("OPERATOR"), overview);
    assert_eq!(drawn(&view, 80, 24)[2], "no paging");
    assert_eq!((typed(&mut view, "S"), &view.mode), (None, &Mode::Watch));
}

#[test]
fn rates_are_of_the_same_guest() {
    let mut view = view();
    let mut overview = after();
    overview.time_us += 1_000_000;
    // It has logged on again.
    overview.guests[0].pages_in = 3;
    overview.guests[1].pages_in = 30;
    view.update(overview);
    let lines = draw::lines(&view, 33);
    assert_eq!(lines[10], "LINUX01     70000     5000      -");
    assert_eq!(lines[11], "LINUX02     50000        0     30");
    // The clock was set back.
    view.update(before());
    assert_eq!(
        draw::lines(&view, 33)[11],
        "LINUX02     50000        0      -"
    );
}

#[test]
fn keys_choose_the_order() {
    let mut view = view();
    let mut overview = after();
    overview.time_us += 1_000_000;
    overview.guests[1].pages_in += 1;
    overview.guests[1].cpu_time_us += 10_000;
    overview.guests[1].resident = 80000;
    view.update(overview);
    for (key, name, first) in [
        ("u", "by user ID", "LINUX01"),
        ("p", "by page-ins", "LINUX02"),
        ("s", "by preserved", "LINUX01"),
        ("c", "by CPU", "LINUX02"),
        ("s", "by preserved", "LINUX01"),
        ("r", "by resident", "LINUX02"),
    ] {
        assert_eq!(typed(&mut view, key), None);
        assert_eq!(order(&view)[0], first, "{key}");
        let footer = drawn(&view, 80, 24).pop().unwrap();
        assert!(footer.starts_with(name), "{footer}");
    }
}

#[test]
fn the_selected_guest_stays_selected() {
    let mut view = view();
    assert_eq!(view.selected, Some(user("LINUX01")));
    press(&mut view, KeyCode::Up);
    assert_eq!(view.place(), Some(0));
    press(&mut view, KeyCode::Down);
    press(&mut view, KeyCode::Down);
    assert_eq!(
        (view.selected, view.place()),
        (Some(user("LINUX02")), Some(1))
    );
    let mut overview = after();
    overview.guests[1].resident = 80000;
    view.update(overview);
    assert_eq!(
        (view.selected, view.place()),
        (Some(user("LINUX02")), Some(0))
    );
    let mut overview = after();
    overview.guests.pop();
    view.update(overview);
    assert_eq!(view.selected, Some(user("LINUX01")));
}

#[test]
fn a_shrink_goes_to_the_guest_that_was_selected() {
    let mut view = view();
    press(&mut view, KeyCode::Down);
    assert_eq!(typed(&mut view, "S20x0q09"), None);
    assert_eq!(
        drawn(&view, 80, 24)[23],
        "LINUX02: CMM SHRINK 20009_  Enter: send  Esc: do not  as VMRMSVM"
    );
    press(&mut view, KeyCode::Backspace);
    let shrink = Order::Shrink {
        user: user("LINUX02"),
        pages: 2000,
    };
    assert_eq!(press(&mut view, KeyCode::Enter), Some(shrink));
    assert_eq!(view.mode, Mode::Watch);
    typed(&mut view, "S5");
    assert_eq!(
        (press(&mut view, KeyCode::Esc), &view.mode),
        (None, &Mode::Watch)
    );
    typed(&mut view, "S");
    assert_eq!(
        (press(&mut view, KeyCode::Enter), &view.mode),
        (None, &Mode::Watch)
    );
    view.notice = "sent".into();
    assert_eq!(drawn(&view, 30, 10)[9], "sent");
    typed(&mut view, "u");
    assert_ne!(drawn(&view, 30, 10)[9], "sent");
}

#[test]
fn keys_help_and_end() {
    let mut view = view();
    assert_eq!(typed(&mut view, "?"), None);
    assert_eq!(drawn(&view, 80, 24)[13], "S  send it CMM SHRINK");
    // Any key only ends the help.
    assert_eq!(typed(&mut view, "q"), None);
    assert_eq!(typed(&mut view, "q"), Some(Order::End));
    assert_eq!(press(&mut view, KeyCode::Esc), Some(Order::End));
    typed(&mut view, "S");
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(view.key(interrupt), Some(Order::End));
}
