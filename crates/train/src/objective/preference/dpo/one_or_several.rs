//! A key that holds a word, or a list of words.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::StrDeserializer;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Reads a word, or a list of words.
pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    from.deserialize_any(Words(PhantomData))
}

/// Writes one word as a word, several as a list.
pub fn serialize<T: Serialize, S: Serializer>(words: &[T], to: S) -> Result<S::Ok, S::Error> {
    match words {
        [word] => word.serialize(to),
        words => words.serialize(to),
    }
}

struct Words<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Words<T> {
    type Value = Vec<T>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a word, or a list of words")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
        Ok(vec![T::deserialize(StrDeserializer::new(word))?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut words: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(word) = words.next_element()? {
            found.push(word);
        }
        Ok(found)
    }
}
