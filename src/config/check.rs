//! Looks at the settings as a whole: what options demand of each other, and where to listen.

use std::net::SocketAddr;

use super::{Draft, Refusal};
use super::{listen, peers};
use crate::settings::{BindingProtocol, ListenTls, Settings};

/// Where to listen when nobody says: upstream listens everywhere.
const DEFAULT_ADDRESS: &str = "127.0.0.1";

/// memcached advises against more threads than this.
const THREADS_ADVISED: usize = 64;

/// Upstream's bound on the shares of the hot and warm LRU together.
const LRU_PERCENT_MAX: u32 = 80;

/// `ssl_min_version` for the oldest TLS that is spoken here.
const TLS_1_2: u8 = 2;

/// The settings, when nothing in them contradicts anything else.
pub(super) fn finish(draft: Draft) -> Result<Settings, Refusal> {
    let Draft { mut settings, listen, listen_given_as, tcp_port, udp_port, protocol, .. } = draft;
    peers::finish(&mut settings, draft.peers)?;
    settings.udp_port = udp_port.unwrap_or(settings.udp_port);
    // As upstream: -U without -p moves TCP to the same port.
    settings.tcp_port = tcp_port.unwrap_or(match settings.udp_port {
        0 => settings.tcp_port,
        port => port,
    });
    authentication(&mut settings, protocol)?;
    if settings.unix_socket.is_none() {
        match &listen_given_as {
            None => listeners(&mut settings, "", &[DEFAULT_ADDRESS.to_owned()])?,
            Some(given_as) => {
                settings.inter = Some(listen.join(","));
                listeners(&mut settings, given_as, &listen)?;
            }
        }
    }
    ports(&settings)?;
    tls(&settings)?;
    sizes(&settings)?;
    settings.without_effect = draft.without_effect.into_iter().collect();
    warnings(&mut settings);
    Ok(settings)
}

/// The protocol, which a way to log in decides.
fn authentication(
    settings: &mut Settings,
    protocol: Option<BindingProtocol>,
) -> Result<(), Refusal> {
    use BindingProtocol::{Ascii, Binary};
    let udp = settings.udp_port != 0;
    let refusal = |what: &str, allowed: &str| {
        Err(Refusal::usage(format!("{what} exclude each other; allowed: {allowed}")))
    };
    if settings.sasl && settings.auth_file.is_some() {
        return refusal("-S (--enable-sasl) and -Y (--auth-file)", "one of them");
    }
    if settings.sasl && settings.sasl_pwdb.is_none() {
        return Err(Refusal::usage(
            "-S (--enable-sasl) was given without users, and Cyrus SASL's own are not read; \
             allowed: with --sasl-pwdb file or MEMCACHED_SASL_PWDB"
                .to_owned(),
        ));
    }
    let (name, needed) = if settings.sasl {
        ("-S (--enable-sasl)", Binary)
    } else if settings.auth_file.is_some() {
        ("-Y (--auth-file)", Ascii)
    } else {
        settings.protocol = protocol.unwrap_or_default();
        return Ok(());
    };
    if udp {
        let what = format!("{name} and -U {} (--udp-port)", settings.udp_port);
        return refusal(&what, "-U 0, as nobody can log in by UDP");
    }
    if let Some(given) = protocol.filter(|given| *given != needed) {
        let what = format!("{name} and -B {} (--protocol)", name_of(given));
        return refusal(&what, &format!("-B {}", name_of(needed)));
    }
    settings.protocol = needed;
    Ok(())
}

fn name_of(protocol: BindingProtocol) -> &'static str {
    match protocol {
        BindingProtocol::Auto => "auto",
        BindingProtocol::Ascii => "ascii",
        BindingProtocol::Binary => "binary",
    }
}

/// Turns the texts of `-l` into addresses for TCP and UDP.
fn listeners(settings: &mut Settings, given_as: &str, texts: &[String]) -> Result<(), Refusal> {
    if texts.is_empty() {
        return Err(Refusal::bad(format!(
            "{given_as} was given no address; allowed: {}",
            listen::ALLOWED
        )));
    }
    let must_log_in = settings.sasl || settings.auth_file.is_some();
    for (port, is_tcp) in [(settings.tcp_port, true), (settings.udp_port, false)] {
        if port == 0 {
            continue;
        }
        let port = u16::try_from(port).unwrap_or(0);
        for text in texts {
            let refusal = |why: &str, status| Refusal {
                message: format!(
                    "{given_as} was given \"{text}\": {why}; allowed: {}",
                    listen::ALLOWED
                ),
                status,
            };
            let usage = |why: &str| Err(refusal(why, super::status::USAGE));
            let parsed = listen::parse(text, port, settings.protocol)
                .map_err(|wrong| refusal(&wrong.why, wrong.status))?;
            for mut listen in parsed {
                if listen.tls != ListenTls::Default && !settings.tls.enabled {
                    return usage("its prefix needs -Z (--enable-ssl)");
                }
                if must_log_in && listen.protocol == BindingProtocol::Auto {
                    listen.protocol = settings.protocol;
                }
                if must_log_in && listen.protocol != settings.protocol {
                    return usage("nobody can log in by its protocol, as -S or -Y demands");
                }
                if is_tcp {
                    settings.listen.push(listen);
                } else {
                    settings.udp_listen.push(listen);
                }
            }
        }
    }
    if settings.listen.is_empty() && settings.udp_listen.is_empty() {
        return Err(Refusal::usage(
            "-p 0 (--port) leaves nothing to listen on; allowed: 1 to 65535, -1 to let the kernel \
             choose, or 0 with -s (--unix-socket) or -U (--udp-port)"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Listeners of different kinds need ports of their own. Some are bound late, when nobody looks at the
/// terminal any more.
fn ports(settings: &Settings) -> Result<(), Refusal> {
    let clients = settings.listen.iter().map(|listen| (listen.addr, "-p (--port)"));
    let peering = &settings.peering;
    let peers = peering.listen.iter().filter(|_| peering.enabled);
    let peers = peers.map(|addr| (*addr, "-X (--replication-port)"));
    let monitors = settings.admin_listen.iter().map(|addr| (*addr, "--admin-listen"));
    let all: Vec<(SocketAddr, &str)> = clients.chain(peers).chain(monitors).collect();
    for (number, (one, name)) in all.iter().enumerate() {
        let clash = all[..number].iter().find(|(other, of)| of != name && overlap(*other, *one));
        if let Some((other, of)) = clash {
            return Err(Refusal::usage(format!(
                "{of} and {name} are both port {}, on {} and {}; allowed: a port for each",
                one.port(),
                other.ip(),
                one.ip()
            )));
        }
    }
    Ok(())
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let (ip, other_ip) = (one.ip(), other.ip());
    let is_same_family = ip.is_ipv4() == other_ip.is_ipv4();
    let is_shared = ip == other_ip || ip.is_unspecified() || other_ip.is_unspecified();
    one.port() != 0 && one.port() == other.port() && is_same_family && is_shared
}

fn tls(settings: &Settings) -> Result<(), Refusal> {
    if !settings.tls.enabled {
        return Ok(());
    }
    if settings.listen.is_empty() {
        return Err(Refusal::usage(
            "-Z (--enable-ssl) was given without a TCP port; allowed: with -p (--port) other \
             than 0 and without -s (--unix-socket)"
                .to_owned(),
        ));
    }
    if settings.tls.chain_cert.is_none() {
        return Err(Refusal::usage(
            "-Z (--enable-ssl) was given without a certificate; allowed: with -o ssl_chain_cert=file"
                .to_owned(),
        ));
    }
    Ok(())
}

fn sizes(settings: &Settings) -> Result<(), Refusal> {
    let half = settings.memory_limit / 2;
    if settings.item_size_max > half {
        return Err(Refusal::usage(format!(
            "-I (--max-item-size) is {} bytes; allowed: at most {half}, half of -m (--memory-limit)",
            settings.item_size_max
        )));
    }
    let (hot, warm) = (settings.shown.hot_lru_pct, settings.shown.warm_lru_pct);
    if hot + warm > LRU_PERCENT_MAX {
        return Err(Refusal::usage(format!(
            "-o hot_lru_pct is {hot} and warm_lru_pct {warm}; allowed: at most {LRU_PERCENT_MAX} \
             together"
        )));
    }
    match settings.shown.napi_ids {
        Some(ids) if usize::try_from(ids).is_ok_and(|ids| ids > settings.threads) => {
            Err(Refusal::usage(format!(
                "-N (--napi-ids) was given \"{ids}\"; allowed: at most {}, as -t (--threads)",
                settings.threads
            )))
        }
        _ => Ok(()),
    }
}

fn warnings(settings: &mut Settings) {
    for everybody in settings.udp_allow.iter().filter(|network| network.is_everybody()) {
        if !settings.udp_listen.is_empty() {
            settings.warnings.push(format!(
                "--udp-allow {everybody} lets anybody who forges an address turn this server's \
                 answers on somebody else"
            ));
        }
    }
    if settings.threads > THREADS_ADVISED {
        settings.warnings.push(format!(
            "-t {} (--threads) is more than {THREADS_ADVISED}: as many as the machine has cores is \
             enough",
            settings.threads
        ));
    }
    let must_log_in = settings.sasl || settings.auth_file.is_some();
    if settings.auth_allow_health_checks && !must_log_in {
        settings
            .warnings
            .push("--auth-allow-health-checks changes nothing without -Y (--auth-file) or -S (--enable-sasl)"
                .to_owned());
    }
    if settings.tls.enabled && settings.tls.min_version < TLS_1_2 {
        settings.warnings.push(format!(
            "-o ssl_min_version={} asks for a TLS that is broken: 1.2 is the oldest spoken",
            settings.tls.min_version
        ));
    }
    let secret = settings.tls.chain_cert.is_some() || settings.tls.key.is_some();
    if secret && !settings.tls.enabled {
        settings.warnings.push(
            "-o ssl_chain_cert or ssl_key without -Z (--enable-ssl): connections are in clear"
                .to_owned(),
        );
    }
}
