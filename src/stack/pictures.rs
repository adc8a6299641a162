//! Where the bytes of pictures are.

use std::sync::Arc;

use axum::Router;

use super::{DataDir, StackError};
use crate::{
    adapters::embedded::blobs::{FOLDER, FileBlobs, serve},
    config::Config,
    ports::BlobStore,
    rt::Rt,
    services::kit::Secret,
};

/// The store of pictures of a process.
pub(super) struct Pictures {
    /// As a port.
    pub(super) blobs: Arc<dyn BlobStore>,
    /// Its routes for clients, which stand beside the API; none where others serve it.
    pub(super) router: Router,
}

impl Pictures {
    /// The one that is configured.
    ///
    /// # Errors
    /// [`StackError`].
    pub(super) async fn open(
        _config: &Config,
        dir: &DataDir,
        rt: &Rt,
        token: &Secret,
    ) -> Result<Self, StackError> {
        Self::in_folder(dir, rt, token).await
    }

    /// The folder of the data folder.
    ///
    /// # Errors
    /// [`StackError::Unwritable`].
    async fn in_folder(dir: &DataDir, rt: &Rt, token: &Secret) -> Result<Self, StackError> {
        let (root, clock, token) = (dir.root().to_owned(), rt.clone(), token.0.clone());
        let opened = rt.blocking(move || FileBlobs::open(&root, &token, clock)).await;
        let opened = opened.ok_or_else(|| StackError::other("open the pictures", "a panic"))?;
        let blobs = opened.map_err(|error| StackError::Unwritable {
            path: dir.root().join(FOLDER),
            reason: error.to_string(),
        })?;
        Ok(Self { router: serve::router(blobs.clone()), blobs: Arc::new(blobs) })
    }
}
