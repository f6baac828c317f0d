//! A data set as training reads it: any rows in any order, from objects that are proven to be what was pinned.
//!
//! A small one in a folder is read into memory when it is opened. Everything else, in a bucket or too large, is read
//! through the cache on this machine's disk ([`crate::streaming`]), a block of rows at a time, ahead of when it is
//! needed.

use crate::block::{Block, Scaling, index};
use crate::cache::{Cache, CacheOptions};
use crate::error::DataError;
use crate::manifest::{Features, Manifest, Object, Target};
use crate::parallel::ordered;
use crate::place::{Base, Place};
use crate::streaming::Streaming;
use std::sync::Arc;

/// A data set in a folder is kept in memory up to so many bytes, as its manifest allows.
const HELD_MAX_BYTES: u64 = 1 << 30;

/// All rows of a data set.
#[derive(Clone, Debug)]
pub struct Dataset {
    features: Features,
    target: Target,
    rows: u64,
    /// `features.elements()` as a stride; 1 for text.
    elements: usize,
    scaling: Scaling,
    /// The first row of each block, and in the end the count of all.
    starts: Arc<[u64]>,
    blocks: Blocks,
}

#[derive(Clone, Debug)]
enum Blocks {
    Held(Arc<[Arc<Block>]>),
    Streamed(Arc<Streaming>),
}

impl Dataset {
    /// Opens the data set whose manifest lies in `base`, with the cache that the environment names
    /// ([`CacheOptions::from_environment`]).
    ///
    /// # Errors
    /// [`DataError`] when an object is missing, is not the one that was pinned, or does not hold what the manifest
    /// says of it. Of a data set that is read through the cache this may be found out only when the rows are asked
    /// for.
    pub fn open(manifest: &Manifest, base: impl Into<Base>) -> Result<Self, DataError> {
        let place = Place::of(manifest, &base.into(), trainctl_objects::RETRY_TIMEOUT)?;
        if place.is_remote() || manifest.memory_bytes() > HELD_MAX_BYTES {
            return Self::streamed(manifest, place, Cache::open(CacheOptions::from_environment()));
        }
        let of = |objects: &&[Object]| Block::read(&place, manifest, objects).map(Arc::new);
        let objects: Vec<&[Object]> = manifest.blocks().collect();
        let blocks = ordered(&objects, place.objects_at_once(), of)?;
        Ok(Self::new(manifest, Blocks::Held(blocks.into())))
    }

    /// Opens the data set through a cache, whatever its size and place.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn open_through(manifest: &Manifest, base: impl Into<Base>, cache: CacheOptions) -> Result<Self, DataError> {
        let place = Place::of(manifest, &base.into(), trainctl_objects::RETRY_TIMEOUT)?;
        Self::streamed(manifest, place, Cache::open(cache))
    }

    fn streamed(manifest: &Manifest, place: Place, cache: Cache) -> Result<Self, DataError> {
        let streaming = Streaming::start(manifest.clone(), place, cache);
        Ok(Self::new(manifest, Blocks::Streamed(Arc::new(streaming))))
    }

    fn new(manifest: &Manifest, blocks: Blocks) -> Self {
        let mut starts = vec![0];
        let mut rows = 0;
        for objects in manifest.blocks() {
            rows += objects[0].rows;
            starts.push(rows);
        }
        let elements = if manifest.target == Target::NextByte { 1 } else { index(manifest.features.elements()) };
        Self {
            features: manifest.features.clone(),
            target: manifest.target.clone(),
            rows: manifest.rows,
            elements,
            scaling: Scaling::by(manifest.features.scale),
            starts: starts.into(),
            blocks,
        }
    }

    /// How many rows there are; for text, bytes.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The shape of one sample, without the batch: images are channels, height, width. Empty for text.
    #[must_use]
    pub fn sample_shape(&self) -> &[u32] {
        &self.features.shape
    }

    /// Values of one sample.
    #[must_use]
    pub fn sample_elements(&self) -> usize {
        self.elements
    }

    /// What is to be learned.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Samples of a text: windows of `context` bytes that share none, each with the byte after it.
    #[must_use]
    pub fn windows(&self, context: u32) -> u64 {
        self.rows.saturating_sub(1) / u64::from(context.max(1))
    }

    /// Whether [`Dataset::read_ahead`] helps: where the cache has no room for the whole data set.
    #[must_use]
    pub fn reads_ahead(&self) -> bool {
        matches!(&self.blocks, Blocks::Streamed(streaming) if streaming.loads_as_told())
    }

    /// Says which rows will be asked for soon, so that they are there by then. For text, `context` turns windows into
    /// rows.
    pub fn read_ahead(&self, rows: &[u64], context: Option<u32>) {
        if let Blocks::Streamed(streaming) = &self.blocks {
            let stride = context.map_or(1, u64::from);
            streaming.read_ahead(rows.iter().map(|row| self.block_of(row * stride)));
        }
    }

    /// Writes the scaled features of `rows`, one after another.
    ///
    /// # Errors
    /// [`DataError`] when a row is read through the cache and can't be had.
    ///
    /// # Panics
    /// When a row is not below [`Dataset::rows`], or `out` is not `rows.len() * sample_elements()` long.
    pub fn fill_features(&self, rows: &[u64], out: &mut [f32]) -> Result<(), DataError> {
        assert_eq!(out.len(), rows.len() * self.elements, "room for the features of {} rows", rows.len());
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(self.elements)) {
            let (block, row) = self.find(row)?;
            block.features(row, &self.scaling, out);
        }
        Ok(())
    }

    /// Writes the class of each of `rows`.
    ///
    /// # Errors
    /// See [`Dataset::fill_features`].
    ///
    /// # Panics
    /// When the target is not a class, a row is not below [`Dataset::rows`], or the lengths differ.
    pub fn fill_classes(&self, rows: &[u64], out: &mut [i64]) -> Result<(), DataError> {
        assert!(matches!(self.target, Target::Class { .. }), "classes of a data set of {:?}", self.target);
        assert_eq!(out.len(), rows.len(), "room for the classes of {} rows", rows.len());
        for (out, &row) in out.iter_mut().zip(rows) {
            let (block, row) = self.find(row)?;
            *out = i64::from(block.class(row));
        }
        Ok(())
    }

    /// Writes the number to be learned for each of `rows`.
    ///
    /// # Errors
    /// See [`Dataset::fill_features`].
    ///
    /// # Panics
    /// When the target is not a number, a row is not below [`Dataset::rows`], or the lengths differ.
    pub fn fill_numbers(&self, rows: &[u64], out: &mut [f32]) -> Result<(), DataError> {
        assert!(matches!(self.target, Target::Number { .. }), "numbers of a data set of {:?}", self.target);
        assert_eq!(out.len(), rows.len(), "room for the numbers of {} rows", rows.len());
        for (out, &row) in out.iter_mut().zip(rows) {
            let (block, row) = self.find(row)?;
            *out = block.number(row);
        }
        Ok(())
    }

    /// Writes `context + 1` bytes of text for each of the windows: what the model sees and, one further, what it
    /// is to say.
    ///
    /// # Errors
    /// See [`Dataset::fill_features`].
    ///
    /// # Panics
    /// When the data set is not text, a window is not below [`Dataset::windows`], or `out` is not
    /// `windows.len() * (context + 1)` long.
    pub fn fill_tokens(&self, windows: &[u64], context: u32, out: &mut [i64]) -> Result<(), DataError> {
        assert_eq!(self.target, Target::NextByte, "tokens of a data set of numbers");
        let tokens = context as usize + 1;
        assert_eq!(out.len(), windows.len() * tokens, "room for {} windows", windows.len());
        for (&window, mut out) in windows.iter().zip(out.chunks_exact_mut(tokens)) {
            let mut row = window * u64::from(context);
            while !out.is_empty() {
                let (block, start) = self.find(row)?;
                let text = &block.text()[start..];
                let (now, later) = out.split_at_mut(out.len().min(text.len()));
                for (out, &byte) in now.iter_mut().zip(text) {
                    *out = i64::from(byte);
                }
                row += now.len() as u64;
                out = later;
            }
        }
        Ok(())
    }

    /// Which block a row is in.
    fn block_of(&self, row: u64) -> usize {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        self.starts.partition_point(|&start| start <= row) - 1
    }

    /// The block that a row is in, and its place there.
    fn find(&self, row: u64) -> Result<(Arc<Block>, usize), DataError> {
        let number = self.block_of(row);
        let block = match &self.blocks {
            Blocks::Held(blocks) => blocks[number].clone(),
            Blocks::Streamed(streaming) => streaming.block(number)?,
        };
        Ok((block, index(row - self.starts[number])))
    }
}
