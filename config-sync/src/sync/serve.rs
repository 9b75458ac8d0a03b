//! The APIs on their listeners.

use std::sync::Arc;

use axum::Router;
use osmia_core::settings::{AdminSettings, Settings};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::StartError;
use crate::admin::{self, Keys};
use crate::control;
use crate::http_server::HttpServer;
use crate::plane::Plane;
use crate::store::file::FileStore;

/// The servers, which end when this is told to stop.
pub(super) struct Servers {
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Servers {
    /// Binds and starts all servers that the settings name. `workers` is how many workers there
    /// will be.
    pub(super) fn start(
        settings: &Settings,
        plane: &Plane,
        file: Option<Arc<FileStore>>,
        workers: usize,
    ) -> Result<Self, StartError> {
        let mut servers = Self { stop: watch::channel(false).0, tasks: JoinSet::new() };
        let listen = |error: &dyn std::fmt::Display| StartError::Listen(error.to_string());
        let mut bound = Vec::new();
        if let Some(admin) = &settings.admin {
            let keys = Keys::load(admin, &settings.data_dir).map_err(|error| listen(&error))?;
            let server = HttpServer::bind(
                "deployment.admin.admin_listen",
                admin.listen,
                admin.https.as_ref(),
            );
            bound.push((server, admin_router(plane, admin, keys, file)));
        }
        if let Some(addr) = settings.control {
            let server = HttpServer::bind("apisix.control", addr, None);
            bound.push((server, control::router(plane.clone())));
        }
        if let Some(addr) = settings.status {
            let server = HttpServer::bind("apisix.status", addr, None);
            bound.push((server, control::status_router(plane.clone(), workers)));
        }
        for (server, router) in bound {
            servers.spawn(server.map_err(|error| listen(&error))?, router);
        }
        Ok(servers)
    }

    fn spawn(&mut self, server: HttpServer, router: Router) {
        let mut stop = self.stop.subscribe();
        self.tasks.spawn(async move {
            let addr = server.local_addr();
            let stopped = async move {
                // An error means that nobody can say stop any more: then it is time.
                let _ = stop.wait_for(|stop| *stop).await;
            };
            if let Err(error) = server.serve(router, stopped).await {
                tracing::error!(%addr, "cannot serve: {error}");
            }
        });
    }

    /// Lets requests under way finish for a moment.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
    }
}

fn admin_router(
    plane: &Plane,
    settings: &AdminSettings,
    keys: Keys,
    file: Option<Arc<FileStore>>,
) -> Router {
    let mut routes = admin::resources(plane.clone(), settings);
    if let Some(file) = file {
        routes = routes.merge(admin::configs::router(plane.clone(), file));
    }
    admin::guarded(routes, settings, keys)
}
