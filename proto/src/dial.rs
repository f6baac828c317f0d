//! How a coordinator is dialled: in the clear, or over TLS. There its own certificate is trusted and nothing else, whatever
//! its address is. Who has the certificate never dials in the clear: so a token is not shown to whoever listens on the way.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use std::error::Error;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Uri};

/// The name in every coordinator's certificate. A coordinator is known by its key, not by where it listens.
pub const SERVER_NAME: &str = "coordinator.trainctl";

/// Begins the certificate in a file of PEM.
pub const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
/// Ends it.
pub const PEM_END: &str = "-----END CERTIFICATE-----";

/// What a token file holds: the token, and behind it the certificate in PEM, if calls are encrypted.
#[must_use]
pub fn token_and_certificate(text: &str) -> (&str, Option<&str>) {
    let (token, certificate) = match text.find(PEM_BEGIN) {
        Some(at) => (&text[..at], Some(&text[at..])),
        None => (text, None),
    };
    (token.trim(), certificate)
}

/// What an HTTP/2 client says first (RFC 9113, 3.4), with its settings, which may be none.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// How TLS answers that: a record of an alert (RFC 8446, 5.1).
const ALERT: [u8; 2] = [21, 3];
const FIRST_BYTES_WITHIN: Duration = Duration::from_secs(3);

/// A coordinator's certificate. No secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate(CertificateDer<'static>);

/// Text that is no certificate.
#[derive(Debug, thiserror::Error)]
#[error("expected a certificate in PEM, found {found}")]
pub struct NoCertificate {
    /// What it is.
    pub found: &'static str,
}

impl Certificate {
    /// From PEM, with anything before and behind it, or from [`Self::line`].
    ///
    /// # Errors
    /// [`NoCertificate`].
    pub fn parse(text: &str) -> Result<Self, NoCertificate> {
        let base64 = match text.split_once(PEM_BEGIN) {
            Some((_, rest)) => rest.split_once(PEM_END).ok_or(NoCertificate { found: "one without its end" })?.0,
            None => text,
        };
        let base64: String = base64.split_whitespace().collect();
        if base64.is_empty() {
            return Err(NoCertificate { found: "nothing" });
        }
        let der = STANDARD.decode(base64).map_err(|_| NoCertificate { found: "text that is none" })?;
        let der = CertificateDer::from(der);
        let sound = RootCertStore::empty().add(der.clone());
        sound.map_err(|_| NoCertificate { found: "bytes that are none" })?;
        Ok(Self(der))
    }

    /// On one line, without PEM's first and last: for an environment variable.
    #[must_use]
    pub fn line(&self) -> String {
        STANDARD.encode(&self.0)
    }
}

/// A URL that can't be dialled with the certificate that is there, or without one.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// No URL, or of another scheme.
    #[error("expected http://HOST:PORT or https://HOST:PORT, found {found:?}")]
    Url {
        /// What it is.
        found: String,
    },
    /// It says TLS.
    #[error("expected the certificate of the coordinator at {url}, found none")]
    CertificateMissing {
        /// Of the coordinator.
        url: String,
    },
    /// It says no TLS, and there is a certificate.
    #[error("expected https://, as the coordinator has a certificate, found {url}")]
    Plain {
        /// Of the coordinator.
        url: String,
    },
}

/// A coordinator does not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody answers there.
    #[error("connect to {url}")]
    Unreachable {
        /// Of the coordinator.
        url: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
    /// Another coordinator, another identity of it, or somebody between.
    #[error("coordinator at {url}: expected the one whose certificate was given, found another")]
    OtherCertificate {
        /// Of the coordinator.
        url: String,
    },
    /// It answers in the clear.
    #[error("coordinator at {url}: expected TLS, found plain HTTP/2")]
    AnswersPlain {
        /// Of the coordinator.
        url: String,
    },
    /// It answers over TLS only.
    #[error("coordinator at {url}: expected plain HTTP/2, found TLS")]
    AnswersTls {
        /// Of the coordinator.
        url: String,
    },
}

impl DialError {
    /// What can be done, where it answers.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } => None,
            Self::OtherCertificate { .. } => Some(
                "its certificate is behind the token in the file `token` of its home: if it was made anew, fetch it \
                 again; if not, somebody answers in its place",
            ),
            Self::AnswersPlain { .. } => {
                Some("check the port; a coordinator with --tls never is dialled as http://, without a certificate")
            }
            Self::AnswersTls { .. } => Some(
                "dial it as https:// with its certificate, which is behind the token in the file `token` of its home",
            ),
        }
    }
}

/// Where a coordinator is, and how it is known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    url: String,
    certificate: Option<Certificate>,
}

impl Address {
    /// `text` without a scheme: over TLS if there is a certificate.
    ///
    /// # Errors
    /// [`AddressError`].
    pub fn new(text: &str, certificate: Option<Certificate>) -> Result<Self, AddressError> {
        let url = match (text.contains("://"), &certificate) {
            (true, _) => text.to_owned(),
            (false, Some(_)) => format!("https://{text}"),
            (false, None) => format!("http://{text}"),
        };
        let tls = match url.split_once("://") {
            Some(("http", _)) => false,
            Some(("https", _)) => true,
            _ => return Err(AddressError::Url { found: url }),
        };
        if url.parse::<Uri>().ok().is_none_or(|uri| uri.host().is_none_or(str::is_empty)) {
            return Err(AddressError::Url { found: url });
        }
        match (tls, &certificate) {
            (true, None) => Err(AddressError::CertificateMissing { url }),
            (false, Some(_)) => Err(AddressError::Plain { url }),
            _ => Ok(Self { url, certificate }),
        }
    }

    /// `http://HOST:PORT` or `https://HOST:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Connects; who answers has proved to be this coordinator, if there is a certificate.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn connect(&self, tuned: impl FnOnce(Endpoint) -> Endpoint) -> Result<Channel, DialError> {
        let url = || self.url.clone();
        let unreachable = |source| DialError::Unreachable { url: url(), source };
        let mut endpoint = tuned(Endpoint::from_shared(self.url.clone()).map_err(unreachable)?);
        if let Some(Certificate(der)) = &self.certificate {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates([der.clone()]);
            let tls = ClientTlsConfig::new().trust_anchors(roots.roots).domain_name(SERVER_NAME);
            endpoint = endpoint.tls_config(tls).map_err(unreachable)?;
        }
        let channel = endpoint.connect().await.map_err(|source| match refusal(&source) {
            Some(rustls::Error::InvalidCertificate(_)) => DialError::OtherCertificate { url: url() },
            Some(rustls::Error::InvalidMessage(_)) => DialError::AnswersPlain { url: url() },
            _ => unreachable(source),
        })?;
        if self.certificate.is_none() && self.answers_tls().await {
            return Err(DialError::AnswersTls { url: url() });
        }
        Ok(channel)
    }

    /// Asked before a token is shown: HTTP/2 would send it with its first words.
    async fn answers_tls(&self) -> bool {
        let Some(authority) = self.url.parse::<Uri>().ok().and_then(|uri| uri.into_parts().authority) else {
            return false;
        };
        let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let first_bytes = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(PREFACE).await?;
            let mut first = [0; ALERT.len()];
            stream.read_exact(&mut first).await?;
            io::Result::Ok(first)
        };
        matches!(tokio::time::timeout(FIRST_BYTES_WITHIN, first_bytes).await, Ok(Ok(ALERT)))
    }
}

/// What TLS had against the other end.
fn refusal<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An IO error's source is that of the error in it.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(refusal) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(refusal);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> String {
        coordinator_certificates::self_signed(SERVER_NAME).expect("a certificate").certificate_pem()
    }

    fn certificate() -> Certificate {
        Certificate::parse(&pem()).expect("a certificate")
    }

    #[test]
    fn a_certificate_is_read_from_pem_and_from_a_line() {
        let pem = pem();
        let certificate = Certificate::parse(&pem).expect("from PEM");
        let line = certificate.line();
        assert!(!line.contains(char::is_whitespace));
        assert_eq!(Certificate::parse(&line).expect("from a line"), certificate);
        assert_eq!(Certificate::parse(&format!("token\n{pem}more")).expect("from among others"), certificate);
        for (text, found) in [
            ("", "nothing"),
            (PEM_BEGIN, "one without its end"),
            ("no/base64!", "text that is none"),
            ("AAAA", "bytes that are none"),
            (&line[..line.len() / 8 * 4], "bytes that are none"),
        ] {
            let error = Certificate::parse(text).expect_err(text).to_string();
            assert_eq!(error, format!("expected a certificate in PEM, found {found}"));
        }
    }

    #[test]
    fn a_token_stands_before_its_certificate_or_alone() {
        assert_eq!(token_and_certificate(" abc\n"), ("abc", None));
        let pem = pem();
        assert_eq!(token_and_certificate(&format!("abc\n{pem}")), ("abc", Some(pem.as_str())));
        assert_eq!(token_and_certificate(""), ("", None));
    }

    #[test]
    fn an_address_and_a_certificate_go_together() {
        let url = |text: &str, with: bool| {
            let address = Address::new(text, with.then(certificate));
            address.map(|address| address.url).map_err(|error| error.to_string())
        };
        assert_eq!(url("10.0.0.5:7070", true).as_deref(), Ok("https://10.0.0.5:7070"));
        assert_eq!(url("10.0.0.5:7070", false).as_deref(), Ok("http://10.0.0.5:7070"));
        assert_eq!(url("https://[::1]:7070", true).as_deref(), Ok("https://[::1]:7070"));
        assert_eq!(
            url("https://a:1", false).as_deref(),
            Err(&"expected the certificate of the coordinator at https://a:1, found none".to_owned())
        );
        assert_eq!(
            url("http://a:1", true).as_deref(),
            Err(&"expected https://, as the coordinator has a certificate, found http://a:1".to_owned())
        );
        for wrong in ["ftp://a:1", "http://", "https:// a", "http://:1"] {
            let error = url(wrong, wrong.starts_with("https")).expect_err(wrong);
            assert!(error.starts_with("expected http://HOST:PORT or https://HOST:PORT, found"), "{error}");
        }
    }
}
