//! `rfgraph launch`: the configuration of a client for a running server.
//!
//! A client is here if its documentation, which `source` names, says how it is pointed to another server.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::error::{CliError, eprintln_quietly};
use super::output::print;

/// Print the configuration of a client for a running server
///
/// Asks the server for its model, and writes no file: the configuration is printed, and what to do with it is said on
/// standard error.
#[derive(Debug, Args)]
pub(super) struct LaunchArgs {
    /// The client
    #[arg(value_enum)]
    client: Client,
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Name of the model [default: the server's]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Key that the server wants. Only its place is printed, not the key
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,
}

/// A client whose configuration is documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Client {
    /// Claude Code
    Claude,
    /// OpenAI's Codex
    Codex,
    /// opencode
    Opencode,
    /// aider
    Aider,
    /// Continue, in editors
    Continue,
    /// The editor Zed
    Zed,
    /// Open WebUI
    OpenWebui,
    /// OpenAI's libraries, and programs that use them
    Openai,
    /// Anthropic's libraries, and programs that use them
    Anthropic,
}

/// A server, as its clients know it.
#[derive(Debug)]
struct Target {
    /// Address without a path.
    url: String,
    model: String,
    n_ctx: u64,
    /// The server wants a key.
    has_key: bool,
}

/// The longest wait for the server.
const DEADLINE: Duration = Duration::from_secs(10);

pub(super) fn run(args: &LaunchArgs) -> Result<(), CliError> {
    let url = base_url(&args.url)?;
    let (model, n_ctx) = ask(&url, args.api_key.as_deref(), args.model.as_deref())?;
    let target = Target { url, model, n_ctx, has_key: args.api_key.is_some() };
    eprintln_quietly(&format!("{} ({})", args.client.advice(), args.client.source()));
    print(args.client.configuration(&target))
}

/// The address without a path: clients add their own.
fn base_url(url: &str) -> Result<String, CliError> {
    let plain = url.trim_end_matches('/').trim_end_matches("/v1");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
    let host = plain.strip_prefix("http://").or_else(|| plain.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && host.chars().all(is_plain) => Ok(plain.to_owned()),
        _ => Err(CliError::Usage(format!(
            "--url is `{}`; it must be an address such as http://127.0.0.1:8080",
            url.escape_debug()
        ))),
    }
}

/// The server's model of this name, or its first, with its context.
fn ask(url: &str, key: Option<&str>, model: Option<&str>) -> Result<(String, u64), CliError> {
    let failed = |reason: String| {
        CliError::Input(format!(
            "no server of rfgraph answers at {url}: {reason}; `rfgraph serve` starts one"
        ))
    };
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(DEADLINE)).build().into();
    let mut request = agent.get(format!("{url}/v1/models"));
    if let Some(key) = key {
        request = request.header("Authorization", format!("Bearer {key}"));
    }
    let text = match request.call() {
        Ok(mut response) => {
            response.body_mut().read_to_string().map_err(|error| failed(error.to_string()))?
        }
        Err(ureq::Error::StatusCode(401)) => {
            return Err(CliError::Input(format!("{url} wants a key: give it with --api-key")));
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    let list: Value = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    let models = list.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
    let id = |model: &Value| model.get("id").and_then(Value::as_str).map(str::to_owned);
    let has = |entry: &&Value, name: &str| {
        let aliases = entry.get("aliases").and_then(Value::as_array);
        id(entry).as_deref() == Some(name) || aliases.is_some_and(|all| all.contains(&name.into()))
    };
    let found = match model {
        Some(name) => models.iter().find(|entry| has(entry, name)),
        None => models.first(),
    };
    let Some((entry, first)) = found.and_then(|entry| Some((entry, id(entry)?))) else {
        let names: Vec<String> = models.iter().filter_map(id).collect();
        let wanted =
            model.map_or_else(|| "a model".to_owned(), |name| format!("a model `{}`", name.escape_debug()));
        return Err(CliError::Input(format!(
            "{url} does not serve {wanted}; it serves: {}",
            names.join(", ")
        )));
    };
    let n_ctx = entry.pointer("/meta/n_ctx").and_then(Value::as_u64).unwrap_or(4096);
    Ok((model.map_or(first, str::to_owned), n_ctx))
}

impl Client {
    /// Instructions for the configuration.
    fn advice(self) -> &'static str {
        match self {
            Client::Claude => "run these lines in a shell, then `claude`",
            Client::Codex => "add this to ~/.codex/config.toml, set RFGRAPH_API_KEY, then run `codex`",
            Client::Opencode => "add this to opencode.json, then run `opencode`",
            Client::Aider => "run these lines in a shell",
            Client::Continue => "add this to ~/.continue/config.yaml",
            Client::Zed => "add this to Zed's settings.json, and set RFGRAPH_API_KEY where Zed starts",
            Client::OpenWebui => "start Open WebUI with these variables",
            Client::Openai | Client::Anthropic => "run these lines in a shell, then the program",
        }
    }

    /// The documentation that says so.
    fn source(self) -> &'static str {
        match self {
            Client::Claude => "https://code.claude.com/docs/en/env-vars",
            Client::Codex => "https://developers.openai.com/codex/config-sample",
            Client::Opencode => "https://opencode.ai/docs/providers",
            Client::Aider => "https://aider.chat/docs/llms/openai-compat.html",
            Client::Continue => "https://docs.continue.dev/customize/model-providers/top-level/openai",
            Client::Zed => "https://zed.dev/docs/ai/llm-providers",
            Client::OpenWebui => "https://docs.openwebui.com/getting-started/env-configuration",
            Client::Openai => "https://github.com/openai/openai-python",
            Client::Anthropic => "https://github.com/anthropics/anthropic-sdk-python",
        }
    }

    fn configuration(self, target: &Target) -> String {
        let Target { url, model, n_ctx, .. } = target;
        // Clients refuse an empty key; a server without keys ignores it.
        let key = if target.has_key { "YOUR_KEY" } else { "none" };
        let openai = format!("{url}/v1");
        let exports = |lines: &[(&str, &str)]| {
            lines.iter().map(|(name, value)| format!("export {name}={}\n", quoted(value))).collect::<String>()
        };
        let pretty = |value: &Value| format!("{value:#}\n");
        match self {
            Client::Claude => exports(&[
                ("ANTHROPIC_BASE_URL", url),
                ("ANTHROPIC_AUTH_TOKEN", key),
                ("ANTHROPIC_MODEL", model),
                ("ANTHROPIC_DEFAULT_OPUS_MODEL", model),
                ("ANTHROPIC_DEFAULT_SONNET_MODEL", model),
                ("ANTHROPIC_DEFAULT_HAIKU_MODEL", model),
            ]),
            Client::Codex => format!(
                "model = {}\nmodel_provider = \"rfgraph\"\n\n[model_providers.rfgraph]\nname = \"rfgraph\"\n\
                 base_url = {}\nenv_key = \"RFGRAPH_API_KEY\"\nwire_api = \"responses\"\n",
                json!(model),
                json!(openai)
            ),
            Client::Opencode => pretty(&json!({
                "$schema": "https://opencode.ai/config.json",
                "provider": {"rfgraph": {
                    "npm": "@ai-sdk/openai-compatible",
                    "name": "rfgraph",
                    "options": {"baseURL": openai, "apiKey": key},
                    "models": {model.as_str(): {"name": model}},
                }},
                "model": format!("rfgraph/{model}"),
            })),
            Client::Aider => {
                let lines = exports(&[("OPENAI_API_BASE", &openai), ("OPENAI_API_KEY", key)]);
                format!("{lines}aider --model {}\n", quoted(&format!("openai/{model}")))
            }
            Client::Continue => format!(
                "name: rfgraph\nversion: 0.0.1\nschema: v1\nmodels:\n  - name: {}\n    provider: openai\n    model: {}\n    \
                 apiBase: {}\n    apiKey: {key}\n",
                json!(model),
                json!(model),
                json!(openai)
            ),
            Client::Zed => pretty(&json!({"language_models": {"openai_compatible": {"rfgraph": {
                "api_url": openai,
                "available_models": [{"name": model, "display_name": model, "max_tokens": n_ctx}],
            }}}})),
            Client::OpenWebui => exports(&[("OPENAI_API_BASE_URL", &openai), ("OPENAI_API_KEY", key)]),
            Client::Openai => exports(&[("OPENAI_BASE_URL", &openai), ("OPENAI_API_KEY", key)]),
            Client::Anthropic => exports(&[("ANTHROPIC_BASE_URL", url), ("ANTHROPIC_API_KEY", key)]),
        }
    }
}

/// A value that a shell takes as it is.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_a_configuration() {
        let target = Target {
            url: "http://127.0.0.1:8080".into(),
            model: "it's \"demo\"".into(),
            n_ctx: 512,
            has_key: false,
        };
        let all: Vec<String> = Client::value_variants()
            .iter()
            .map(|client| format!("# {client:?}: {}\n{}", client.advice(), client.configuration(&target)))
            .collect();
        insta::assert_snapshot!(all.join("\n"));
    }

    /// A name with quotes stays one value in each notation.
    #[test]
    fn configurations_are_well_formed() {
        let model = "a 'b' \"c\" \\ $(d)";
        let target = Target { url: "http://[::1]:1".into(), model: model.into(), n_ctx: 9, has_key: true };
        let of = |client: Client| client.configuration(&target);
        let opencode: Value = serde_json::from_str(&of(Client::Opencode)).unwrap();
        assert_eq!(opencode["provider"]["rfgraph"]["models"][model]["name"], model);
        let zed: Value = serde_json::from_str(&of(Client::Zed)).unwrap();
        assert_eq!(
            zed["language_models"]["openai_compatible"]["rfgraph"]["available_models"][0]["name"],
            model
        );
        let codex = of(Client::Codex);
        let codex = toml::de::DeTable::parse(&codex).unwrap().into_inner();
        assert_eq!(codex["model"].get_ref().as_str(), Some(model));
        let provider = codex["model_providers"].get_ref().get("rfgraph").unwrap();
        assert_eq!(provider.get_ref().get("wire_api").unwrap().get_ref().as_str(), Some("responses"));
        let script = format!("{}printf %s \"$ANTHROPIC_MODEL\"", of(Client::Claude));
        let shell = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(shell.stdout).unwrap(), model);
    }

    #[test]
    fn addresses_are_plain() {
        for url in ["http://127.0.0.1:8080", "http://127.0.0.1:8080/", "http://127.0.0.1:8080/v1/"] {
            assert_eq!(base_url(url).unwrap(), "http://127.0.0.1:8080");
        }
        for url in
            ["", "127.0.0.1", "ftp://a", "http://", "http://a/b", "http://a b", "http://u@h", "http://a'"]
        {
            assert!(base_url(url).is_err(), "{url}");
        }
    }
}
