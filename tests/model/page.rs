//! `docs/models.md` is generated from the tables of the code. `RFGRAPH_WRITE_DOCS=1 cargo test --test model page`
//! writes it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use rfgraph::graphs::TABLE;
use rfgraph::model::{ARCHITECTURE_KEYS, Effect, FILE_KEYS, KeyRow};
use rfgraph::tensor::DType;
use rfgraph::text::{ANSWER_MARKERS, END_NAMES, MarkerRole, PRE_TOKENIZERS, TOKENIZER_FAMILIES};

use crate::support::architectures::fixtures;
use crate::support::inside::inside;

/// The reference of each fixture and what it covers: rows of the table in the fixtures' README.
fn references() -> BTreeMap<String, (String, String)> {
    let readme = std::fs::read_to_string(inside("arch/README.md")).unwrap();
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_string()).collect::<Vec<_>>();
    let rows = readme.lines().map(cells).filter(|cells| cells.len() > 5 && cells[1].starts_with('`'));
    rows.map(|cells| (cells[1].trim_matches('`').to_string(), (cells[2].clone(), cells[3].clone()))).collect()
}

fn architectures_table(page: &mut String) {
    let references = references();
    let mut of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for fixture in fixtures() {
        let row = references.get(&fixture.name);
        let (class, exercises) = row.unwrap_or_else(|| {
            panic!("the table of tests/fixtures/arch/README.md lacks the row of {}", fixture.name)
        });
        let line = format!("- `{}` ({class}): {exercises}", fixture.name);
        of.entry(fixture.model().architecture_name().to_string()).or_default().push(line);
    }
    page.push_str(
        "## Architectures\n\nBy `general.architecture`. Tests compare each, on the CPU and on the simulated GPU, with another \
         implementation's logits for tiny\nmodels with random weights. Real devices: [runs](device-runs.md).\n\n",
    );
    page.push_str("| architecture | models | fixtures |\n| --- | --- | --- |\n");
    for row in TABLE {
        let fixtures = of.get(row.name).map_or(0, Vec::len);
        assert!(fixtures > 0, "{} has no fixture in tests/fixtures/arch", row.name);
        writeln!(page, "| `{}` | {} | {fixtures} |", row.name, row.models).unwrap();
    }
    page.push_str(
        "\nA file of another architecture, or with a tensor that its architecture does not read, is refused by \
         name. Keys: [below](#keys).\n\n### Fixtures\n\nIn brackets the class of `transformers` that gave the logits, or another \
         source; llama.cpp's converter made the files, unless\n`tests/fixtures/arch/README.md` says otherwise.\n\n",
    );
    for line in TABLE.iter().flat_map(|row| &of[row.name]) {
        writeln!(page, "{line}").unwrap();
    }
}

fn formats_table(page: &mut String) {
    page.push_str("\n## Formats of weights\n\nEvery format is read bit for bit as ggml reads it (`tests/fixtures/quants`; its README \
         names exceptions) and\nmultiplied in its stored form, on the CPU and on a GPU, by `linear` and by `linear_id`.\n\n");
    page.push_str("| format | elements of a block | bits a weight |\n| --- | --- | --- |\n");
    for dtype in DType::all().filter(|dtype| dtype.is_float()) {
        let (elements, bytes) = (dtype.block_elements(), dtype.block_bytes());
        let bits = 8.0 * bytes as f64 / elements as f64;
        writeln!(page, "| {dtype} | {elements} | {bits:.4} |").unwrap();
    }
}

fn tokenizers_table(page: &mut String) {
    page.push_str("\n## Tokenizers\n\nBy `tokenizer.ggml.model`.\n\n| name | description |\n| --- | --- |\n");
    for (name, what) in TOKENIZER_FAMILIES {
        writeln!(page, "| `{name}` | {what} |").unwrap();
    }
    page.push_str("\nPre-tokenizers of `gpt2`, by `tokenizer.ggml.pre`; another name is refused.\n\n");
    page.push_str("| rule | names |\n| --- | --- |\n");
    for pre_tokenizer in PRE_TOKENIZERS {
        let names: Vec<String> = pre_tokenizer.names().iter().map(|name| format!("`{name}`")).collect();
        writeln!(page, "| {} | {} |", pre_tokenizer.rule(), names.join(", ")).unwrap();
    }
}

fn answers_tables(page: &mut String) {
    page.push_str(
        "\n## Tokens that end an answer\n\nBesides those that a file names by id. A name counts whatever kind the file gives its \
         token.\n\n| token | models | source |\n| --- | --- | --- |\n",
    );
    let code = |text: &str| format!("`{}`", text.replace('|', "\\|").replace('\n', "\\n"));
    for end in END_NAMES {
        writeln!(page, "| {} | {} | {} |", code(end.name), end.models, end.source).unwrap();
    }
    page.push_str(
        "\n## Markers of the parts of answers\n\nBy the models' chat templates. A pair counts for a file whose template or whose \
         vocabulary has both markers.\n\n| part | before it | after it | models |\n| --- | --- | --- | --- |\n",
    );
    for row in ANSWER_MARKERS {
        let part = match row.role {
            MarkerRole::Thoughts => "thoughts",
            MarkerRole::ToolCall => "calls of tools",
            MarkerRole::Text => "text",
            role => panic!("{role:?} has no name on the page"),
        };
        let close = row.close.map_or("(the next one, or the end)".into(), code);
        writeln!(page, "| {part} | {} | {close} | {} |", code(row.open), row.models).unwrap();
    }
}

/// The architectures that look for each key, by its name without the prefix.
fn readers() -> BTreeMap<String, Vec<String>> {
    let mut readers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for fixture in fixtures() {
        let model = fixture.model();
        let name = model.architecture_name();
        for key in &model.keys().read {
            let list = readers.entry(key[name.len() + 1..].to_string()).or_default();
            if !list.iter().any(|known| known == name) {
                list.push(name.to_string());
            }
        }
    }
    readers
}

fn effect(row: &KeyRow) -> String {
    match row.effect {
        Effect::None => "none".into(),
        Effect::Tensors => "none without its tensors".into(),
        Effect::Changes([]) => "changes it".into(),
        Effect::Changes(neutral) => {
            let neutral: Vec<String> = neutral.iter().map(f64::to_string).collect();
            format!("changes it, unless {}", neutral.join(" or "))
        }
        other => panic!("the page has no words for {other:?}"),
    }
}

fn obeyed_by(row: &KeyRow, readers: &BTreeMap<String, Vec<String>>) -> String {
    let mut by: Vec<&String> =
        readers.iter().filter(|(key, _)| row.is_about(key)).flat_map(|(_, names)| names).collect();
    by.sort();
    by.dedup();
    match (row.obeyed_by, row.effect) {
        (Some(part), _) => part.into(),
        _ if by.len() == TABLE.len() => "every architecture".into(),
        _ if by.len() > 6 => format!("{} of {} architectures", by.len(), TABLE.len()),
        _ if !by.is_empty() => by.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        (None, Effect::Changes(_)) => "nothing: refused".into(),
        (None, _) => "nothing: ignored".into(),
    }
}

fn keys_table(page: &mut String) {
    page.push_str(
        "\n## Keys\n\nEvery key that writers of GGUF files produce, older names included. A key that changes the answer is \
         obeyed, or the file is\nrefused by the key's name; a key without effect never refuses a file. An unknown key of the \
         file's architecture is a warning,\nand with `--strict` an error. `rfgraph inspect` shows which keys of a file are \
         obeyed, ignored and unknown, and which values are\nassumed. A list of equal numbers counts as one number.\n\n",
    );
    let readers = readers();
    for (title, rows, readers) in [
        ("Keys of architectures, without the prefix `ARCHITECTURE.`", ARCHITECTURE_KEYS, &readers),
        ("Other keys", FILE_KEYS, &BTreeMap::new()),
    ] {
        writeln!(
            page,
            "### {title}\n\n| key | meaning | effect on the answer | meant where absent | obeyed by |"
        )
        .unwrap();
        page.push_str("| --- | --- | --- | --- | --- |\n");
        for row in rows {
            let (by, effect) = (obeyed_by(row, readers), effect(row));
            writeln!(page, "| `{}` | {} | {effect} | {} | {by} |", row.key, row.what, row.absent).unwrap();
        }
        page.push('\n');
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
}

#[test]
fn models_page_matches_the_tables() {
    let mut page = String::from(
        "# Models\n\nMade from the tables of the code by `tests/model/page.rs`; do not edit.\n\n",
    );
    architectures_table(&mut page);
    formats_table(&mut page);
    tokenizers_table(&mut page);
    answers_tables(&mut page);
    keys_table(&mut page);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/models.md");
    if std::env::var_os("RFGRAPH_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/models.md is out of date: RFGRAPH_WRITE_DOCS=1 cargo test --test model page"
    );
}
