//! Builds a role: guarded routers out of the one table of routes, and the loops behind them.

use std::sync::Arc;

use axum::{
    Router,
    handler::Handler,
    routing::{MethodFilter, on},
};
use http::Method;
use tokio::sync::watch;

use super::{
    Common, Service,
    answers::{Code, Fault},
    auth::Verifier,
    calls::Calls,
    guard::{GuardLayer, Shared, Spot},
};
use crate::{
    rt::BoxFuture,
    wire::routes::{Access, ROUTES, Role, Route},
};

/// What the routes and loops of a role share.
#[derive(Clone)]
pub struct Kit {
    /// What every role needs.
    pub common: Common,
    /// Calls to other roles.
    pub calls: Arc<Calls>,
    /// Checks access tokens.
    pub verifier: Arc<Verifier>,
}

impl Kit {
    /// The kit of one replica.
    #[must_use]
    pub fn new(common: Common) -> Self {
        let calls = Arc::new(Calls::new(common.clone()));
        let verifier = Arc::new(Verifier::new(common.clone(), Arc::clone(&calls)));
        Self { common, calls, verifier }
    }

    /// Public routes; `state` is what their handlers get.
    pub fn public<S: Clone + Send + Sync + 'static>(&self, state: S) -> Routes<S> {
        Routes::new(self, state, false)
    }

    /// Internal routes, for callers with the service token only.
    pub fn internal<S: Clone + Send + Sync + 'static>(&self, state: S) -> Routes<S> {
        Routes::new(self, state, true)
    }

    /// The role that serves these routers. It is ready when tokens can be checked, and its verifier
    /// starts after `first`.
    pub fn service(
        self,
        public: Router,
        internal: Router,
        first: impl Future<Output = ()> + Send + 'static,
        mut tasks: Vec<(&'static str, BoxFuture<'static, ()>)>,
    ) -> Service {
        let ready = self.verifier.ready();
        let verifier = self.verifier;
        tasks.push((
            "verifier",
            Box::pin(async move {
                first.await;
                verifier.run().await;
            }),
        ));
        Service { role: self.common.role, public, internal, tasks, ready }
    }

    /// A role that leaves tokens to others, and so is ready from the start. It asks for keys when a call
    /// first claims that no limit counts it, as such a claim is worth something only once it is checked.
    pub fn service_without_tokens(
        self,
        public: Router,
        internal: Router,
        mut tasks: Vec<(&'static str, BoxFuture<'static, ()>)>,
    ) -> Service {
        let verifier = self.verifier;
        tasks.push(("verifier", Box::pin(async move { verifier.run_when_wanted().await })));
        let ready = watch::Sender::new(true).subscribe();
        Service { role: self.common.role, public, internal, tasks, ready }
    }
}

/// Routes in the making, each with the guard around it.
pub struct Routes<S> {
    shared: Arc<Shared>,
    role: Role,
    internal: bool,
    state: S,
    router: Router<S>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    fn new(kit: &Kit, state: S, internal: bool) -> Self {
        let shared = Arc::new(Shared::new(kit.common.clone(), Arc::clone(&kit.verifier)));
        Self { shared, role: kit.common.role, internal, state, router: Router::new() }
    }

    /// Serves one route. A public one must stand in the table, which says who may call it.
    ///
    /// # Panics
    /// If the table has no such route of this role: a mistake in the program.
    #[must_use]
    pub fn on<H, T>(self, method: &'static str, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let spot = if self.internal {
            Spot { method, path, access: Access::Public, stream: false, internal: true }
        } else {
            let stands = |r: &&Route| r.method == method && r.path == path && r.role == self.role;
            let route = ROUTES.iter().find(stands);
            let route = route.unwrap_or_else(|| panic!("{method} {path} is not in the table"));
            Spot { method, path, access: route.access, stream: route.stream, internal: false }
        };
        self.mount(spot, handler)
    }

    /// Serves a route of another role, leaving tokens to that role.
    #[must_use]
    pub fn forward<H, T>(self, route: &'static Route, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let Route { method, path, stream, .. } = *route;
        self.mount(Spot { method, path, access: Access::Public, stream, internal: false }, handler)
    }

    /// Serves a page that belongs to no role.
    #[must_use]
    pub fn page<H, T>(self, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let spot = Spot { method: "GET", path, ..Spot::unmatched(false) };
        self.mount(spot, handler)
    }

    fn mount<H, T>(mut self, spot: Spot, handler: H) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        let method = Method::from_bytes(spot.method.as_bytes()).expect("routes have methods");
        let filter = MethodFilter::try_from(method).expect("routes have common methods");
        let layer = GuardLayer::new(Arc::clone(&self.shared), spot);
        self.router = self.router.route(spot.path, on(filter, handler).layer(layer));
        self
    }

    /// The router; what matches no route is a problem too.
    pub fn finish(self) -> Router {
        let spot = Spot::unmatched(self.internal);
        let layer = || GuardLayer::new(Arc::clone(&self.shared), spot);
        let missing = async || Fault::from(Code::NotFound).detail("there is no such route");
        let method = async || Fault::from(Code::MethodNotAllowed);
        self.router
            .method_not_allowed_fallback(method.layer(layer()))
            .fallback(missing.layer(layer()))
            .with_state(self.state)
    }
}
