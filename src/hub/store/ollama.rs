//! Models in ollama's store: `manifests/HOST/USER/MODEL/TAG` names the layers, `blobs/sha256-…` holds them.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde::Deserialize;

use super::{Entry, Source};
use crate::hub::reference::is_hex;

/// The largest manifest that is read; real ones have about 1 KB.
const MAX_MANIFEST: u64 = 1 << 20;

/// The host that names leave out, and the user on it.
const HOST: &str = "registry.ollama.ai";
const USER: &str = "library";
const TAG: &str = "latest";

/// The media type of the layer that is a GGUF file.
const MODEL: &str = "application/vnd.ollama.image.model";

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(rename = "mediaType")]
    media_type: String,
    digest: String,
}

pub(super) fn list(store: &Path) -> Vec<Entry> {
    let mut found = Vec::new();
    let root = store.join("manifests");
    for (host, folder) in children(&root) {
        for (user, folder) in children(&folder) {
            for (model, folder) in children(&folder) {
                for (tag, manifest) in children(&folder) {
                    found.extend(entry(store, &manifest, [&host, &user, &model, &tag]));
                }
            }
        }
    }
    found
}

/// Names and paths of what is in a folder.
fn children(folder: &Path) -> Vec<(String, std::path::PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}

fn entry(store: &Path, manifest: &Path, [host, user, model, tag]: [&String; 4]) -> Option<Entry> {
    let mut text = String::new();
    File::open(manifest).ok()?.take(MAX_MANIFEST).read_to_string(&mut text).ok()?;
    let manifest: Manifest = serde_json::from_str(&text).ok()?;
    let mut models = manifest.layers.iter().filter(|layer| layer.media_type == MODEL);
    // A manifest with several models is a split one, which its names alone do not put together.
    let (Some(layer), None) = (models.next(), models.next()) else { return None };
    let digits = layer.digest.strip_prefix("sha256:").filter(|digits| is_hex(digits, 64))?;
    let mut name = model.clone();
    if host != HOST || user != USER {
        name = format!("{user}/{name}");
    }
    if host != HOST {
        name = format!("{host}/{name}");
    }
    let short = if tag == TAG { vec![name.clone()] } else { vec![] };
    let blob = store.join("blobs").join(format!("sha256-{digits}"));
    Entry::new(format!("{name}:{tag}"), Source::Ollama, vec![blob], short)
}
