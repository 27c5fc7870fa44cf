//! Reads one address of `-l`: prefixes, then a host, then perhaps a port.
//!
//! `*` and host names may stand for several addresses. Here names are resolved, so that a wrong
//! one is known before anything is bound.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use super::status;
use crate::settings::{BindingProtocol, Listen, ListenTls};

/// Longest name in `tag[name]:`.
const TAG_MAX: usize = 8;

/// What a `-l` address may look like.
pub(super) const ALLOWED: &str = "host, host:port, IPv4, [IPv6]:port or *, after any of notls: \
     btls: mtls: proto[ascii]: proto[binary]: proto[negotiating]: tag[name]: (1 to 8 characters)";

/// What is wrong with an address, and the exit status for it.
pub(super) struct Wrong {
    pub(super) why: String,
    pub(super) status: u8,
}

impl Wrong {
    fn form(why: &str) -> Wrong {
        Wrong { why: why.to_owned(), status: status::BAD_VALUE }
    }
}

/// The listeners that `text` stands for; `port` is for an address that names none.
pub(super) fn parse(
    text: &str,
    port: u16,
    protocol: BindingProtocol,
) -> Result<Vec<Listen>, Wrong> {
    let mut listen = Listen { protocol, ..Listen::from(SocketAddr::from(([0; 4], 0))) };
    let mut rest = text;
    while let Some(after) = prefix(rest, &mut listen)? {
        rest = after;
    }
    let (host, port) = host_and_port(rest, port)?;
    let addresses = resolve(host, port)?;
    listen.optional = addresses.len() > 1;
    Ok(addresses.into_iter().map(|addr| Listen { addr, ..listen.clone() }).collect())
}

/// Takes one prefix off, or says that there is none.
fn prefix<'a>(text: &'a str, listen: &mut Listen) -> Result<Option<&'a str>, Wrong> {
    for (name, tls) in
        [("notls:", ListenTls::Off), ("btls:", ListenTls::Basic), ("mtls:", ListenTls::Mutual)]
    {
        if let Some(rest) = text.strip_prefix(name) {
            listen.tls = tls;
            return Ok(Some(rest));
        }
    }
    if let Some(rest) = text.strip_prefix("proto[") {
        let (name, rest) = rest.split_once("]:").ok_or(Wrong::form("proto[ has no ]:"))?;
        listen.protocol = match name {
            "ascii" => BindingProtocol::Ascii,
            "binary" => BindingProtocol::Binary,
            "negotiating" => BindingProtocol::Auto,
            _ => return Err(Wrong::form("its protocol is unknown")),
        };
        return Ok(Some(rest));
    }
    let tagged = match text.strip_prefix("tag[") {
        Some(rest) => Some(rest.split_once("]:").ok_or(Wrong::form("tag[ has no ]:"))?),
        None => text.strip_prefix("tag_").and_then(|rest| rest.split_once("_:")),
    };
    let Some((tag, rest)) = tagged else { return Ok(None) };
    if !(1..=TAG_MAX).contains(&tag.len()) {
        return Err(Wrong::form("its tag has not 1 to 8 characters"));
    }
    listen.tag = Some(tag.to_owned());
    Ok(Some(rest))
}

fn host_and_port(text: &str, default: u16) -> Result<(&str, u16), Wrong> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(Wrong::form("[ has no ]"))?;
        match after.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if after.is_empty() => (host, None),
            None => return Err(Wrong::form("after ] comes neither the end nor a port")),
        }
    } else {
        match text.split_once(':') {
            // More than one colon without brackets: a bare IPv6 address.
            Some((_, port)) if port.contains(':') => (text, None),
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err(Wrong::form("it names no host"));
    }
    let port = match port {
        Some(port) => {
            port.parse().map_err(|_| Wrong::form("its port is not a number from 0 to 65535"))?
        }
        None => default,
    };
    Ok((host, port))
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Wrong> {
    if host == "*" {
        let any = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
        return Ok(any.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let unknown = |why: &str| Wrong {
        why: format!("it cannot be resolved: {why}"),
        status: status::OS_ERROR,
    };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in (host, port).to_socket_addrs().map_err(|error| unknown(&error.to_string()))? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(unknown("it has no address")) } else { Ok(addresses) }
}
