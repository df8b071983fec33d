//! Attributes and items. In Jinja2, the methods of Python's values are attributes, and come before
//! the items of a dictionary: `schema.items is defined` is true for every dictionary.

use super::budget::charge;
use super::methods;
use indexmap::IndexMap;
use minijinja::value::{Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, State};
use std::sync::Arc;

const OF_DICTIONARIES: [&str; 6] = ["copy", "fromkeys", "get", "items", "keys", "values"];
const OF_LISTS: [&str; 3] = ["copy", "count", "index"];
const OF_TUPLES: [&str; 2] = ["count", "index"];
const OF_TEXTS: [&str; 47] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "maketrans",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "translate",
    "upper",
    "zfill",
];
/// Methods that change a dictionary: transformers hides them, and the items of those names.
const HIDDEN: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];

/// Whether this attribute can be a method.
pub(super) fn may_be_method(name: &str) -> bool {
    [&OF_DICTIONARIES[..], &OF_LISTS, &OF_TEXTS, &HIDDEN]
        .iter()
        .any(|names| names.contains(&name))
}

/// A method, bound to a value.
#[derive(Debug)]
struct Method {
    value: Value,
    name: String,
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State, args: &[Value]) -> Result<Value, Error> {
        self.value.call_method(state, &self.name, args)
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<built-in method {}>", self.name)
    }
}

/// Whether a value is a dictionary, as opposed to a namespace or loop, whose own names come first.
pub(super) fn is_dictionary(value: &Value) -> bool {
    value
        .downcast_object_ref::<IndexMap<Value, Value>>()
        .is_some()
}

fn method(value: &Value, name: &str) -> Option<Value> {
    let names = match value.kind() {
        ValueKind::String => &OF_TEXTS[..],
        ValueKind::Map if is_dictionary(value) => &OF_DICTIONARIES,
        ValueKind::Seq if value.is_tuple() => &OF_TUPLES,
        ValueKind::Seq => &OF_LISTS,
        _ => &[],
    };
    let method = || Method {
        value: value.clone(),
        name: name.into(),
    };
    names.contains(&name).then(|| Value::from_object(method()))
}

/// `value.name`, where the name may be a method.
pub(super) fn attribute(value: &Value, name: &str) -> Result<Value, Error> {
    if is_dictionary(value) && HIDDEN.contains(&name) {
        return Ok(Value::UNDEFINED);
    }
    match method(value, name) {
        Some(method) => Ok(method),
        None => value.get_attr(name),
    }
}

/// `value[key]`.
pub(super) fn item(state: &mut State, value: &Value, key: &Value) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        charge(state, text.len())?;
        if let Some(at) = key.as_i64().filter(|_| !key.is_undefined()) {
            let found = match usize::try_from(at) {
                Ok(at) => text.chars().nth(at),
                Err(_) => text.chars().rev().nth(at.unsigned_abs() as usize - 1),
            };
            return Ok(found.map_or(Value::UNDEFINED, |found| String::from(found).into()));
        }
    }
    let found = value.get_item(key)?;
    match key.as_str().filter(|_| found.is_undefined()) {
        Some(name) if !HIDDEN.contains(&name) => Ok(method(value, name).unwrap_or(found)),
        _ => Ok(found),
    }
}

/// Calls a method that minijinja does not have; text that it makes counts against the budget.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    name: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if value.kind() == ValueKind::String {
        let bytes = super::budget::grown(name, value, args)?;
        charge(state, bytes)?;
    }
    methods::call(state, value, name, args)
}
