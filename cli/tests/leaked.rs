//! Runs `authz leaked` and the rules for secret scanners as a shell calls them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that is surprised should fail on the spot"
)]

use std::{
    fs,
    io::Write as _,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

struct Shell(TempDir);

impl Shell {
    fn new(formats: &[&str]) -> Self {
        let shell = Self(TempDir::new().unwrap());
        shell.done(&[&["init"], formats].concat());
        shell
    }

    /// Runs a command with a text as its standard input.
    fn fed(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_authz"));
        command.args(arguments).env("AUTHZ_STORE", self.0.path().join("keys.sqlite")).env("USER", "tester");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that does not read its input closes it.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.fed(arguments, b"");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns the id and the key.
    fn issue(&self, name: &str, more: &[&str]) -> (String, String) {
        let issued = self.done(&[&["--json", "issue", "--name", name], more].concat());
        let issued: Value = serde_json::from_str(&issued).unwrap();
        (issued["key"]["id"].as_str().unwrap().to_owned(), issued["api_key"].as_str().unwrap().to_owned())
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn status(&self, id: &str) -> String {
        let shown: Value = serde_json::from_str(&self.done(&["--json", "show", id])).unwrap();
        shown["status"].as_str().unwrap().to_owned()
    }
}

/// Returns the exit code and what was printed, which must contain none of the keys.
fn told(output: &Output, keys: &[&str]) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    for key in keys {
        let secret = &key[key.len() - 12..];
        assert!(!out.contains(secret) && !err.contains(secret), "the secret is printed: {out}{err}");
    }
    (output.status.code().unwrap(), out, err)
}

#[test]
fn a_key_that_was_pasted_into_a_log_is_named_and_revoked() {
    let shell = Shell::new(&["--format-for", "live=acme_live_{0-9A-Za-z:10}_{0-9A-Za-z:30}{crc32}"]);
    let (live, live_key) = shell.issue("checkout", &["--kind", "live", "--read", "orders"]);
    let (plain, plain_key) = shell.issue("ci", &["--read", "orders"]);
    let (unseen, unseen_key) = shell.issue("other", &["--read", "orders"]);
    let keys = [&*live_key, &plain_key, &unseen_key];
    let stranger = Shell::new(&[]).issue("stranger", &[]).1;
    let log = format!(
        "GET /\ncurl -H 'x-api-key: {live_key}'\n{{\"key\":\"{plain_key}\"}}\n\
         {live_key}{live_key}\nonly the id {unseen} and a key of others {stranger}\n"
    );
    let file = shell.file("app.log", log.as_bytes());

    let expected = format!(
        "LINE\tTIMES\tID\tNAME\tOWNER\tSTATUS\n2\t3\t{live}\tcheckout\t-\tactive\n3\t1\t{plain}\tci\t-\tactive\n"
    );
    for output in [shell.fed(&["leaked", file.to_str().unwrap()], b""), shell.fed(&["leaked"], log.as_bytes())] {
        assert_eq!(told(&output, &keys), (6, expected.clone(), String::new()));
    }
    let output = shell.fed(&["--json", "leaked", "-"], log.as_bytes());
    let (code, out, _) = told(&output, &keys);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, found["found"].as_array().unwrap().len()), (6, 2));
    let first = &found["found"][0];
    let expected = serde_json::json!({
        "line": 2, "times": 3, "id": live, "name": "checkout", "owner": null, "status": "active", "revoked_now": false
    });
    assert_eq!(*first, expected);
    assert_eq!(shell.status(&live), "active", "nothing is revoked unless that is asked for");

    let output = shell.fed(&["--json", "leaked", "--revoke", file.to_str().unwrap()], b"");
    let (code, out, _) = told(&output, &keys);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &found["found"][0]["status"], &found["found"][0]["revoked_now"]),
        (0, &"revoked".into(), &true.into())
    );
    assert_eq!([&live, &plain, &unseen].map(|id| shell.status(id)), ["revoked", "revoked", "active"]);
    let shown = shell.done(&["show", &live]);
    assert!(shown.contains(&format!("leaked: found in {}, line 2", file.display())), "{shown}");

    // Revoked keys are named, and need nothing done.
    let (code, out, _) = told(&shell.fed(&["leaked", "--revoke"], log.as_bytes()), &keys);
    assert!(code == 0 && out.contains("\tcheckout\t-\trevoked\n"), "{out}");
    let (code, out, _) = told(&shell.fed(&["leaked"], b"nothing"), &keys);
    assert_eq!((code, out.lines().count()), (0, 1));
    let expired = shell.issue("expired", &["--expires", "2020-01-01"]).1;
    assert_eq!(told(&shell.fed(&["leaked"], expired.as_bytes()), &[&expired]).0, 0);
}

/// Opaque keys have no mark. With many words in a text, the digests of all keys are loaded instead of looking up each.
#[test]
fn opaque_keys_are_found_in_any_text() {
    let shell = Shell::new(&["--format", "{ascii:20-64}"]);
    let legacy = "legacy/key+with=padding==";
    let csv = shell.file("keys.csv", format!("key,id,name\n{legacy},legacy-1,partner\n").as_bytes());
    shell.done(&["import", csv.to_str().unwrap()]);
    let (_, key) = shell.issue("ci", &[]);
    let words: String = (0..5000).map(|number| format!("word-number-{number:010}\n")).collect();
    let text = format!("{words}GET /?key={legacy}&x=1\n\"{key}\"{words}\0\u{7f}{key}");
    let (code, out, _) = told(&shell.fed(&["leaked"], text.as_bytes()), &[legacy, &key]);
    assert_eq!(code, 6);
    let rows: Vec<_> = out.lines().skip(1).map(|row| row.split('\t').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(rows, ["5001 1", "5002 2"]);
}

/// One line of 120 MB, which is not kept as a whole.
#[cfg(target_os = "linux")]
#[test]
fn a_huge_line_is_read_in_bounded_memory() {
    let shell = Shell::new(&[]);
    let (id, key) = shell.issue("ci", &[]);
    let script = format!(
        "ulimit -v 200000; {{ head -c 120000000 /dev/zero | tr '\\0' x; cat; }} | {} leaked",
        env!("CARGO_BIN_EXE_authz")
    );
    let mut sh = Command::new("sh");
    sh.args(["-c", &script]).env("AUTHZ_STORE", shell.0.path().join("keys.sqlite"));
    let mut child = sh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(key.as_bytes()).unwrap();
    let (code, out, err) = told(&child.wait_with_output().unwrap(), &[&key]);
    assert!(code == 6 && out.contains(&format!("1\t1\t{id}\tci")), "{code} {out} {err}");
}

/// Whatever a file is called, its keys are revoked; a file that cannot be read says so.
#[test]
fn odd_files_are_no_excuse() {
    let shell = Shell::new(&[]);
    let (id, key) = shell.issue("ci", &[]);
    let file = shell.file(&format!("{key}.log"), key.as_bytes());
    let output = shell.fed(&["leaked", "--revoke", file.to_str().unwrap()], b"");
    assert_eq!(told(&output, &[&key]).0, 0);
    let shown = shell.done(&["show", &id]);
    assert!(shown.contains("leaked: found in a file, line 1") && !shown.contains(&key));
    let gone = file.with_file_name(format!("{key}.gone"));
    let (code, _, err) = told(&shell.fed(&["leaked", gone.to_str().unwrap()], b""), &[&key]);
    assert!(code == 1 && err.contains("a file: "), "{err}");

    let (id, key) = shell.issue("second", &[]);
    let file = shell.file(&format!("{}\u{202e}\n.log", "n".repeat(200)), key.as_bytes());
    assert_eq!(told(&shell.fed(&["leaked", "--revoke", file.to_str().unwrap()], b""), &[&key]).0, 0);
    assert_eq!(shell.status(&id), "revoked");

    let (code, _, err) = told(&shell.fed(&["leaked", "/nowhere.log"], b""), &[]);
    assert!(code == 1 && err.contains("/nowhere.log: "), "{err}");
    let (code, _, err) = told(&shell.fed(&["leaked", shell.0.path().to_str().unwrap()], b""), &[]);
    assert!(code == 1 && !err.is_empty(), "{err}");
}

#[test]
fn rules_for_scanners_cover_every_format() {
    let shell = Shell::new(&[
        "--format",
        "l64_{a-z0-9:8}_{0-9a-f:32}",
        "--format-for",
        "\"li've\"=acme_live_{0-9A-Za-z:10}_{0-9A-Za-z:30}{crc32}",
        "--format-for",
        "legacy={ascii:100-200}",
    ]);
    let rules = shell.done(&["settings", "--gitleaks"]);
    for expected in [
        "useDefault = true\n",
        "[[rules]]\nid = \"api-key-l64\"\ndescription = \"API key\"\nregex = '''\\bl64_[a-z0-9]{8}_[0-9a-f]{32}\\b'''\nkeywords = [\"l64_\"]\n",
        "id = \"api-key-acme-live\"\ndescription = \"API key of the kind \\\"li've\\\"\"\n",
        "regex = '''\\bacme_live_[0-9A-Za-z]{10}_[0-9A-Za-z]{30}[0-9A-Za-z]{6}\\b'''\nkeywords = [\"acme_live_\"]",
        "id = \"api-key-ascii-100-200\"",
        "regex = '''(?:^|[^!-~])([!-~]{100,200})(?:[^!-~]|$)'''\nsecretGroup = 1\nkeywords = [\"key\", ",
    ] {
        assert!(rules.contains(expected), "{expected}: {rules}");
    }
    assert_eq!(rules.matches("[[rules]]").count(), 3);
    let detectors = shell.done(&["settings", "--trufflehog"]);
    for expected in [
        "detectors:\n",
        "  - name: api-key-l64\n    keywords:\n      - l64_\n    regex:\n      key: '\\bl64_[a-z0-9]{8}_[0-9a-f]{32}\\b'\n",
        "  - name: api-key-acme-live\n",
        "  - name: api-key-ascii-100-200\n    keywords:\n      - key\n",
    ] {
        assert!(detectors.contains(expected), "{expected}: {detectors}");
    }
    for arguments in
        [["--gitleaks", "--trufflehog"], ["--gitleaks", "--require-networks=x"], ["--trufflehog", "--dimension=a=slug"]]
    {
        assert_eq!(shell.fed(&[&["settings"][..], &arguments].concat(), b"").status.code(), Some(2));
    }
}
