use super::*;

#[test]
fn the_database_keeps_its_promises() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.sqlite")).unwrap();
    let ask = |pragma: &'static str| {
        store.read_now(|c| {
            Ok(c.pragma_query_value(None, pragma, |row| row.get::<_, rusqlite::types::Value>(0))?)
        })
    };
    assert_eq!(ask("journal_mode").unwrap(), "wal".to_owned().into());
    assert_eq!(ask("synchronous").unwrap(), 2.into(), "FULL");
    assert_eq!(ask("foreign_keys").unwrap(), 1.into());
    assert_eq!(ask("user_version").unwrap(), (migrate::VERSION as i64).into());
}

#[test]
fn a_database_of_a_newer_program_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sqlite");
    drop(Store::open(&path).unwrap());
    let newer = migrate::VERSION + 1;
    connect(&path).unwrap().pragma_update(None, "user_version", newer).unwrap();
    let message = Store::open(&path).err().unwrap().to_string();
    assert!(message.contains(&format!("version {newer}")), "{message}");
    let version: usize =
        connect(&path).unwrap().pragma_query_value(None, "user_version", |r| r.get(0)).unwrap();
    assert_eq!(version, newer);
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.sqlite")).unwrap();
    let failed = store.write_now(|t| {
        t.execute("INSERT INTO folders (path) VALUES ('a')", [])?;
        Err::<(), _>(Problem::conflict("no"))
    });
    assert!(failed.is_err());
    let rows: i64 =
        store.read_now(|c| Ok(c.query_row("SELECT count(*) FROM folders", [], |r| r.get(0))?)).unwrap();
    assert_eq!(rows, 0);
}
