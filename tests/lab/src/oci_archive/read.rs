//! Reading an archive of images back: what is in it, blob by blob.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Take};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::tar;

/// The largest manifest that is read: registries take none larger.
const MAX_MANIFEST: u64 = 4 << 20;

/// An archive that [`super::OciImage::write_all`] has written.
#[derive(Debug)]
pub struct OciArchive {
    path: PathBuf,
    /// Where each file is: offset and size.
    files: BTreeMap<String, (u64, u64)>,
    images: Vec<ArchivedImage>,
}

/// An image in an archive.
#[derive(Clone, Debug)]
pub struct ArchivedImage {
    /// Its full name.
    pub name: String,
    /// Its manifest, the very bytes.
    pub manifest: Vec<u8>,
    /// The manifest's media type.
    pub media_type: String,
    /// The manifest's digest, `sha256:…`.
    pub digest: String,
    /// The digests of what the manifest names: the configuration, then the layers.
    pub blobs: Vec<String>,
}

impl OciArchive {
    /// Reads what is in an archive.
    ///
    /// # Errors
    /// It cannot be read, or lacks something that its index names.
    pub fn open(path: &Path) -> Result<Self> {
        let files = tar::entries(path)?.into_iter().map(|entry| (entry.path, (entry.offset, entry.size)));
        let mut archive = Self { path: path.to_owned(), files: files.collect(), images: Vec::new() };
        let index: Value = serde_json::from_slice(&archive.small("index.json")?)?;
        let entries = index["manifests"].as_array().context("index.json has no manifests")?;
        archive.images = entries.iter().map(|entry| archive.image(entry)).collect::<Result<_>>()?;
        Ok(archive)
    }

    /// The images, in the order of the index.
    #[must_use]
    pub fn images(&self) -> &[ArchivedImage] {
        &self.images
    }

    /// A blob's bytes, and how many there are.
    ///
    /// # Errors
    /// The archive has no such blob, or cannot be read any more.
    pub fn blob(&self, digest: &str) -> Result<(Take<File>, u64)> {
        self.file(&format!("blobs/{}", digest.replace(':', "/")))
    }

    fn image(&self, entry: &Value) -> Result<ArchivedImage> {
        let word = |value: &Value, what: &str| {
            value[what].as_str().map(str::to_owned).with_context(|| format!("index.json: no {what}"))
        };
        let digest = word(entry, "digest")?;
        let manifest = self.small(&format!("blobs/{}", digest.replace(':', "/")))?;
        let content: Value = serde_json::from_slice(&manifest)?;
        let layers = content["layers"].as_array().into_iter().flatten();
        let blobs = std::iter::once(&content["config"]).chain(layers).map(|part| word(part, "digest"));
        Ok(ArchivedImage {
            name: word(&entry["annotations"], "io.containerd.image.name")?,
            media_type: word(entry, "mediaType")?,
            blobs: blobs.collect::<Result<_>>()?,
            digest,
            manifest,
        })
    }

    fn file(&self, name: &str) -> Result<(Take<File>, u64)> {
        let (offset, size) =
            self.files.get(name).with_context(|| format!("{} has no {name}", self.path.display()))?;
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(*offset))?;
        Ok((file.take(*size), *size))
    }

    fn small(&self, name: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(name)?.0.take(MAX_MANIFEST).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}
