//! Container images written directly: an OCI archive of one layer, from a static program and a few files.
//!
//! No image builder and no registry is needed for images that hold one program: an OCI image layout
//! (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>) is a tar with three JSON files.

use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ring::digest;
use serde_json::{Value, json};

use crate::paths::hex;

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

    /// Writes the archive; a file that is there is replaced at the end, whole.
    ///
    /// # Errors
    /// A source cannot be read, the archive cannot be written, or a path is longer than 100 bytes.
    pub fn write(&self, archive: &Path) -> Result<()> {
        if let Some(folder) = archive.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let extension = format!("{}.tmp", std::process::id());
        let (layer_path, tmp) =
            (archive.with_extension(format!("layer.{extension}")), archive.with_extension(extension));
        let result = self
            .write_layer(&layer_path)
            .and_then(|layer| self.write_archive(layer, &tmp))
            .and_then(|()| std::fs::rename(&tmp, archive).map_err(Into::into));
        let _best_effort = (std::fs::remove_file(&layer_path), std::fs::remove_file(&tmp));
        result.with_context(|| format!("failed to write the image {}", archive.display()))
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

    fn write_archive(&self, mut layer: Blob, path: &Path) -> Result<()> {
        let config = Blob::json(&json!({
            "architecture": architecture(), "os": "linux",
            "config": {"Entrypoint": self.entrypoint, "User": self.user, "Env": self.env, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)]},
        }));
        let manifest = Blob::json(&json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor("application/vnd.oci.image.config.v1+json"),
            "layers": [layer.descriptor("application/vnd.oci.image.layer.v1.tar")],
        }));
        let mut entry = manifest.descriptor("application/vnd.oci.image.manifest.v1+json");
        entry["annotations"] =
            json!({"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": self.name});
        let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]}))?;
        let mut tar = Tar::new(BufWriter::new(File::create(path)?));
        let version = br#"{"imageLayoutVersion":"1.0.0"}"#;
        tar.file("oci-layout", 0o644, version.len() as u64, &mut version.as_slice())?;
        tar.file("index.json", 0o644, index.len() as u64, &mut index.as_slice())?;
        tar.directory("blobs", 0o755)?;
        tar.directory("blobs/sha256", 0o755)?;
        for mut blob in [config, manifest] {
            blob.append(&mut tar)?;
        }
        layer.append(&mut tar)?;
        tar.finish()?.flush()?;
        Ok(())
    }
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

    fn append<W: Write>(&mut self, tar: &mut Tar<W>) -> Result<()> {
        let path = format!("blobs/sha256/{}", self.digest);
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

/// A tar in the ustar format (POSIX.1-1988), with every time 0 so that equal content gives equal bytes.
struct Tar<W> {
    out: W,
}

impl<W: Write> Tar<W> {
    fn new(out: W) -> Self {
        Self { out }
    }

    fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        self.out.write_all(&header(&format!("{path}/"), mode, 0, b'5')?)?;
        Ok(())
    }

    fn file(&mut self, path: &str, mode: u32, size: u64, from: &mut impl Read) -> Result<()> {
        self.out.write_all(&header(path, mode, size, b'0')?)?;
        let copied = std::io::copy(&mut from.take(size), &mut self.out)?;
        if copied != size {
            bail!("{path} got shorter while it was read");
        }
        let rest = (512 - size % 512) % 512;
        self.out.write_all(&[0; 512][..rest as usize])?;
        Ok(())
    }

    fn finish(mut self) -> Result<W> {
        self.out.write_all(&[0; 1024])?;
        Ok(self.out)
    }
}

fn header(path: &str, mode: u32, size: u64, kind: u8) -> Result<[u8; 512]> {
    if path.len() > 100 || size >= 1 << 33 {
        bail!("{path} is too long a path, or the file too large, for a ustar archive");
    }
    let mut block = [0_u8; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
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
}
