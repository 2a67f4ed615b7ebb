//! Files at tasks: both ways, small and large, replaced, removed, left out, and through a crash.

use serde_json::{Value, json};

use crate::support::{Setup, World, espo_day, mail};

const MIB: usize = 1 << 20;

/// Content that compresses badly and differs by seed.
fn content(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// A pair of tasks that is in step: the ids of the record and of the task.
fn pair(world: &World, name: &str) -> (String, String) {
    let due = espo_day(7, 7);
    let body = json!({ "name": name, "assignedUserId": world.id("anna"), "dateEndDate": due["dateEndDate"] });
    let record = world.espo.write_as("anna", "POST", "Task", None, &body).unwrap();
    let record = record["id"].as_str().unwrap().to_owned();
    let task = world.eventually_some("the task is in To Do", || task_of(world, name));
    world.settle();
    (record, task)
}

fn task_of(world: &World, name: &str) -> Option<String> {
    let tasks = world.graph.person(&mail("anna")).tasks();
    tasks.iter().find(|task| task["title"] == name)?["id"].as_str().map(str::to_owned)
}

fn record_of(world: &World, name: &str) -> Option<String> {
    let records = world.espo.records("Task");
    records.iter().find(|record| record["name"] == name)?["id"].as_str().map(str::to_owned)
}

type Shown = Vec<(String, Vec<u8>)>;

fn shown(files: Vec<(String, String, Vec<u8>)>) -> Shown {
    let mut files: Shown = files.into_iter().map(|(_, name, bytes)| (name, bytes)).collect();
    files.sort();
    files
}

fn in_espo(world: &World, record: &str) -> Shown {
    shown(world.espo.files(record))
}

fn in_outlook(world: &World, task: &str) -> Shown {
    shown(world.person("anna").files(task))
}

fn wanted(files: &[(&str, &[u8])]) -> Shown {
    let mut files: Shown = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
    files.sort();
    files
}

/// Waits until both sides have these files and nothing moves any more.
fn both_have(world: &World, (record, task): (&str, &str), files: &[(&str, &[u8])]) {
    let wanted = wanted(files);
    let same = || in_espo(world, record) == wanted && in_outlook(world, task) == wanted;
    world.eventually(&format!("both sides have {:?}", files.iter().map(|(name, _)| name).collect::<Vec<_>>()), same);
    world.settle();
    assert!(same(), "it does not last");
}

fn reads(world: &World, mark: (usize, usize), part: &str) -> usize {
    let rows =
        world.espo.wire().log().into_iter().skip(mark.0).chain(world.graph.wire().log().into_iter().skip(mark.1));
    rows.filter(|row| row.method == "GET" && row.path.contains(part)).count()
}

#[test]
fn small_files_travel_both_ways_are_replaced_and_are_removed() {
    let world = World::start();
    let (record, task) = pair(&world, "files");
    let ends = (record.as_str(), task.as_str());
    let first = world.espo.attach("anna", &record, "from espo.txt", "text/plain", b"espo".to_vec()).unwrap();
    both_have(&world, ends, &[("from espo.txt", b"espo")]);
    let person = world.person("anna");
    let second = person.attach(&task, "from outlook.txt", "text/plain", b"outlook".to_vec()).unwrap();
    both_have(&world, ends, &[("from espo.txt", b"espo"), ("from outlook.txt", b"outlook")]);
    let kinds: Vec<Value> = world.espo.records("Attachment").into_iter().map(|file| file["type"].clone()).collect();
    assert!(kinds.iter().all(|kind| kind == "text/plain"), "{kinds:?}");

    // Replaced under the same name.
    person.detach(&task, &second).unwrap();
    person.attach(&task, "from outlook.txt", "text/plain", b"outlook, changed".to_vec()).unwrap();
    both_have(&world, ends, &[("from espo.txt", b"espo"), ("from outlook.txt", b"outlook, changed")]);

    world.espo.detach("anna", &record, &first).unwrap();
    both_have(&world, ends, &[("from outlook.txt", b"outlook, changed")]);
    let (last, ..) = person.files(&task).remove(0);
    person.detach(&task, &last).unwrap();
    both_have(&world, ends, &[]);
    assert!(world.dead().is_empty());

    // Names are in history, contents are not.
    let history = world.history(&format!("record_id={record}")).iter().map(ToString::to_string).collect::<String>();
    assert!(history.contains("from outlook.txt") && !history.contains("outlook, changed"));
}

#[test]
fn files_of_new_tasks_come_along_and_a_known_content_is_not_read_again() {
    let world = Setup::default().bound(&[]).start();
    let due = espo_day(7, 7);
    let body = json!({ "name": "from espo", "assignedUserId": world.id("anna"), "dateEndDate": due["dateEndDate"] });
    let record = world.espo.write_as("anna", "POST", "Task", None, &body).unwrap();
    let record = record["id"].as_str().unwrap().to_owned();
    world.espo.attach("anna", &record, "one.bin", "application/pdf", content(5000, 1)).unwrap();
    let made = world.person("anna").create_task(json!({ "title": "from outlook" })).unwrap();
    let other = made["id"].as_str().unwrap().to_owned();
    world.person("anna").attach(&other, "two.bin", "image/png", content(6000, 2)).unwrap();
    world.bind("anna");
    let task = world.eventually_some("the task", || task_of(&world, "from espo"));
    both_have(&world, (&record, &task), &[("one.bin", &content(5000, 1))]);
    let made = world.eventually_some("the record", || record_of(&world, "from outlook"));
    both_have(&world, (&made, &other), &[("two.bin", &content(6000, 2))]);

    let mark = world.mark();
    world.espo.write_as("anna", "PUT", "Task", Some(&record), &json!({ "name": "from espo, edited" })).unwrap();
    world.eventually("the edit travels", || task_of(&world, "from espo, edited").is_some());
    world.sync();
    world.settle();
    assert_eq!(reads(&world, mark, "Attachment/file/") + reads(&world, mark, "/$value"), 0, "contents are known by id");
    let writes = world.writes_since(mark);
    assert_eq!(writes.1.len(), 1, "one edit, one write: {:?}", writes.1);
}

#[test]
fn a_large_file_travels_by_an_upload_session_and_back_in_one_request() {
    let world = Setup::default().admin_account().start();
    let (record, task) = pair(&world, "large");
    let (big, other) = (content(8 * MIB, 3), content(8 * MIB + 1, 4));
    let mark = world.mark();
    world.espo.attach("anna", &record, "big.bin", "application/zip", big.clone()).unwrap();
    both_have(&world, (&record, &task), &[("big.bin", &big)]);
    let pieces: Vec<_> = world.writes_since(mark).1.into_iter().filter(|row| row.method == "PUT").collect();
    // The simulator refuses pieces of more than 4 MB.
    assert_eq!(pieces.len(), 3, "{pieces:?}");
    assert!(pieces.iter().all(|row| row.path.contains("/attachmentSessions/") && (200..300).contains(&row.status)));
    world.person("anna").attach(&task, "other.bin", "application/zip", other.clone()).unwrap();
    both_have(&world, (&record, &task), &[("big.bin", &big), ("other.bin", &other)]);
    let files = world.espo.records("Attachment");
    assert!(files.iter().all(|file| file["createdById"] == world.id("anna")), "written as the owner: {files:?}");
}

#[test]
fn a_file_over_25_mb_is_left_out_with_a_reason_and_its_task_still_travels() {
    let world = World::start();
    let (record, task) = pair(&world, "huge");
    world.espo.attach("anna", &record, "huge.iso", "application/zip", vec![7; 26 * MIB]).unwrap();
    world.espo.attach("anna", &record, "note.txt", "text/plain", b"note".to_vec()).unwrap();
    world.espo.write_as("anna", "PUT", "Task", Some(&record), &json!({ "name": "huge, edited" })).unwrap();
    world.eventually("the task travels", || task_of(&world, "huge, edited").as_ref() == Some(&task));
    world.eventually("the small file travels", || in_outlook(&world, &task) == wanted(&[("note.txt", b"note")]));
    world.settle();
    let page = world.get(&format!("/records/task/{record}"));
    let told = page["decision"]["notes"].to_string();
    assert!(told.contains("25 MB") && told.contains("huge.iso"), "{page}");
    let mark = world.mark();
    world.sync();
    world.settle();
    world.no_writes_since(mark);
    assert_eq!(reads(&world, mark, "Attachment/file/"), 0, "what is too large is not even read");
    assert_eq!(world.espo.files(&record).len(), 2, "it stays where it is");
    assert!(world.dead().is_empty());
}

#[test]
fn files_keep_to_a_one_way_direction() {
    let world = Setup::default().rules(json!({ "task": { "direction": "espo_to_outlook" } })).start();
    let (record, task) = pair(&world, "one way");
    let kept = world.espo.attach("anna", &record, "down.txt", "text/plain", b"down".to_vec()).unwrap();
    world.eventually("it travels", || in_outlook(&world, &task) == wanted(&[("down.txt", b"down")]));
    world.settle();
    let mark = world.mark();
    world.person("anna").attach(&task, "up.txt", "text/plain", b"up".to_vec()).unwrap();
    world.settle();
    world.no_writes_since(mark);
    assert_eq!(in_espo(&world, &record), wanted(&[("down.txt", b"down")]), "nothing travels up");
    world.espo.detach("anna", &record, &kept).unwrap();
    world.eventually("its removal travels", || in_outlook(&world, &task) == wanted(&[("up.txt", b"up")]));
    world.settle();
    assert!(in_espo(&world, &record).is_empty());
}

#[test]
fn a_crash_while_files_travel_doubles_none() {
    use simulators::plumbing::Fault;
    let mut world = World::start();
    let (record, task) = pair(&world, "crash");
    // The file arrives, and nobody hears of it.
    world.graph.wire().push(Fault::drop_after("POST", "/attachments"));
    world.espo.attach("anna", &record, "a.txt", "text/plain", b"a".to_vec()).unwrap();
    world.eventually("it arrives", || !in_outlook(&world, &task).is_empty());
    world.crash();
    world.serve();
    both_have(&world, (&record, &task), &[("a.txt", b"a")]);
    // The record is written, and nobody hears of it.
    world.espo.wire().push(Fault::drop_after("PUT", "/Task/"));
    world.person("anna").attach(&task, "b.txt", "text/plain", b"b".to_vec()).unwrap();
    world.eventually("it arrives", || in_espo(&world, &record).len() == 2);
    world.crash();
    world.serve();
    both_have(&world, (&record, &task), &[("a.txt", b"a"), ("b.txt", b"b")]);
}
