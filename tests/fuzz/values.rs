//! Values that often cause bugs, and the words that occur in the corpus.

use std::collections::BTreeSet;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::{Number, Value};

use crate::corpus::Case;

const NUMBERS: &[&str] = &[
    "-1",
    "0",
    "1",
    "2",
    "3",
    "7",
    "8",
    "16",
    "63",
    "64",
    "65",
    "127",
    "128",
    "199",
    "255",
    "256",
    "257",
    "1000",
    "4096",
    "65535",
    "65536",
    "65537",
    "1000000",
    "16777216",
    "16777217",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-2147483649",
    "-9223372036854775808",
    "0.5",
    "-0.5",
    "1.0",
    "-0.0",
    "0.999999",
    "1e-9",
    "1e-300",
    "4.9e-324",
    "1e300",
    "1.7e308",
    "-1e308",
    "3.5e38",
];
/// Numbers that JSON cannot express.
const OTHER_NUMBERS: &[&str] = &[
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "nan",
    "-inf",
    "0x10",
    "1_000",
    "+1",
    "01",
    "1.",
];

const WORDS: &[&str] = &[
    "",
    "a",
    "0",
    "-1",
    "1e999",
    "none",
    "NONE",
    "all",
    "default",
    "all-linear",
    ".*",
    "(",
    "[",
    "\\",
    "(a+)+$",
    "(?=a)",
    "a{1000}",
    "a{1000}{1000}",
    "../x",
    "/etc/passwd",
    "h",
    "transformer.h.0.attn.c_attn",
    "\0",
    "\u{feff}",
    "é日🦀",
    "\u{202e}",
    "F32",
    "F16",
    "BF16",
    "F64",
    "I64",
    "F8_E4M3",
    "<|endoftext|>",
    "\r\n",
    "\u{fffd}",
    "U32",
    "BOOL",
    "transformer",
    "lm_head",
    "wte",
];

/// Pieces of Jinja.
const TEMPLATES: &[&str] = &[
    "{% for i in range(1000) %}",
    "{% for m in messages %}",
    "{% endfor %}",
    "{% if loop.first %}",
    "{% endif %}",
    "{% else %}",
    "{{ messages[0]['content'] }}",
    "{{ messages | tojson }}",
    "{{ messages | tojson(indent=4) }}",
    "{% set ns = namespace(x=1) %}",
    "{% set x = x ~ x %}",
    "{{ x * 1000 }}",
    "{{ raise_exception('no') }}",
    "{{ strftime_now('%Y') }}",
    "{{ strftime_now('%') }}",
    "{% generation %}",
    "{% endgeneration %}",
    "{% macro m(a) %}",
    "{% endmacro %}",
    "{{ m(1) }}",
    "{{ messages[1:][0].role.upper() }}",
    "{% break %}",
    "{% continue %}",
    "{{ 'a'.split(',') }}",
    "{{ [1,2,3] | sum }}",
    "{{ 1 / 0 }}",
    "{{ 9223372036854775807 + 1 }}",
    "{{ 'x' | indent(99999999) }}",
    "{{ '%s' | format('x') }}",
    "{{ messages | batch(0) }}",
    "{{ messages | slice(0) }}",
    "{#",
    "{%-",
    "-%}",
    "{{ 2 ** 64 }}",
    "{{ -1 % 0 }}",
    "{{ range(1, 10, 0) }}",
    "{{ 'abc'[::-1] }}",
    "{{ 'abc'[::0] }}",
    "{{ x.y.z }}",
    "{{ loop.index }}",
    "{% include 'x' %}",
    "{{ self }}",
    "{% filter upper %}",
    "{% endfilter %}",
    "{{ 'é'.center(10) }}",
    "{{ ('a' * 99999999999) }}",
];

/// The replacements: among others the keys and values of the corpus.
pub struct Values {
    keys: Vec<String>,
    found: Vec<Value>,
}

impl Values {
    /// The keys and values of a corpus. Only JSON and TOML files are searched.
    pub fn of<'a>(cases: impl Iterator<Item = &'a Case>) -> Self {
        let (mut keys, mut found) = (BTreeSet::new(), BTreeSet::new());
        for (name, bytes) in cases.flatten() {
            let text = String::from_utf8_lossy(bytes);
            let value: Option<Value> = match name.rsplit_once('.').map_or("", |(_, end)| end) {
                "json" => serde_json::from_str(&text).ok(),
                "toml" => toml::from_str(&text).ok(),
                _ => None,
            };
            if let Some(value) = value {
                gather(&value, &mut keys, &mut found);
            }
        }
        let found = found
            .iter()
            .map(|text| serde_json::from_str(text).unwrap_or_default());
        Self {
            keys: keys.into_iter().collect(),
            found: found.collect(),
        }
    }

    /// A number, usually one that JSON can express.
    pub fn number(&self, rng: &mut ChaCha8Rng) -> String {
        match rng.random_range(0..8) {
            0 => pick(rng, OTHER_NUMBERS).into(),
            1 => rng.random::<i64>().to_string(),
            2 => rng.random_range(0..300).to_string(),
            _ => pick(rng, NUMBERS).into(),
        }
    }

    /// A key of the corpus.
    pub fn key(&self, rng: &mut ChaCha8Rng) -> String {
        self.keys.choose(rng).cloned().unwrap_or_default()
    }

    /// A word, or a piece of a template.
    pub fn word(&self, rng: &mut ChaCha8Rng) -> String {
        match rng.random_range(0..8) {
            0 => "ab".repeat(rng.random_range(1..2000)),
            1 => self.key(rng),
            2 => pick(rng, TEMPLATES).into(),
            3 => self
                .found
                .choose(rng)
                .map_or("", |value| value.as_str().unwrap_or_default())
                .into(),
            _ => pick(rng, WORDS).into(),
        }
    }

    /// A JSON value.
    pub fn value(&self, rng: &mut ChaCha8Rng) -> Value {
        match rng.random_range(0..12) {
            0 => Value::Null,
            1 => rng.random::<bool>().into(),
            2..=5 => json_number(pick(rng, NUMBERS)),
            6 => self.word(rng).into(),
            7 => Value::Array(vec![]),
            8 => Value::Object(Default::default()),
            9 => nested(rng.random_range(1..200)),
            _ => self.found.choose(rng).cloned().unwrap_or_default(),
        }
    }
}

fn gather(value: &Value, keys: &mut BTreeSet<String>, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                keys.insert(key.clone());
                gather(value, keys, found);
            }
        }
        Value::Array(list) => list
            .iter()
            .take(20)
            .for_each(|value| gather(value, keys, found)),
        _ => {}
    }
    // Values are stored as text, so that they have an order.
    let text = value.to_string();
    if text.len() < 200 {
        found.insert(text);
    }
}

/// The number, or null if JSON cannot express it.
pub fn json_number(text: &str) -> Value {
    let number = text.parse::<Number>();
    number.map_or(Value::Null, Value::Number)
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
}

/// One of these texts.
pub fn pick<'a>(rng: &mut ChaCha8Rng, from: &[&'a str]) -> &'a str {
    from.choose(rng).copied().unwrap_or_default()
}
