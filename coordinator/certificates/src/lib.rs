//! Certificates for the workers of one job. Each job has an authority of its own, which signs nothing but certificates
//! of its workers' names: whoever trusts it trusts the members of this job and nobody else.
//!
//! The certificates name no end (RFC 5280, 4.1.2.5): a job may train for longer than any time that one could choose, on
//! machines whose clocks are wrong, and it ends with its job, whose coordinator alone has the authority's key.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};

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

/// What a worker shows to its peers.
pub struct Issued {
    /// In DER.
    pub certificate: Vec<u8>,
    /// In PKCS#8, DER.
    pub key: Vec<u8>,
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
    fn names_that_no_certificate_can_hold_are_refused() {
        let authority = Authority::new("digits").unwrap();
        assert!(authority.issue("w1").is_ok());
        assert!(authority.issue("wörker").is_err());
    }
}
