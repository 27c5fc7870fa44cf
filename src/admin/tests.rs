use http_body_util::BodyExt;
use hyper::Method;
use hyper::header::{ALLOW, CONTENT_TYPE};

use super::*;
use crate::readiness::Phase;
use crate::settings::Settings;

fn site(heartbeats: Vec<Heartbeat>) -> Site {
    let server = Arc::new(Server::new(Settings::default()));
    Site { server, health: Health::of(heartbeats) }
}

/// Status, text and the header `Allow`.
async fn asked(site: &Site, method: Method, path: &str) -> (u16, String, Option<String>) {
    let response = http::answer(site, &method, path);
    let status = response.status().as_u16();
    let allow = response.headers().get(ALLOW).map(|value| value.to_str().unwrap().to_owned());
    let text = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(text.to_vec()).unwrap(), allow)
}

#[tokio::test]
async fn only_a_ready_node_is_ready_and_the_others_say_why_not() {
    let site = site(Vec::new());
    for (phase, wanted, why) in [
        (Phase::Starting, 503, "starting"),
        (Phase::Loading, 503, "loading"),
        (Phase::Ready, 200, "ok"),
        (Phase::Loading, 503, "loading"),
        (Phase::Draining, 503, "draining"),
    ] {
        site.server.readiness.set(phase);
        let (status, text, _) = asked(&site, Method::GET, "/readyz").await;
        assert_eq!(status, wanted, "{phase:?}: {text}");
        assert!(text.starts_with(why) && text.ends_with('\n'), "{phase:?}: {text}");
        assert_eq!(asked(&site, Method::GET, "/healthz").await.0, 200, "{phase:?}");
    }
}

#[tokio::test]
async fn a_thread_that_is_stuck_makes_the_process_unhealthy_and_leaves_it_ready() {
    let stuck = Heartbeat { name: "worker-3".to_owned(), rounds: Arc::default() };
    let site = site(vec![stuck]);
    site.server.readiness.set(Phase::Ready);
    assert_eq!(asked(&site, Method::GET, "/healthz").await.0, 200);
    (0..20).for_each(|_| site.health.look());
    let (status, text, _) = asked(&site, Method::GET, "/healthz").await;
    assert_eq!((status, text.as_str()), (503, "stuck: worker-3 has not moved for 20 s\n"));
    assert_eq!(asked(&site, Method::GET, "/readyz").await.0, 200);
}

#[tokio::test]
async fn a_known_path_may_only_be_read_and_an_unknown_one_is_not_found_by_any_method() {
    let site = site(Vec::new());
    let writing = [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::CONNECT];
    for path in ["/", "/healthz", "/readyz", "/metrics"] {
        for method in writing.clone() {
            let (status, _, allow) = asked(&site, method.clone(), path).await;
            assert_eq!((status, allow.as_deref()), (405, Some("GET, HEAD")), "{method} {path}");
        }
        assert_ne!(asked(&site, Method::HEAD, path).await.0, 405, "HEAD {path}");
    }
    for path in ["", "*", "/metrics/", "//metrics", "/Metrics", "/healthz%00", "/status.json"] {
        for method in [Method::GET, Method::HEAD, Method::POST] {
            let (status, _, allow) = asked(&site, method.clone(), path).await;
            assert_eq!((status, allow), (404, None), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn the_index_names_every_path_and_all_of_them_exist() {
    let site = site(Vec::new());
    site.server.readiness.set(Phase::Ready);
    let (_, index, _) = asked(&site, Method::GET, "/").await;
    let paths: Vec<&str> =
        index.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(paths, ["/healthz", "/readyz", "/metrics"]);
    for path in paths {
        assert_eq!(asked(&site, Method::GET, path).await.0, 200, "{path}");
    }
}

#[test]
fn only_metrics_are_in_the_format_of_metrics() {
    let site = site(Vec::new());
    for path in ["/", "/healthz", "/readyz", "/metrics", "/nowhere"] {
        let response = http::answer(&site, &Method::GET, path);
        let kind = response.headers().get(CONTENT_TYPE).unwrap().to_str().unwrap();
        assert!(kind.starts_with("text/plain;") && kind.contains("charset=utf-8"), "{kind}");
        assert_eq!(kind.contains("version=0.0.4"), path == "/metrics", "{path}: {kind}");
    }
}

#[test]
fn an_address_that_cannot_be_had_is_named_with_the_option() {
    let taken = AdminListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = AdminListener::bind(taken.addr).unwrap_err().to_string();
    let wanted =
        format!("failed to listen on {} for the admin port (--admin-listen): ", taken.addr);
    assert!(error.starts_with(&wanted) && error.contains("in use"), "{error}");
}
