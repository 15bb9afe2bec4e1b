// SPDX-License-Identifier: GPL-2.0

//! `cpctl` against a real `cpd`, which `cargo test` of the whole workspace builds beside it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

struct Cpd(Child);

impl Drop for Cpd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn cpctl(socket: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cpctl"))
        .arg("--socket")
        .arg(socket)
        .args(words)
        .output()
        .unwrap()
}

fn result(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn responses_and_statuses() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("cp.sock");
    let program = Path::new(env!("CARGO_BIN_EXE_cpctl")).with_file_name("cpd");
    assert!(
        program.exists(),
        "this test needs cpd: cargo build --workspace"
    );

    let (status, out, err) = result(&cpctl(&socket, &["query", "names"]));
    assert_eq!((status, out.as_str()), (Some(125), ""));
    assert!(
        err.starts_with(&format!(
            "cpctl: cannot reach cpd on {}: ",
            socket.display()
        )),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1);

    let child = Command::new(program)
        .arg("--socket")
        .arg(&socket)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut cpd = Cpd(child);
    BufReader::new(cpd.0.stdout.take().unwrap())
        .read_line(&mut String::new())
        .unwrap();

    let run = |words: &[&str]| result(&cpctl(&socket, words));
    assert_eq!(
        run(&["query", "userid"]),
        (Some(0), "OPERATOR AT COOPMEM\n".into(), String::new())
    );
    assert_eq!(
        run(&["--as", "VMRMSVM", "QUERY", "USERID"]).1,
        "VMRMSVM  AT COOPMEM\n"
    );
    assert_eq!(
        run(&["nonsense"]),
        (
            Some(1),
            "HCPCMD001E Unknown CP command: NONSENSE\n".into(),
            String::new()
        )
    );
    assert_eq!(run(&["smsg", "LINUX01", "X"]).0, Some(45));
    assert_eq!(
        run(&["resident", "LINUX01"]),
        (
            Some(45),
            "HCPCQU045E LINUX01 not logged on\n".into(),
            String::new()
        )
    );
    assert_eq!(
        run(&["--json", "q", "userid"]).1,
        "{\"lines\":[\"OPERATOR AT COOPMEM\"],\"rc\":0}\n"
    );
    assert_eq!(
        run(&["counters", "LINUX01"]).2,
        "cpctl: cpd refuses: LINUX01 is not logged on\n"
    );
    assert_eq!(run(&["counters", "LINUX01"]).0, Some(126));
    assert_eq!(
        run(&["reclaim", "LINUX01", "64M"]).2,
        "cpctl: cpd refuses: LINUX01 is not logged on\n"
    );
    assert_eq!(run(&["states", "LINUX01"]).0, Some(126));
    let (status, out, err) = run(&["reclaim", "LINUX01", "63"]);
    assert_eq!((status, out.as_str()), (Some(126), ""));
    assert!(err.contains("such as 64M"), "{err}");
    assert_eq!(run(&["tmem", "set", "cap", "all", "4M"]).0, Some(0));
    let (status, out, _) = run(&["tmem", "list"]);
    assert!(
        status == Some(0) && out.starts_with("0 of ") && out.lines().count() == 1,
        "{out}"
    );
    assert_eq!(
        run(&["tmem", "flush", "LINUX01"]).2,
        "cpctl: cpd refuses: LINUX01 is not logged on\n"
    );
    assert_eq!(run(&["tmem", "flush"]).0, Some(126));
    let (status, out, err) = run(&["top"]);
    assert_eq!((status, err.as_str()), (Some(0), ""));
    let lines: Vec<_> = out.lines().collect();
    assert!(
        lines[0].starts_with("COOPMEM  ") && lines[0].ends_with("guests 0"),
        "{out}"
    );
    assert!(
        lines.last().unwrap().starts_with("USERID   RESIDENT"),
        "{out}"
    );
    let (_, out, _) = run(&["--json", "top"]);
    assert!(
        out.contains("\"guests\":[]") && out.contains("\"decisions\":[]"),
        "{out}"
    );
    assert_eq!(run(&["top", "--interval", "0"]).0, Some(126));
    let (status, out, _) = run(&["torment", "--help"]);
    assert!(status == Some(0) && out.contains("--share"), "{out}");
    assert_eq!(run(&["--as", "linux01", "q", "userid"]).0, Some(126));
    assert_eq!(run(&[]).0, Some(126));
    assert_eq!(run(&["--help"]).0, Some(0));
}
