//! Certificates, for the workers of one job and for a coordinator. Each job has an authority of its own, which signs nothing
//! but certificates of its workers' names: whoever trusts it trusts the members of this job and nobody else. A coordinator
//! signs its own: whoever trusts that certificate trusts who has its key, and nobody else.
//!
//! The certificates name no end (RFC 5280, 4.1.2.5): a job may train for longer than any time that one could choose, on
//! machines whose clocks are wrong, and it ends with its job, whose coordinator alone has the authority's key. A
//! coordinator's ends with its key: who makes another gives out another certificate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

/// Characters of base64 on a line.
const PEM_LINE: usize = 64;

/// Certificates can't be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A key that is no key in PKCS#8, a name that no certificate can hold, or a system without randomness.
    #[error("certificates of {subject}")]
    Make {
        /// Whose.
        subject: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
}

/// Signs for one job.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Vec<u8>,
}

/// What a worker shows to its peers, or a coordinator to those who dial it.
pub struct Issued {
    /// In DER.
    pub certificate: Vec<u8>,
    /// In PKCS#8, DER.
    pub key: Vec<u8>,
}

impl Issued {
    /// The certificate in PEM (RFC 7468).
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// The key in PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

/// A certificate of this name for a server, signed by its own key: ECDSA on P-256.
///
/// # Errors
/// [`CertificateError`].
pub fn self_signed(name: &str) -> Result<Issued, CertificateError> {
    let failed = |source| error(name, source);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = params(name);
    params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into().map_err(failed)?)];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Issued { certificate: certificate.der().to_vec(), key: key.serialize_der() })
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem + &format!("-----END {label}-----\n")
}

impl Authority {
    /// A new one, with a key of its own.
    ///
    /// # Errors
    /// [`CertificateError`], when the system gives no randomness.
    pub fn new(job: &str) -> Result<Self, CertificateError> {
        Self::with(job, KeyPair::generate().map_err(|source| error(job, source))?)
    }

    /// The one that has this key, as [`Authority::key`] gave it.
    ///
    /// # Errors
    /// [`CertificateError`], when this is no such key.
    pub fn from_key(job: &str, key: &[u8]) -> Result<Self, CertificateError> {
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key.into(), &PKCS_ECDSA_P256_SHA256);
        Self::with(job, key.map_err(|source| error(job, source))?)
    }

    fn with(job: &str, key: KeyPair) -> Result<Self, CertificateError> {
        let mut params = params(&format!("trainctl job {job}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).map_err(|source| error(job, source))?;
        Ok(Self { certificate: certificate.der().to_vec(), issuer: Issuer::new(params, key) })
    }

    /// What must be kept to have it again, in PKCS#8, DER.
    #[must_use]
    pub fn key(&self) -> Vec<u8> {
        self.issuer.key().serialize_der()
    }

    /// Whom the workers trust, in DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// A certificate for the worker of this name, with a key that exists nowhere else.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn issue(&self, worker: &str) -> Result<Issued, CertificateError> {
        let failed = |source| error(worker, source);
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(worker);
        params.subject_alt_names = vec![rcgen::SanType::DnsName(worker.try_into().map_err(failed)?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Issued { certificate: certificate.der().to_vec(), key: key.serialize_der() })
    }
}

fn params(subject: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject);
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    params
}

fn error(subject: &str, source: rcgen::Error) -> CertificateError {
    CertificateError::Make { subject: subject.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_comes_back_from_its_key() {
        let first = Authority::new("digits").unwrap();
        let again = Authority::from_key("digits", &first.key()).unwrap();
        assert_eq!(again.key(), first.key());
        assert!(Authority::from_key("digits", b"nonsense").is_err());
    }

    #[test]
    fn pem_holds_what_it_is_made_from() {
        let issued = self_signed("coordinator").unwrap();
        for (pem, label, der) in [
            (issued.certificate_pem(), "CERTIFICATE", &issued.certificate),
            (issued.key_pem(), "PRIVATE KEY", &issued.key),
        ] {
            let body = pem.strip_prefix(&format!("-----BEGIN {label}-----\n")).unwrap();
            let body = body.strip_suffix(&format!("\n-----END {label}-----\n")).unwrap();
            assert!(body.lines().all(|line| line.len() <= PEM_LINE));
            assert_eq!(STANDARD.decode(body.replace('\n', "")).unwrap(), *der);
        }
        assert!(self_signed("wörker").is_err());
    }

    #[test]
    fn names_that_no_certificate_can_hold_are_refused() {
        let authority = Authority::new("digits").unwrap();
        assert!(authority.issue("w1").is_ok());
        assert!(authority.issue("wörker").is_err());
    }
}
