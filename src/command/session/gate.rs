//! The gate between what arrives and everything that understands it.
//!
//! There is one gate a session, and it stands in front of every protocol and every listener. It is
//! shut from the beginning when the settings demand a login, whatever else is missing: without a
//! list of users nobody comes in. While it is shut, a text client's bytes are seen by the login
//! rule alone, and of a binary client's frames only those that log in are looked into.

use super::{CloseReason, Next, Progress};
use crate::command::execute::Context;
use crate::command::refusals::Refusal;
use crate::credentials::{
    FirstCommand, HealthChecks, MECHANISMS, Reply, Sasl, SaslAnswer, first_command,
};
use crate::limits::LOGIN_FAILURES_MAX;
use crate::protocol::request;
use crate::protocol::response::SaslReply;
use crate::settings::{BindingProtocol, Settings};

/// How a client has to log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Login {
    /// `-Y`, by text.
    Text,
    /// `-S`, by SASL.
    Sasl,
}

/// Whether a session's client is heard.
#[derive(Debug)]
pub(super) struct Gate {
    demands: Option<Login>,
    open: bool,
    /// Logins that failed since the last that did not.
    failures: u8,
    sasl: Sasl,
}

impl Gate {
    /// The gate as a new client finds it.
    pub(super) fn new(settings: &Settings) -> Gate {
        let demands = if settings.auth_file.is_some() {
            Some(Login::Text)
        } else {
            settings.sasl.then_some(Login::Sasl)
        };
        Gate { demands, open: demands.is_none(), failures: 0, sasl: Sasl::default() }
    }

    /// A gate that stands open.
    pub(super) fn opened() -> Gate {
        Gate { demands: None, open: true, failures: 0, sasl: Sasl::default() }
    }

    /// The only protocol in which a client can log in, when it has to.
    pub(super) fn protocol(&self) -> Option<BindingProtocol> {
        self.demands.map(|login| match login {
            Login::Text => BindingProtocol::Ascii,
            Login::Sasl => BindingProtocol::Binary,
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// How the client has to log in before anything else is heard.
    pub(super) fn login(&self) -> Option<Login> {
        self.demands.filter(|_| !self.open)
    }

    /// Ends the conversation of a client that has guessed too often.
    pub(super) fn gives_up(&self) -> Option<Next> {
        (self.failures >= LOGIN_FAILURES_MAX).then_some(Next::Close(CloseReason::Error))
    }

    #[cfg(test)]
    pub(super) fn open_for_tests(&mut self) {
        self.open = true;
    }

    /// Hears a text client that is outside; opens when it has logged in.
    pub(super) fn knock(
        &mut self,
        context: &Context<'_>,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Progress {
        let shut_for_good = Progress::Done(input.len(), Some(Next::Close(CloseReason::Error)));
        let Some(credentials) = &context.server.credentials else { return shut_for_good };
        let health_checks = if context.server.settings.auth_allow_health_checks {
            HealthChecks::Allowed
        } else {
            HealthChecks::Refused
        };
        match first_command(input, &credentials.users(), health_checks) {
            FirstCommand::Incomplete { at_least } => Progress::Wait { at_least },
            FirstCommand::Close => shut_for_good,
            FirstCommand::Answered { consumed, reply } => {
                reply.write(out);
                match reply {
                    Reply::Stored => self.admit(context),
                    Reply::Failure => self.refuse(context),
                    Reply::Unauthenticated
                    | Reply::TokenTooLong
                    | Reply::BadToken
                    | Reply::BadTermination => {
                        let Context { server, connection, now, .. } = *context;
                        server.refusals.tell(connection, Refusal::NOT_LOGGED_IN, None, now);
                    }
                    Reply::Version | Reply::Nop => {}
                }
                Progress::Done(consumed, self.gives_up())
            }
        }
    }

    /// Takes a step of SASL; opens when it was the last one. Beginning anew shuts the gate.
    pub(super) fn sasl(&mut self, context: &Context<'_>, step: &request::Sasl<'_>) -> SaslReply {
        if *step == request::Sasl::List {
            return SaslReply::Mechanisms(MECHANISMS);
        }
        self.open = false;
        let Some(credentials) = &context.server.credentials else {
            return self.refuse_by_frame(context);
        };
        let users = credentials.users();
        let answer = match *step {
            request::Sasl::Start { mechanism, data } => self.sasl.start(&users, mechanism, data),
            request::Sasl::Step { data, .. } => self.sasl.step(&users, data),
            request::Sasl::List | request::Sasl::TooLong => return SaslReply::TooLong,
        };
        match answer {
            SaslAnswer::Continue(challenge) => SaslReply::Challenge(challenge),
            SaslAnswer::Ok(_user) => {
                self.admit(context);
                SaslReply::Authenticated
            }
            SaslAnswer::Fail => self.refuse_by_frame(context),
        }
    }

    fn refuse_by_frame(&mut self, context: &Context<'_>) -> SaslReply {
        self.refuse(context);
        SaslReply::Failure
    }

    fn admit(&mut self, context: &Context<'_>) {
        context.counters.auth_cmds.bump();
        self.open = true;
        self.failures = 0;
    }

    fn refuse(&mut self, context: &Context<'_>) {
        context.counters.auth_cmds.bump();
        context.counters.auth_errors.bump();
        self.open = false;
        self.failures = self.failures.saturating_add(1);
        let Context { server, connection, now, .. } = *context;
        server.refusals.tell(connection, Refusal::Login, None, now);
    }
}

#[cfg(test)]
mod tests;
