//! Dialling real servers, with and without TLS: who answers otherwise than expected is told apart.

use coordinator_certificates::{Issued, self_signed};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use trainctl_proto::dial::{Address, Certificate, DialError, SERVER_NAME};

/// Its `HOST:PORT`.
async fn serve(identity: Option<&Issued>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut server = Server::builder();
    if let Some(issued) = identity {
        let identity = Identity::from_pem(issued.certificate_pem(), issued.key_pem());
        server = server.tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
    }
    let server = server.add_routes(Routes::default());
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn certificate(issued: &Issued) -> Certificate {
    Certificate::parse(&issued.certificate_pem()).unwrap()
}

async fn dial(address: &str, known_by: Option<Certificate>) -> Result<(), DialError> {
    let address = Address::new(address, known_by).unwrap();
    address.connect(|endpoint| endpoint.connect_timeout(Duration::from_secs(10))).await.map(drop)
}

#[tokio::test]
async fn over_tls_the_certificate_decides() {
    let (issued, other) = (self_signed(SERVER_NAME).unwrap(), self_signed(SERVER_NAME).unwrap());
    let address = serve(Some(&issued)).await;
    dial(&address, Some(certificate(&issued))).await.unwrap();
    let wrong = dial(&address, Some(certificate(&other))).await.unwrap_err();
    assert!(matches!(wrong, DialError::OtherCertificate { .. }), "{wrong:?}");
    let without = dial(&address, None).await.unwrap_err();
    assert!(matches!(without, DialError::AnswersTls { .. }), "{without:?}");
}

#[tokio::test]
async fn who_has_a_certificate_takes_no_plain_answer() {
    let address = serve(None).await;
    dial(&address, None).await.unwrap();
    let plain = dial(&address, Some(certificate(&self_signed(SERVER_NAME).unwrap()))).await.unwrap_err();
    assert!(matches!(plain, DialError::AnswersPlain { .. }), "{plain:?}");
}

#[tokio::test]
async fn who_does_not_listen_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    for known_by in [None, Some(certificate(&self_signed(SERVER_NAME).unwrap()))] {
        let error = dial(&address, known_by).await.unwrap_err();
        assert!(matches!(error, DialError::Unreachable { .. }), "{error:?}");
    }
}

/// What a client says in the clear before it knows whom it talks to is the same for all.
#[tokio::test]
async fn nothing_but_greetings_is_said_in_the_clear_to_who_answers_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = tokio::spawn(async move {
        let mut heard = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 256];
            let read = stream.read(&mut bytes).await.unwrap();
            heard.extend_from_slice(&bytes[..read]);
            stream.write_all(&[21, 3, 3, 0, 2, 2, 10]).await.unwrap();
        }
        String::from_utf8_lossy(&heard).into_owned()
    });
    let error = dial(&address, None).await.unwrap_err();
    assert!(matches!(error, DialError::AnswersTls { .. }), "{error:?}");
    let heard = heard.await.unwrap();
    assert!(heard.contains("PRI * HTTP/2.0") && !heard.contains("Bearer"), "{heard}");
}
