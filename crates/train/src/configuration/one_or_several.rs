//! A key that holds a text or a list of texts.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, or a list of texts")]
enum OneOrSeveral {
    One(String),
    Several(Vec<String>),
}

/// Reads a text, or a list of texts.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    let texts = Option::<OneOrSeveral>::deserialize(from)?;
    Ok(texts.map(|texts| match texts {
        OneOrSeveral::One(text) => vec![text],
        OneOrSeveral::Several(texts) => texts,
    }))
}

/// Writes a single text as a string, several as a list.
pub fn serialize<S: Serializer>(texts: &Option<Vec<String>>, to: S) -> Result<S::Ok, S::Error> {
    match texts.as_deref() {
        Some([text]) => Some(text).serialize(to),
        texts => texts.serialize(to),
    }
}
