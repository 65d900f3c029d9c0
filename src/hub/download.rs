//! One file: downloaded with resume, checked, and only then given its name.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use sha2::Digest as _;
use ureq::http::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, HeaderName, IF_RANGE, RANGE,
};

use super::HubError;
use super::client::{Client, Failure, answer, broken, shown};
use super::listing::{Digest, RemoteFile};

/// Called with the number of bytes of the file that are there; `Break` ends the download.
pub(super) type OnBytes<'p> = &'p mut dyn FnMut(u64) -> ControlFlow<()>;

/// Downloads `file` from `url` to `blob`. What is there of an earlier attempt, `blob` with the ending `.part`, is used
/// if the server still has the same content.
pub(super) fn download(
    client: &Client,
    url: &str,
    file: &RemoteFile,
    blob: &Path,
    on_bytes: OnBytes<'_>,
) -> Result<(), HubError> {
    let mut part = Part::open(blob, file)?;
    // A resumed file that fails its check is fetched once more from the start.
    let mut may_restart = part.len > 0;
    loop {
        fill(client, url, file, &mut part, on_bytes)?;
        let found = part.digest();
        if found == file.digest.digits() {
            return part.finish(blob);
        }
        if !may_restart {
            part.delete();
            let expected = file.digest.digits().into();
            return Err(HubError::Checksum { url: shown(url), expected, found });
        }
        tracing::info!("{} does not fit its checksum; it is fetched from the start", part.path.display());
        may_restart = false;
        part.restart()?;
    }
}

/// Requests until all bytes are there.
fn fill(
    client: &Client,
    url: &str,
    file: &RemoteFile,
    part: &mut Part,
    on_bytes: OnBytes<'_>,
) -> Result<(), HubError> {
    let at = std::cell::Cell::new(part.len);
    client.patiently(&mut || on_bytes(at.get()), |progressed, stop| {
        let before = part.len;
        let result = request(client, url, file, part, &mut |len| {
            at.set(len);
            stop()
        });
        if part.len > before {
            progressed();
        }
        at.set(part.len);
        result
    })
}

/// One request, which continues the part.
fn request(
    client: &Client,
    url: &str,
    file: &RemoteFile,
    part: &mut Part,
    on_bytes: OnBytes<'_>,
) -> Result<(), Failure> {
    if part.len == file.size {
        return Ok(());
    }
    let response = client.get(url, &part.headers())?;
    let headers = response.headers();
    match response.status().as_u16() {
        206 if part.continues(headers, file.size) => {}
        206 | 416 if part.len > 0 => {
            part.restart()?;
            let error = answer(url, "it does not continue the file; it is fetched from the start");
            return Err(Failure::Again(error, None));
        }
        200 => {
            check_length(url, headers, file.size)?;
            part.restart()?;
        }
        status => return Err(answer(url, &format!("status {status} for a whole file")).into()),
    }
    part.keep_etag(response.headers())?;
    let mut body = response.into_body().into_reader();
    let mut buffer = vec![0; 256 << 10];
    loop {
        if on_bytes(part.len).is_break() {
            return Err(HubError::Stopped.into());
        }
        match body.read(&mut buffer) {
            Ok(0) if part.len == file.size => return Ok(()),
            Ok(0) => {
                let problem = format!("the connection ended after {} of {} bytes", part.len, file.size);
                return Err(Failure::Again(HubError::Network { url: shown(url), problem }, None));
            }
            Ok(n) if part.len + n as u64 > file.size => {
                let found = part.len + n as u64;
                part.restart()?;
                return Err(HubError::Length { url: shown(url), expected: file.size, found }.into());
            }
            Ok(n) => part.append(&buffer[..n])?,
            Err(error) => return Err(broken(url, &ureq::Error::from(error))),
        }
    }
}

/// Refuses an answer that announces another length than the repository lists.
fn check_length(url: &str, headers: &HeaderMap, expected: u64) -> Result<(), HubError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match announced {
        Some(found) if found != expected => Err(HubError::Length { url: shown(url), expected, found }),
        _ => Ok(()),
    }
}

/// The bytes that are there: `BLOB.part`, and `BLOB.part.etag` with the server's mark of the content that they are from.
struct Part {
    path: PathBuf,
    file: File,
    len: u64,
    hasher: Hasher,
    etag: Option<String>,
    digest: Digest,
    size: u64,
}

impl Part {
    fn open(blob: &Path, wanted: &RemoteFile) -> Result<Part, HubError> {
        let path = with_ending(blob, ".part");
        let file = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.map_err(HubError::file("write", &path))?;
        let etag = fs::read_to_string(with_ending(&path, ".etag")).ok();
        let hasher = Hasher::new(&wanted.digest, wanted.size);
        let (digest, size) = (wanted.digest.clone(), wanted.size);
        let mut part = Part { path, file, len: 0, hasher, etag, digest, size };
        part.read_back()?;
        Ok(part)
    }

    /// Computes the checksum of the bytes that are there.
    fn read_back(&mut self) -> Result<(), HubError> {
        let mut buffer = vec![0; 1 << 20];
        loop {
            let n = self.file.read(&mut buffer).map_err(HubError::file("read", &self.path))?;
            if n == 0 {
                return Ok(());
            }
            self.len += n as u64;
            if self.len > self.size {
                return self.restart();
            }
            self.hasher.update(&buffer[..n]);
        }
    }

    /// The headers of a request for the bytes that lack.
    fn headers(&self) -> Vec<(HeaderName, String)> {
        // Compressed bytes could not be continued.
        let mut headers = vec![(ACCEPT_ENCODING, "identity".to_owned())];
        if self.len > 0 {
            headers.push((RANGE, format!("bytes={}-", self.len)));
            // A weak mark may not be used here (RFC 9110, 13.1.5).
            headers.extend(
                self.etag.iter().filter(|etag| !etag.starts_with("W/")).map(|etag| (IF_RANGE, etag.clone())),
            );
        }
        headers
    }

    /// True if the answer goes on where the part ends, with the same content.
    fn continues(&self, headers: &HeaderMap, size: u64) -> bool {
        let range = headers.get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let range = range.and_then(|range| range.trim().strip_prefix("bytes "));
        let Some((bytes, total)) = range.and_then(|range| range.split_once('/')) else { return false };
        let starts = bytes.split_once('-').is_some_and(|(from, _)| from.parse() == Ok(self.len));
        let fits = total == "*" || total.parse() == Ok(size);
        let etag = headers.get(ETAG).and_then(|etag| etag.to_str().ok());
        let is_same = self.etag.as_deref().zip(etag).is_none_or(|(before, now)| before == now);
        starts && fits && is_same
    }

    /// Remembers the mark of the content for a later request, also by another process.
    fn keep_etag(&mut self, headers: &HeaderMap) -> Result<(), HubError> {
        let etag = headers.get(ETAG).and_then(|etag| etag.to_str().ok()).filter(|etag| etag.len() <= 1024);
        self.etag = etag.map(str::to_owned);
        let path = with_ending(&self.path, ".etag");
        match &self.etag {
            Some(etag) => fs::write(&path, etag).map_err(HubError::file("write", &path)),
            None => {
                let _ = fs::remove_file(&path);
                Ok(())
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file.write_all(bytes).map_err(HubError::file("write", &self.path))?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Drops all bytes.
    fn restart(&mut self) -> Result<(), HubError> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map_err(HubError::file("write", &self.path))?;
        self.len = 0;
        self.hasher = Hasher::new(&self.digest, self.size);
        Ok(())
    }

    /// The checksum of the bytes that are there.
    fn digest(&self) -> String {
        self.hasher.clone().digits()
    }

    /// Gives the complete file its name.
    fn finish(self, blob: &Path) -> Result<(), HubError> {
        let renamed: io::Result<()> = self.file.sync_all().and_then(|()| fs::rename(&self.path, blob));
        renamed.map_err(HubError::file("write", blob))?;
        let _ = fs::remove_file(with_ending(&self.path, ".etag"));
        Ok(())
    }

    fn delete(&self) {
        for path in [self.path.clone(), with_ending(&self.path, ".etag")] {
            let _ = fs::remove_file(path);
        }
    }
}

/// A path with an ending after its name.
pub(super) fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(ending);
    name.into()
}

/// The checksum of bytes so far.
#[derive(Clone)]
enum Hasher {
    Sha256(sha2::Sha256),
    Git(sha1::Sha1),
}

impl Hasher {
    fn new(digest: &Digest, size: u64) -> Hasher {
        match digest {
            Digest::Sha256(_) => Hasher::Sha256(sha2::Sha256::new()),
            Digest::Git(_) => Hasher::Git(sha1::Sha1::new_with_prefix(format!("blob {size}\0"))),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Git(hasher) => hasher.update(bytes),
        }
    }

    fn digits(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        match self {
            Hasher::Sha256(hasher) => hex(&hasher.finalize()),
            Hasher::Git(hasher) => hex(&hasher.finalize()),
        }
    }
}
