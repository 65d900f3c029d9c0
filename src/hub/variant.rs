//! The models among a list of files: single files, and split files that belong together.

use super::reference::check_path;

/// One model: a file, or all parts of a split one. `T` is what the caller knows of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Variant<T> {
    /// The path without part number and `.gguf`.
    pub stem: String,
    /// The quantization in the name, in upper case, such as `Q4_K_M` or `UD-Q2_K_XL`.
    pub quant: Option<String>,
    /// Number of parts by the names; 1 for a single file.
    pub count: u32,
    /// The files that were found, in order.
    pub files: Vec<T>,
}

impl<T> Variant<T> {
    /// True if no part is missing.
    pub(super) fn is_complete(&self) -> bool {
        self.files.len() == self.count as usize
    }
}

/// Divides files, given by their paths, into models. Files that are no models, such as projectors for images and
/// importance matrices, are left out. The order is that of the paths.
pub(super) fn variants<T>(files: impl IntoIterator<Item = (String, T)>) -> Vec<Variant<T>> {
    let mut found: Vec<(String, u32, u32, T)> = Vec::new();
    for (path, file) in files {
        let Some(stem) = path.strip_suffix(".gguf") else { continue };
        let name = stem.rsplit('/').next().unwrap_or(stem).to_ascii_lowercase();
        if name.is_empty() || name.contains("mmproj") || name.contains("imatrix") {
            continue;
        }
        let (stem, no, count) = split(stem);
        found.push((stem.into(), count, no, file));
    }
    found.sort_by(|a, b| (&a.0, a.1, a.2).cmp(&(&b.0, b.1, b.2)));
    let mut variants: Vec<Variant<T>> = Vec::new();
    for (stem, count, _, file) in found {
        match variants.last_mut() {
            Some(last) if last.stem == stem && last.count == count && count > 1 => last.files.push(file),
            _ => variants.push(Variant { quant: quant(&stem), stem, count, files: vec![file] }),
        }
    }
    variants
}

/// The stem, number and count of a part's stem; number and count are 1 for a single file.
fn split(stem: &str) -> (&str, u32, u32) {
    let parsed = || {
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (name, no) = rest.rsplit_once('-')?;
        let digits = |text: &str| (text.len() == 5).then(|| text.parse::<u32>().ok()).flatten();
        let (no, count) = (digits(no)?, digits(count)?);
        (1..=count).contains(&no).then_some((name, no, count))
    };
    parsed().unwrap_or((stem, 1, 1))
}

/// The quantization that a path names, in its file name or else in its folder's.
fn quant(stem: &str) -> Option<String> {
    stem.rsplit('/').take(2).find_map(|name| {
        let pieces: Vec<&str> = name.split(['-', '.']).collect();
        (0..pieces.len()).rev().find_map(|i| {
            let quant = quant_at_end(pieces[i])?;
            let is_dynamic =
                i > 0 && quant.len() == pieces[i].len() && pieces[i - 1].eq_ignore_ascii_case("UD");
            Some(if is_dynamic { format!("UD-{quant}") } else { quant })
        })
    })
}

/// The longest end of a piece, from its begin or after a `_`, that is the name of a quantization.
fn quant_at_end(piece: &str) -> Option<String> {
    let upper = piece.to_ascii_uppercase();
    let starts = std::iter::once(0).chain(upper.match_indices('_').map(|(at, _)| at + 1));
    starts.map(|at| &upper[at..]).find(|end| is_quant(end)).map(str::to_owned)
}

/// True for `Q4_K_M`, `IQ2_XXS`, `BF16` and their like.
fn is_quant(name: &str) -> bool {
    const PLAIN: [&str; 7] = ["F16", "FP16", "F32", "BF16", "MXFP4", "MXFP4_MOE", "NVFP4"];
    const ENDS: [&str; 11] = ["0", "1", "4", "8", "K", "S", "M", "L", "XL", "XS", "XXS"];
    let numbered = ["IQ", "TQ", "Q"].iter().find_map(|kind| name.strip_prefix(kind));
    let is_numbered = numbered.is_some_and(|rest| {
        let mut parts = rest.split('_');
        let bits = parts.next().unwrap_or_default();
        matches!(bits.as_bytes(), [b'1'..=b'8']) && parts.all(|part| ENDS.contains(&part) || part == "NL")
    });
    is_numbered || PLAIN.contains(&name)
}

/// A condition on a variant.
type Rule<'r, T> = &'r dyn Fn(&Variant<T>) -> bool;

/// The variants that a wish fits: the quantization, else a path, with or without its ending, else the quantization
/// without `UD-`. Upper and lower case are the same.
pub(super) fn fitting<'v, T>(variants: &'v [Variant<T>], wish: &str) -> Vec<&'v Variant<T>> {
    let is = |text: &str| text.eq_ignore_ascii_case(wish);
    let rules: [Rule<'_, T>; 3] = [
        &|variant| variant.quant.as_deref().is_some_and(is),
        &|variant| split(wish.strip_suffix(".gguf").unwrap_or(wish)).0.eq_ignore_ascii_case(&variant.stem),
        &|variant| variant.quant.as_deref().and_then(|quant| quant.strip_prefix("UD-")).is_some_and(is),
    ];
    let fits = rules.iter().map(|rule| variants.iter().filter(|variant| rule(variant)).collect::<Vec<_>>());
    fits.into_iter().find(|fits| !fits.is_empty()).unwrap_or_default()
}

/// The names of variants within their repository: the quantization where it is unique, else the path.
pub(super) fn labels<T>(variants: &[Variant<T>]) -> Vec<String> {
    let is_unique = |quant: &str| variants.iter().filter(|v| v.quant.as_deref() == Some(quant)).count() == 1;
    let label = |variant: &Variant<T>| match &variant.quant {
        Some(quant) if is_unique(quant) => quant.clone(),
        _ => format!("{}.gguf", variant.stem),
    };
    variants.iter().map(label).collect()
}

/// Refuses remote files whose path could leave the cache.
pub(super) fn first_bad_path<'p>(paths: impl Iterator<Item = &'p str>) -> Option<(&'p str, &'static str)> {
    paths.filter_map(|path| check_path(path).err().map(|reason| (path, reason))).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[&str]) -> Vec<Variant<String>> {
        variants(names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())))
    }

    #[test]
    fn quantizations_are_found_in_names() {
        for (stem, expected) in [
            ("Llama-3.2-1B-Instruct-Q4_K_M", Some("Q4_K_M")),
            ("llama-2-7b.Q5_K_S", Some("Q5_K_S")),
            ("qwen2.5-0.5b-instruct-q4_0", Some("Q4_0")),
            ("model_q8_0", Some("Q8_0")),
            ("gpt-oss-20b-mxfp4", Some("MXFP4")),
            ("Qwen3-4B-UD-Q4_K_XL", Some("UD-Q4_K_XL")),
            ("Qwen3-4B-IQ4_NL", Some("IQ4_NL")),
            ("BF16/Qwen3-235B", Some("BF16")),
            ("model-f16", Some("F16")),
            ("Q4_K_M/x-Q8_0", Some("Q8_0")),
            ("model", None),
            ("Qwen3-Q-model", None),
        ] {
            assert_eq!(quant(stem).as_deref(), expected, "{stem}");
        }
    }

    #[test]
    fn split_parts_are_listed_as_one_model() {
        let found = of(&[
            "b/m-Q8_0-00002-of-00003.gguf",
            "mmproj-F16.gguf",
            "x-imatrix.gguf",
            "README.md",
            "a-Q4_0.gguf",
            "b/m-Q8_0-00001-of-00003.gguf",
            "b/m-Q8_0-00003-of-00003.gguf",
            "c-Q8_0-00001-of-00002.gguf",
        ]);
        let stems: Vec<_> = found.iter().map(|v| (v.stem.as_str(), v.files.len(), v.is_complete())).collect();
        assert_eq!(stems, [("a-Q4_0", 1, true), ("b/m-Q8_0", 3, true), ("c-Q8_0", 1, false)]);
        assert!(found[1].files.is_sorted());
        assert_eq!(labels(&found), ["Q4_0", "b/m-Q8_0.gguf", "c-Q8_0.gguf"]);
    }

    #[test]
    fn wishes_fit_whole_quantizations_only() {
        let all = of(&[
            "m-Q4_K_M.gguf",
            "m-Q4_K.gguf",
            "m-IQ4_K_M.gguf",
            "m-UD-Q4_K_XL.gguf",
            "m-F16.gguf",
            "m-BF16.gguf",
        ]);
        let stems = |wish: &str| fitting(&all, wish).iter().map(|v| v.stem.as_str()).collect::<Vec<_>>();
        assert_eq!(stems("q4_k"), ["m-Q4_K"]);
        assert_eq!(stems("Q4_K_M"), ["m-Q4_K_M"]);
        assert_eq!(stems("Q4_K_XL"), ["m-UD-Q4_K_XL"]);
        assert_eq!(stems("f16"), ["m-F16"]);
        assert_eq!(stems("m-BF16.gguf"), ["m-BF16"]);
        assert!(stems("Q4").is_empty());
    }
}
