//! Where the bytes of pictures are, and what the services are told of it.

use std::sync::Arc;

use axum::Router;

use super::{DataDir, StackError, backends::Opened};
use crate::{
    adapters::embedded::blobs::{FOLDER, FileBlobs, serve},
    config::{self, Config},
    ports::BlobStore,
    rt::Rt,
    services::kit::Secret,
};

/// The store of pictures of a process.
pub(super) struct Pictures {
    /// As a port; `None` in a process over servers that runs no tweet role.
    pub(super) blobs: Option<Arc<dyn BlobStore>>,
    /// Its routes for clients, which stand beside the API; none where others serve it.
    pub(super) router: Router,
}

impl Pictures {
    /// The servers', or a folder in the data folder.
    ///
    /// # Errors
    /// [`StackError::Unwritable`].
    pub(super) async fn open(
        config: &Config,
        opened: &Opened,
        dir: &DataDir,
        rt: &Rt,
        token: &Secret,
    ) -> Result<Self, StackError> {
        if config.backends.external() {
            return Ok(Self { blobs: opened.backends.pictures.clone(), router: Router::new() });
        }
        let (root, clock, token) = (dir.root().to_owned(), rt.clone(), token.0.clone());
        let made = rt.blocking(move || FileBlobs::open(&root, &token, clock)).await;
        let made = made.ok_or_else(|| StackError::other("open the pictures", "a panic"))?;
        let blobs =
            made.map_err(|error| StackError::unwritable(&dir.root().join(FOLDER), &error))?;
        Ok(Self { router: serve::router(blobs.clone()), blobs: Some(Arc::new(blobs)) })
    }
}

/// What the services are configured with. Over servers pictures are sent to the bucket, and, unless
/// configuration says otherwise, got from there.
pub(super) fn placed(config: &Config) -> config::Services {
    let mut services = config.services.clone();
    if !config.backends.external() {
        return services;
    }
    let aws = &config.aws;
    let (origin, bucket) = if aws.endpoint.is_empty() {
        let origin = format!("https://{}.s3.{}.amazonaws.com", aws.bucket, aws.region);
        (origin.clone(), origin)
    } else {
        let origin = aws.endpoint.trim_end_matches('/').to_owned();
        (origin.clone(), format!("{origin}/{}", aws.bucket))
    };
    let media = &mut services.media;
    if media.upload_origin.is_empty() {
        media.upload_origin = origin;
    }
    if media.base_url == config::Media::default().base_url {
        media.base_url = format!("{bucket}/m/");
    }
    services
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_servers_pictures_are_sent_to_the_bucket_and_got_from_where_it_is_said() {
        let mut config = Config::default();
        let told = |config: &Config| {
            let media = placed(config).media;
            placed(config).validate().unwrap();
            [media.upload_origin, media.base_url]
        };
        assert_eq!(told(&config), ["", "media/m/"]);
        config.backends.kind = "external".to_owned();
        let aws = "https://chirp-media.s3.us-east-1.amazonaws.com";
        assert_eq!(told(&config), [aws, &format!("{aws}/m/")]);
        config.services.media.base_url = "https://cdn.example/m/".to_owned();
        assert_eq!(told(&config), [aws, "https://cdn.example/m/"]);
        config.services.media.base_url = config::Media::default().base_url;
        config.aws.endpoint = "http://127.0.0.1:4566".to_owned();
        let emulator = "http://127.0.0.1:4566";
        assert_eq!(told(&config), [emulator, &format!("{emulator}/chirp-media/m/")]);
    }
}
