//! What was received on the embedded queue and is not among the messages yet ([`store::inbox`]): workers take it in, and so does
//! whoever asks for messages, in whichever process, so that nobody misses one.

use std::time::Duration;

use store::StoreError;

use super::error::sentence;
use crate::app::App;

/// How long somebody who only looks is kept waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// Takes in everything that was received so far: who changes messages means those too.
///
/// # Errors
/// When the database cannot be written.
pub async fn take_in(app: &App) -> Result<u64, StoreError> {
    let store = app.store().clone();
    // Not cut short when whoever asked goes away.
    app.on_main(async move { store::inbox::empty(&store).await }).await.unwrap_or(Err(StoreError::Stopped))
}

/// The same for who only looks: where the database cannot be written, or not soon, the rest can be seen all the same.
pub async fn show(app: &App) {
    match tokio::time::timeout(PATIENCE, take_in(app)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(error = sentence(&error), "what was received cannot be taken in now"),
        Err(_) => tracing::warn!("what was received cannot be taken in soon"),
    }
}
