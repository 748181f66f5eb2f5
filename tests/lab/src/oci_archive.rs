//! Container images written directly: an OCI archive of images of one layer, each from a static program and a few files.
//!
//! No image builder and no registry is needed for images that hold one program: an OCI image layout
//! (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>) is a tar with three JSON files. For `docker
//! load` before version 25 the same blobs are listed once more as it wants them.

mod read;
mod tar;

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ring::digest;
use serde_json::{Value, json};

use crate::cache_key::hex;

pub use read::{ArchivedImage, OciArchive};
use tar::Tar;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// What a file of an image holds.
#[derive(Clone, Debug)]
pub enum Source {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The bytes of a file of this machine.
    File(PathBuf),
    /// An empty directory.
    Directory,
}

/// An image to write.
#[derive(Clone, Debug)]
pub struct OciImage {
    name: String,
    entrypoint: Vec<String>,
    user: String,
    env: Vec<String>,
    files: Vec<(String, Source, u32)>,
}

impl OciImage {
    /// An image of that full name (`localhost/pause:1`), started by that command line, as root.
    pub fn new(name: &str, entrypoint: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            entrypoint: entrypoint.iter().map(|&word| word.to_owned()).collect(),
            user: "0:0".to_owned(),
            env: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Runs as this `uid:gid`.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.user);
        self
    }

    /// Sets `NAME=value` in the environment.
    #[must_use]
    pub fn env(mut self, assignment: &str) -> Self {
        self.env.push(assignment.to_owned());
        self
    }

    /// Adds a file or directory at an absolute path; its parents are made with mode 0755.
    #[must_use]
    pub fn file(mut self, path: &str, source: Source, mode: u32) -> Self {
        self.files.push((path.trim_start_matches('/').to_owned(), source, mode));
        self
    }

    /// Writes an archive of this image alone, as [`Self::write_all`] does.
    ///
    /// # Errors
    /// As [`Self::write_all`].
    pub fn write(&self, archive: &Path) -> Result<()> {
        Self::write_all(std::slice::from_ref(self), archive)
    }

    /// Writes an archive of these images; a file that is there is replaced at the end, whole.
    ///
    /// # Errors
    /// A source cannot be read, the archive cannot be written, or a path is longer than 100 bytes.
    pub fn write_all(images: &[Self], archive: &Path) -> Result<()> {
        if let Some(folder) = archive.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let extension = format!("{}.tmp", std::process::id());
        let layers: Vec<PathBuf> = (0..images.len())
            .map(|number| archive.with_extension(format!("layer{number}.{extension}")))
            .collect();
        let tmp = archive.with_extension(extension);
        let assembled: Result<Vec<Assembled>> =
            images.iter().zip(&layers).map(|(image, layer)| image.assemble(layer)).collect();
        let result = assembled
            .and_then(|assembled| write_archive(assembled, &tmp))
            .and_then(|()| std::fs::rename(&tmp, archive).map_err(Into::into));
        for left in layers.iter().chain([&tmp]) {
            let _best_effort = std::fs::remove_file(left);
        }
        result.with_context(|| format!("failed to write the image archive {}", archive.display()))
    }

    fn assemble(&self, layer: &Path) -> Result<Assembled> {
        let layer = self.write_layer(layer)?;
        let config = Blob::json(&json!({
            "architecture": architecture(), "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "User": self.user, "Env": self.env, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)]},
        }));
        let manifest = Blob::json(&json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
        }));
        Ok(Assembled { name: self.name.clone(), config, manifest, layer })
    }

    fn write_layer(&self, path: &Path) -> Result<Blob> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        let mut tar = Tar::new(HashingWriter::new(BufWriter::new(file)));
        let mut made = std::collections::BTreeSet::new();
        for (path, source, mode) in &self.files {
            for parent in parents(path) {
                if made.insert(parent.clone()) {
                    tar.directory(&parent, 0o755)?;
                }
            }
            match source {
                Source::Bytes(bytes) => tar.file(path, *mode, bytes.len() as u64, &mut bytes.as_slice())?,
                Source::File(from) => {
                    let mut from =
                        File::open(from).with_context(|| format!("failed to open {}", from.display()))?;
                    let size = from.metadata()?.len();
                    tar.file(path, *mode, size, &mut from)?;
                }
                Source::Directory => {
                    made.insert(path.clone());
                    tar.directory(path, *mode)?;
                }
            }
        }
        let (writer, digest, size) = tar.finish()?.finish();
        let mut file = writer.into_inner().map_err(|error| error.into_error())?;
        file.seek(SeekFrom::Start(0))?;
        Ok(Blob { digest, size, content: Content::File(file) })
    }
}

/// An image's three blobs.
struct Assembled {
    name: String,
    config: Blob,
    manifest: Blob,
    layer: Blob,
}

impl Assembled {
    /// Its line in `index.json`.
    fn entry(&self) -> Value {
        let mut entry = self.manifest.descriptor(MANIFEST);
        entry["annotations"] =
            json!({"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": self.name});
        entry
    }

    /// Its line in the `manifest.json` of older dockers.
    fn docker(&self) -> Value {
        json!({"Config": self.config.path(), "RepoTags": [self.name], "Layers": [self.layer.path()]})
    }
}

fn write_archive(images: Vec<Assembled>, path: &Path) -> Result<()> {
    let entries: Vec<Value> = images.iter().map(Assembled::entry).collect();
    let docker: Vec<Value> = images.iter().map(Assembled::docker).collect();
    let index = json!({"schemaVersion": 2, "manifests": entries});
    let mut tar = Tar::new(BufWriter::new(File::create(path)?));
    for (name, content) in [
        ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
        ("index.json", index),
        ("manifest.json", Value::from(docker)),
    ] {
        let content = serde_json::to_vec(&content)?;
        tar.file(name, 0o644, content.len() as u64, &mut content.as_slice())?;
    }
    tar.directory("blobs", 0o755)?;
    tar.directory("blobs/sha256", 0o755)?;
    // Two images of the same files share their layer.
    let mut written = std::collections::BTreeSet::new();
    for image in images {
        for mut blob in [image.config, image.manifest, image.layer] {
            if written.insert(blob.digest.clone()) {
                blob.append(&mut tar)?;
            }
        }
    }
    tar.finish()?.flush()?;
    Ok(())
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn parents(path: &str) -> Vec<String> {
    path.match_indices('/').map(|(at, _)| path[..at].to_owned()).collect()
}

enum Content {
    Bytes(Vec<u8>),
    File(File),
}

struct Blob {
    digest: String,
    size: u64,
    content: Content,
}

impl Blob {
    fn json(value: &Value) -> Self {
        let bytes = value.to_string().into_bytes();
        let digest = hex(digest::digest(&digest::SHA256, &bytes).as_ref());
        Self { digest, size: bytes.len() as u64, content: Content::Bytes(bytes) }
    }

    fn descriptor(&self, media_type: &str) -> Value {
        json!({"mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.size})
    }

    fn path(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }

    fn append<W: Write>(&mut self, tar: &mut Tar<W>) -> Result<()> {
        let path = self.path();
        match &mut self.content {
            Content::Bytes(bytes) => tar.file(&path, 0o644, self.size, &mut bytes.as_slice()),
            Content::File(file) => tar.file(&path, 0o644, self.size, file),
        }
    }
}

struct HashingWriter<W> {
    inner: W,
    context: digest::Context,
    size: u64,
}

impl<W: Write> HashingWriter<W> {
    fn new(inner: W) -> Self {
        Self { inner, context: digest::Context::new(&digest::SHA256), size: 0 }
    }

    fn finish(self) -> (W, String, u64) {
        (self.inner, hex(self.context.finish().as_ref()), self.size)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.context.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Cmd;

    #[test]
    fn archive_is_a_tar_with_a_consistent_layout() {
        let folder = std::env::temp_dir().join(format!("oci-archive-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let archive = folder.join("image.tar");
        OciImage::new("localhost/x:1", &["/bin/x"])
            .user("65532:65532")
            .file("/bin/x", Source::Bytes(vec![7; 1000]), 0o755)
            .file("/data", Source::Directory, 0o1777)
            .write(&archive)
            .unwrap();
        Cmd::line("tar -xf").arg(&archive).arg("-C").arg(&folder).run().unwrap();
        let read =
            |name: &str| serde_json::from_slice::<Value>(&std::fs::read(folder.join(name)).unwrap()).unwrap();
        let blob = |value: &Value| {
            let digest = value["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
            let bytes = std::fs::read(folder.join("blobs/sha256").join(&digest)).unwrap();
            assert_eq!(hex(digest::digest(&digest::SHA256, &bytes).as_ref()), digest);
            assert_eq!(value["size"].as_u64().unwrap(), bytes.len() as u64);
            (digest, bytes)
        };
        let index = read("index.json");
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "localhost/x:1");
        let manifest: Value = serde_json::from_slice(&blob(&index["manifests"][0]).1).unwrap();
        let config: Value = serde_json::from_slice(&blob(&manifest["config"]).1).unwrap();
        let (layer, bytes) = blob(&manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{layer}"));
        assert_eq!(config["config"]["User"], "65532:65532");
        std::fs::write(folder.join("layer.tar"), bytes).unwrap();
        let listing = Cmd::line("tar -tvf").arg(folder.join("layer.tar")).output().unwrap();
        assert!(
            listing.contains("-rwxr-xr-x") && listing.contains("1000") && listing.contains("bin/x"),
            "{listing}"
        );
        assert!(listing.contains("drwxrwxrwt"), "{listing}");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn several_images_come_back_from_one_archive() {
        let folder = std::env::temp_dir().join(format!("oci-archive-many-{}", std::process::id()));
        let archive = folder.join("all.tar");
        let image = |name: &str, byte: u8| {
            OciImage::new(name, &["/bin/x"]).file("/bin/x", Source::Bytes(vec![byte; 1500]), 0o755)
        };
        // The third is the first under another name: its layer is there once.
        let names = ["localhost/a:1", "localhost/b:1", "localhost/c:1"];
        let images: Vec<OciImage> =
            names.iter().zip([1, 2, 1]).map(|(name, byte)| image(name, byte)).collect();
        OciImage::write_all(&images, &archive).unwrap();
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "only the archive stays: {left:?}");
        let read = OciArchive::open(&archive).unwrap();
        assert_eq!(read.images().iter().map(|image| image.name.as_str()).collect::<Vec<_>>(), names);
        for (image, byte) in read.images().iter().zip([1, 2, 1]) {
            assert_eq!(image.blobs.len(), 2, "configuration and layer");
            for blob in &image.blobs {
                let (mut reader, size) = read.blob(blob).unwrap();
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut reader, &mut bytes).unwrap();
                assert_eq!(bytes.len() as u64, size);
                assert_eq!(
                    format!("sha256:{}", hex(digest::digest(&digest::SHA256, &bytes).as_ref())),
                    *blob
                );
                if blob == &image.blobs[1] {
                    assert!(bytes.windows(1500).any(|window| window == vec![byte; 1500]));
                }
            }
        }
        let layers: std::collections::BTreeSet<_> = read.images().iter().map(|i| &i.blobs[1]).collect();
        assert_eq!(layers.len(), 2);
        let listing = Cmd::line("tar -tf").arg(&archive).output().unwrap();
        assert!(listing.contains("manifest.json"), "docker's list is there: {listing}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
