//! Which certificates are taken where it is not one of the host's by a known authority: any, or those that TLSA records are about
//! (DANE; RFC 7671, RFC 7672). That the server has the certificate's key is looked at in both cases.

use std::sync::Arc;

use mailcluster_outbound::tls::dane::{self, Certificate, Hashed, Match, Tlsa};
use ring::digest::{SHA256, SHA512, digest};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

/// Certificates beyond so many are not looked at.
const MAX_CHAIN: usize = 10;

#[derive(Debug)]
pub(crate) struct Verifier {
    provider: Arc<CryptoProvider>,
    takes: Takes,
}

#[derive(Debug)]
enum Takes {
    /// Opportunistic TLS (RFC 7435): whoever could show a false certificate could as well have left out STARTTLS.
    Any,
    /// What one of the records is about.
    Anchored {
        records: Vec<Tlsa>,
        /// What a certificate below an authority may be called.
        names: Vec<ServerName<'static>>,
    },
}

impl Verifier {
    pub(crate) fn any(provider: Arc<CryptoProvider>) -> Self {
        Self { provider, takes: Takes::Any }
    }

    pub(crate) fn anchored(
        provider: Arc<CryptoProvider>,
        records: &[Tlsa],
        names: &[String],
    ) -> Result<Self, Error> {
        let names = names.iter().map(|name| ServerName::try_from(name.clone()));
        let names = names.collect::<Result<_, _>>().map_err(|e| Error::General(e.to_string()))?;
        Ok(Self { provider, takes: Takes::Anchored { records: records.to_vec(), names } })
    }

    /// The chain up to this authority must hold, and its names and dates.
    fn below(
        &self,
        (authority, names): (&CertificateDer<'_>, &[ServerName<'_>]),
        (own, between): (&CertificateDer<'_>, &[CertificateDer<'_>]),
        now: UnixTime,
    ) -> Result<(), Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let mut outcome = Err(CertificateError::NotValidForName.into());
        for name in names {
            outcome = verifier.verify_server_cert(own, between, name, &[], now).map(drop);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

fn hashed(der: &[u8]) -> Hashed<'_> {
    let (mut sha256, mut sha512) = ([0; 32], [0; 64]);
    sha256.copy_from_slice(digest(&SHA256, der).as_ref());
    sha512.copy_from_slice(digest(&SHA512, der).as_ref());
    Hashed { der, sha256, sha512 }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Takes::Anchored { records, names } = &self.takes else {
            return Ok(ServerCertVerified::assertion());
        };
        let chain: Vec<&CertificateDer<'_>> = std::iter::once(own).chain(others).take(MAX_CHAIN).collect();
        let keys = chain
            .iter()
            .map(|der| Ok(ParsedCertificate::try_from(*der)?.subject_public_key_info()))
            .collect::<Result<Vec<_>, Error>>()?;
        let certificates: Vec<Certificate<'_>> = chain
            .iter()
            .zip(&keys)
            .map(|(der, key)| Certificate { whole: hashed(der), key: hashed(key) })
            .collect();
        match dane::find(records, &certificates) {
            Match::EndEntity => {}
            Match::TrustAnchor(place) => {
                let authority = chain.get(place).ok_or(CertificateError::UnknownIssuer)?;
                let between = others.get(..place.saturating_sub(1)).unwrap_or_default();
                self.below((authority, names), (own, between), now)?;
            }
            Match::None => return Err(CertificateError::ApplicationVerificationFailure.into()),
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
