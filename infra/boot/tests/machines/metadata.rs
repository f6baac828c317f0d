//! The metadata services of both clouds, as far as a machine's start asks them.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

const TOKEN: &str = "a-token-of-imds";

/// One that answers as long as the test runs.
pub(crate) struct Metadata {
    endpoint: String,
}

impl Metadata {
    /// EC2's, version 2 only: without a token it tells nothing. The role's keys are these.
    pub(crate) fn ec2(key_id: &str, secret: &str) -> Self {
        let credentials = format!(
            "{{\n  \"Code\" : \"Success\",\n  \"AccessKeyId\" : \"{key_id}\",\n  \"SecretAccessKey\" : \"{secret}\",\n  \
             \"Token\" : \"\",\n  \"Expiration\" : \"2030-01-01T00:00:00Z\"\n}}"
        );
        Self::start(move |method, path, headers| match (method, path) {
            ("PUT", "/latest/api/token") => Some(TOKEN.to_owned()),
            _ if !headers.contains(&format!("x-aws-ec2-metadata-token: {TOKEN}")) => None,
            (_, "/latest/meta-data/local-ipv4") => Some("10.20.1.7".to_owned()),
            (_, "/latest/meta-data/placement/region") => Some("us-east-1".to_owned()),
            (_, "/latest/meta-data/iam/security-credentials/") => Some("worker".to_owned()),
            (_, "/latest/meta-data/iam/security-credentials/worker") => Some(credentials.clone()),
            _ => None,
        })
    }

    /// GCE's: without its header it tells nothing.
    pub(crate) fn gce() -> Self {
        Self::start(|_, path, headers| {
            headers.contains(&"metadata-flavor: Google".to_owned()).then_some(())?;
            match path.strip_prefix("/computeMetadata/v1/instance/")? {
                "network-interfaces/0/ip" => Some("10.30.1.7".to_owned()),
                "service-accounts/default/token" => {
                    Some(r#"{"access_token":"ya29.test","expires_in":3599,"token_type":"Bearer"}"#.to_owned())
                }
                _ => None,
            }
        })
    }

    /// A bucket that lies in this region and has one object. It tells `asked` how each request was signed.
    pub(crate) fn bucket(region: &'static str, object: &str, asked: mpsc::Sender<String>) -> Self {
        let object = object.to_owned();
        Self::answering(move |method, _, headers| {
            let signed = headers.iter().find(|header| header.starts_with("authorization: "));
            let _ = asked.send(format!("{method} {}", signed.map_or("", String::as_str)));
            let region = format!("x-amz-bucket-region: {region}\r\n");
            if method == "HEAD" { ("403 Forbidden", region, String::new()) } else { ("200 OK", region, object.clone()) }
        })
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn host(&self) -> &str {
        self.endpoint.trim_start_matches("http://")
    }

    /// 404 where there is no answer.
    fn start(answer: impl Fn(&str, &str, &[String]) -> Option<String> + Send + 'static) -> Self {
        Self::answering(move |method, path, headers| match answer(method, path, headers) {
            Some(body) => ("200 OK", String::new(), body),
            None => ("404 Not Found", String::new(), String::new()),
        })
    }

    /// With status, further headers and body.
    fn answering(answer: impl Fn(&str, &str, &[String]) -> (&'static str, String, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that went away is its own affair.
                let _ = stream.and_then(|stream| serve(&stream, &answer));
            }
        });
        Self { endpoint }
    }
}

/// One request, and its answer.
fn serve(
    stream: &TcpStream,
    answer: impl Fn(&str, &str, &[String]) -> (&'static str, String, String),
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
        headers.push(format!("{}: {value}", name.to_lowercase()));
    }
    let (status, further, body) = answer(method, path, &headers);
    let mut stream = stream;
    write!(stream, "HTTP/1.1 {status}\r\n{further}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}
