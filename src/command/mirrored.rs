//! What is refused because there are peers: versions that a client makes up, and, where the
//! operator wants that, writes of which nobody could take a copy.

use super::{Peers, Server};
use crate::protocol::meta::{Meta, MetaArithmetic, MetaFault, MetaSet};
use crate::protocol::request::Request;
use crate::protocol::response::Reject;

/// Why `request` is not executed, if it is not.
pub(super) fn refuse(server: &Server, request: &Request<'_>) -> Option<Reject> {
    let peers = server.peers.as_deref()?;
    if meta(request).is_some_and(|meta| meta.options.new_version.is_some()) {
        // A version made up here could be later than all that other nodes will ever give.
        return Some(Reject::Meta(MetaFault::VersionGiven));
    }
    (peers.refuse_writes() && changes(request)).then(|| unacknowledged(peers))
}

fn unacknowledged(peers: &Peers) -> Reject {
    peers.count_refused(1);
    Reject::NotReplicated
}

fn meta<'r, 'a>(request: &'r Request<'a>) -> Option<&'r Meta<'a>> {
    match request {
        Request::MetaGet(meta)
        | Request::MetaDelete(meta)
        | Request::MetaSet(MetaSet { meta, .. })
        | Request::MetaArithmetic(MetaArithmetic { meta, .. }) => Some(meta),
        _ => None,
    }
}

/// Whether a request may change an item.
fn changes(request: &Request<'_>) -> bool {
    match request {
        Request::Store(_)
        | Request::Delete { .. }
        | Request::Touch { .. }
        | Request::Arithmetic(_)
        | Request::FlushAll { .. }
        | Request::MetaSet(_)
        | Request::MetaDelete(_)
        | Request::MetaArithmetic(_) => true,
        Request::Retrieve(wanted) => wanted.touch.is_some(),
        Request::RetrieveFrame(wanted) => wanted.touch.is_some(),
        Request::MetaGet(meta) => meta.options.exptime.is_some() || meta.options.vivify.is_some(),
        Request::Noop
        | Request::Sasl(_)
        | Request::Version
        | Request::Quit
        | Request::Stats(_)
        | Request::Admin(_)
        | Request::MetaNoop
        | Request::MetaDebug(_) => false,
    }
}
