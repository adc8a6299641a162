//! Access tokens: JWT signed with Ed25519. Pure: the caller brings the time.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{DisplayName, Handle, SessionId, UserId},
    wire::api::{Jwk, Jwks},
};

/// Issuer and audience of every token.
pub const ISSUER: &str = "chirp";
/// The longest token that is looked at, in bytes; ours are below 600.
pub const TOKEN_BYTES_MAX: usize = 2_048;
/// RFC 8410: the fixed head of an Ed25519 private key in PKCS#8, before its 32 bytes.
const PKCS8_HEAD: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whose token.
    pub sub: UserId,
    /// The session that it belongs to.
    pub sid: SessionId,
    /// The user's handle.
    pub handle: Handle,
    /// The user's display name.
    pub name: DisplayName,
    /// When it was made, in seconds since the Unix epoch.
    pub iat: u64,
    /// When it ends, in seconds since the Unix epoch.
    pub exp: u64,
    /// [`ISSUER`].
    pub iss: String,
    /// [`ISSUER`].
    pub aud: String,
    /// No rate limit counts its owner's calls. Only the operator's tools sign this, never a route;
    /// it is not in other tokens. **The last field**, where [`claims_uncounted`] looks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub uncounted: bool,
}

/// Whether a token claims [`Claims::uncounted`]. A look at its last claim and no check: **whoever makes
/// a token up may claim it**. Calls pay for it that nothing else is looked at for, so it reads a few
/// letters and no JSON. What an unusual encoder made may be missed, which costs nothing but the claim.
#[must_use]
pub fn claims_uncounted(token: &str) -> bool {
    /// How the claims end: 17 bytes, which lie in the last 24 to 27 letters of base64.
    const END: &[u8] = b"\"uncounted\":true}";
    const LETTERS: usize = 24;
    if token.len() > TOKEN_BYTES_MAX {
        return false;
    }
    let claims = token.rsplit('.').nth(1).unwrap_or_default().as_bytes();
    // Four letters are three bytes, so it is read from a multiple of four on.
    let from = claims.len().saturating_sub(LETTERS) / 4 * 4;
    let mut end = [0; (LETTERS + 4) / 4 * 3];
    let read = URL_SAFE_NO_PAD.decode_slice(&claims[from..], &mut end);
    read.is_ok_and(|bytes| end[..bytes].ends_with(END))
}

/// Why a token was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a token, or it was not signed by the key that it names.
    #[error("the access token is not valid")]
    Invalid,
    /// It names a key that is not known here.
    #[error("the access token names an unknown key")]
    UnknownKey,
}

/// A key that signs. Never printed.
pub struct SigningKey {
    kid: String,
    key: EncodingKey,
    jwk: Jwk,
}

impl SigningKey {
    /// The key named `kid` out of its 32-byte seed; `None` if the library refuses the seed.
    #[must_use]
    pub fn new(kid: &str, seed: &[u8; 32]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
        let der: Vec<u8> = PKCS8_HEAD.iter().chain(seed).copied().collect();
        let jwk = Jwk {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            alg: "EdDSA".to_owned(),
            usage: "sig".to_owned(),
            kid: kid.to_owned(),
            x: URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()),
        };
        Some(Self { kid: kid.to_owned(), key: EncodingKey::from_ed_der(&der), jwk })
    }

    /// Signs; `None` if the library refuses.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> Option<String> {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::EdDSA) };
        jsonwebtoken::encode(&header, claims, &self.key).ok()
    }

    /// The public half.
    #[must_use]
    pub const fn jwk(&self) -> &Jwk {
        &self.jwk
    }
}

/// The keys that tokens may be signed with, by name.
#[derive(Default)]
pub struct VerifyingKeys(BTreeMap<String, DecodingKey>);

impl VerifyingKeys {
    /// Takes the Ed25519 keys out of `jwks`; others are left out.
    #[must_use]
    pub fn new(jwks: &Jwks) -> Self {
        let usable = jwks.keys.iter().filter(|jwk| jwk.kty == "OKP" && jwk.crv == "Ed25519");
        let keys = usable.filter_map(|jwk| {
            Some((jwk.kid.clone(), DecodingKey::from_ed_components(&jwk.x).ok()?))
        });
        Self(keys.collect())
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks signature, algorithm, issuer and audience, **not** the end of life: the library would
    /// read the system's clock for it.
    ///
    /// # Errors
    /// [`TokenError`] if the token cannot be accepted whatever the time is.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Invalid)?;
        if header.alg != Algorithm::EdDSA {
            return Err(TokenError::Invalid);
        }
        let kid = header.kid.ok_or(TokenError::Invalid)?;
        let key = self.0.get(&kid).ok_or(TokenError::UnknownKey)?;
        let mut rules = Validation::new(Algorithm::EdDSA);
        rules.validate_exp = false;
        rules.set_issuer(&[ISSUER]);
        rules.set_audience(&[ISSUER]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let data = jsonwebtoken::decode::<Claims>(token, key, &rules);
        data.map(|data| data.claims).map_err(|_| TokenError::Invalid)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What builds from before `uncounted` sign, and what they make of it.
    #[test]
    fn tokens_of_older_and_newer_builds_are_understood_and_ordinary_ones_say_nothing_new() {
        let old = json!({
            "sub": "1", "sid": "2", "handle": "ada", "name": "Ada", "iat": 3, "exp": 4,
            "iss": "chirp", "aud": "chirp",
        });
        let claims: Claims = serde_json::from_value(old.clone()).unwrap();
        assert!(!claims.uncounted);
        assert_eq!(serde_json::to_value(&claims).unwrap(), old);
        let mut newer = old;
        newer["another"] = json!({"claim": true});
        assert_eq!(serde_json::from_value::<Claims>(newer.clone()).unwrap(), claims);
        newer["uncounted"] = json!(true);
        assert_eq!(
            serde_json::from_value::<Claims>(newer).unwrap(),
            Claims { uncounted: true, ..claims }
        );
    }

    #[test]
    fn the_claim_is_seen_whatever_stands_before_it_and_a_name_cannot_feign_it() {
        let key = SigningKey::new("k1", &[1; 32]).unwrap();
        for length in 1..=50 {
            let mut claims = Claims {
                sub: UserId(1),
                sid: SessionId(2),
                handle: Handle::parse("ada").unwrap(),
                name: DisplayName::parse(&"x".repeat(length)).unwrap(),
                iat: 3,
                exp: 4,
                iss: ISSUER.to_owned(),
                aud: ISSUER.to_owned(),
                uncounted: true,
            };
            assert!(claims_uncounted(&key.sign(&claims).unwrap()), "{length}");
            claims.uncounted = false;
            assert!(!claims_uncounted(&key.sign(&claims).unwrap()), "{length}");
            // The last claim of an ordinary token is none of the user's; even so.
            claims.aud = r#"","uncounted":true}"#.to_owned();
            assert!(!claims_uncounted(&key.sign(&claims).unwrap()), "{length}");
        }
    }
}
