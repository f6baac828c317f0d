//! The service's JSON interface: listing, metadata, deleting, copying.
//! <https://cloud.google.com/storage/docs/json_api/v1>

use crate::STORE;
use crate::error::Doing;
use chrono::{DateTime, Utc};
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use http::Extensions;
use object_store::path::Path;
use object_store::{CopyMode, Error, ObjectMeta, PutMode, PutResult, Result};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method, Response, Url};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

const ENDPOINT: &str = "https://storage.googleapis.com";
/// Longest silence of the service.
const SILENCE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Json {
    client: Client,
    /// `.../storage/v1/b/BUCKET/o`
    objects: Url,
    credentials: Credentials,
    retry_timeout: Duration,
}

/// One page of a listing.
pub(crate) struct Page {
    pub(crate) objects: Vec<ObjectMeta>,
    pub(crate) folders: Vec<Path>,
    pub(crate) next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    #[serde(default)]
    items: Vec<Item>,
    #[serde(default)]
    prefixes: Vec<String>,
    next_page_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: String,
    /// 64-bit numbers are texts in this interface.
    size: String,
    generation: String,
    etag: Option<String>,
    updated: DateTime<Utc>,
}

impl Item {
    fn meta(self) -> Result<(ObjectMeta, i64)> {
        let number = |text: &str| text.parse::<i64>().map_err(|_| unexpected(format!("the number {text:?}")));
        let generation = number(&self.generation)?;
        let meta = ObjectMeta {
            location: Path::parse(&self.name)?,
            last_modified: self.updated,
            size: number(&self.size)?.unsigned_abs(),
            e_tag: self.etag.filter(|tag| !tag.is_empty()),
            version: Some(self.generation),
        };
        Ok((meta, generation))
    }
}

fn unexpected(what: String) -> Error {
    Error::Generic { store: STORE, source: format!("the service sent {what}").into() }
}

impl Json {
    pub(crate) fn new(
        endpoint: Option<&str>,
        bucket: &str,
        credentials: Credentials,
        retry_timeout: Duration,
    ) -> Result<Self> {
        let endpoint = endpoint.unwrap_or(ENDPOINT).trim_end_matches('/');
        let generic = |source: Box<dyn std::error::Error + Send + Sync>| Error::Generic { store: STORE, source };
        let objects = Url::parse(&format!("{endpoint}/storage/v1/b/{bucket}/o"))
            .map_err(|_| generic(format!("expected http://host:port as the endpoint, found {endpoint:?}").into()))?;
        let client = Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .build()
            .map_err(|source| generic(source.into()))?;
        Ok(Self { client, objects, credentials, retry_timeout })
    }

    fn object(&self, location: &Path) -> Url {
        let mut url = self.objects.clone();
        // Its slashes too: the name is one segment of this address.
        let name = utf8_percent_encode(location.as_ref(), NON_ALPHANUMERIC);
        url.set_path(&format!("{}/{name}", self.objects.path()));
        url
    }

    /// Metadata and generation of an object.
    pub(crate) async fn head(&self, location: &Path, version: Option<&str>) -> Result<(ObjectMeta, i64)> {
        let mut url = self.object(location);
        if let Some(version) = version {
            url.query_pairs_mut().append_pair("generation", version);
        }
        let item: Item = self.ask(Method::GET, url, location, Doing::Other).await?;
        item.meta()
    }

    pub(crate) async fn delete(&self, location: &Path) -> Result<()> {
        self.send(Method::DELETE, self.object(location), Vec::new(), location, Doing::Other).await.map(drop)
    }

    pub(crate) async fn list(
        &self,
        prefix: Option<&Path>,
        offset: Option<&Path>,
        folders: bool,
        token: Option<&str>,
    ) -> Result<Page> {
        let mut url = self.objects.clone();
        let root = Path::default();
        let prefix = prefix.unwrap_or(&root);
        {
            let mut query = url.query_pairs_mut();
            // A prefix ends at a folder's border.
            if !prefix.as_ref().is_empty() {
                query.append_pair("prefix", &format!("{prefix}/"));
            }
            if folders {
                query.append_pair("delimiter", "/");
            }
            if let Some(offset) = offset {
                query.append_pair("startOffset", offset.as_ref());
            }
            if let Some(token) = token {
                query.append_pair("pageToken", token);
            }
        }
        let listing: Listing = self.ask(Method::GET, url, prefix, Doing::Other).await?;
        // Consoles make objects whose name ends in a slash, that represent folders.
        let items = listing.items.into_iter().filter(|item| !item.name.ends_with('/'));
        Ok(Page {
            objects: items.map(|item| item.meta().map(|(meta, _)| meta)).collect::<Result<_>>()?,
            folders: listing
                .prefixes
                .iter()
                .map(|folder| Path::parse(folder.trim_end_matches('/')))
                .collect::<Result<_, _>>()?,
            next: listing.next_page_token.filter(|token| !token.is_empty()),
        })
    }

    pub(crate) async fn copy(&self, from: &Path, to: &Path, mode: CopyMode) -> Result<()> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Rewrite {
            done: bool,
            rewrite_token: Option<String>,
        }
        let mut token = None::<String>;
        loop {
            let mut url = self.object(from);
            let path = format!("{}/rewriteTo{}", url.path(), self.object(to).path().trim_start_matches("/storage/v1"));
            url.set_path(&path);
            if mode == CopyMode::Create {
                url.query_pairs_mut().append_pair("ifGenerationMatch", "0");
            }
            if let Some(token) = &token {
                url.query_pairs_mut().append_pair("rewriteToken", token);
            }
            let create = PutMode::Create;
            let doing = if mode == CopyMode::Create { Doing::Put(&create) } else { Doing::Other };
            let rewrite: Rewrite = self.ask(Method::POST, url, from, doing).await?;
            if rewrite.done {
                return Ok(());
            }
            token = rewrite.rewrite_token;
        }
    }

    /// Makes `to` from at most 32 objects, one after the other.
    pub(crate) async fn compose(&self, from: &[Path], to: &Path) -> Result<PutResult> {
        #[derive(Serialize)]
        struct Source<'a> {
            name: &'a str,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Compose<'a> {
            source_objects: Vec<Source<'a>>,
            destination: Destination,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Destination {
            content_type: &'static str,
        }
        let mut url = self.object(to);
        let path = format!("{}/compose", url.path());
        url.set_path(&path);
        let source_objects = from.iter().map(|path| Source { name: path.as_ref() }).collect();
        let body = Compose { source_objects, destination: Destination { content_type: "application/octet-stream" } };
        let body =
            serde_json::to_vec(&body).map_err(|source| Error::Generic { store: STORE, source: source.into() })?;
        let answer = self.send(Method::POST, url, body, to, Doing::Other).await?;
        let item: Item = parsed(answer).await?;
        let (meta, _) = item.meta()?;
        Ok(PutResult { e_tag: meta.e_tag, version: meta.version, extensions: Default::default() })
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, url: Url, path: &Path, doing: Doing<'_>) -> Result<T> {
        parsed(self.send(method, url, Vec::new(), path, doing).await?).await
    }

    /// Sends a request until it is answered with more than "later", or retry_timeout is over.
    async fn send(&self, method: Method, url: Url, body: Vec<u8>, path: &Path, doing: Doing<'_>) -> Result<Response> {
        let began = Instant::now();
        let mut wait = FIRST_WAIT;
        loop {
            let sent = self.once(method.clone(), url.clone(), body.clone()).await?;
            let (status, source): (_, Box<dyn std::error::Error + Send + Sync>) = match sent {
                Ok(answer) if answer.status().is_success() => return Ok(answer),
                Ok(answer) => {
                    let status = answer.status();
                    (Some(status.as_u16()), format!("{status}: {}", answer.text().await.unwrap_or_default()).into())
                }
                Err(source) => (None, source.into()),
            };
            let later = matches!(status, None | Some(408 | 429 | 500..));
            if !later || began.elapsed() + wait > self.retry_timeout {
                return Err(doing.of_status(path, status, source));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    async fn once(&self, method: Method, url: Url, body: Vec<u8>) -> Result<reqwest::Result<Response>> {
        let headers = self.credentials.headers(Extensions::new()).await.map_err(|source| Error::Unauthenticated {
            path: "Google's application default credentials".to_owned(),
            source: Box::new(source),
        })?;
        let mut request = self.client.request(method, url);
        if let CacheableResource::New { data, .. } = headers {
            request = request.headers(data);
        }
        if !body.is_empty() {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json");
        }
        Ok(request.body(body).send().await)
    }
}

async fn parsed<T: DeserializeOwned>(answer: Response) -> Result<T> {
    answer.json().await.map_err(|source| Error::Generic { store: STORE, source: Box::new(source) })
}
