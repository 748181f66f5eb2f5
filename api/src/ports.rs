//! The ports of pods (design section 10a) and of the Service in front of the frontends.

/// Frontend: SMTP from other mail servers.
pub const FRONTEND_SMTP: u16 = 10025;
/// Frontend: submission over TLS.
pub const FRONTEND_SUBMISSIONS: u16 = 10465;
/// Frontend: submission with STARTTLS.
pub const FRONTEND_SUBMISSION: u16 = 10587;
/// Frontend: IMAP with STARTTLS.
pub const FRONTEND_IMAP: u16 = 10143;
/// Frontend: IMAP over TLS.
pub const FRONTEND_IMAPS: u16 = 10993;
/// Frontend: POP3 with STLS.
pub const FRONTEND_POP3: u16 = 10110;
/// Frontend: POP3 over TLS.
pub const FRONTEND_POP3S: u16 = 10995;
/// Frontend: ManageSieve with STARTTLS.
pub const FRONTEND_SIEVE: u16 = 14190;
/// Frontend: gRPC (control: what it can reach) over mutual TLS.
pub const FRONTEND_GRPC: u16 = 11443;
/// Backend: LMTP inside mutual TLS.
pub const BACKEND_LMTP: u16 = 11024;
/// Backend: IMAP inside mutual TLS.
pub const BACKEND_IMAP: u16 = 11143;
/// Backend: POP3 inside mutual TLS.
pub const BACKEND_POP3: u16 = 11110;
/// Backend: ManageSieve inside mutual TLS.
pub const BACKEND_SIEVE: u16 = 11190;
/// Backend: gRPC (control, hand-off) over mutual TLS.
pub const BACKEND_GRPC: u16 = 11443;
/// Directory: gRPC (look-up, watch, control) over mutual TLS.
pub const DIRECTORY_GRPC: u16 = 11443;
/// Directory: gRPC for administrators, with a Kubernetes token over TLS.
pub const DIRECTORY_ADMIN: u16 = 11444;
/// Every pod: /healthz, /readyz and /metrics over HTTP.
pub const HEALTH: u16 = 9090;

/// A port that clients use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientPort {
    /// The port's name in the Service and in the pod.
    pub name: &'static str,
    /// Its number at the Service.
    pub service: u16,
    /// Its number in the frontend's pod.
    pub pod: u16,
}

/// All ports that clients use.
pub const CLIENT_PORTS: [ClientPort; 8] = [
    ClientPort { name: "smtp", service: 25, pod: FRONTEND_SMTP },
    ClientPort { name: "submissions", service: 465, pod: FRONTEND_SUBMISSIONS },
    ClientPort { name: "submission", service: 587, pod: FRONTEND_SUBMISSION },
    ClientPort { name: "imap", service: 143, pod: FRONTEND_IMAP },
    ClientPort { name: "imaps", service: 993, pod: FRONTEND_IMAPS },
    ClientPort { name: "pop3", service: 110, pod: FRONTEND_POP3 },
    ClientPort { name: "pop3s", service: 995, pod: FRONTEND_POP3S },
    ClientPort { name: "sieve", service: 4190, pod: FRONTEND_SIEVE },
];
