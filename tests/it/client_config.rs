//! The client's side: where the key is read from, and how it is stored.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use tower_authz::{
    ApiKey,
    client::{ApiUrl, AttachLayer, ConfigFile, KeyFinder, read_key},
};

const KEY: &str = "l64_abc12345_0123456789abcdef0123456789abcdef";
const SECRET: &str = "0123456789abcdef";

/// A directory that is removed when the test is over.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let home = std::env::temp_dir().join(format!("tower-authz-{}-{count}", std::process::id()));
        std::fs::create_dir(&home).unwrap();
        Self(home)
    }

    fn file(&self) -> ConfigFile {
        ConfigFile::at(self.0.join(".acme/config.json"))
    }

    /// Returns the file after a user has replaced its text.
    fn with(&self, text: impl AsRef<[u8]>) -> ConfigFile {
        let file = self.file();
        file.save(&ApiKey::new(KEY), &ApiUrl::https("https://api.test").unwrap()).unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_key_is_stored_and_replaced() {
    let home = Home::new();
    let file = home.file();
    assert!(file.read().unwrap().is_none());
    for (key, url) in [(KEY, "https://api.test/v1"), (r#"quote"and\slash"#, "https://api.test:8443")] {
        file.save(&ApiKey::new(key), &ApiUrl::https(url).unwrap()).unwrap();
        let stored = file.read().unwrap().unwrap();
        assert_eq!((stored.api_key().expose(), stored.api_url().to_string().as_str()), (key, url));
        assert_eq!(stored.location(), file.path().display().to_string());
        assert!(stored.warning().is_none());
        assert!(!format!("{stored:?} {file:?} {:?}", KeyFinder::new(file.clone())).contains(SECRET));
        let names = std::fs::read_dir(file.path().parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<Vec<_>>(), ["config.json"], "no temporary file is left");
    }
    for bad in ["", "a b", "key\n", "schl\u{fc}ssel"] {
        let error = file.save(&ApiKey::new(bad), &ApiUrl::https("https://api.test").unwrap()).unwrap_err().to_string();
        assert!(error.starts_with("the API key ") && (bad.is_empty() || !error.contains(bad)), "{error}");
    }
    assert!(file.read().unwrap().is_some(), "what was there is still there");
}

#[cfg(unix)]
#[test]
fn the_file_is_private_and_a_warning_says_if_it_is_not() {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    let home = Home::new();
    let file = home.file();
    let save = || file.save(&ApiKey::new(KEY), &ApiUrl::https("https://api.test").unwrap()).unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    save();
    assert_eq!((mode(file.path()), mode(file.path().parent().unwrap())), (0o600, 0o700));
    let finder = || KeyFinder::new(file.clone()).api_key(ApiKey::new("another"));
    for (bits, warned, refused) in [
        (0o600, false, false),
        (0o400, false, false),
        (0o640, true, false),
        (0o604, true, false),
        (0o644, true, false),
        (0o660, true, true),
        (0o602, true, true),
        (0o777, true, true),
    ] {
        fs::set_permissions(file.path(), fs::Permissions::from_mode(bits)).unwrap();
        let stored = file.read().unwrap().unwrap();
        assert_eq!(stored.warning().is_some(), warned, "{bits:o}");
        if let Some(warning) = stored.warning() {
            let path = file.path().display().to_string();
            assert!(warning.contains(&path) && warning.contains(&format!("{bits:04o}")), "{warning}");
            assert!(warning.contains("chmod 600") && !warning.contains(SECRET), "{warning}");
        }
        // A user who can write the file could choose the origin to which a key from another source is sent.
        let found = finder().find();
        assert_eq!(found.is_err(), refused, "{bits:o}");
        match found {
            Ok(found) => assert_eq!(found.unwrap().warning().is_some(), warned),
            Err(error) => assert!(error.to_string().contains("others can write"), "{error}"),
        }
    }
    let directory = file.path().parent().unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o777)).unwrap();
    assert!(finder().find().is_err() && file.read().unwrap().is_some());
    assert!(finder().api_url(ApiUrl::https("https://api.test").unwrap()).find().is_ok(), "the file is not asked");

    // Saving replaces a file that others can read by one that they cannot, and a symbolic link by a file.
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    save();
    assert_eq!(mode(file.path()), 0o600);
    let elsewhere = home.0.join("elsewhere");
    fs::write(&elsewhere, "untouched").unwrap();
    fs::remove_file(file.path()).unwrap();
    std::os::unix::fs::symlink(&elsewhere, file.path()).unwrap();
    save();
    assert!(fs::symlink_metadata(file.path()).unwrap().is_file());
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "untouched");
}

#[test]
fn a_file_that_is_not_in_order_is_an_error_that_names_file_and_field() {
    let url = r#""api_url":"https://api.test""#;
    for (text, wrong) in [
        (String::new(), "expected a JSON object"),
        (format!("{KEY:?}"), "expected a JSON object"),
        (format!("[{KEY:?},\"https://api.test\"]"), "expected a JSON object"),
        (format!("\u{feff}{{\"api_key\":{KEY:?},{url}}}"), "expected a JSON object"),
        (format!("{{\"api_key\":{KEY:?}"), "EOF while parsing an object at line 1"),
        (format!("{{\"api_key\":{KEY}}}"), "expected value at line 1"),
        (format!("{{{KEY}:1}}"), "key must be a string at line 1"),
        (format!("{{\"api_key\":{KEY:?},{url}}} {KEY}"), "trailing characters at line 1"),
        (format!("{{\"api_key\":{KEY:?}}}"), "api_url: is required"),
        (format!("{{{url}}}"), "api_key: is required"),
        (format!("{{\"api_key\":null,{url}}}"), "api_key: a string is expected"),
        (format!("{{\"api_key\":123456789,{url}}}"), "api_key: a string is expected"),
        (format!("{{\"api_key\":[{KEY:?}],{url}}}"), "api_key: a string is expected"),
        (format!("{{\"api_key\":{{{KEY:?}:1}},{url}}}"), "api_key: a string is expected"),
        (format!("{{\"api_key\":\"{KEY}\\ud800\",{url}}}"), "api_key: a string is expected"),
        (format!("{{\"api_key\":\"\",{url}}}"), "api_key: the API key is empty"),
        (format!("{{\"api_key\":\"{KEY}\\n\",{url}}}"), "api_key: the API key has an invalid character"),
        (format!("{{\"api_key\":\"{KEY}\",\"api_url\":7}}"), "api_url: a string is expected"),
        (format!("{{\"api_key\":\"{KEY}\",\"api_url\":\"{KEY}\"}}"), "api_url: the API URL does not match"),
        (format!("{{\"api_key\":\"{KEY}\",\"api_url\":\"http://api.test\"}}"), "api_url: the API URL uses plain http"),
        (format!("{{\"api_key\":\"{KEY}\",\"api_url\":\"http://[::1]:1\"}}"), "api_url: the API URL uses plain http"),
        (format!("{{\"api_key\":{KEY:?},\"api_key\":{KEY:?},{url}}}"), "duplicate field"),
        (format!("{{\"apikey\":{KEY:?},{url}}}"), "apikey: unknown field"),
        (format!("{{\"api_key\":{KEY:?},{url},\"token\":1}}"), "token: unknown field"),
        (format!("{{{KEY:?}:\"api_key\",{url}}}"), "unknown field; there are api_key and api_url"),
        ("{".repeat(4_000), "key must be a string at line 1"),
        (format!("{{\"api_key\":{}", "[".repeat(4_000)), "EOF while parsing a list at line 1"),
        (" ".repeat(20_000), "the config file exceeds 16 KiB"),
    ] {
        let home = Home::new();
        let file = home.with(&text);
        let error = file.read().unwrap_err().to_string();
        let place = format!("{}: {wrong}", file.path().display());
        let shown = text.get(..100).unwrap_or(&text);
        assert!(error.starts_with(&place) || error.contains(wrong) && text.len() > 9_999, "{shown}: {error}");
        assert!(!error.contains(SECRET) && !error.contains("123456789"), "{error}");
        assert_eq!(KeyFinder::new(file).find().unwrap_err().to_string(), error, "no other place is asked");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_and_not_an_absent_one() {
    let home = Home::new();
    let text = home.with([b'{', 0xff]);
    let directory = ConfigFile::at(text.path().parent().unwrap());
    let below = ConfigFile::at(text.path().join("config.json"));
    for file in [&directory, &text, &below] {
        let error = file.read().unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}: ", file.path().display())), "{error}");
    }
    let url = ApiUrl::https("https://api.test").unwrap();
    assert!(directory.save(&ApiKey::new(KEY), &url).is_err() && below.save(&ApiKey::new(KEY), &url).is_err());
    let left = std::fs::read_dir(&home.0).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), [".acme"], "no temporary file is left");
    assert!(text.save(&ApiKey::new("k".repeat(20_000)), &url).is_err(), "it could not be read again");
}

#[test]
fn loopback_http_is_read_from_a_file_if_it_is_asked_for() {
    let home = Home::new();
    let file = home.file();
    file.save(&ApiKey::new(KEY), &ApiUrl::https_or_loopback("http://127.0.0.1:3000").unwrap()).unwrap();
    assert!(file.read().is_err());
    assert!(file.allow_loopback_http().read().unwrap().is_some());
}

#[test]
fn the_key_of_a_file_stays_with_its_api() {
    let home = Home::new();
    let file = home.file();
    let url = |url| ApiUrl::https(url).unwrap();
    file.save(&ApiKey::new(KEY), &url("https://api.test/v1")).unwrap();
    let finder = || KeyFinder::new(file.clone()).default_url(url("https://default.test"));
    assert_eq!(finder().find().unwrap().unwrap().api_url(), &url("https://api.test/v1"));
    let found = finder().api_url(url("https://api.test/v2")).find().unwrap().unwrap();
    assert_eq!(found.api_url(), &url("https://api.test/v2"));
    let error = finder().api_url(url("https://evil.test")).find().unwrap_err().to_string();
    assert!(error.contains("this key is for https://api.test/v1, and is not sent to https://evil.test"), "{error}");
    // A key from the program goes to the program's URL if it sets one, otherwise to that of the file.
    let own = || finder().api_key(ApiKey::new("another"));
    assert_eq!(own().api_url(url("https://evil.test")).find().unwrap().unwrap().api_key().expose(), "another");
    let found = own().find().unwrap().unwrap();
    assert_eq!(
        (found.api_key().expose(), found.api_url(), found.location()),
        ("another", &url("https://api.test/v1"), "the program")
    );
}

#[test]
fn keys_from_an_input_are_one_line() {
    for (input, key) in [
        (KEY.to_owned(), Some(KEY)),
        (format!("{KEY}\n"), Some(KEY)),
        (format!("{KEY}\r\n"), Some(KEY)),
        (format!("{KEY}\n\n"), None),
        (format!("{KEY}\r"), None),
        (format!("{KEY} \n"), None),
        (format!(" {KEY}"), None),
        (format!("{KEY}\nmore"), None),
        (format!("{KEY}\0"), None),
        (format!("{KEY}\u{7f}"), None),
        (format!("{KEY}\u{200b}"), None),
        (String::new(), None),
        ("\n".to_owned(), None),
        (KEY.repeat(200), None),
    ] {
        match (read_key(input.as_bytes()), key) {
            (Ok(read), Some(key)) => assert_eq!(read.expose(), key),
            (Err(error), None) => assert!(!error.to_string().contains(SECRET), "{error}"),
            (read, _) => panic!("{input:?}: {read:?}"),
        }
        let attached = AttachLayer::new(&ApiKey::new(input), &ApiUrl::https("https://api.test").unwrap());
        assert!(!format!("{attached:?}").contains(SECRET));
    }
    assert!(read_key(&[0xff, 0xfe][..]).is_err());
    assert!(read_key(std::io::repeat(b'x')).is_err(), "it does not read for ever");
}
