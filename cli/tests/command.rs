//! Runs the command `authz` as a shell calls it.

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

use tempfile::TempDir;

struct Shell {
    folder: TempDir,
}

impl Shell {
    fn new() -> Self {
        let shell = Self { folder: TempDir::new().unwrap() };
        assert!(shell.run(&["init"]).status.success());
        shell
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_authz"));
        command
            .args(arguments)
            .env("AUTHZ_STORE", self.folder.path().join("keys.sqlite"))
            .env_remove("AUTHZ_ACTOR")
            .env("USER", "tester");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Returns the standard output of a command that must succeed.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns the standard error of a command that must fail.
    fn refused(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stderr).unwrap()
    }

    fn issue(&self, more: &[&str]) -> (String, String) {
        let output = self.command(&[&["issue", "--name", "k"], more].concat()).output().unwrap();
        assert!(output.status.success(), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8(output.stderr).unwrap();
        let id = said.split_whitespace().nth(1).unwrap().to_owned();
        (id, String::from_utf8(output.stdout).unwrap().trim().to_owned())
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

#[test]
fn a_time_is_what_was_written_or_an_error() {
    let shell = Shell::new();
    let (id, _) = shell.issue(&["--not-before", "2027-01-01T18:00:00Z", "--expires", "2027-06-01"]);
    let shown = shell.done(&["show", &id]);
    assert!(shown.contains("2027-01-01 18:00:00Z") && shown.contains("2027-06-01 00:00:00Z"), "{shown}");
    for (time, expected) in
        [("2027-01-01T18:00:00", "no time zone"), ("9999-12-31", "omit --expires"), ("", "not a time")]
    {
        for option in ["--not-before", "--expires"] {
            let said = shell.refused(&["issue", "--name", "k", option, time]);
            assert!(said.contains(expected), "{said}");
        }
    }
    let (_, key) = shell.issue(&[]);
    let elsewhere = Shell::new();
    let csv = elsewhere.file("keys.csv", &format!("key,not_before\n{key},2027-01-01T18:00:00\n"));
    assert!(elsewhere.refused(&["import", csv.to_str().unwrap()]).contains("line 2"));
}

/// An unset shell variable leaves an empty value after the equals sign, which must not mean "no restriction".
#[test]
fn what_is_empty_is_an_error() {
    let shell = Shell::new();
    for arguments in [
        &["--exclude", "company="][..],
        &["--include", "shop="],
        &["--exclude", "company=1,"],
        &["--exclude", ""],
        &["--read", ""],
        &["--write", "orders,"],
        &["--ip", ""],
        &["--origin", ""],
        &["--kind", ""],
        &["--tenant", ""],
    ] {
        shell.refused(&[&["issue", "--name", "k"], arguments].concat());
    }
    shell.refused(&["issue", "--name", ""]);
    shell.refused(&["--actor", "", "issue", "--name", "k"]);
    shell.refused(&["list", "--tenant", ""]);
    let (_, key) = shell.issue(&[]);
    let elsewhere = Shell::new();
    let csv = elsewhere.file("keys.csv", &format!("key,exclude\n{key},company=\n"));
    assert!(elsewhere.refused(&["import", csv.to_str().unwrap()]).contains("column exclude"));
    assert_eq!(shell.done(&["list", "--json"]).matches("\"id\"").count(), 1, "nothing was issued");
}

/// A key that is passed by mistake, in any argument, is neither stored nor repeated in a message.
#[test]
fn a_key_in_the_wrong_place_goes_no_further() {
    let shell = Shell::new();
    let (id, key) = shell.issue(&["--read", "orders"]);
    let list = format!("shop={key}");
    for arguments in [
        &["issue", "--name", &key][..],
        &["issue", "--name", "k", "--read", &key],
        &["issue", "--name", "k", "--write", &key],
        &["issue", "--name", "k", "--kind", &key],
        &["issue", "--name", "k", "--tenant", &key],
        &["issue", "--name", "k", "--include", &list],
        &["issue", "--name", "k", "--include", &key],
        &["issue", "--name", "k", "--ip", &key],
        &["issue", "--name", "k", "--origin", &key],
        &["issue", "--name", "k", "--expires", &key],
        &["--actor", &key, "issue", "--name", "k"],
        &["grant", &id, "--read", &key],
        &["grant", &id, "--remove", &key],
        &["rename", &id, &key],
        &["revoke", &key],
        &["revoke", &id, "--reason", &key],
        &["show", &key],
        &["rotate", &id, "--overlap", &key],
        &["purge", "--dead-for", &key],
        &["settings", "--require-networks", &key],
        &["settings", "--dimension", &key],
        &["list", "--status", &key],
        &["audit", "--limit", &key],
        &["check", "--policy", &key, "GET", "/"],
        &[&key],
        &["list", &format!("--{key}")],
    ] {
        let said = shell.refused(arguments);
        assert!(!said.contains(&key), "{arguments:?}: {said}");
    }
    let kept = ["", "-wal"].iter().map(|suffix| {
        let mut name = shell.folder.path().join("keys.sqlite").into_os_string();
        name.push(suffix);
        fs::read(name).unwrap_or_default()
    });
    for content in kept {
        assert!(!content.windows(key.len()).any(|window| window == key.as_bytes()), "it stands in the store");
    }
}

#[test]
fn addresses_of_stores_are_understood_or_refused_without_their_password() {
    let folder = TempDir::new().unwrap();
    let run = |store: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_authz"));
        let output = command.args(["--store", store, "init"]).current_dir(folder.path()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for store in [
        "mysql://user:hunter2@host/db",
        "sqlite:x",
        "sqlite://hunter2",
        "postgre://user:hunter2@host/db",
        "redis:hunter2",
        "postgres://user:hunter2@host:port/db",
        "postgres://user:hunter2@[::1/db",
        "host=10.0.0.1 password=hunter2 user",
        "host=10.0.0.1 user=u password=hunter2 dbname=d",
    ] {
        let (code, said) = run(store);
        assert!(code != Some(0) && !said.contains("hunter2") && !said.is_empty(), "{store}: {said}");
    }
    assert!(run("mysql://u:p@h/db").1.contains("postgres://user@host/database"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no file was made");
    assert_eq!(run("./sqlite:x").0, Some(0));
}

/// If the key cannot be printed, it is not created.
#[cfg(unix)]
#[test]
fn a_key_that_nobody_would_get_is_not_made() {
    let shell = Shell::new();
    let (id, _) = shell.issue(&[]);
    for arguments in [&["issue", "--name", "k"][..], &["rotate", &id]] {
        for redirection in [">&-", ">/dev/null"] {
            let script = format!("{} {} {redirection}", env!("CARGO_BIN_EXE_authz"), arguments.join(" "));
            let mut sh = Command::new("sh");
            let output =
                sh.args(["-c", &script]).env("AUTHZ_STORE", shell.folder.path().join("keys.sqlite")).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(!output.status.success() && said.contains("no key was issued"), "{script}: {said}");
        }
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = shell.command(&["issue", "--name", "k"]).stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("revoke it"), "{said}");
    assert_eq!(shell.done(&["list"]).lines().count(), 3, "a heading, the first, and the one that was lost");
}

#[test]
fn text_that_looks_like_another_is_refused() {
    let shell = Shell::new();
    for name in ["a\u{202e}b", "a\u{200b}b", "\u{feff}a", "a\u{ad}b", "a\u{2028}b", "a\u{e0041}b", "a\u{1b}[31mb"] {
        let said = shell.refused(&["issue", "--name", name]);
        assert!(said.contains("invisible"), "{name:?}: {said}");
        shell.refused(&["--actor", name, "issue", "--name", "k"]);
    }
    shell.issue(&["--kind", "münchen ❤️"]);
}

#[test]
fn a_byte_order_mark_says_nothing() {
    let shell = Shell::new();
    let (_, key) = shell.issue(&["--read", "orders"]);
    let file = shell.done(&["export"]);
    let elsewhere = Shell::new();
    let json = elsewhere.file("keys.json", &format!("\u{feff}{file}"));
    assert_eq!(elsewhere.done(&["import", json.to_str().unwrap()]).trim(), "imported 1");
    let third = Shell::new();
    let csv = third.file("keys.csv", &format!("\u{feff}key,name\n{key},legacy\n"));
    assert_eq!(third.done(&["import", csv.to_str().unwrap()]).trim(), "imported 1");
}

/// A list of any length is one document, and the command exits quietly if its reader closes the pipe early.
#[test]
fn lists_are_written_as_they_are_read() {
    let shell = Shell::new();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&shell.done(&["list", "--json"])).unwrap()["keys"],
        serde_json::json!([])
    );
    let keys: String = (0..2500).map(|number| format!("{number:032}-legacy\n")).collect();
    let any = TempDir::new().unwrap();
    let store = any.path().join("keys.sqlite");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_authz"));
        command.args(arguments).env("AUTHZ_STORE", &store);
        command
    };
    assert!(run(&["init", "--format", "{ascii:20-64}"]).output().unwrap().status.success());
    let mut import =
        run(&["import", "--csv", "-", "--read", "orders"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    import.stdin.take().unwrap().write_all(format!("key\n{keys}").as_bytes()).unwrap();
    assert!(import.wait().unwrap().success());
    let output = run(&["list", "--json"]).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["keys"].as_array().unwrap().len(), 2500);
    assert!(document["next"].is_null() && document["unreadable"].as_array().unwrap().is_empty());
    let page = run(&["list", "--json", "--limit", "7"]).output().unwrap();
    let document: serde_json::Value = serde_json::from_slice(&page.stdout).unwrap();
    assert_eq!(document["keys"].as_array().unwrap().len(), 7);
    assert!(document["next"].is_string());
    let mut head = run(&["list"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(head.stdout.take());
    let output = head.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Whose a key is, and what its role is: as a new user would do it.
#[test]
fn keys_have_owners_labels_and_roles() {
    let shell = Shell::new();
    shell.done(&["role", "set", "shop-partner", "--read", "products", "--write", "orders", "--exclude", "company=3"]);
    let (id, _) = shell.issue(&["--owner", "acct-7", "--label", "env=prod", "--role", "shop-partner", "--note", "ERP"]);
    let shown = shell.done(&["show", &id]);
    for line in ["owner      acct-7", "labels     env=prod", "note       ERP", "roles      shop-partner", "company!=3"]
    {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let json: serde_json::Value = serde_json::from_str(&shell.done(&["show", &id, "--json"])).unwrap();
    assert_eq!((&json["owner"], &json["labels"]["env"]), (&"acct-7".into(), &"prod".into()));
    assert_eq!(json["roles"], serde_json::json!(["shop-partner"]));
    assert!(shell.done(&["list", "--owner", "acct-7"]).contains(&id));
    assert!(!shell.done(&["list", "--label", "env=test"]).contains(&id));
    assert!(shell.done(&["list", "--role", "shop-partner"]).contains(&id));
    shell.done(&["meta", &id, "--owner", "acct-8", "--remove-label", "env", "--no-note"]);
    let json: serde_json::Value = serde_json::from_str(&shell.done(&["show", &id, "--json"])).unwrap();
    assert_eq!((&json["owner"], json.get("labels"), json.get("note")), (&"acct-8".into(), None, None));
    // A role changes all its keys, is listed with them, and stays while one refers to it.
    let changed = shell.done(&["role", "set", "shop-partner", "--read", "products"]);
    assert_eq!(changed, "set shop-partner (keys that refer to it: 1)\n");
    assert!(shell.done(&["list"]).contains("products:read") && !shell.done(&["list"]).contains("orders"));
    assert!(shell.done(&["role", "list"]).contains("shop-partner\t1\tproducts:read"));
    assert!(shell.refused(&["role", "delete", "shop-partner"]).contains("1 key refers to it"));
    assert!(
        shell
            .refused(&["issue", "--name", "x", "--role", "nobody"])
            .contains("there is no role nobody; there are: shop-partner")
    );
    assert!(shell.refused(&["grant", &id, "--role", "nobody"]).contains("there is no role nobody"));
    assert!(shell.refused(&["issue", "--name", "x", "--label", "env"]).contains("expected NAME=VALUE"));
    let exported = shell.done(&["export"]);
    assert!(exported.contains("\"roles\": {\n    \"shop-partner\""), "{exported}");
    assert!(!shell.done(&["export", "--expand"]).contains("shop-partner"));
    shell.done(&["grant", &id, "--remove-role", "shop-partner"]);
    shell.done(&["role", "delete", "shop-partner"]);
    let revoked = shell.done(&["revoke", "--owner", "acct-8", "--reason", "the contract ended"]);
    assert_eq!(revoked, format!("revoked {id} (k)\n"));
    assert!(shell.refused(&["revoke", "--owner", "acct-9"]).contains("has no key"));
    assert!(shell.refused(&["revoke"]).contains("required"));
    // All of it comes from CSV and key files as well.
    let file = shell.file("exported.json", &exported);
    let elsewhere = Shell::new();
    assert!(elsewhere.refused(&["import", file.to_str().unwrap()]).contains("there is no role shop-partner"));
    elsewhere.done(&["import", "--with-roles", file.to_str().unwrap()]);
    elsewhere.done(&["meta", &id, "--owner", "acct-8"]);
    let csv = "key,owner,labels,note,roles\nkey_3jWz9Qb2Lx_LXBIyevZZQvc6dZxbZ6rDHZ9jv1Eq0000000,acct-9,env=prod team=x,n,shop-partner\n";
    let refused = elsewhere.refused(&["import", elsewhere.file("keys.csv", csv).to_str().unwrap()]);
    assert!(refused.contains("does not match this store's format"), "{refused}");
}

/// A key is switched off and on, ends at another time, and is rotated for the same length again.
#[test]
fn keys_are_suspended_and_their_ends_are_moved() {
    let shell = Shell::new();
    let (id, key) = shell.issue(&["--read", "orders", "--expires", "90d"]);
    assert_eq!(shell.done(&["suspend", &id, "--reason", "a test"]), format!("suspended {id} (k)\n"));
    assert!(shell.done(&["list", "--status", "suspended"]).contains(&id));
    assert!(shell.refused(&["rotate", &id]).contains("resume it first"));
    assert_eq!(shell.done(&["suspend", &id]), format!("already suspended: {id} (k)\n"));
    assert_eq!(shell.done(&["resume", &id]), format!("resumed {id} (k)\n"));
    assert_eq!(shell.done(&["resume", &id]), format!("not suspended: {id} (k)\n"));
    let output = shell.run(&["expiry", &id, "2099-01-01"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("now:    expires 2099-01-01 00:00:00Z"), "{said}");
    shell.done(&["expiry", &id, "1d"]);
    for (arguments, wanted) in
        [(&["--expires", "90d"][..], "(expires 2"), (&["--expires", "never", "--overlap", "1h"], "(never expires)")]
    {
        let (id, _) = shell.issue(&["--read", "orders", "--expires", "1d"]);
        let output = shell.run(&[&["rotate", &id], arguments].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && said.contains(wanted) && said.contains("the old key"), "{said}");
    }
    assert!(shell.refused(&["expiry", &id, "soon"]).contains("is not a time"));
    assert!(shell.refused(&["expiry", &key, "never"]).contains("in place of its id"));
    // An expired key is renewed only as the settings say.
    shell.done(&["expiry", &id, "2020-01-01"]);
    assert!(shell.refused(&["expiry", &id, "90d"]).contains("do not let expired keys be renewed"));
    assert!(shell.done(&["settings", "--renew-expired-for", "400d"]).contains("\"renew_expired_for\": 34560000"));
    shell.done(&["expiry", &id, "90d"]);
    assert!(!shell.done(&["settings", "--renew-expired-for", "never"]).contains("renew_expired_for"));
}

/// The log is followed while others change keys, and what becomes true by time is told once.
#[test]
fn the_log_is_followed_and_keys_are_watched() {
    use std::io::{BufRead as _, BufReader};
    let shell = Shell::new();
    let (soon, _) = shell.issue(&["--read", "orders", "--expires", "3d", "--owner", "acct-7"]);
    let mut follower = shell.command(&["audit", "--follow", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["action"], "issued");
    shell.done(&["suspend", &soon, "--reason", "a test"]);
    let followed = next();
    assert_eq!(
        (&followed["action"], &followed["note"], &followed["by"]),
        (&"suspended".into(), &"a test".into(), &"tester".into())
    );
    shell.done(&["resume", &soon]);
    assert_eq!(next()["action"], "resumed");
    follower.kill().unwrap();
    follower.wait().unwrap();
    let number = followed["number"].as_u64().unwrap().to_string();
    let newer = shell.done(&["audit", "--after", &number]);
    assert!(newer.contains("resumed") && !newer.contains("suspended"), "{newer}");

    let watched = shell.done(&["watch", "--expiring", "14d", "--unused", "90d", "--once"]);
    assert!(watched.starts_with(&format!("expiring\t{soon}\tk\tacct-7\texpires ")), "{watched}");
    assert_eq!(watched.lines().count(), 1, "a key that was just issued is not unused: {watched}");
    assert!(shell.refused(&["watch"]).contains("--expiring"));
    let usage = shell.done(&["usage", "--json"]);
    assert_eq!(usage.trim(), "{\n  \"usage\": []\n}");
    assert!(shell.refused(&["usage", "--since", "soon"]).contains("is not a time"));
}

/// A store with formats by kind issues and imports keys that tell their kind.
#[test]
fn the_format_of_a_key_tells_its_kind() {
    let empty = || Shell { folder: TempDir::new().unwrap() };
    let init = |shell: &Shell, more: &[&str]| shell.run(&[&["init"], more].concat());
    let live = "live=acme_live_{0-9A-Za-z:10}_{0-9A-Za-z:30}{crc32}";
    let test = "a=b=acme_test_{0-9a-f:8}_{0-9a-f:32}";
    let shell = empty();
    let output = init(&shell, &["--format-for", live, "--format-for", test]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && said.contains("acme_live_{0-9A-Za-z:10}_{0-9A-Za-z:30}{crc32} for the kind live"),
        "{said}"
    );
    let settings: serde_json::Value = serde_json::from_str(&shell.done(&["settings"])).unwrap();
    assert_eq!(settings["format"], "key_{0-9A-Za-z:10}_{0-9A-Za-z:30}{crc32}");
    assert_eq!(settings["formats"]["live"], live.trim_start_matches("live="));
    assert_eq!(settings["formats"]["a=b"], test.trim_start_matches("a=b="));

    let (id, key) = shell.issue(&["--kind", "live"]);
    assert!(id.starts_with("acme_live_") && key.starts_with(&id), "{id}");
    assert!(shell.issue(&["--kind", "a=b"]).0.starts_with("acme_test_"));
    assert!(shell.issue(&[]).0.starts_with("key_"));
    assert!(shell.done(&["rotate", &id]).starts_with("acme_live_"));
    assert!(shell.refused(&["show", &key]).contains(&format!("rotate {id}")), "a whole key of a kind is recognized");

    let elsewhere = empty();
    assert!(init(&elsewhere, &["--format-for", live]).status.success());
    for (kind, expected) in
        [("", "has the format of the kind \"live\""), ("test", "has the format of the kind \"live\"")]
    {
        let csv = elsewhere.file("keys.csv", &format!("key,kind\n{key},{kind}\n"));
        let said = elsewhere.refused(&["import", csv.to_str().unwrap()]);
        assert!(said.contains("line 2") && said.contains(expected) && !said.contains(&key), "{said}");
    }
    let csv = elsewhere.file("keys.csv", &format!("key\n{key}\n"));
    assert_eq!(elsewhere.done(&["import", csv.to_str().unwrap(), "--kind", "live"]).trim(), "imported 1");

    // A key file does not hold keys, so that the format of one shows when it is used.
    let mut exported = shell.done(&["export"]);
    exported = exported.replace("\"kind\": \"live\"", "\"kind\": \"other\"").replace("\"acme_live_", "\"old-");
    let third = empty();
    assert!(init(&third, &["--format-for", live]).status.success());
    let file = third.file("keys.json", &exported);
    third.done(&["import", file.to_str().unwrap()]);
    let policy = third.file("policy.json", r#"{"routes":[{"path":"/orders","authenticated":true}]}"#);
    let check = ["check", "--policy", policy.to_str().unwrap(), "GET", "/orders"];
    let output = third.command(&check).env("AUTHZ_KEY", &key).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(5) && said.contains("does not have the format of its kind"), "{said}");

    for (formats, expected) in [
        (&["live"][..], "expected KIND=FORMAT"),
        (&["live=acme_live"], "is not a key format"),
        (&["=acme_{0-9a-f:8}_{0-9a-f:32}"], "its name is 1 to 256 characters"),
        (&["live={ascii:8-512}"], "could be confused"),
        (&[live, live], "both have the prefix acme_live"),
        (&[live, "live=acme_{0-9a-f:8}_{0-9a-f:32}"], "has a format already"),
        (&[live, "test=acme_live_{0-9a-f:8}_{0-9a-f:32}"], "both have the prefix acme_live"),
    ] {
        let shell = empty();
        let arguments: Vec<&str> = formats.iter().flat_map(|format| ["--format-for", format]).collect();
        let output = init(&shell, &arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains(expected), "{formats:?}: {said}");
        assert_eq!(fs::read_dir(shell.folder.path()).unwrap().count(), 0, "no file was made");
    }
    let long = format!("{}=acme_{{0-9a-f:8}}_{{0-9a-f:32}}", "k".repeat(10_000));
    let output = init(&empty(), &["--format-for", &long]);
    assert!(output.status.code() == Some(2) && output.stderr.len() < 500);
}

/// A store gets the hierarchy of its dimensions from a key file, when it is made or later, and every command knows it.
#[test]
fn a_directory_of_own_dimensions_is_read_from_a_key_file() {
    let shell = Shell::new();
    let text = |parent: &str, entity: &str| {
        format!(
            r#"{{"keys":[],"directory":{{"hierarchies":{{
                "project":{{"parent":"workspace","entities":[{entity}]}},
                "environment":{{"parent":"{parent}","entities":[{{"id":"live","parent":"apollo"}}]}}}}}}}}"#
        )
    };
    let apollo = r#"{"id":"apollo","parent":"nasa","aliases":["prj-11"]}"#;
    let file = |name: &str, text: &str| shell.file(name, text).display().to_string();
    let good = file("good.json", &text("project", apollo));
    let refused = shell.refused(&["settings", "--directory", &good]);
    assert!(refused.contains("directory.hierarchies.project: no such dimension is declared"), "{refused}");
    let own = ["--dimension", "workspace=slug", "--dimension", "project=slug", "--dimension", "environment=slug"];
    for (name, wrong, message) in [
        (
            "parent.json",
            text("team", apollo),
            "directory.hierarchies.environment.parent: no such dimension is declared",
        ),
        (
            "circle.json",
            text("environment", apollo),
            "the dimensions form a circle: environment belongs to environment",
        ),
        ("twice.json", text("project", &format!("{apollo},{apollo}")), "directory project \"apollo\": "),
        ("spelt.json", text("project", r#"{"id":"Apollo"}"#), "directory project \"Apollo\": "),
    ] {
        let path = file(name, &wrong);
        let refused = shell.refused(&[&["settings", "--directory", &path], &own[..]].concat());
        assert!(refused.contains(name) && refused.contains(message), "{refused}");
    }
    let shown = shell.done(&[&["settings", "--directory", &good], &own[..]].concat());
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["directory"]["hierarchies"]["project"]["entities"][0]["parent"], "nasa");
    let refused = shell.refused(&["issue", "--name", "k", "--read", "r", "--exclude", "project=prj-11"]);
    assert!(refused.contains("\"prj-11\" is an alias of \"apollo\""), "{refused}");

    let (id, _) = shell.issue(&["--read", "r", "--include", "workspace=nasa"]);
    let policy = r#"{"dimensions":{"environment":"slug"},"routes":[{"path":"/{e}","resource":"r","scoped":[{"dimension":"environment","path":"e"}]}]}"#;
    let policy = file("policy.json", policy);
    shell.done(&["check", "--key-id", &id, "--policy", &policy, "GET", "/live"]);
    let output = shell.run(&["check", "--key-id", &id, "--policy", &policy, "GET", "/gone"]);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success() && shown.contains("the key has no access to this environment"), "{shown}");

    // What was exported comes back with the directory, also into a store that is made with it.
    let export = shell.done(&["export"]);
    let export = file("export.json", &export);
    let fresh = TempDir::new().unwrap();
    let store = fresh.path().join("keys.sqlite");
    let run = |arguments: &[&str]| {
        let output = shell.command(arguments).env("AUTHZ_STORE", &store).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&[&["init", "--directory", &export], &own[..]].concat());
    run(&["import", &export]);
    assert_eq!(run(&["export"]), fs::read_to_string(&export).unwrap());
}
