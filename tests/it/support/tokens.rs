//! Access tokens that no log-in gives: right ones for seeded users, and forged ones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chirp::{
    domain::{DisplayName, Handle, SessionId, UserId},
    services::kit::token::{Claims, ISSUER, SigningKey},
    wire::api::{Session, User},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::json;

use super::{Actor, TestApp};

/// The key that a stack signs with.
pub struct Signer {
    kid: String,
    key: SigningKey,
}

/// Seconds since the Unix epoch.
pub fn now_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    now.as_secs()
}

/// What the stack would claim for a user, with a session of its own.
pub fn claims(user: &User) -> Claims {
    let iat = now_s();
    Claims {
        sub: user.id,
        sid: SessionId(user.id.0 ^ 1),
        handle: user.handle.clone(),
        name: user.name.clone(),
        iat,
        exp: iat + 300,
        iss: ISSUER.to_owned(),
        aud: ISSUER.to_owned(),
        uncounted: false,
    }
}

impl Signer {
    /// The key of a running stack.
    pub async fn of(app: &TestApp) -> Self {
        let keys = app.key_store().load().await.unwrap();
        Self::new(&keys[0].kid, &keys[0].seed)
    }

    pub fn new(kid: &str, seed: &[u8; 32]) -> Self {
        Self { kid: kid.to_owned(), key: SigningKey::new(kid, seed).unwrap() }
    }

    pub fn sign(&self, claims: &Claims) -> String {
        self.key.sign(claims).unwrap()
    }

    /// A seeded user, whose session the stack never opened.
    pub fn acts(&self, app: &TestApp, id: UserId, handle: &str) -> Actor {
        let (handle, name) = (Handle::parse(handle).unwrap(), DisplayName::parse(handle).unwrap());
        let user = User { id, handle, name, created_at_ms: 0 };
        let access_token = self.sign(&claims(&user));
        let session =
            Session { user, access_token, expires_in_s: 300, refresh_token: String::new() };
        Actor::with(app, session)
    }

    /// Every token that must not be accepted, with its name. `of` is somebody with a session.
    pub fn forged(&self, of: &Actor) -> Vec<(&'static str, String)> {
        let right = claims(&of.session.user);
        let mallory = Signer::new("mallory", &[7; 32]);
        let same_name = Signer::new(&self.kid, &[7; 32]);
        let public = self.key.jwk().x.clone();
        let raw = URL_SAFE_NO_PAD.decode(&public).unwrap();
        let expired = Claims { iat: now_s() - 400, exp: now_s() - 1, ..right.clone() };
        let other = Claims { sub: UserId(right.sub.0 + 1), ..right.clone() };
        let [head, _, signature] = parts(&self.sign(&right));
        let [_, body, _] = parts(&self.sign(&other));
        let none = json!({ "alg": "none", "typ": "JWT", "kid": self.kid });
        vec![
            ("garbage", "garbage".to_owned()),
            ("three empty parts", "..".to_owned()),
            ("too long", "x".repeat(3_000)),
            ("expired", self.sign(&expired)),
            ("an unknown key", mallory.sign(&right)),
            ("another key under the known name", same_name.sign(&right)),
            ("alg none", format!("{}.{}.", encoded(&none), encoded(&right))),
            ("alg none, signed", format!("{}.{}.{signature}", encoded(&none), encoded(&right))),
            ("the public key as a secret", self.symmetric(&right, &raw)),
            ("the public key's text as a secret", self.symmetric(&right, public.as_bytes())),
            ("another's claims under a right signature", format!("{head}.{body}.{signature}")),
            ("no signature", format!("{head}.{body}.")),
            ("another issuer", self.sign(&Claims { iss: "else".to_owned(), ..right.clone() })),
            ("another audience", self.sign(&Claims { aud: "else".to_owned(), ..right })),
            ("a refresh token", of.session.refresh_token.clone()),
        ]
    }

    fn symmetric(&self, claims: &Claims, secret: &[u8]) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret)).unwrap()
    }
}

fn encoded(part: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).unwrap())
}

fn parts(token: &str) -> [String; 3] {
    let parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    parts.try_into().unwrap()
}
