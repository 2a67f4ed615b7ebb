//! Attachments of tasks: which files the ends have, and how one is carried from one to the other.
//!
//! A content is read once to learn its hash, and is known by its remote id from then on; it is read again only to be carried.
//! Neither way is it held as a whole, but for small files and for the one JSON text that EspoCRM takes a file as, of which there
//! is one at a time. What a write has left behind half done is seen by the next look, which compares contents: nothing is
//! uploaded that is there already.

use std::collections::{BTreeMap, BTreeSet};

use espocrm::{Acting, Content, Fetched};
use graph::{IN_ONE_PIECE, Mailbox, NewFile, PIECE};
use sha2::{Digest as _, Sha256};
use sync::{Direction, Field, File, Files, Item, Kind, Known, LARGEST_FILE, LeftOut, Link, Seen, Side, Value, Values};

use super::context::Context;
use super::error::WorkError;
use super::execute::Ends;
use super::items::{self, Place};

/// Whether contents that are not known yet are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// They are.
    Read,
    /// They are not: such a file is like no other.
    Known,
}

/// A file as an end lists it.
struct Listed {
    id: String,
    name: String,
    size: u64,
}

/// The files that an end was seen to have.
#[must_use]
pub fn of(values: &Values) -> Files {
    values.get(&Field::Attachments).and_then(Value::as_files).cloned().unwrap_or_default()
}

/// Tells which files a record has.
///
/// # Errors
/// When they cannot be listed or read.
pub async fn of_record(
    context: &Context,
    link: Option<&Link>,
    fetched: &mut Fetched,
    depth: Depth,
) -> Result<(), WorkError> {
    if takes_part(context, fetched.record.kind) {
        let known = link.and_then(|link| link.files.get(&Side::Espo)).cloned().unwrap_or_default();
        let files = record_files(context, &known, fetched, depth).await?;
        fetched.record.values.insert(Field::Attachments, Value::Files(files));
    }
    Ok(())
}

async fn record_files(
    context: &Context,
    known: &BTreeMap<String, Known>,
    fetched: &Fetched,
    depth: Depth,
) -> Result<Files, WorkError> {
    let listed = match &fetched.files {
        Some(names) if names.keys().all(|id| known.contains_key(id)) => {
            names.iter().map(|(id, name)| Listed { id: id.clone(), name: name.clone(), size: 0 }).collect()
        }
        _ => {
            let all = context.espo.client.attachments(&fetched.record.id).await?;
            let listed = |file: espocrm::Attachment| Listed {
                id: file.id,
                name: file.name.unwrap_or_default(),
                size: file.size.unwrap_or(0),
            };
            all.into_iter().map(listed).collect()
        }
    };
    assemble(&Source::Record(context), listed, known, depth).await
}

/// Tells which files an item has. They are listed only where there may be some.
///
/// # Errors
/// When they cannot be listed or read.
pub async fn of_item(context: &Context, link: Option<&Link>, item: &mut Item, depth: Depth) -> Result<(), WorkError> {
    if !takes_part(context, item.kind) {
        return Ok(());
    }
    let agreed = link.and_then(|link| link.base.get(&Field::Attachments)?.on(Side::Outlook).as_files());
    if item.values.contains_key(&Field::Attachments) && agreed.is_none_or(Files::is_empty) {
        return Ok(());
    }
    let known = link.and_then(|link| link.files.get(&Side::Outlook)).cloned().unwrap_or_default();
    let files = item_files(context, item, known, &[], depth).await?;
    item.values.insert(Field::Attachments, Value::Files(files));
    Ok(())
}

/// `fresh` are files that have just been uploaded: one of the same name and size is one of them.
async fn item_files(
    context: &Context,
    item: &Item,
    mut known: BTreeMap<String, Known>,
    fresh: &[File],
    depth: Depth,
) -> Result<Files, WorkError> {
    let mailbox = context.mailbox()?;
    let place = place(&mailbox, item);
    let listed: Vec<Listed> = context
        .graph
        .attachments(&mailbox, place.list, place.task)
        .await?
        .into_iter()
        .map(|file| Listed { id: file.id, name: file.name, size: file.size })
        .collect();
    for file in fresh {
        let alike = |one: &&Listed| one.name == file.name && one.size == file.size && !known.contains_key(&one.id);
        let mut candidates = listed.iter().filter(alike);
        if let (Some(one), None) = (candidates.next(), candidates.next()) {
            known.insert(one.id.clone(), Known { hash: Some(file.hash.clone()), size: file.size });
        }
    }
    assemble(&Source::Item(context, &place), listed, &known, depth).await
}

fn takes_part(context: &Context, kind: Kind) -> bool {
    kind == Kind::Task && context.rules.of(kind).direction != Direction::Disabled
}

async fn assemble(
    source: &Source<'_>,
    listed: Vec<Listed>,
    known: &BTreeMap<String, Known>,
    depth: Depth,
) -> Result<Files, WorkError> {
    let mut files = Files::default();
    for Listed { id, name, size } in listed {
        let content = match known.get(&id) {
            Some(known) => known.clone(),
            None if size > LARGEST_FILE => Known { hash: None, size },
            None if depth == Depth::Known => Known { hash: Some(format!("unread:{id}")), size },
            None => read(source, &id, size).await?,
        };
        match content {
            Known { hash: Some(hash), size } => files.insert(File { name, hash, size, ids: BTreeSet::from([id]) }),
            Known { hash: None, size } => {
                files.left_out.insert(id, LeftOut { name, size });
            }
        }
    }
    Ok(files)
}

/// Reads a content for its hash.
async fn read(source: &Source<'_>, id: &str, size: u64) -> Result<Known, WorkError> {
    let Some(mut content) = source.open(id).await? else {
        tracing::warn!(attachment.id = id, "the content of an attachment cannot be read: it is left out");
        return Ok(Known { hash: None, size });
    };
    let (mut hasher, mut counted) = (Sha256::new(), 0);
    while let Some(bytes) = content.next().await? {
        counted += bytes.len() as u64;
        if counted > LARGEST_FILE {
            return Ok(Known { hash: None, size: counted.max(size) });
        }
        hasher.update(&bytes);
    }
    Ok(Known { hash: Some(hex::encode(hasher.finalize())), size: counted })
}

/// A task in its list.
struct TaskPlace<'a> {
    mailbox: &'a Mailbox,
    list: &'a str,
    task: &'a str,
}

fn place<'a>(mailbox: &'a Mailbox, item: &'a Item) -> TaskPlace<'a> {
    TaskPlace { mailbox, list: item.list.as_deref().unwrap_or_default(), task: &item.id }
}

/// Where contents come from.
enum Source<'a> {
    Record(&'a Context),
    Item(&'a Context, &'a TaskPlace<'a>),
}

/// A content that is read piece by piece.
enum Stream<'a> {
    Record(espocrm::Download<'a>),
    Item(graph::Download),
}

impl Source<'_> {
    /// None when there is no such content.
    async fn open(&self, id: &str) -> Result<Option<Stream<'_>>, WorkError> {
        match self {
            Self::Record(context) => Ok(context.espo.client.download(id).await?.map(Stream::Record)),
            Self::Item(context, place) => match context.graph.download(place.mailbox, place.list, place.task, id).await
            {
                Ok(content) => Ok(Some(Stream::Item(content))),
                Err(graph::Error::Gone | graph::Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            },
        }
    }
}

impl Stream<'_> {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, WorkError> {
        Ok(match self {
            Self::Record(content) => content.next().await?,
            Self::Item(content) => content.next().await?,
        })
    }

    /// The media type without its parameters.
    fn media_type(&self) -> String {
        let full = match self {
            Self::Record(content) => content.media_type(),
            Self::Item(content) => content.media_type(),
        };
        let bare = full.and_then(|full| full.split(';').next()).map(str::trim).filter(|bare| bare.contains('/'));
        bare.unwrap_or("application/octet-stream").to_owned()
    }
}

/// Gives the task of an item the wanted files: from the record what it has not, away what it is not to have. `written` is the
/// item after what was written before; it comes back with its files and its last version.
///
/// # Errors
/// When it cannot be known what became of it.
pub async fn to_item(
    context: &Context,
    link: &Link,
    ends: &Ends<'_>,
    written: Item,
    wanted: &Files,
) -> Result<Item, WorkError> {
    let mailbox = context.mailbox()?;
    let source = ends.record.map(|fetched| of(&fetched.record.values)).unwrap_or_default();
    let current = ends.item.map(|item| of(&item.values)).unwrap_or_default();
    let place = place(&mailbox, &written);
    let mut fresh = Vec::new();
    for file in wanted.without(&current) {
        let Some(id) = source.id_of(&file.hash) else { continue };
        if taken(upload_to_task(context, &place, id, file).await, file)? {
            fresh.push(file.clone());
        }
    }
    for id in current.without(wanted).flat_map(|file| &file.ids) {
        context.graph.delete_attachment(place.mailbox, place.list, place.task, id).await?;
    }
    let look = Place { list: written.list.as_deref(), id: &written.id };
    let Seen::Present(now) = items::read(context, look, Some(link)).await? else {
        return Err(graph::Error::Gone.into());
    };
    let files = item_files(context, &now, current.known(), &fresh, Depth::Read).await?;
    // Every file that comes or goes is a version of the task; the last is ours only if nothing else has changed with it.
    let others = |values: &Values| -> Values {
        let own = |field: &Field| matches!(field, Field::Attachments | Field::Reminder);
        values.iter().filter(|(field, _)| !own(field)).map(|(field, value)| (field.clone(), value.clone())).collect()
    };
    let etag = now.etag.filter(|_| others(&now.values) == others(&written.values));
    let mut item = Item { etag, modified: now.modified, ..written };
    item.values.insert(Field::Attachments, Value::Files(files));
    Ok(item)
}

/// True when the file is there; false when the other side refuses it for good, which is said on the record's page.
fn taken(outcome: Result<(), WorkError>, file: &File) -> Result<bool, WorkError> {
    let refused = |error: &WorkError| match error {
        WorkError::Graph(graph::Error::Stale | graph::Error::Gone) => false,
        WorkError::Espo(espocrm::Error::Missing { .. }) => false,
        WorkError::Graph(error) => error.disposition() == graph::Disposition::Fail,
        WorkError::Espo(error) => error.disposition() == espocrm::Disposition::Fail,
        _ => false,
    };
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if refused(&error) => {
            tracing::warn!(file.name, file.size, error = error.sentence(), "a file was refused: it is left out");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn upload_to_task(context: &Context, to: &TaskPlace<'_>, id: &str, file: &File) -> Result<(), WorkError> {
    let source = Source::Record(context);
    let Some(mut content) = source.open(id).await? else { return Err(WorkError::Restless) };
    let kind = content.media_type();
    let new = NewFile { name: &file.name, content_type: &kind, size: file.size };
    let mut buffer = Vec::new();
    let small = usize::try_from(file.size).is_ok_and(|size| size < IN_ONE_PIECE);
    if small {
        while let Some(bytes) = content.next().await? {
            buffer.extend_from_slice(&bytes);
        }
        complete(buffer.len() as u64, file)?;
        return Ok(context.graph.add_attachment(to.mailbox, to.list, to.task, new, &buffer).await?);
    }
    let mut upload = context.graph.open_upload(to.mailbox, to.list, to.task, new).await?;
    let mut sent = 0;
    while let Some(bytes) = content.next().await? {
        buffer.extend_from_slice(&bytes);
        while buffer.len() >= PIECE {
            let rest = buffer.split_off(PIECE);
            context.graph.upload_piece(to.mailbox, &mut upload, &buffer).await?;
            sent += buffer.len() as u64;
            buffer = rest;
        }
    }
    complete(sent + buffer.len() as u64, file)?;
    if !buffer.is_empty() {
        context.graph.upload_piece(to.mailbox, &mut upload, &buffer).await?;
    }
    Ok(())
}

/// A content that is not as long as it was is not the one that was looked at.
fn complete(read: u64, file: &File) -> Result<(), WorkError> {
    if read == file.size { Ok(()) } else { Err(WorkError::Restless) }
}

/// What the attachments of a record are to be: new ones are uploaded, and are nobody's until they are named in a write.
pub struct Named {
    /// All ids.
    pub ids: BTreeSet<String>,
    known: BTreeMap<String, Known>,
}

/// Uploads what a record has not yet.
///
/// # Errors
/// When it cannot be known what became of it.
pub async fn for_record(
    context: &Context,
    fetched: &Fetched,
    item: Option<&Item>,
    wanted: &Files,
) -> Result<Named, WorkError> {
    let current = of(&fetched.record.values);
    let mut known = current.known();
    let removed: BTreeSet<&String> = current.without(wanted).flat_map(|file| &file.ids).collect();
    let all: BTreeSet<String> = fetched.files.iter().flat_map(BTreeMap::keys).chain(known.keys()).cloned().collect();
    let mut ids: BTreeSet<String> = all.into_iter().filter(|id| !removed.contains(id)).collect();
    if let Some(item) = item {
        let mailbox = context.mailbox()?;
        let place = place(&mailbox, item);
        let source = of(&item.values);
        for file in wanted.without(&current) {
            let Some(id) = source.id_of(&file.hash) else { continue };
            let source = Source::Item(context, &place);
            let mut uploaded = upload_to_espo(context, &source, id, file, context.acting()).await;
            if matches!(uploaded, Err(WorkError::Espo(espocrm::Error::Forbidden { .. }))) {
                uploaded = upload_to_espo(context, &source, id, file, Acting::Connector).await;
            }
            let id = uploaded.as_ref().ok().cloned();
            if taken(uploaded.map(drop), file)?
                && let Some(id) = id
            {
                known.insert(id.clone(), Known { hash: Some(file.hash.clone()), size: file.size });
                ids.insert(id);
            }
        }
    }
    Ok(Named { ids, known })
}

async fn upload_to_espo(
    context: &Context,
    source: &Source<'_>,
    id: &str,
    file: &File,
    acting: Acting<'_>,
) -> Result<String, WorkError> {
    let small = usize::try_from(file.size).is_ok_and(|size| size < IN_ONE_PIECE);
    let _turn = if small { None } else { Some(context.espo.client.one_large_file().await) };
    let Some(mut content) = source.open(id).await? else { return Err(WorkError::Restless) };
    let mut body = Content::begin(&file.name, &content.media_type(), file.size);
    let mut read = 0;
    while let Some(bytes) = content.next().await? {
        read += bytes.len() as u64;
        body.push(&bytes);
    }
    drop(content);
    complete(read, file)?;
    Ok(context.espo.client.upload(body, acting).await?.id)
}

/// A record after its attachments were written.
///
/// # Errors
/// When they cannot be read.
pub async fn written_to(context: &Context, fetched: &mut Fetched, named: &Named) -> Result<(), WorkError> {
    let files = record_files(context, &named.known, fetched, Depth::Read).await?;
    fetched.record.values.insert(Field::Attachments, Value::Files(files));
    Ok(())
}
