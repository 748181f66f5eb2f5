//! The ports that mail clients and servers connect to, the same in a frontend's pod and in a standalone node.

use std::sync::Arc;

use mailcluster_frontend::{FrontendContext, imap, managesieve, pop3, smtp};
use mailcluster_net::{
    limits::ConnectionLimits,
    listen::{ClientPort, Words},
    proxy::TrustedProxies,
    tls::TlsAcceptor,
};
use mailcluster_types::{BoxStream, ClientInfo};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::listen_spec::Proto;

const SMTP: Words = Words {
    over_limit: b"421 4.3.2 too many connections\r\n",
    banned: b"421 4.7.0 refused for what came from your address; try again later\r\n",
    blocked: b"554 5.7.1 your address is refused here\r\n",
};
const IMAP: Words = Words {
    over_limit: b"* BYE [UNAVAILABLE] too many connections\r\n",
    banned: b"* BYE [UNAVAILABLE] refused for what came from your address; try again later\r\n",
    blocked: b"* BYE your address is refused here\r\n",
};
const POP3: Words = Words {
    over_limit: b"-ERR [SYS/TEMP] too many connections\r\n",
    banned: b"-ERR [SYS/TEMP] refused for what came from your address; try again later\r\n",
    blocked: b"-ERR [SYS/PERM] your address is refused here\r\n",
};
const SIEVE: Words = Words {
    over_limit: b"BYE (TRYLATER) \"too many connections\"\r\n",
    banned: b"BYE (TRYLATER) \"refused for what came from your address; try again later\"\r\n",
    blocked: b"BYE \"your address is refused here\"\r\n",
};

/// What all client ports share.
#[derive(Clone)]
pub struct ClientPorts {
    /// Given to every session.
    pub context: FrontendContext,
    /// For implicit TLS.
    pub tls: TlsAcceptor,
    /// Connections in all and by address.
    pub limits: ConnectionLimits,
    /// Who must send a PROXY header.
    pub trusted: Arc<TrustedProxies>,
    /// Stops accepting.
    pub shutdown: CancellationToken,
    /// Every session.
    pub tasks: TaskTracker,
}

impl ClientPorts {
    /// Serves a protocol of frontends on this listener.
    pub fn serve(&self, proto: Proto, listener: TcpListener) {
        match proto {
            Proto::Smtp => self.smtp("smtp", smtp::Service::Mx, proto, listener),
            Proto::Submission => self.smtp("submission", smtp::Service::Submission, proto, listener),
            Proto::Submissions => self.smtp("submissions", smtp::Service::Submission, proto, listener),
            Proto::Imap => self.run("imap", IMAP, proto, listener, imap::serve),
            Proto::Imaps => self.run("imaps", Words::default(), proto, listener, imap::serve),
            Proto::Pop3 => self.run("pop3", POP3, proto, listener, pop3::serve),
            Proto::Pop3s => self.run("pop3s", Words::default(), proto, listener, pop3::serve),
            Proto::Sieve => self.run("sieve", SIEVE, proto, listener, managesieve::serve),
            // Not client ports of a frontend: the roles serve them themselves.
            Proto::Lmtp | Proto::Http => {}
        }
    }

    fn smtp(&self, name: &'static str, service: smtp::Service, proto: Proto, listener: TcpListener) {
        self.run(name, SMTP, proto, listener, move |stream, client, context| {
            smtp::serve(stream, client, service, context)
        });
    }

    fn run<S, F>(&self, name: &'static str, words: Words, proto: Proto, listener: TcpListener, serve: S)
    where
        S: Fn(BoxStream, ClientInfo, FrontendContext) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let port = ClientPort {
            name,
            limits: self.limits.clone(),
            trusted: self.trusted.clone(),
            tls: proto.implicit_tls().then(|| self.tls.clone()),
            screen: self.context.screen.clone(),
            words,
        };
        let context = self.context.clone();
        let handler = move |stream, client| serve(stream, client, context.clone());
        tokio::spawn(port.run(listener, self.shutdown.clone(), self.tasks.clone(), handler));
    }
}
