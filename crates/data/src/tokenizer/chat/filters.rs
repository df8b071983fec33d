//! Jinja2's filters and tests, where minijinja's differ.

use super::access::{self, is_dictionary};
use super::arguments::bind;
use super::budget::{PLAIN, charge, cost, grown};
use super::json::to_json;
use super::methods::{bad, iterated, strip};
use super::operators::{is_in, order};
use super::python::{lines, text};
use minijinja::filters::{map, reject, select};
use minijinja::value::{Kwargs, Rest, Tuple, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State};
use std::borrow::Cow;
use std::cmp::Ordering;

type Result<T> = std::result::Result<T, Error>;
type Args = Rest<ValueOrKwargs>;

/// Adds them to an environment that already has its limits.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    // Not in Jinja2.
    for name in [
        "bool",
        "chain",
        "lines",
        "pprint",
        "split",
        "urlencode",
        "zip",
    ] {
        environment.remove_filter(name);
    }
    for name in ["startingwith", "endingwith", "int", "safe"] {
        environment.remove_test(name);
    }
    environment.remove_global("debug");
    environment.add_filter("tojson", to_json);
    environment.add_filter("string", |state: &mut State, value: Value| {
        charge(state, cost(&value)?)?;
        let written = text(&value)?.into_owned();
        Ok::<_, Error>(alike(&value, written))
    });
    environment.add_filter("trim", |state: &mut State, value: Value, args: Args| {
        let [characters] = bind("trim", ["chars"], &args.into_values())?;
        charge(state, cost(&value)?)?;
        let written = text(&value)?;
        let short = strip(&written, characters.as_ref(), true, true)?.to_owned();
        Ok::<_, Error>(alike(&value, short))
    });
    environment.add_filter("join", join);
    environment.add_filter("replace", replace);
    environment.add_filter("indent", indent);
    environment.add_filter("sort", sort);
    environment.add_filter("dictsort", dictsort);
    for name in ["default", "d"] {
        environment.add_filter(name, default);
    }
    for name in ["length", "count"] {
        environment.add_filter(name, length);
    }
    for name in ["min", "max", "unique"] {
        environment.add_filter(name, move |state: &mut State, value: Value, args: Args| {
            let names = ["case_sensitive", "attribute"];
            let given = bind(name, names, &args.into_values())?;
            charge(state, cost(iterated(&value)?)?)?;
            let given = names.into_iter().zip(given);
            let given = given.filter_map(|(name, value)| Some((name, value?)));
            let options: Kwargs = given.collect();
            PLAIN
                .empty_state()
                .apply_filter(name, &[value, options.into()])
        });
    }
    environment.add_filter("int", |value: Value, args: Args| {
        let [default, base] = bind("int", ["default", "base"], &args.into_values())?;
        let default = default.unwrap_or_else(|| 0.into());
        let base = base.unwrap_or_else(|| 10.into());
        let value = value
            .as_str()
            .map_or(value.clone(), |text| text.trim().into());
        let options = Kwargs::from_iter([("default", default.clone()), ("base", base)]);
        let done = PLAIN
            .empty_state()
            .apply_filter("int", &[value, options.into()]);
        Ok::<_, Error>(done.unwrap_or(default))
    });
    environment.add_filter("float", |value: Value, args: Args| {
        let [default] = bind("float", ["default"], &args.into_values())?;
        let default = default.unwrap_or_else(|| 0.0.into());
        let value = value
            .as_str()
            .map_or(value.clone(), |text| text.trim().into());
        let done = PLAIN.empty_state().apply_filter("float", &[value]);
        Ok::<_, Error>(done.unwrap_or(default))
    });
    environment.add_filter("items", |value: Value| {
        if value.is_undefined() {
            Ok(Value::from(Vec::<Value>::new()))
        } else {
            minijinja::filters::items(&value)
        }
    });
    for name in ["first", "last"] {
        environment.add_filter(name, move |state: &mut State, value: Value| {
            charge(state, value.as_str().map_or(0, str::len))?;
            match (value.is_undefined(), name) {
                (true, _) => Ok(value),
                (_, "first") => minijinja::filters::first(&value),
                _ => minijinja::filters::last(value),
            }
        });
    }
    // An attribute but not an item, which only namespaces and loops have.
    environment.add_filter("attr", |value: Value, name: &str| {
        if is_dictionary(&value) {
            access::attribute(&value, name).map(|found| match found.kind() {
                ValueKind::Plain => found,
                _ => Value::UNDEFINED,
            })
        } else {
            access::attribute(&value, name)
        }
    });
    environment.add_filter("wordcount", |state: &mut State, value: Value| {
        charge(state, cost(&value)?)?;
        // Python's words consist of letters, digits and underscores.
        let is_between = |c: char| !(c.is_alphanumeric() || c == '_');
        let written = text(&value)?;
        let words = written.split(is_between).filter(|word| !word.is_empty());
        Ok::<_, Error>(words.count())
    });
    environment.add_filter("map", |state: &mut State, value: Value, args: Args| {
        map(state, iterated(&value)?.clone(), args)
    });
    environment.add_filter(
        "select",
        |state: &mut State, value: Value, test: Option<Cow<'_, str>>, args: Args| {
            select(state, iterated(&value)?.clone(), test, args)
        },
    );
    environment.add_filter(
        "reject",
        |state: &mut State, value: Value, test: Option<Cow<'_, str>>, args: Args| {
            reject(state, iterated(&value)?.clone(), test, args)
        },
    );
    tests(environment);
}

fn tests(environment: &mut Environment<'static>) {
    environment.add_test("sequence", |value: &Value| {
        use ValueKind::{Map, Seq, String, Undefined};
        matches!(value.kind(), Map | Seq | String | Undefined)
    });
    environment.add_test("iterable", |value: &Value| {
        !value.is_none() && value.try_iter().is_ok()
    });
    environment.add_test("number", |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
    environment.add_test("callable", |value: &Value| {
        // minijinja's macros are maps, but not dictionaries.
        let is_macro = value.kind() == ValueKind::Map && value.to_string().starts_with("<macro ");
        is_macro || matches!(value.kind(), ValueKind::Plain | ValueKind::Undefined)
    });
    environment.add_test("in", |value: &Value, list: &Value| is_in(value, list));
    for name in ["lt", "lessthan", "<"] {
        environment.add_test(name, |a: &Value, b: &Value| {
            Ok::<_, Error>(order(a, b)?.is_lt())
        });
    }
    for name in ["le", "<="] {
        environment.add_test(name, |a: &Value, b: &Value| {
            Ok::<_, Error>(order(a, b)?.is_le())
        });
    }
    for name in ["gt", "greaterthan", ">"] {
        environment.add_test(name, |a: &Value, b: &Value| {
            Ok::<_, Error>(order(a, b)?.is_gt())
        });
    }
    for name in ["ge", ">="] {
        environment.add_test(name, |a: &Value, b: &Value| {
            Ok::<_, Error>(order(a, b)?.is_ge())
        });
    }
}

/// A text that is markup if the value it was made from is.
fn alike(value: &Value, text: String) -> Value {
    if value.is_safe() {
        Value::from_safe_string(text)
    } else {
        text.into()
    }
}

fn length(state: &mut State, value: Value) -> Result<usize> {
    charge(state, value.as_str().map_or(0, str::len))?;
    match value.kind() {
        ValueKind::Undefined => Ok(0),
        kind => value
            .len()
            .ok_or_else(|| bad(format!("{kind} has no length"))),
    }
}

fn default(value: Value, args: Args) -> Result<Value> {
    let names = ["default_value", "boolean"];
    let [other, also_false] = bind("default", names, &args.into_values())?;
    let also_false = also_false.is_some_and(|also| also.is_true());
    if value.is_undefined() || also_false && !value.is_true() {
        Ok(other.unwrap_or_else(|| "".into()))
    } else {
        Ok(value)
    }
}

fn join(state: &mut State, value: Value, args: Args) -> Result<Value> {
    let [separator, attribute] = bind("join", ["d", "attribute"], &args.into_values())?;
    let separator = separator.unwrap_or_else(|| "".into());
    let separator = text(&separator)?;
    let items = iterated(&value)?;
    let between = separator.len().saturating_mul(items.len().unwrap_or(0));
    charge(state, cost(items)?.saturating_add(between))?;
    let mut parts = Vec::new();
    for item in items.try_iter()? {
        let item = match &attribute {
            Some(attribute) => path(&item, attribute)?,
            None => item,
        };
        parts.push(text(&item)?.into_owned());
    }
    Ok(parts.join(&separator).into())
}

fn replace(state: &mut State, value: Value, args: Args) -> Result<String> {
    let [old, new, count] = bind("replace", ["old", "new", "count"], &args.into_values())?;
    let missing = || Error::from(ErrorKind::MissingArgument);
    let (old, new) = (old.ok_or_else(missing)?, new.ok_or_else(missing)?);
    charge(state, cost(&value)? + cost(&old)? + cost(&new)?)?;
    let (value, old, new) = (text(&value)?, text(&old)?, text(&new)?);
    let (from, to) = (Value::from(&*old), Value::from(&*new));
    charge(state, grown("replace", &Value::from(&*value), &[from, to])?)?;
    let count = match count.filter(|count| !count.is_none()) {
        Some(count) => usize::try_from(i64::try_from(count)?).ok(),
        None => None,
    };
    Ok(match count {
        Some(count) => value.replacen(&*old, &new, count),
        None => value.replace(&*old, &new),
    })
}

fn indent(state: &mut State, value: Value, args: Args) -> Result<Value> {
    let args = args.into_values();
    let [width, first, blank] = bind("indent", ["width", "first", "blank"], &args)?;
    let Some(whole) = value.as_str() else {
        return Err(bad(format!("indent of {}", value.kind())));
    };
    let is_true = |option: Option<Value>| option.is_some_and(|value| value.is_true());
    let (first, blank) = (is_true(first), is_true(blank));
    let width = width.unwrap_or_else(|| 4.into());
    // As in Python, an empty text has one line.
    let ended = format!("{whole}\n");
    let all = lines(&ended, false);
    let each = width
        .as_usize()
        .or(width.as_str().map(str::len))
        .unwrap_or(0);
    charge(
        state,
        whole.len().saturating_add(all.len().saturating_mul(each)),
    )?;
    let indention = match width.as_str() {
        Some(text) => text.to_owned(),
        None => " ".repeat(each),
    };
    let mut out = String::new();
    for (index, line) in all.into_iter().enumerate() {
        out += if index > 0 { "\n" } else { "" };
        if if index == 0 {
            first
        } else {
            blank || !line.is_empty()
        } {
            out += &indention;
        }
        out += line;
    }
    Ok(alike(&value, out))
}

/// The value at a dotted path of an item; numbers are list indices.
fn path(item: &Value, attribute: &Value) -> Result<Value> {
    let Some(path) = attribute.as_str() else {
        return item.get_item(attribute);
    };
    path.split('.')
        .try_fold(item.clone(), |item, part| match part.parse::<usize>() {
            Ok(place) => item.get_item_by_index(place),
            Err(_) => item.get_attr(part),
        })
}

/// The key that a value is sorted by, ignoring the case of texts.
fn folded(value: Value, case_sensitive: bool) -> Value {
    match value.as_str() {
        Some(text) if !case_sensitive => text.to_lowercase().into(),
        _ => value,
    }
}

/// Sorts by the keys; keys that cannot be compared are an error.
fn sorted(mut keyed: Vec<(Vec<Value>, Value)>, reverse: bool) -> Result<Vec<Value>> {
    let mut problem = None;
    let mut compare = |a: &[Value], b: &[Value]| {
        for (a, b) in a.iter().zip(b) {
            match order(a, b) {
                Ok(Ordering::Equal) => {}
                Ok(other) => return other,
                // None and undefined are equal, but cannot be ordered.
                Err(error) if a != b => problem = Some(error),
                Err(_) => {}
            }
        }
        Ordering::Equal
    };
    keyed.sort_by(|(a, _), (b, _)| {
        let order = compare(a, b);
        if reverse { order.reverse() } else { order }
    });
    match problem {
        Some(error) => Err(error),
        None => Ok(keyed.into_iter().map(|(_, item)| item).collect()),
    }
}

fn sort(state: &mut State, value: Value, args: Args) -> Result<Vec<Value>> {
    let names = ["reverse", "case_sensitive", "attribute"];
    let [reverse, case_sensitive, attribute] = bind("sort", names, &args.into_values())?;
    let is_true = |option: Option<Value>| option.is_some_and(|value| value.is_true());
    let case_sensitive = is_true(case_sensitive);
    charge(state, cost(iterated(&value)?)?.saturating_mul(2))?;
    let attributes: Vec<Value> = match attribute.filter(|attribute| !attribute.is_none()) {
        None => Vec::new(),
        Some(attribute) => match attribute.as_str() {
            Some(several) => several.split(',').map(Value::from).collect(),
            None => vec![attribute],
        },
    };
    let key = |item: &Value| -> Result<Vec<Value>> {
        if attributes.is_empty() {
            return Ok(vec![folded(item.clone(), case_sensitive)]);
        }
        let parts = attributes.iter().map(|attribute| path(item, attribute));
        parts
            .map(|part| Ok(folded(part?, case_sensitive)))
            .collect()
    };
    let keyed = value.try_iter()?.map(|item| Ok((key(&item)?, item)));
    sorted(keyed.collect::<Result<_>>()?, is_true(reverse))
}

fn dictsort(state: &mut State, value: Value, args: Args) -> Result<Vec<Value>> {
    let names = ["case_sensitive", "by", "reverse"];
    let [case_sensitive, by, reverse] = bind("dictsort", names, &args.into_values())?;
    let is_true = |option: Option<Value>| option.is_some_and(|value| value.is_true());
    let case_sensitive = is_true(case_sensitive);
    let by = match by.as_ref().map_or(Some("key"), Value::as_str) {
        Some("key") => 0,
        Some("value") => 1,
        _ => return Err(bad("dictsort takes by=\"key\" or by=\"value\"")),
    };
    if value.kind() != ValueKind::Map {
        return Err(bad(format!("dictsort of {}", value.kind())));
    }
    charge(state, cost(&value)?.saturating_mul(2))?;
    let mut keyed = Vec::new();
    for key in value.try_iter()? {
        let pair = [key.clone(), value.get_item(&key)?];
        let by = folded(pair[by].clone(), case_sensitive);
        let pair = Tuple::from(pair);
        keyed.push((vec![by], Value::from(pair)));
    }
    sorted(keyed, is_true(reverse))
}
