//! The ports that mail clients and servers connect to, the same in a frontend's pod and in a standalone node.

use std::sync::Arc;

use mailcluster_frontend::{FrontendContext, imap, managesieve, pop3, smtp};
use mailcluster_net::{
    limits::ConnectionLimits, listen::ClientPort, proxy::TrustedProxies, tls::TlsAcceptor,
};
use mailcluster_types::{BoxStream, ClientInfo};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::listen_spec::Proto;

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
            Proto::Imap => self.run(
                "imap",
                b"* BYE [UNAVAILABLE] too many connections\r\n",
                proto,
                listener,
                imap::serve,
            ),
            Proto::Imaps => self.run("imaps", b"", proto, listener, imap::serve),
            Proto::Pop3 => {
                self.run("pop3", b"-ERR [SYS/TEMP] too many connections\r\n", proto, listener, pop3::serve)
            }
            Proto::Pop3s => self.run("pop3s", b"", proto, listener, pop3::serve),
            Proto::Sieve => self.run(
                "sieve",
                b"BYE (TRYLATER) \"too many connections\"\r\n",
                proto,
                listener,
                managesieve::serve,
            ),
            // Not client ports of a frontend: the roles serve them themselves.
            Proto::Lmtp | Proto::Http => {}
        }
    }

    fn smtp(&self, name: &'static str, service: smtp::Service, proto: Proto, listener: TcpListener) {
        let over = b"421 4.3.2 too many connections\r\n";
        self.run(name, over, proto, listener, move |stream, client, context| {
            smtp::serve(stream, client, service, context)
        });
    }

    fn run<S, F>(
        &self,
        name: &'static str,
        over_limit: &'static [u8],
        proto: Proto,
        listener: TcpListener,
        serve: S,
    ) where
        S: Fn(BoxStream, ClientInfo, FrontendContext) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let port = ClientPort {
            name,
            limits: self.limits.clone(),
            trusted: self.trusted.clone(),
            tls: proto.implicit_tls().then(|| self.tls.clone()),
            over_limit,
        };
        let context = self.context.clone();
        let handler = move |stream, client| serve(stream, client, context.clone());
        tokio::spawn(port.run(listener, self.shutdown.clone(), self.tasks.clone(), handler));
    }
}
