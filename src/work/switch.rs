//! The switch of one record.
//!
//! Where EspoCRM has a field for it, the field is the truth: people switch it there. Our own switch serves where there is no
//! field, or none that we may write.

use espocrm::Acting;
use store::{links, switches};
use sync::{Kind, Target};

use super::error::{WorkError, sentence};
use super::handle::target_of;
use crate::app::App;

/// Switches a record on or off. Off holds at once, whatever EspoCRM says to it.
///
/// # Errors
/// When the database fails, or EspoCRM cannot be asked to switch the record on.
pub async fn turn(app: &App, acting: Acting<'_>, kind: Kind, record_id: &str, on: bool) -> Result<(), WorkError> {
    let put = async |on| switches::put(app.store().write(), kind, record_id, on, app.clock().now()).await;
    put(on).await?;
    match in_espocrm(app, acting, kind, record_id, on).await {
        Ok(true) if !on => put(true).await?,
        Ok(_) => {}
        Err(error) if !on => {
            tracing::warn!(
                error = sentence(&error),
                record.id = record_id,
                "the switch could not be written in EspoCRM; our own holds"
            );
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

/// True when EspoCRM has a field for it, which stands as it should.
async fn in_espocrm(app: &App, acting: Acting<'_>, kind: Kind, record_id: &str, on: bool) -> Result<bool, WorkError> {
    let Some(espo) = app.connections().espocrm() else { return Ok(false) };
    let schema = espo.schema().await?;
    if schema.of(kind).is_ok_and(|schema| schema.switch.is_none()) {
        return Ok(false);
    }
    Ok(espo.client.set_switch(&schema, kind, record_id, on, acting).await?)
}

/// Switches a record as somebody asks for, and tells where to look then. Switching on also lifts a tombstone: the pair was
/// parted, and whatever is left of it may be taken in again.
///
/// # Errors
/// When the database fails, or EspoCRM cannot be asked to switch the record on.
pub async fn asked(app: &App, kind: Kind, record_id: &str, on: bool) -> Result<Vec<Target>, WorkError> {
    let mut targets = vec![Target::Record { kind, id: record_id.to_owned() }];
    if on && let Some(link) = links::by_record(app.store().read(), kind, record_id).await? {
        let _lock = app.locks().acquire(format!("link:{}", link.id)).await?;
        if let Some(link) = links::by_id(app.store().read(), &link.id).await?.filter(sync::Link::is_buried) {
            links::delete_alone(app.store(), &link.id).await?;
            targets.extend(link.master().map(target_of));
        }
    }
    turn(app, Acting::Connector, kind, record_id, on).await?;
    Ok(targets)
}
