//! `[media]`: pictures, from their upload to their end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Invalid, within};

/// Pictures, from their upload to their end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Media {
    /// What the URL of a picture begins with; its id follows. Without a scheme it is meant from the
    /// root of the API. Default `media/m/`: the folder of the embedded stores, which the public
    /// listener serves.
    pub base_url: String,
    /// The origin that uploads go to, as `https://host`, which the page is allowed to call. Empty:
    /// the API's own. Default empty.
    pub upload_origin: String,
    /// Largest picture, in bytes. Default 5,242,880 (5 MiB).
    pub bytes_max: u64,
    /// Longest side of a picture, in pixels. Default 8,192.
    pub side_max: u64,
    /// Most pixels of a picture: a small file may unfold to gigabytes in a browser. Default
    /// 40,000,000 (160 MB of memory).
    pub pixels_max: u64,
    /// An upload must be sent and used by a tweet within this many seconds. Default 900.
    pub upload_ttl_s: u64,
    /// Uploads of one user that no tweet uses yet; above it 429. Default 16: four tweets.
    pub uploads_per_user: u64,
    /// How often it is looked for what is to be removed, in milliseconds. Default 10,000.
    pub sweep_ms: u64,
    /// An upload that no tweet used, and the pictures of a deleted tweet, are kept for this many
    /// milliseconds more: for requests that are still under way, and for clocks that differ. Default
    /// 60,000.
    pub grace_ms: u64,
}

impl Default for Media {
    fn default() -> Self {
        Self {
            base_url: "media/m/".to_owned(),
            upload_origin: String::new(),
            bytes_max: 5 << 20,
            side_max: 8_192,
            pixels_max: 40_000_000,
            upload_ttl_s: 900,
            uploads_per_user: 16,
            sweep_ms: 10_000,
            grace_ms: 60_000,
        }
    }
}

impl Media {
    /// How long an upload may take, up to the tweet that uses it.
    #[must_use]
    pub const fn upload_ttl(&self) -> Duration {
        Duration::from_secs(self.upload_ttl_s)
    }

    /// The pause between two sweeps.
    #[must_use]
    pub const fn sweep(&self) -> Duration {
        Duration::from_millis(self.sweep_ms)
    }

    /// The origin of `base_url`; `None` if that is the API's own.
    #[must_use]
    pub fn base_origin(&self) -> Option<&str> {
        origin(&self.base_url)
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        let refuse = |key, problem: &str| Err(Invalid { key, problem: problem.to_owned() });
        // Both end up in the page's policy, where a blank or a `;` would begin something else.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/:[]@%".contains(c);
        let relative = !self.base_url.starts_with('/') && !self.base_url.contains(':');
        if !self.base_url.ends_with('/') || !self.base_url.chars().all(plain) {
            return refuse("media.base_url", "must be a plain URL that ends with `/`");
        }
        if self.base_origin().is_none() && !relative {
            return refuse(
                "media.base_url",
                "must begin with `https://`, `http://` or a plain name",
            );
        }
        let upload = &self.upload_origin;
        let whole = origin(upload) == Some(upload.as_str()) && upload.chars().all(plain);
        if !upload.is_empty() && !whole {
            return refuse("media.upload_origin", "must be like `https://host`, or empty");
        }
        within("media.bytes_max", self.bytes_max, 1_024, 100 << 20)?;
        within("media.side_max", self.side_max, 16, 65_535)?;
        within("media.pixels_max", self.pixels_max, 256, 1 << 32)?;
        within("media.upload_ttl_s", self.upload_ttl_s, 1, 86_400)?;
        within("media.uploads_per_user", self.uploads_per_user, 1, 10_000)?;
        within("media.sweep_ms", self.sweep_ms, 10, 86_400_000)?;
        within("media.grace_ms", self.grace_ms, 0, 86_400_000)
    }

    /// Nothing is swept that a test does not wait for.
    #[must_use]
    pub fn for_tests() -> Self {
        Self { sweep_ms: 86_400_000, ..Self::default() }
    }
}

/// Scheme and host of an absolute URL.
fn origin(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let host = rest.split('/').next().filter(|host| !host.is_empty())?;
    Some(&url[..url.len() - rest.len() + host.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_the_page_or_its_policy_is_refused() {
        let with = |base: &str, upload: &str| {
            let (base_url, upload_origin) = (base.to_owned(), upload.to_owned());
            Media { base_url, upload_origin, ..Media::default() }.validate()
        };
        for base in ["media/m/", "https://cdn.example/m/", "http://[::1]:4566/bucket/m/"] {
            assert_eq!(with(base, ""), Ok(()), "{base}");
        }
        for base in ["", "m", "/m/", "//evil/", "javascript:x/", "https:///", "m/; script-src *//"]
        {
            assert_eq!(with(base, "").unwrap_err().key, "media.base_url", "{base}");
        }
        assert_eq!(with("m/", "https://s3.example"), Ok(()));
        for upload in ["s3.example", "https://s3.example/", "https://a; script-src b"] {
            assert_eq!(with("m/", upload).unwrap_err().key, "media.upload_origin", "{upload}");
        }
    }
}
