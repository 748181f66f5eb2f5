//! Certificates for tests.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{net::SocketAddr, path::Path};

use mailcluster_net::mtls::{Identity, Peer, Role};
use mailcluster_types::{ClientInfo, ClusterId, SessionId};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};

pub const CLUSTER: ClusterId = ClusterId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

/// A certificate authority.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// PEM texts of a certificate and its key.
pub struct Pair {
    pub cert: String,
    pub key: String,
}

impl Ca {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these DNS names.
    pub fn issue(&self, names: &[&str], uri: Option<&str>) -> Pair {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if let Some(uri) = uri {
            params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        }
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.0).unwrap();
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// A pod's identity as the operator issues it.
    pub fn pod(&self, cluster: ClusterId, role: Role, store: Option<&str>) -> Pair {
        let peer = Peer { cluster, role, store: store.map(Into::into), replica: None };
        self.issue(&[&role.dns_name()], Some(&peer.to_string()))
    }

    pub fn identity(&self, role: Role, store: Option<&str>) -> Identity {
        let pair = self.pod(CLUSTER, role, store);
        Identity::from_pem(self.pem().as_bytes(), pair.cert.as_bytes(), pair.key.as_bytes()).unwrap()
    }
}

impl Pair {
    pub fn write(&self, dir: &Path, name: &str) {
        std::fs::write(dir.join(format!("{name}.crt")), &self.cert).unwrap();
        std::fs::write(dir.join(format!("{name}.key")), &self.key).unwrap();
    }
}

pub fn client() -> ClientInfo {
    ClientInfo {
        remote: SocketAddr::from(([203, 0, 113, 9], 40_000)),
        local: SocketAddr::from(([198, 51, 100, 1], 993)),
        tls: None,
        session: SessionId(77),
    }
}
