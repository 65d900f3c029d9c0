//! The demo model with other metadata, on a server of its own.

use rfgraph::gguf::{GgufWriter, Value};
use rfgraph::serve::{Loaded, ModelNames, ServeOptions, Server};
use rfgraph::{Engine, EngineOptions, Gguf, Model, SamplerParams};

use crate::client::engine_options;

/// The demo model whose file has these keys, in place of its own of the same names.
pub fn changed(keys: &[(&str, Value)]) -> Model {
    let demo = Model::demo().unwrap();
    let gguf = demo.gguf();
    let mut file = GgufWriter::new();
    let is_changed = |name: &str| keys.iter().any(|(key, _)| *key == name);
    for (key, value) in gguf.metadata().iter().filter(|(key, _)| !is_changed(key)) {
        file.set(key, value.clone()).unwrap();
    }
    for (key, value) in keys {
        file.set(key, value.clone()).unwrap();
    }
    for tensor in gguf.tensors() {
        file.tensor(&tensor.name, tensor.dtype, tensor.shape, gguf.data(tensor).to_vec()).unwrap();
    }
    let mut bytes = Vec::new();
    file.write(&mut bytes).unwrap();
    Model::from_gguf(Gguf::from_bytes(bytes).unwrap()).unwrap()
}

/// A server with this model, as `demo`.
pub fn serve(model: &Model, options: ServeOptions) -> Server {
    let server = Server::start(ServeOptions { port: 0, ..options }).unwrap();
    let engine = EngineOptions { on_step: Some(server.on_step("demo")), ..engine_options() };
    let engine = Engine::start(model, engine).unwrap();
    let names = ModelNames { id: "demo".into(), aliases: Vec::new() };
    server.set_model(Ok(Loaded::new(engine, names, SamplerParams::default())));
    server
}
