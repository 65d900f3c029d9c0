//! `POST /embedding` and `/embeddings`: embeddings in llama-server's own form.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use serde_json::{Value, json};

use crate::model::Pooling;
use crate::serve::apart::apart;
use crate::serve::app::App;
use crate::serve::ask::{Client, submit_embeddings};
use crate::serve::body::Body;
use crate::serve::error::ApiError;
use crate::serve::models::Loaded;
use crate::serve::openai::completions::prompts;
use crate::serve::openai::embeddings::plain;
use crate::serve::parts::{View, collect};
use crate::serve::settings::{given, whole};

const NO_PARTS: View = View { thoughts_apart: false, calls_apart: false };

pub(in crate::serve) async fn embed(
    State(app): State<Arc<App>>,
    Extension(client): Extension<Client>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let client = Client { path: "/embedding", ..client };
    let loaded = app.models.find(body.model()?).await?;
    let norm = whole(&body.0, "embd_normalize", -1, 1024)?.unwrap_or(2);
    let pooling = pooling(&body, &loaded)?;
    let texts = {
        let loaded = Arc::clone(&loaded);
        apart(move || {
            let given = ["content", "input"].into_iter().find_map(|name| Some((name, given(&body.0, name)?)));
            let (name, input) = given.ok_or_else(|| ApiError::invalid("content", "content is missing"))?;
            prompts(&plain(input), loaded.tokenizer(), name)
        })
        .await?
    };
    let replies = submit_embeddings(&app, &loaded, &client, texts, pooling)?;
    let all = collect(replies, NO_PARTS).await?.into_iter().enumerate().map(|(index, whole)| {
        let mut values = whole.embedding;
        normalize(&mut values, norm);
        // A list of one embedding: with another pooling there is one for each token.
        json!({"index": index, "embedding": [values]})
    });
    Ok(Json(all.collect()))
}

/// The pooling that a request names, or the model's.
fn pooling(body: &Body, loaded: &Loaded) -> Result<Pooling, ApiError> {
    match given(&body.0, "pooling").map(|name| name.as_str().unwrap_or_default()) {
        None => loaded.pooling(),
        Some(name) => match Pooling::ALL.into_iter().find(|pooling| pooling.name() == name) {
            Some(pooling) => Ok(pooling),
            None => Err(ApiError::unsupported("pooling", "set it to mean, last or cls")),
        },
    }
}

/// Scales an embedding: -1 leaves it, 0 makes its largest number 32760 as for 16-bit integers, 1 and more make the norm
/// of this order 1.
fn normalize(values: &mut [f32], order: i64) {
    let powers = |p: f64| values.iter().map(|&x| f64::from(x).abs().powf(p)).sum::<f64>();
    let norm = match order {
        ..0 => return,
        0 => values.iter().map(|&x| f64::from(x).abs()).fold(0.0, f64::max) / 32760.0,
        2 => return crate::model::l2_normalize(values),
        p => powers(p as f64).powf(1.0 / p as f64),
    };
    if norm > 0.0 && norm.is_finite() {
        values.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn norms_have_their_orders() {
        for (order, expected) in [
            (-1, [3.0, -4.0]),
            (0, [24570.0, -32760.0]),
            (1, [3.0 / 7.0, -4.0 / 7.0]),
            (2, [0.6, -0.8]),
            (3, [3.0 / 91f32.cbrt(), -4.0 / 91f32.cbrt()]),
        ] {
            let mut values = [3.0, -4.0];
            normalize(&mut values, order);
            let near = values.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs());
            assert!(near, "order {order}: {values:?}, not {expected:?}");
        }
        let mut zeros = [0.0, 0.0];
        normalize(&mut zeros, 1);
        assert_eq!(zeros, [0.0, 0.0]);
    }
}
