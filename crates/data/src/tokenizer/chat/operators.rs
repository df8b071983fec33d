//! Python's operators: which types they take, which they reject, and what they cost.

use super::budget::{ENTRY, PLAIN, charge, charge_all, cost, size};
use super::methods::bad;
use super::python::text;
use super::{access, methods};
use indexmap::IndexMap;
use minijinja::value::{Rest, Tuple, Value, ValueKind};
use minijinja::{Environment, Error, State, context};
use std::cmp::Ordering;

type Result<T> = std::result::Result<T, Error>;

// Names of filters that no template can write.
pub(super) const CONCAT: &str = "~";
pub(super) const ADD: &str = "+";
pub(super) const MULTIPLY: &str = "*";
pub(super) const REMAINDER: &str = "%";
pub(super) const EQUAL: &str = "==";
pub(super) const UNEQUAL: &str = "!=";
pub(super) const LESS: &str = "<";
pub(super) const AT_MOST: &str = "<=";
pub(super) const GREATER: &str = ">";
pub(super) const AT_LEAST: &str = ">=";
pub(super) const IN: &str = "in!";
pub(super) const SLICE: &str = "[:]";
pub(super) const ITEM: &str = "[]!";
pub(super) const ATTRIBUTE: &str = ".";
pub(super) const LOOP: &str = "for!";
pub(super) const LIST: &str = "[]";
pub(super) const TUPLE: &str = "()";
pub(super) const MAP: &str = "{}";

/// Adds them to an environment as filters.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_filter(CONCAT, |state: &mut State, a: Value, b: Value| {
        charge(state, cost(&a)? + cost(&b)?)?;
        Ok::<_, Error>([text(&a)?, text(&b)?].concat())
    });
    environment.add_filter(ADD, add);
    environment.add_filter(MULTIPLY, multiply);
    environment.add_filter(REMAINDER, remainder);
    environment.add_filter(EQUAL, |state: &mut State, a: Value, b: Value| {
        charge(state, size(&a).min(size(&b)))?;
        Ok::<_, Error>(a == b)
    });
    environment.add_filter(UNEQUAL, |state: &mut State, a: Value, b: Value| {
        charge(state, size(&a).min(size(&b)))?;
        Ok::<_, Error>(a != b)
    });
    environment.add_filter(LESS, |a: Value, b: Value| {
        Ok::<_, Error>(order(&a, &b)?.is_lt())
    });
    environment.add_filter(AT_MOST, |a: Value, b: Value| {
        Ok::<_, Error>(order(&a, &b)?.is_le())
    });
    environment.add_filter(GREATER, |a: Value, b: Value| {
        Ok::<_, Error>(order(&a, &b)?.is_gt())
    });
    environment.add_filter(AT_LEAST, |a: Value, b: Value| {
        Ok::<_, Error>(order(&a, &b)?.is_ge())
    });
    environment.add_filter(IN, |state: &mut State, a: Value, b: Value| {
        charge(state, size(&b))?;
        is_in(&a, &b)
    });
    environment.add_filter(
        SLICE,
        |state: &mut State, a: Value, b: Value, c: Value, d: Value| slice(state, &a, [b, c, d]),
    );
    environment.add_filter(ITEM, |state: &mut State, a: Value, b: Value| {
        access::item(state, &a, &b)
    });
    environment.add_filter(ATTRIBUTE, |a: Value, name: &str| {
        access::attribute(&a, name)
    });
    environment.add_filter(LOOP, |a: Value| methods::iterated(&a).cloned());
    environment.add_filter(LIST, |state: &mut State, Rest(items): Rest<Value>| {
        charge_all(state, &items)?;
        Ok::<_, Error>(Value::from(items))
    });
    environment.add_filter(TUPLE, |state: &mut State, Rest(items): Rest<Value>| {
        charge_all(state, &items)?;
        Ok::<_, Error>(Value::from(Tuple::from(items)))
    });
    environment.add_filter(MAP, |state: &mut State, Rest(items): Rest<Value>| {
        charge_all(state, &items)?;
        let pairs = items.as_chunks::<2>().0.iter().cloned();
        let map: IndexMap<Value, Value> = pairs.map(|[key, value]| (key, value)).collect();
        Ok::<_, Error>(Value::from_object(map))
    });
}

fn unsupported(operator: &str, a: &Value, b: &Value) -> Error {
    bad(format!("{operator} of {} and {}", a.kind(), b.kind()))
}

/// Adds texts, lists and tuples, each only to its own kind. Text added to markup (`safe`) is
/// escaped, as markupsafe does.
fn add(state: &mut State, a: Value, b: Value) -> Result<Value> {
    charge(state, size(&a).saturating_add(size(&b)))?;
    if let (Some(left), Some(right)) = (a.as_str(), b.as_str()) {
        if !a.is_safe() && !b.is_safe() {
            return Ok([left, right].concat().into());
        }
        // Escaping turns a character into five.
        charge(state, 4 * (left.len() + right.len()))?;
        let mut both = String::new();
        for (value, text) in [(&a, left), (&b, right)] {
            if value.is_safe() {
                both += text
            } else {
                escape(text, &mut both)
            }
        }
        return Ok(Value::from_safe_string(both));
    }
    match (a.kind(), b.kind()) {
        (ValueKind::Seq, ValueKind::Seq) if a.is_tuple() == b.is_tuple() => {
            let items: Vec<Value> = a.try_iter()?.chain(b.try_iter()?).collect();
            if a.is_tuple() {
                Ok(Value::from(Tuple::from(items)))
            } else {
                Ok(items.into())
            }
        }
        (ValueKind::Number | ValueKind::Bool, ValueKind::Number | ValueKind::Bool) => {
            operate(state, "a + b", a, b)
        }
        _ => Err(unsupported("+", &a, &b)),
    }
}

fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '&' => *out += "&amp;",
            '<' => *out += "&lt;",
            '>' => *out += "&gt;",
            '\'' => *out += "&#39;",
            '"' => *out += "&#34;",
            character => out.push(character),
        }
    }
}

fn multiply(state: &mut State, a: Value, b: Value) -> Result<Value> {
    let is_whole = |value: &Value| value.is_integer() || value.kind() == ValueKind::Bool;
    let (many, count) = if is_whole(&a) { (&b, &a) } else { (&a, &b) };
    let count = match i128::try_from(count.clone()) {
        Ok(count) if is_whole(&a) || is_whole(&b) => {
            usize::try_from(count.max(0)).unwrap_or(usize::MAX)
        }
        _ => 0,
    };
    if matches!(many.kind(), ValueKind::String | ValueKind::Seq) {
        if !is_whole(&a) && !is_whole(&b) {
            return Err(unsupported("*", &a, &b));
        }
        charge(state, size(many).saturating_mul(count))?;
    }
    if let Some(text) = many.as_str() {
        let repeated = text.repeat(count);
        return Ok(if many.is_safe() {
            Value::from_safe_string(repeated)
        } else {
            repeated.into()
        });
    }
    if many.kind() == ValueKind::Seq {
        let items: Vec<Value> = many.try_iter()?.collect();
        let repeated: Vec<Value> = std::iter::repeat_n(items, count).flatten().collect();
        return Ok(if many.is_tuple() {
            Value::from(Tuple::from(repeated))
        } else {
            repeated.into()
        });
    }
    operate(state, "a * b", a, b)
}

/// The remainder of numbers; for a text, Python's `%` formatting.
fn remainder(state: &mut State, a: Value, b: Value) -> Result<Value> {
    if a.as_str().is_none() {
        return operate(state, "a % b", a, b);
    }
    let mut all = vec![a];
    if b.is_tuple() {
        all.extend(b.try_iter()?)
    } else {
        all.push(b)
    }
    charge(state, super::budget::grown("format", &all[0], &all[1..])?)?;
    PLAIN.empty_state().apply_filter("format", &all)
}

/// Orders two numbers, two texts or two lists; nothing else can be ordered.
pub(super) fn order(a: &Value, b: &Value) -> Result<Ordering> {
    let is_number = |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
    match (a.kind(), b.kind()) {
        (ValueKind::String, ValueKind::String) => Ok(a.as_str().cmp(&b.as_str())),
        (ValueKind::Seq, ValueKind::Seq) if a.is_tuple() == b.is_tuple() => Ok(a.cmp(b)),
        _ if is_number(a) && is_number(b) => Ok(a.cmp(b)),
        _ => Err(unsupported("order", a, b)),
    }
}

pub(super) fn is_in(a: &Value, b: &Value) -> Result<bool> {
    match (b.as_str(), b.kind()) {
        (Some(text), _) => a
            .as_str()
            .map(|part| text.contains(part))
            .ok_or_else(|| unsupported("in", a, b)),
        (_, ValueKind::Undefined) => Ok(false),
        (_, ValueKind::Map) => Ok(b.as_object().is_some_and(|map| map.get_value(a).is_some())),
        (_, ValueKind::Seq | ValueKind::Iterable) => Ok(b.try_iter()?.any(|item| item == *a)),
        _ => Err(unsupported("in", a, b)),
    }
}

/// Python's `value[start:stop:step]`. minijinja's own fails for an empty value and a negative step,
/// and keeps an index out of range as the nearest.
fn slice(state: &mut State, value: &Value, [start, stop, step]: [Value; 3]) -> Result<Value> {
    let number = |value: &Value| {
        if value.is_none() {
            Ok(None)
        } else {
            i64::try_from(value.clone()).map(Some)
        }
    };
    let (start, stop, step) = (number(&start)?, number(&stop)?, number(&step)?.unwrap_or(1));
    if step == 0 {
        return Err(bad("cannot slice by step size of 0"));
    }
    charge(state, size(value))?;
    let within = |length: usize| {
        let length = length as i64;
        let (low, high) = if step > 0 {
            (0, length)
        } else {
            (-1, length - 1)
        };
        let (first, last) = if step > 0 { (low, high) } else { (high, low) };
        let place = |at: i64| (if at < 0 { at + length } else { at }).clamp(low, high);
        let (start, stop) = (start.map_or(first, place), stop.map_or(last, place));
        let places = std::iter::successors(Some(start), move |at| at.checked_add(step));
        let places = places.take_while(move |&at| if step > 0 { at < stop } else { at > stop });
        places.map(|at| at as usize)
    };
    if let Some(text) = value.as_str() {
        let characters: Vec<char> = text.chars().collect();
        let some: String = within(characters.len()).map(|at| characters[at]).collect();
        return Ok(if value.is_safe() {
            Value::from_safe_string(some)
        } else {
            some.into()
        });
    }
    let items: Vec<Value> = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.collect(),
        kind => return Err(bad(format!("value of type {kind} cannot be sliced"))),
    };
    charge(state, items.len() * ENTRY)?;
    let some: Vec<Value> = within(items.len()).map(|at| items[at].clone()).collect();
    if value.is_tuple() {
        Ok(Value::from(Tuple::from(some)))
    } else {
        Ok(Value::from(some))
    }
}

/// minijinja's own operation.
fn operate(state: &State, expression: &'static str, a: Value, b: Value) -> Result<Value> {
    let expression = state.env().compile_expression(expression)?;
    expression.eval(context! { a, b })
}
