//! The gate between what arrives and everything that understands it.
//!
//! There is one gate a session, and it stands in front of every protocol and every listener. It is
//! shut from the beginning when the settings demand a login, whatever else is missing: without a
//! list of users nobody comes in. While it is shut, a text client's bytes are seen by the login
//! rule alone, and of a binary client's frames only those that log in are looked into.

use super::{CloseReason, Next, Step};
use crate::command::execute::Context;
use crate::credentials::{
    FirstCommand, HealthChecks, MECHANISMS, Reply, Sasl, SaslAnswer, first_command,
};
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
        Gate { demands, open: demands.is_none(), sasl: Sasl::default() }
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

    #[cfg(test)]
    pub(super) fn open_for_tests(&mut self) {
        self.open = true;
    }

    /// Hears a text client that is outside; opens when it has logged in.
    pub(super) fn knock(&mut self, context: &Context<'_>, input: &[u8], out: &mut Vec<u8>) -> Step {
        let shut_for_good = Step::Done(input.len(), Some(Next::Close(CloseReason::Error)));
        let Some(credentials) = &context.server.credentials else { return shut_for_good };
        let health_checks = if context.server.settings.auth_allow_health_checks {
            HealthChecks::Allowed
        } else {
            HealthChecks::Refused
        };
        match first_command(input, &credentials.users(), health_checks) {
            FirstCommand::Incomplete { at_least } => Step::Wait { at_least },
            FirstCommand::Close => shut_for_good,
            FirstCommand::Answered { consumed, reply } => {
                reply.write(out);
                match reply {
                    Reply::Stored => self.admit(context),
                    Reply::Failure => self.refuse(context),
                    Reply::Unauthenticated
                    | Reply::TokenTooLong
                    | Reply::BadToken
                    | Reply::BadTermination
                    | Reply::Version
                    | Reply::Nop => {}
                }
                Step::Done(consumed, None)
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
    }

    fn refuse(&mut self, context: &Context<'_>) {
        context.counters.auth_cmds.bump();
        context.counters.auth_errors.bump();
        self.open = false;
        tracing::info!(client = context.connection.addr, "login refused");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::command::{ConnState, Received, Session, Transport};
    use crate::credentials::{Credentials, Format};
    use crate::settings::BindingProtocol::{Ascii, Auto, Binary};

    const LOGIN: &[u8] = b"set any 0 0 11\r\nanna secret\r\n";
    const REFUSED: &str = "CLIENT_ERROR unauthenticated\r\n";

    fn text_login() -> Settings {
        Settings {
            auth_file: Some("/etc/users".into()),
            enable_shutdown: true,
            test_clock: true,
            ..Settings::default()
        }
    }

    fn server(settings: Settings) -> Arc<Server> {
        let mut server = Server::new(settings);
        server.credentials = Some(Credentials::new(Format::AuthFile, b"anna:secret\n").unwrap());
        Arc::new(server)
    }

    /// A client's end of a session.
    struct Client {
        session: Session,
        server: Arc<Server>,
        waiting: Vec<u8>,
    }

    impl Client {
        fn of(server: &Arc<Server>, listener: BindingProtocol) -> Client {
            let (addr, now) = ("tcp:192.0.2.1:1".to_owned(), server.clock.now().seconds());
            let connection = Connection::new(7, addr, None, Transport::Tcp, ConnState::NewCmd, now);
            let counters = server.totals.register();
            let session = Session::new(Arc::clone(server), counters, Arc::new(connection));
            let session = session.speaking(listener);
            Client { session, server: Arc::clone(server), waiting: Vec::new() }
        }

        /// What is answered to `bytes`, and what the session wants next.
        fn say(&mut self, bytes: &[u8]) -> (String, Next) {
            self.waiting.extend_from_slice(bytes);
            let (mut out, now) = (Vec::new(), self.server.clock.now());
            loop {
                let Received { consumed, next } =
                    self.session.receive(&self.waiting, now, &mut out);
                self.waiting.drain(..consumed);
                if next != Next::Yield {
                    return (String::from_utf8(out).unwrap(), next);
                }
            }
        }
    }

    /// One request of every kind, in every protocol.
    fn requests() -> Vec<Vec<u8>> {
        let lines = "get key|gets key|gat 0 key|gats 0 key|delete key|incr number 1|decr number 1\
            |touch key 1|flush_all|flush_all 0 noreply|version|verbosity 1|stats|stats settings\
            |stats reset|stats conns|stats items|stats cachedump 1 0|shutdown|shutdown graceful\
            |cache_memlimit 100|refresh_certs|slabs reassign 1 2|lru mode flat\
            |lru_crawler metadump all|lru_crawler mgdump all|watch|watch fetchers|debugtime +99\
            |mg key v|mg key s v t|md key|ma number|mn now|me key|quit now|extstore item_age 5\
            |set key 0 0|nonsense|GET / HTTP/1.1|set key 0 0 -1|set key 0 0 99999999";
        let blocks = ["add", "set", "replace", "append", "prepend", "cas", "setx", "ms"]
            .map(|verb| format!("{verb} key 0 0 3 1\r\nnew\r\n").into_bytes());
        let frames = (0..=u8::MAX).map(|opcode| {
            let mut frame = vec![0x80, opcode, 0, 3, 0, 0, 0, 0, 0, 0, 0, 3];
            frame.resize(24, 0);
            frame.extend_from_slice(b"key");
            frame
        });
        let lines = lines.split('|').map(|line| format!("{}\r\n", line.trim()).into_bytes());
        lines.chain(blocks).chain(frames).collect()
    }

    fn stored(server: &Arc<Server>) -> (u64, String) {
        let store = server.store.counters();
        let mut open = Client::of(server, Auto);
        open.session.let_in();
        (store.curr_items, open.say(b"get key number\r\n").0)
    }

    #[test]
    fn before_the_login_nothing_is_heard_in_any_protocol_on_any_listener() {
        let by_text = server(text_login());
        let by_sasl = server(Settings { sasl: true, ..text_login() });
        let only_sasl = server(Settings { auth_file: None, sasl: true, ..text_login() });
        let without_users = Arc::new(Server::new(text_login()));
        for server in [&by_text, &by_sasl, &only_sasl, &without_users] {
            let mut inside = Client::of(server, Auto);
            inside.session.let_in();
            inside.say(b"set key 0 0 3\r\nold\r\nset number 0 0 1\r\n5\r\n");
            let before = stored(server);
            assert_eq!(before.0, 2);
            for listener in [Auto, Ascii, Binary] {
                for request in requests() {
                    let mut client = Client::of(server, listener);
                    let (answer, next) = client.say(&[&request[..], b"get key\r\n"].concat());
                    let what = format!("{}: {answer:?}", request.escape_ascii());
                    assert!(!matches!(next, Next::Shutdown(_) | Next::Watch | Next::Resume));
                    let only_refusals = answer.lines().all(|line| {
                        line.starts_with("CLIENT_ERROR unauth")
                            || line.starts_with("CLIENT_ERROR auth")
                            || line == "CLIENT_ERROR bad authentication token format"
                    });
                    assert!(only_refusals, "{what}");
                    assert_eq!(stored(server), before, "{what}");
                }
            }
        }
    }

    #[test]
    fn a_login_opens_its_own_connection_in_text_and_stores_nothing() {
        for listener in [Auto, Ascii, Binary] {
            let server = server(text_login());
            let (mut client, mut other) =
                (Client::of(&server, listener), Client::of(&server, listener));
            let (answer, _) = client.say(&[LOGIN, b"get any\r\nmg any v\r\n"].concat());
            assert!(answer.starts_with("STORED\r\nEND\r\n"), "{answer}");
            assert_eq!(other.say(b"get any\r\n").0, REFUSED);
            assert_eq!(
                client.say(b"set any 0 0 1\r\nx\r\nget any\r\n").0,
                "STORED\r\nVALUE any 0 1\r\nx\r\nEND\r\n"
            );
        }
    }

    #[test]
    fn a_login_may_be_tried_again_and_every_try_is_counted() {
        let server = server(text_login());
        let mut client = Client::of(&server, Auto);
        for _ in 0..50 {
            let (answer, next) = client.say(b"set any 0 0 11\r\nanna wrong!\r\n");
            assert_eq!(answer, "CLIENT_ERROR authentication failure\r\n");
            assert_eq!(next, Next::Receive { at_least: 1 });
        }
        assert_eq!(client.say(LOGIN).0, "STORED\r\n");
        let counts = server.totals.counts();
        assert_eq!((counts.auth_cmds, counts.auth_errors, counts.cmd_set), (51, 50, 0));
    }

    #[test]
    fn a_login_that_comes_byte_by_byte_is_heard() {
        let server = server(text_login());
        let mut client = Client::of(&server, Auto);
        let heard: String = LOGIN.iter().map(|byte| client.say(&[*byte]).0).collect();
        assert_eq!(heard, "STORED\r\n");
    }

    #[test]
    fn new_users_are_for_new_logins_and_who_is_inside_stays() {
        let server = server(text_login());
        let mut inside = Client::of(&server, Auto);
        inside.say(LOGIN);
        server.credentials.as_ref().unwrap().replace(b"bert:secret\n").unwrap();
        assert_eq!(inside.say(b"get key\r\n").0, "END\r\n");
        let mut outside = Client::of(&server, Auto);
        assert_eq!(outside.say(LOGIN).0, "CLIENT_ERROR authentication failure\r\n");
        assert_eq!(outside.say(b"set any 0 0 11\r\nbert secret\r\n").0, "STORED\r\n");
    }

    #[test]
    fn health_checks_pass_only_when_the_operator_says_so() {
        let strict = server(text_login());
        assert_eq!(Client::of(&strict, Auto).say(b"version\r\n").0, REFUSED);
        let lenient = server(Settings { auth_allow_health_checks: true, ..text_login() });
        let mut client = Client::of(&lenient, Auto);
        let (answer, _) = client.say(b"version\r\nmn\r\nget key\r\n");
        assert!(answer.starts_with("VERSION 1.6"), "{answer}");
        assert!(answer.ends_with(&format!("\r\nMN\r\n{REFUSED}")), "{answer}");
    }

    #[test]
    fn who_floods_the_gate_yields_to_others() {
        let server = server(text_login());
        let mut client = Client::of(&server, Auto);
        client.say(&b"version\r\n".repeat(100));
        assert!(server.totals.counts().conn_yields >= 4);
    }
}
