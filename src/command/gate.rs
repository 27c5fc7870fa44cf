//! The gate between what arrives and everything that understands it.
//!
//! There is one gate a session, and it stands in front of every protocol and every listener: while
//! it is shut, no decoder sees a byte. It is shut from the beginning when the settings demand a
//! login, whatever else is missing: without a list of users nobody comes in.

use super::session::{CloseReason, Heard, Next};
use super::{Connection, Server};
use crate::credentials::{FirstCommand, HealthChecks, Reply, first_command};
use crate::settings::{BindingProtocol, Settings};
use crate::stats::WorkerCounters;

/// Whether a session's client is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nobody has to log in, or this client has.
    Open,
    /// `-Y`: the client has not logged in by text.
    Text,
    /// `-S`: the client has not logged in by SASL.
    Sasl,
}

impl Gate {
    /// The gate as a new client finds it.
    pub(super) fn new(settings: &Settings) -> Gate {
        if settings.auth_file.is_some() {
            Gate::Text
        } else if settings.sasl {
            Gate::Sasl
        } else {
            Gate::Open
        }
    }

    /// The only protocol in which a client can log in, when it has to.
    pub(super) fn protocol(settings: &Settings) -> Option<BindingProtocol> {
        match Gate::new(settings) {
            Gate::Open => None,
            Gate::Text => Some(BindingProtocol::Ascii),
            Gate::Sasl => Some(BindingProtocol::Binary),
        }
    }

    /// Hears a client that is outside; opens when it has logged in.
    pub(super) fn knock(
        &mut self,
        server: &Server,
        counters: &WorkerCounters,
        connection: &Connection,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Heard {
        let Some(credentials) = server.credentials.as_ref().filter(|_| *self == Gate::Text) else {
            return shut_for_good(input);
        };
        let health_checks = if server.settings.auth_allow_health_checks {
            HealthChecks::Allowed
        } else {
            HealthChecks::Refused
        };
        match first_command(input, &credentials.users(), health_checks) {
            FirstCommand::Incomplete { at_least } => Heard::Wait { at_least },
            FirstCommand::Close => shut_for_good(input),
            FirstCommand::Answered { consumed, reply } => {
                reply.write(out);
                match reply {
                    Reply::Stored => {
                        counters.auth_cmds.bump();
                        *self = Gate::Open;
                    }
                    Reply::Failure => {
                        counters.auth_cmds.bump();
                        counters.auth_errors.bump();
                        tracing::info!(client = connection.addr, "login refused");
                    }
                    Reply::Unauthenticated
                    | Reply::TokenTooLong
                    | Reply::BadToken
                    | Reply::BadTermination
                    | Reply::Version
                    | Reply::Nop => {}
                }
                Heard::Done(consumed, None)
            }
        }
    }
}

fn shut_for_good(input: &[u8]) -> Heard {
    Heard::Done(input.len(), Some(Next::Close(CloseReason::Error)))
}
