//! HTTP on the admin port: who is heard, and what each path answers.
//!
//! One request a connection, and [`ADMIN_REQUEST_MAX`] for all of it, whatever the client does
//! slowly: a scrape is once in many seconds, so nothing is gained by keeping connections, and one
//! bound holds for a slow head, a body nobody asked for, a reader that does not read and a client
//! that says nothing.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Site, health, metrics};
use crate::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_HEAD_MAX, ADMIN_HEADERS_MAX, ADMIN_REQUEST_MAX};

/// How long accepting rests after it failed: descriptors may be short for a while.
const BACK_OFF: Duration = Duration::from_secs(1);

const TEXT: &str = "text/plain; charset=utf-8";

/// What `/` says.
const INDEX: &str = "twincached admin port
/healthz  200 while the process works
/readyz   200 while clients should come
/metrics  statistics for Prometheus
";

/// Answers until `stop` is cancelled.
pub(super) async fn serve(site: &Rc<Site>, listener: &TcpListener, stop: &CancellationToken) {
    let counters = site.server.totals.register();
    let seats = Arc::new(Semaphore::new(ADMIN_CONNECTIONS_MAX));
    let mut conversations = JoinSet::new();
    let mut look = interval(health::PACE);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => site.health.look(),
            Some(ended) = conversations.join_next() => {
                if ended.is_err() {
                    counters.panics.bump();
                }
            }
            (stream, seat) = arrival(listener, &seats) => {
                let conversation = converse(Rc::clone(site), stream);
                conversations.spawn_local(async move {
                    conversation.await;
                    drop(seat);
                });
            }
        }
    }
}

/// The next client. Who finds no seat waits in the kernel's queue, at most as long as those before
/// it may take.
async fn arrival(
    listener: &TcpListener,
    seats: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // Nobody closes the semaphore: a seat comes in the end.
    let seat = Arc::clone(seats).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, seat),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the admin port");
                sleep(BACK_OFF).await;
            }
        }
    }
}

/// Hears one request and answers it.
async fn converse(site: Rc<Site>, stream: TcpStream) {
    let service = service_fn(move |request: Request<_>| {
        let answer = answer(&site, request.method(), request.uri().path());
        async { Ok::<_, Infallible>(answer) }
    });
    let conversation = http1::Builder::new()
        .keep_alive(false)
        .half_close(true)
        .max_headers(ADMIN_HEADERS_MAX)
        .max_buf_size(ADMIN_HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    match timeout(ADMIN_REQUEST_MAX, conversation).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin port failed"),
        Err(_) => tracing::debug!("a connection to the admin port was too slow"),
    }
}

/// What a path says: status, kind of text, text.
type Page = (StatusCode, &'static str, String);

fn page(path: &str) -> Option<fn(&Site) -> Page> {
    match path {
        "/" => Some(|_| (StatusCode::OK, TEXT, INDEX.to_owned())),
        "/healthz" => Some(|site| all_well_unless(site.health.complaint())),
        "/readyz" => Some(|site| {
            let reason = site.server.readiness.phase().reason();
            all_well_unless(reason.map(str::to_owned))
        }),
        "/metrics" => Some(metrics),
        _ => None,
    }
}

/// 200, or 503 with the reason.
fn all_well_unless(reason: Option<String>) -> Page {
    match reason {
        None => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, TEXT, reason + "\n"),
    }
}

fn metrics(site: &Site) -> Page {
    match metrics::exposition(&site.server) {
        Ok(text) => (StatusCode::OK, metrics::CONTENT_TYPE, text),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            (StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the metrics cannot be written\n".to_owned())
        }
    }
}

/// The answer to one request.
pub(super) fn answer(site: &Site, method: &Method, path: &str) -> Response<Full<Bytes>> {
    let allowed = [Method::GET, Method::HEAD].contains(method);
    let (status, kind, text) = match page(path) {
        None => (StatusCode::NOT_FOUND, TEXT, "no such path; / lists them\n".to_owned()),
        Some(_) if !allowed => {
            (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD are served\n".to_owned())
        }
        Some(page) => page(site),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}
