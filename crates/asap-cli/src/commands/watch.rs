//! `asap watch`: a live page of the runs in a folder, on the loopback address.

use std::convert::Infallible;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use asap::jobs::overview::{self, RunSummary};
use asap::run::folder::REPORT;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::args::{Common, WatchArgs};
use crate::failure::Usage;
use crate::output;

/// Time between two looks at the folder.
const PAUSE: Duration = Duration::from_secs(1);
const PAGE: &str = include_str!("watch.html");

/// The result as JSON.
#[derive(Serialize)]
struct Watching {
    url: String,
}

pub(crate) fn run(args: &WatchArgs, common: &Common) -> anyhow::Result<()> {
    let root = args.folder.clone();
    if !root.is_dir() {
        let fault = format!(
            "{}: expected a folder of runs, found none; give the run folder that asap printed, or one above it",
            root.display()
        );
        return Err(Usage(fault).into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the server")?.block_on(serve(root, args.port, common.json))
}

async fn serve(root: PathBuf, port: u16, json: bool) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.with_context(|| {
        format!("cannot listen on 127.0.0.1:{port}; choose another --port, or 0 for a free one")
    })?;
    let address = listener.local_addr().context("cannot find the address of the server")?;
    let url = format!("http://{address}/");
    eprintln!("watching {} at {url} (Ctrl-C to stop)", root.display());
    if json {
        output::print(json, &Watching { url }, "")?;
    }
    let router = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/api/runs", get(runs))
        .route("/api/curves", get(curves))
        .route("/api/events", get(events))
        .route("/report", get(report))
        .layer(middleware::from_fn(of_this_machine))
        .with_state(Arc::new(root));
    axum::serve(listener, router).await.context("the server stopped")
}

/// Refuses requests under another host name, by which a foreign site could reach this server.
async fn of_this_machine(headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if name != "127.0.0.1" && name != "localhost" {
        return (StatusCode::FORBIDDEN, "expected host 127.0.0.1 or localhost").into_response();
    }
    next.run(request).await
}

/// The query of a request about one run.
#[derive(Deserialize)]
struct Wanted {
    run: String,
}

/// A failure as a response.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<asap::Error> for Failure {
    fn from(error: asap::Error) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

type Root = State<Arc<PathBuf>>;

async fn runs(State(root): Root) -> Result<Json<Vec<RunSummary>>, Failure> {
    Ok(Json(overview::runs(&root)?))
}

async fn curves(State(root): Root, Query(wanted): Query<Wanted>) -> Result<Response, Failure> {
    Ok(Json(overview::curves(&folder(&root, &wanted)?)?).into_response())
}

async fn report(State(root): Root, Query(wanted): Query<Wanted>) -> Result<Html<String>, Failure> {
    let path = folder(&root, &wanted)?.join(REPORT);
    let page = fs::read_to_string(&path);
    page.map(Html)
        .map_err(|error| Failure(StatusCode::NOT_FOUND, format!("{}: {error}", path.display())))
}

/// The folder of a listed run; no other path is opened.
fn folder(root: &Path, wanted: &Wanted) -> Result<PathBuf, Failure> {
    let known = overview::runs(root)?.into_iter().any(|run| run.path == wanted.run);
    match known {
        true => Ok(root.join(&wanted.run)),
        false => {
            Err(Failure(StatusCode::NOT_FOUND, format!("no run {} in this folder", wanted.run)))
        }
    }
}

/// The list of runs, sent again whenever it changes.
async fn events(State(root): Root) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let changes = futures_util::stream::unfold(None, move |last: Option<Vec<RunSummary>>| {
        let root = Arc::clone(&root);
        async move {
            loop {
                if last.is_some() {
                    tokio::time::sleep(PAUSE).await;
                }
                let runs = overview::runs(&root).unwrap_or_default();
                if last.as_ref() != Some(&runs) {
                    let event = Event::default().json_data(&runs).unwrap_or_default();
                    return Some((Ok(event), Some(runs)));
                }
            }
        }
    });
    Sse::new(changes).keep_alive(KeepAlive::default())
}
