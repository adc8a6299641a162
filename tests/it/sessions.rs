//! Sessions and accounts: what signing up, logging in, refreshing and logging out promise.

use chirp::{
    services::kit::token::VerifyingKeys,
    wire::api::{Jwks, Profile, Session},
};
use serde_json::json;

use crate::support::{Actor, Answer, PASSWORD, TestApp, in_both_shapes, tokens::now_s};

async fn sessions(app: &TestApp, body: serde_json::Value) -> Answer {
    app.client.call(app.address, "POST", "/sessions", &[], Some(&body)).await.unwrap()
}

async fn refresh(app: &TestApp, token: &str) -> Answer {
    sessions(app, json!({ "refresh_token": token })).await
}

in_both_shapes! {
    async fn an_account_is_as_asked_for_and_its_handle_is_taken_in_any_case(app: TestApp) {
        let asked = json!({ "handle": "@Ada_1", "name": " Ada  L ", "password": PASSWORD });
        let answer = app.client.call(app.address, "POST", "/users", &[], Some(&asked)).await;
        let session: Session = answer.unwrap().expect(201).json();
        assert_eq!(session.user.handle.as_str(), "ada_1");
        assert_eq!(session.user.name.as_str(), "Ada  L");
        assert_eq!(session.expires_in_s, 300);
        let ada = Actor::with(&app, session.clone());
        let me: Profile = ada.call("GET", "/me", None).await.expect(200).json();
        assert_eq!((me.followers, me.following, me.viewer), (0, 0, None));
        assert_eq!(me.user, session.user);
        assert_eq!(ada.profile("ADA_1").await, me, "her own profile has no viewer");
        for handle in ["ada_1", "ADA_1", "@aDa_1"] {
            let taken = json!({ "handle": handle, "password": "another password" });
            let answer = app.client.call(app.address, "POST", "/users", &[], Some(&taken)).await;
            assert_eq!(answer.unwrap().expect(409).problem(), "handle-taken");
        }
        let again: Session = sessions(&app, json!({ "handle": "ADA_1", "password": PASSWORD }))
            .await
            .expect(201)
            .json();
        assert_eq!(again.user, session.user, "the account is as it was");
        assert_ne!(again.access_token, session.access_token);
    }

    async fn of_many_who_want_a_handle_at_once_one_gets_it(app: TestApp) {
        let body = json!({ "handle": "wanted", "password": PASSWORD });
        let call = || app.client.call(app.address, "POST", "/users", &[], Some(&body));
        let answers = futures_util::future::join_all((0..8).map(|_| call())).await;
        let mut statuses: Vec<u16> = answers.into_iter().map(|a| a.unwrap().status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    }

    async fn a_wrong_password_and_an_unknown_handle_are_told_alike(app: TestApp) {
        app.signs_up("ada").await;
        let mut told = Vec::new();
        for (handle, password) in [
            ("ada", "wrong horse battery"),
            ("nobody", PASSWORD),
            ("not a handle", PASSWORD),
            ("ada", ""),
            ("ada", &"x".repeat(300)),
        ] {
            let answer = sessions(&app, json!({ "handle": handle, "password": password })).await;
            assert_eq!(answer.clone().expect(401).problem(), "wrong-credentials");
            let mut body: serde_json::Value = answer.json();
            body["request_id"].take();
            told.push(body);
        }
        assert!(told.iter().all(|body| *body == told[0]), "{told:?}");
    }

    async fn a_refresh_gives_the_next_pair_and_a_second_use_ends_the_session(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let first = ada.session.refresh_token.clone();
        let second: Session = refresh(&app, &first).await.expect(201).json();
        let third: Session = refresh(&app, &second.refresh_token).await.expect(201).json();
        assert_eq!(third.user, ada.session.user);
        Actor::with(&app, third.clone()).call("GET", "/me", None).await.expect(200);
        let thief = refresh(&app, &first).await.expect(401);
        assert_eq!(thief.problem(), "session-ended");
        // Whoever holds the newest one is out too: nobody knows who the thief is.
        assert_eq!(refresh(&app, &third.refresh_token).await.expect(401).problem(), "session-ended");
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        for session in [ada.session, second, third] {
            let owner = Actor::with(&app, session);
            for path in ["/me", "/timeline"] {
                owner.call("GET", path, None).await.expect(401);
            }
        }
        Actor::logs_in(&app, "ada").await.call("GET", "/me", None).await.expect(200);
    }

    async fn of_two_who_refresh_with_one_token_at_once_one_gets_a_pair(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let token = &ada.session.refresh_token;
        let (a, b) = tokio::join!(refresh(&app, token), refresh(&app, token));
        let mut statuses = [a.status, b.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 401]);
    }

    async fn the_published_keys_verify_what_a_log_in_gives_and_hold_no_secret(app: TestApp) {
        let ada = app.signs_up("ada").await;
        let answer = app.client.get(app.address, "/.well-known/jwks.json").await.unwrap();
        assert_eq!(answer.clone().expect(200).header("cache-control"), "public, max-age=60");
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(!text.contains("\"d\""), "no private part: {text}");
        let jwks: Jwks = answer.json();
        let claims = VerifyingKeys::new(&jwks).verify(&ada.session.access_token).unwrap();
        assert_eq!(claims.sub, ada.session.user.id);
        assert!((290..=300).contains(&(claims.exp - now_s())), "{}", claims.exp);
        if !app.over_servers() {
            let mode = std::fs::metadata(app.data_dir().join("keys.json")).unwrap().permissions();
            assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
        }
    }

    async fn sessions_and_keys_outlive_a_restart(app: TestApp) {
        let mut app = app;
        let mut ada = app.signs_up("ada").await;
        let gone = Actor::logs_in(&app, "ada").await;
        gone.call("DELETE", "/sessions", None).await.expect(204);
        app.crashes_and_comes_back().await;
        ada.moves_to(&app);
        ada.call("GET", "/me", None).await.expect(200);
        ada.call("GET", "/timeline", None).await.expect(200);
        let gone = Actor::with(&app, gone.session);
        for path in ["/me", "/timeline"] {
            gone.call("GET", path, None).await.expect(401);
        }
        refresh(&app, &gone.session.refresh_token).await.expect(401);
        refresh(&app, &ada.session.refresh_token).await.expect(201);
    }
}

mod short_lives {
    use super::*;

    in_both_shapes! {
        with [("CHIRP_AUTH_ACCESS_TTL_S", "2"), ("CHIRP_TIMELINE_STREAM_POLL_MS", "500")]

        async fn a_token_ends_with_its_time_and_its_stream_with_it(app: TestApp) {
            let ada = app.signs_up("ada").await;
            assert_eq!(ada.session.expires_in_s, 2);
            let stream = ada.streams().await;
            tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
            for path in ["/me", "/timeline", "/timeline/stream"] {
                let answer = ada.call("GET", path, None).await.expect(401);
                assert_eq!(answer.problem(), "unauthorized");
            }
            stream.ends().await;
            let next: Session = refresh(&app, &ada.session.refresh_token).await.expect(201).json();
            Actor::with(&app, next).call("GET", "/me", None).await.expect(200);
        }
    }
}
