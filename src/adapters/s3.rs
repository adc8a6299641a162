//! Pictures in a bucket of S3, of AWS or of an emulator.
//!
//! Objects below `up/` are what clients sent by signed URLs, which fix type and length; those below `m/`
//! are published. Publishing is a copy inside the store that counts only if its source is still the
//! object that was looked at and its target does not exist. What serves `m/` to everybody, and with
//! which headers, is the business of whoever runs it: a distribution, or the emulator.
//!
//! The client repeats calls itself: each may be repeated, and a copy that was done finds its target.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    config::RequestChecksumCalculation,
    error::{ProvideErrorMetadata, SdkError},
    presigning::PresigningConfig,
    types::{
        BucketLocationConstraint, CorsConfiguration, CorsRule, CreateBucketConfiguration,
        MetadataDirective,
    },
};

use super::aws;
use crate::{
    config,
    domain::{MediaId, MediaKind},
    ports::{BlobStore, Kind, Outcome, Presigned, Read, Seen, StoreError, blobs::HEAD_MAX},
};

const STORE: &str = "blobs";
/// The region whose name is not said when a bucket is made.
const FIRST_REGION: &str = "us-east-1";
/// As the embedded store says it: a published picture never changes, and after a day even a cache that
/// nobody tells forgets that of a deleted tweet.
const CACHE: &str = "public, max-age=86400, immutable";

/// Pictures in a bucket.
#[derive(Clone, Debug)]
pub struct S3Blobs {
    client: Client,
    bucket: String,
    region: String,
}

fn uploaded(id: MediaId) -> String {
    format!("up/{id}")
}

fn published(id: MediaId) -> String {
    format!("m/{id}")
}

/// What came back, without what was sent.
fn trouble<E, R>(what: &str, error: &SdkError<E, R>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug + 'static,
{
    let kind = match error {
        SdkError::TimeoutError(_) => Kind::Timeout,
        _ => Kind::Unavailable,
    };
    let why = error.code().map_or_else(|| aws::causes(error), str::to_owned);
    StoreError::new(kind, STORE, format!("s3 {what}: {why}"))
}

/// The status of an answer that refuses; `None` if it is not certain that the call was refused.
fn refusal<E>(error: &SdkError<E>) -> Option<u16> {
    let status = error.raw_response()?.status().as_u16();
    (400..500).contains(&status).then_some(status)
}

impl S3Blobs {
    /// The bucket that `config` names. Nothing is asked of a server.
    pub async fn new(config: &config::Aws) -> Self {
        let sdk = aws::sdk(config).await;
        // Emulators are not found by a name below their own.
        let own = aws_sdk_s3::config::Builder::from(&sdk)
            .force_path_style(!config.endpoint.is_empty())
            // Otherwise a signed URL would ask for a checksum of nothing.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .build();
        let (bucket, region) = (config.bucket.clone(), config.region.clone());
        Self { client: Client::from_conf(own), bucket, region }
    }

    /// Makes the bucket unless it is there, and lets pages of other origins send pictures to it.
    ///
    /// # Errors
    /// What the server says, or that there is none.
    pub async fn prepare(&self) -> Read<()> {
        let mut make = self.client.create_bucket().bucket(&self.bucket);
        if self.region != FIRST_REGION {
            let place = BucketLocationConstraint::from(self.region.as_str());
            let place = CreateBucketConfiguration::builder().location_constraint(place).build();
            make = make.create_bucket_configuration(place);
        }
        if let Err(error) = make.send().await
            && error.code() != Some("BucketAlreadyOwnedByYou")
        {
            return Err(trouble("create_bucket", &error));
        }
        // Whoever has a signed URL may use it, from wherever.
        let rule = CorsRule::builder()
            .allowed_methods("PUT")
            .allowed_origins("*")
            .allowed_headers("content-type")
            .max_age_seconds(3_600)
            .build()
            .map_err(|error| StoreError::new(Kind::Corrupt, STORE, error.to_string()))?;
        let rules = CorsConfiguration::builder()
            .cors_rules(rule)
            .build()
            .map_err(|error| StoreError::new(Kind::Corrupt, STORE, error.to_string()))?;
        let set = self.client.put_bucket_cors().bucket(&self.bucket).cors_configuration(rules);
        set.send().await.map(drop).map_err(|error| trouble("put_bucket_cors", &error))
    }

    /// Whether the bucket is there; `None` if that may not be asked, as whoever may read and write
    /// objects need not be allowed to list them. Changes nothing.
    ///
    /// # Errors
    /// What the server says, or that there is none.
    pub async fn is_there(&self) -> Read<Option<bool>> {
        match self.client.head_bucket().bucket(&self.bucket).send().await {
            Ok(_) => Ok(Some(true)),
            Err(error) if refusal(&error) == Some(404) => Ok(Some(false)),
            Err(error) if refusal(&error) == Some(403) => Ok(None),
            Err(error) => Err(trouble("head_bucket", &error)),
        }
    }

    async fn head_of(&self, key: String, is_published: bool) -> Read<Option<Seen>> {
        let get = self.client.get_object().bucket(&self.bucket).key(key);
        let found = match get.range(format!("bytes=0-{}", HEAD_MAX - 1)).send().await {
            Ok(found) => found,
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(trouble("get_object", &error)),
        };
        let total = found.content_range().and_then(|range| range.rsplit_once('/')?.1.parse().ok());
        let length = found.content_length().and_then(|length| u64::try_from(length).ok());
        let version = found.e_tag().unwrap_or_default().to_owned();
        let torn = || StoreError::new(Kind::Unavailable, STORE, "s3 get_object: a torn answer");
        let bytes: u64 = total.or(length).ok_or_else(torn)?;
        let mut head = found.body.collect().await.map_err(|_| torn())?.into_bytes();
        head.truncate(HEAD_MAX);
        Ok(Some(Seen { published: is_published, version, bytes, head }))
    }

    async fn delete(&self, key: String) -> Read<()> {
        let delete = self.client.delete_object().bucket(&self.bucket).key(key).send().await;
        delete.map(drop).map_err(|error| trouble("delete_object", &error))
    }
}

#[async_trait]
impl BlobStore for S3Blobs {
    async fn presign(
        &self,
        id: MediaId,
        kind: MediaKind,
        bytes: u64,
        ttl: Duration,
    ) -> Read<Presigned> {
        let wrong = |why: String| StoreError::new(Kind::Unavailable, STORE, why);
        let config = PresigningConfig::expires_in(ttl).map_err(|error| wrong(error.to_string()))?;
        let length = i64::try_from(bytes).map_err(|error| wrong(error.to_string()))?;
        let put = self.client.put_object().bucket(&self.bucket).key(uploaded(id));
        let put = put.content_type(kind.as_str()).content_length(length);
        let signed = put.presigned(config).await;
        let signed = signed.map_err(|error| trouble("presign", &error))?;
        let headers = vec![("content-type", kind.as_str().to_owned())];
        Ok(Presigned { url: signed.uri().to_owned(), headers })
    }

    async fn look(&self, id: MediaId) -> Read<Option<Seen>> {
        match self.head_of(published(id), true).await? {
            Some(seen) => Ok(Some(seen)),
            None => self.head_of(uploaded(id), false).await,
        }
    }

    async fn publish(&self, id: MediaId, version: &str, kind: MediaKind) -> Outcome<bool> {
        let copy = self
            .client
            .copy_object()
            .bucket(&self.bucket)
            .key(published(id))
            .copy_source(format!("{}/{}", self.bucket, uploaded(id)))
            .copy_source_if_match(version)
            .if_none_match("*")
            .metadata_directive(MetadataDirective::Replace)
            .content_type(kind.as_str())
            .cache_control(CACHE);
        match copy.send().await {
            Ok(_) => Outcome::Done(true),
            // Another object lies there, none, or one is published.
            Err(error) if matches!(refusal(&error), Some(404 | 412)) => {
                if error.code() == Some("NoSuchBucket") {
                    return Outcome::Failed(trouble("copy_object", &error));
                }
                Outcome::Done(false)
            }
            // Also a refusal: it may be the answer to the client's own second attempt. What came of it is
            // seen by a look.
            Err(error) => Outcome::Unknown(trouble("copy_object", &error)),
        }
    }

    async fn remove(&self, id: MediaId, is_published: bool) -> Outcome<()> {
        let removed = async {
            self.delete(uploaded(id)).await?;
            if is_published { self.delete(published(id)).await } else { Ok(()) }
        };
        match removed.await {
            Ok(()) => Outcome::Done(()),
            Err(error) => Outcome::Unknown(error),
        }
    }
}
