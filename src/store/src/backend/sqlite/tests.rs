use sea_orm::sqlx::sqlite::SqliteConnectOptions;

use super::*;

async fn file(folder: &tempfile::TempDir) -> Connections {
    let options = SqliteConnectOptions::new().filename(folder.path().join("x.db")).create_if_missing(true);
    let all = Connections::open(options, 1, Duration::from_secs(1)).await.unwrap();
    all.execute_unprepared("CREATE TABLE t (n INTEGER PRIMARY KEY, word TEXT)").await.unwrap();
    all
}

fn insert(n: i32) -> Statement {
    let values: [Value; 2] = [n.into(), format!("{n}").into()];
    Statement::from_sql_and_values(DbBackend::Sqlite, "INSERT INTO t (n, word) VALUES (?, ?)", values)
}

async fn there(all: &Connections) -> Vec<(i32, String)> {
    let rows = all.query_all(plain("SELECT n, word FROM t ORDER BY n")).await.unwrap();
    rows.iter().map(|row| (row.try_get("", "n").unwrap(), row.try_get("", "word").unwrap())).collect()
}

fn upto(n: i32) -> Vec<(i32, String)> {
    (1..=n).map(|n| (n, n.to_string())).collect()
}

#[tokio::test]
async fn what_can_wait_is_done_before_what_comes_next_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let all = file(&folder).await;
    for is_light in [false, true] {
        let writing = if is_light { all.begin_lightly().await.unwrap() } else { all.begin().await.unwrap() };
        for n in 1..=3 {
            writing.later(insert(n)).await.unwrap();
        }
        let found = writing.query_one(plain("SELECT COUNT(*) AS n FROM t")).await.unwrap().unwrap();
        assert_eq!(found.try_get::<i32>("", "n").unwrap(), 3);
        writing.later(insert(4)).await.unwrap();
        let update = plain("UPDATE t SET word = word WHERE n < 3");
        assert_eq!(writing.execute(update).await.unwrap().rows_affected(), 2);
        // More than go together.
        for n in 5..=40 {
            writing.later(insert(n)).await.unwrap();
        }
        writing.commit().await.unwrap();
        assert_eq!(there(&all).await, upto(40));
        all.execute_unprepared("DELETE FROM t").await.unwrap();
    }
}

#[tokio::test]
async fn how_many_rows_were_changed_is_about_the_statement_alone() {
    let folder = tempfile::tempdir().unwrap();
    let all = file(&folder).await;
    all.execute(insert(1)).await.unwrap();
    let writing = all.begin().await.unwrap();
    writing.later(plain("UPDATE t SET word = 'x'")).await.unwrap();
    assert_eq!(writing.execute(plain("DELETE FROM t WHERE n = 9")).await.unwrap().rows_affected(), 0);
    writing.commit().await.unwrap();
}

#[tokio::test]
async fn what_was_refused_later_takes_everything_back() {
    let folder = tempfile::tempdir().unwrap();
    let all = file(&folder).await;
    all.execute(insert(1)).await.unwrap();
    for is_light in [false, true] {
        // Told by the commit.
        let writing = if is_light { all.begin_lightly().await.unwrap() } else { all.begin().await.unwrap() };
        for n in [2, 1, 3] {
            writing.later(insert(n)).await.unwrap();
        }
        assert!(matches!(writing.commit().await, Err(DbErr::Exec(_))));
        assert_eq!(there(&all).await, upto(1));
        // Told by the next statement; whoever goes on nevertheless gets nowhere.
        let writing = if is_light { all.begin_lightly().await.unwrap() } else { all.begin().await.unwrap() };
        for n in [2, 1, 3] {
            writing.later(insert(n)).await.unwrap();
        }
        assert!(matches!(writing.query_one(plain("SELECT 1 AS n")).await, Err(DbErr::Query(_))));
        assert!(writing.query_one(plain("SELECT 1 AS n")).await.is_err());
        assert!(writing.execute(insert(4)).await.is_err());
        writing.later(insert(5)).await.ok();
        assert!(writing.commit().await.is_err());
        assert_eq!(there(&all).await, upto(1));
        // One by itself, of which whoever asks next is told, and then the commit.
        let writing = if is_light { all.begin_lightly().await.unwrap() } else { all.begin().await.unwrap() };
        writing.execute(insert(2)).await.unwrap();
        writing.later(insert(1)).await.unwrap();
        assert!(matches!(writing.execute(insert(3)).await, Err(DbErr::Exec(_))));
        assert!(writing.commit().await.is_err());
        assert_eq!(there(&all).await, upto(1));
    }
}

#[tokio::test]
async fn whoever_goes_away_while_it_is_done_has_done_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let all = file(&folder).await;
    for polls in 0..4 {
        let writing = all.begin().await.unwrap();
        for n in 1..=3 {
            writing.later(insert(n)).await.unwrap();
        }
        let mut is_done = false;
        {
            let mut asked = pin!(writing.query_all(plain("SELECT n FROM t")));
            for _ in 0..polls {
                is_done = is_done || asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
            }
        }
        if polls > 0 && !is_done {
            assert!(writing.execute(insert(4)).await.is_err());
            assert!(writing.commit().await.is_err());
        } else {
            drop(writing);
        }
        assert_eq!(there(&all).await, []);
    }
}

#[tokio::test]
async fn what_was_only_begun_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let all = file(&folder).await;
    all.begin().await.unwrap().commit().await.unwrap();
    all.begin().await.unwrap().rollback().await.unwrap();
    drop(all.begin().await.unwrap());
    let writing = all.begin().await.unwrap();
    writing.later(insert(1)).await.unwrap();
    drop(writing);
    let writing = all.begin().await.unwrap();
    writing.later(insert(1)).await.unwrap();
    writing.rollback().await.unwrap();
    assert_eq!(there(&all).await, []);
}
