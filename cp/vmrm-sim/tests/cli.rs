// SPDX-License-Identifier: GPL-2.0

//! The program, as its user sees it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

const GOOD: &str =
    r#"[{"storage": 40960, "least": 9000, "samples": [[0, 30000, 0], [9000, 31000, 900]]}]"#;

fn run(traces: &str, options: &[&str]) -> Output {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("traces.json");
    fs::write(&file, traces).unwrap();
    play(&file, options)
}

fn play(file: &Path, options: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vmrm-sim"))
        .args(options)
        .arg(file)
        .output()
        .unwrap()
}

/// What it says, and that it fails.
fn complaint(output: &Output) -> &str {
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
    str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn each_overcommit_is_played_with_and_without_vmrm() {
    let options = [
        "--guests=20",
        "--minutes=2",
        "--overcommit=1.5",
        "--overcommit=4",
    ];
    let said = run(GOOD, &options);
    let text = str::from_utf8(&said.stdout).unwrap();
    assert!(said.status.success());
    assert!(text.starts_with("20 guests, 2 minutes"), "{text}");
    for factor in ["1.50", "4.00"] {
        let rows = text.lines().filter(|line| line.trim().starts_with(factor));
        assert_eq!(rows.count(), 2, "{text}");
    }

    let json = run(GOOD, &["--guests=20", "--minutes=2", "--json"]).stdout;
    let rows: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 6);
    assert_eq!(rows[5]["overcommit"], 2.0);
    assert_eq!(
        (&rows[4]["vmrm"], &rows[5]["vmrm"]),
        (&false.into(), &true.into())
    );
    assert_eq!(rows[5]["intervals"], 60);
}

#[test]
fn what_is_wrong_is_named() {
    let missing = play(Path::new("/nowhere/traces.json"), &[]);
    assert!(complaint(&missing).contains("/nowhere/traces.json: No such file"));
    assert!(complaint(&run("[{}]", &[])).contains("missing field `storage`"));
    assert!(complaint(&run("[]", &[])).contains("there is no guest"));
    let falls = r#"[{"storage": 9, "least": 1, "samples": [[0, 1, 0], [8000, 10, 9]]}]"#;
    let said = run(falls, &[]);
    assert!(
        complaint(&said).contains("guest 0: sample 1: 10 pages of 9 are held"),
        "{said:?}"
    );
    for option in [
        "--overcommit=0",
        "--overcommit=x",
        "--guests=0",
        "--minutes=0",
    ] {
        let said = run(GOOD, &[option]);
        assert!(complaint(&said).contains(&option[..8]), "{said:?}");
    }
}
