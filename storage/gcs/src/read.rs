//! Reading an object, or a part of it.

use crate::error::Doing;
use crate::{Gcs, STORE};
use futures::stream::{self, StreamExt};
use google_cloud_storage::model_ext::ReadRange;
use object_store::path::Path;
use object_store::{Attributes, Error, GetOptions, GetRange, GetResult, GetResultPayload, ObjectMeta, Result};
use std::ops::Range;

impl Gcs {
    pub(crate) async fn read(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        // The metadata first: a range is checked against the size, and conditions against the tag; the read then asks
        // for that generation, so both are of one object even if another comes in between.
        let (meta, generation) = self.json.head(location, options.version.as_deref()).await?;
        options.check_preconditions(&meta)?;
        let range = range_of(options.range.as_ref(), &meta)?;
        if options.head || range.is_empty() {
            return Ok(result(GetResultPayload::Stream(stream::empty().boxed()), meta, range));
        }
        let response = self
            .storage
            .read_object(self.resource(), location.as_ref())
            .set_generation(generation)
            .set_read_range(ReadRange::segment(range.start, range.end - range.start))
            .send()
            .await
            .map_err(|source| Doing::Other.error(location, source))?;
        let path = location.clone();
        let body = stream::try_unfold((response, path), |(mut response, path)| async move {
            match response.next().await {
                Some(Ok(bytes)) => Ok(Some((bytes, (response, path)))),
                Some(Err(source)) => Err(Doing::Other.error(&path, source)),
                None => Ok(None),
            }
        });
        Ok(result(GetResultPayload::Stream(body.boxed()), meta, range))
    }
}

fn range_of(asked: Option<&GetRange>, meta: &ObjectMeta) -> Result<Range<u64>> {
    let Some(asked) = asked else { return Ok(0..meta.size) };
    asked.as_range(meta.size).map_err(|source| Error::Generic { store: STORE, source: Box::new(source) })
}

fn result(payload: GetResultPayload, meta: ObjectMeta, range: Range<u64>) -> GetResult {
    GetResult { payload, meta, range, attributes: Attributes::new(), extensions: Default::default() }
}
