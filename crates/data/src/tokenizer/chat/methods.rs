//! The methods of Python's strings, lists and dictionaries.

use super::arguments::bind;
use super::python::{is_space, lines};
use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;

type Result<T> = std::result::Result<T, Error>;

/// Calls a method of a value. Methods that are not here are minijinja's.
pub(super) fn call(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value> {
    if let Some(text) = value.as_str() {
        let done = of_text(text, name, args)?;
        return match done {
            // Markup remains markup.
            Some(new) if value.is_safe() => Ok(marked(new)),
            Some(new) => Ok(new),
            None => unknown_method_callback(state, value, name, args),
        };
    }
    match (value.kind(), name) {
        (ValueKind::Map | ValueKind::Seq, "copy") => {
            bind::<0>("copy", [], args)?;
            Ok(value.clone())
        }
        (ValueKind::Seq, "index") => {
            let [wanted] = bind("index", ["value"], args)?;
            let wanted = wanted.ok_or_else(|| missing("index"))?;
            let found = value.try_iter()?.position(|item| item == wanted);
            found
                .map(Value::from)
                .ok_or_else(|| bad("it is not in the list"))
        }
        _ => unknown_method_callback(state, value, name, args),
    }
}

/// A text as markup; for a list, each of its texts.
fn marked(value: Value) -> Value {
    match (value.as_str(), value.kind()) {
        (Some(text), _) => Value::from_safe_string(text.into()),
        (None, ValueKind::Seq) => match value.try_iter() {
            Ok(items) => items.map(marked).collect(),
            Err(_) => value,
        },
        _ => value,
    }
}

fn of_text(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>> {
    Ok(Some(match name {
        "strip" | "lstrip" | "rstrip" => {
            let [characters] = bind(name, ["chars"], args)?;
            let (left, right) = (name != "rstrip", name != "lstrip");
            strip(text, characters.as_ref(), left, right)?.into()
        }
        "split" | "rsplit" => {
            let [separator, most] = bind(name, ["sep", "maxsplit"], args)?;
            let most = usize::try_from(integer(most.as_ref(), -1)?).unwrap_or(usize::MAX);
            let separator = separator.filter(|separator| !separator.is_none());
            let parts = match separator.as_ref().map(string).transpose()? {
                Some("") => return Err(bad("an empty separator")),
                Some(separator) if name == "split" => {
                    text.splitn(most.saturating_add(1), separator).collect()
                }
                Some(separator) => {
                    let parts = text.rsplitn(most.saturating_add(1), separator);
                    let mut parts: Vec<&str> = parts.collect();
                    parts.reverse();
                    parts
                }
                None if name == "split" => words(text, most),
                None => last_words(text, most),
            };
            list(parts)
        }
        "splitlines" => {
            let [keep] = bind(name, ["keepends"], args)?;
            list(lines(text, keep.is_some_and(|keep| keep.is_true())))
        }
        "replace" => {
            let [old, new, count] = bind(name, ["old", "new", "count"], args)?;
            let (old, new) = (required(name, &old)?, required(name, &new)?);
            match usize::try_from(integer(count.as_ref(), -1)?) {
                Ok(count) => text.replacen(old, new, count).into(),
                Err(_) => text.replace(old, new).into(),
            }
        }
        "startswith" | "endswith" => {
            let [affix, start, end] = bind(name, ["prefix", "start", "end"], args)?;
            let affix = affix.ok_or_else(|| missing(name))?;
            let Some((part, _)) = window(text, start.as_ref(), end.as_ref())? else {
                return Ok(Some(false.into()));
            };
            let is_at = |affix: &Value| {
                let affix = string(affix)?;
                Ok::<_, Error>(match name {
                    "startswith" => part.starts_with(affix),
                    _ => part.ends_with(affix),
                })
            };
            if affix.is_tuple() {
                let mut found = false;
                for affix in affix.try_iter()? {
                    found |= is_at(&affix)?;
                }
                found.into()
            } else {
                is_at(&affix)?.into()
            }
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let [wanted, start, end] = bind(name, ["sub", "start", "end"], args)?;
            let wanted = required(name, &wanted)?;
            let within = window(text, start.as_ref(), end.as_ref())?;
            let (part, before) = within.unwrap_or(("", 0));
            if name == "count" {
                let found = match (wanted, within) {
                    (_, None) => 0,
                    ("", Some(_)) => part.chars().count() + 1,
                    _ => part.matches(wanted).count(),
                };
                return Ok(Some(found.into()));
            }
            let found = match (within, name.starts_with('r')) {
                (None, _) => None,
                (_, true) => part.rfind(wanted),
                (_, false) => part.find(wanted),
            };
            match found {
                Some(at) => (before + part[..at].chars().count()).into(),
                None if name.ends_with("find") => (-1).into(),
                None => return Err(bad("substring not found")),
            }
        }
        "partition" | "rpartition" => {
            let [separator] = bind(name, ["sep"], args)?;
            let separator = required(name, &separator)?;
            if separator.is_empty() {
                return Err(bad("an empty separator"));
            }
            let parts = match (
                name,
                text.split_once(separator),
                text.rsplit_once(separator),
            ) {
                ("partition", Some((before, after)), _) => [before, separator, after],
                ("partition", None, _) => [text, "", ""],
                (_, _, Some((before, after))) => [before, separator, after],
                _ => ["", "", text],
            };
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        "removeprefix" | "removesuffix" => {
            let [affix] = bind(name, ["prefix"], args)?;
            let affix = required(name, &affix)?;
            let shorter = match name {
                "removeprefix" => text.strip_prefix(affix),
                _ => text.strip_suffix(affix),
            };
            shorter.unwrap_or(text).into()
        }
        "capitalize" => {
            bind::<0>(name, [], args)?;
            let mut characters = text.chars();
            let first = characters.next().into_iter().flat_map(char::to_uppercase);
            let first: String = first.collect();
            (first + &characters.as_str().to_lowercase()).into()
        }
        "title" => {
            bind::<0>(name, [], args)?;
            title(text).into()
        }
        "swapcase" => {
            bind::<0>(name, [], args)?;
            let swap = |c: char| {
                if c.is_uppercase() {
                    c.to_lowercase().collect::<String>()
                } else {
                    c.to_uppercase().collect()
                }
            };
            text.chars().map(swap).collect::<String>().into()
        }
        "isspace" => {
            bind::<0>(name, [], args)?;
            (!text.is_empty() && text.chars().all(is_space)).into()
        }
        "join" => {
            let [items] = bind(name, ["iterable"], args)?;
            let items = items.ok_or_else(|| missing(name))?;
            let mut parts = Vec::new();
            for item in iterated(&items)?.try_iter()? {
                parts.push(string(&item)?.to_owned());
            }
            parts.join(text).into()
        }
        "center" | "ljust" | "rjust" | "zfill" => {
            let [width, fill] = bind(name, ["width", "fillchar"], args)?;
            let fill = fill.as_ref().map(string).transpose()?;
            pad(text, name, integer(width.as_ref(), 0)?, fill)?.into()
        }
        _ => return Ok(None),
    }))
}

fn list(parts: Vec<&str>) -> Value {
    parts.into_iter().map(Value::from).collect()
}

/// A text without these characters, or white space, at its ends.
pub(super) fn strip<'a>(
    text: &'a str,
    characters: Option<&Value>,
    left: bool,
    right: bool,
) -> Result<&'a str> {
    let characters = characters.filter(|characters| !characters.is_none());
    let characters = characters.map(string).transpose()?;
    let goes = |c: char| characters.map_or(is_space(c), |characters| characters.contains(c));
    let text = if left {
        text.trim_start_matches(goes)
    } else {
        text
    };
    Ok(if right {
        text.trim_end_matches(goes)
    } else {
        text
    })
}

/// The words of a text: at most this many, and the rest.
fn words(text: &str, most: usize) -> Vec<&str> {
    let (mut words, mut rest) = (Vec::new(), text.trim_start_matches(is_space));
    while !rest.is_empty() {
        match rest.find(is_space).filter(|_| words.len() < most) {
            Some(end) => {
                words.push(&rest[..end]);
                rest = rest[end..].trim_start_matches(is_space);
            }
            None => {
                words.push(rest);
                rest = "";
            }
        }
    }
    words
}

/// The same from the end.
fn last_words(text: &str, most: usize) -> Vec<&str> {
    let (mut words, mut rest) = (Vec::new(), text.trim_end_matches(is_space));
    while !rest.is_empty() {
        let space = rest.char_indices().rev().find(|(_, c)| is_space(*c));
        match space.filter(|_| words.len() < most) {
            Some((at, space)) => {
                words.push(&rest[at + space.len_utf8()..]);
                rest = rest[..at].trim_end_matches(is_space);
            }
            None => {
                words.push(rest);
                rest = "";
            }
        }
    }
    words.reverse();
    words
}

fn title(text: &str) -> String {
    let (mut out, mut within) = (String::new(), false);
    for character in text.chars() {
        if within {
            out.extend(character.to_lowercase())
        } else {
            out.extend(character.to_uppercase())
        }
        within = character.is_uppercase() || character.is_lowercase();
    }
    out
}

fn pad(text: &str, name: &str, width: i64, fill: Option<&str>) -> Result<String> {
    let length = text.chars().count();
    let width = usize::try_from(width).unwrap_or(0);
    let missing = width.saturating_sub(length);
    let fill = fill.unwrap_or(if name == "zfill" { "0" } else { " " });
    if fill.chars().count() != 1 {
        return Err(bad("what is filled with has to be one character"));
    }
    Ok(match name {
        "ljust" => text.to_owned() + &fill.repeat(missing),
        "rjust" => fill.repeat(missing) + text,
        "zfill" => {
            let digits = text.trim_start_matches(['+', '-']);
            let sign = if text.len() - digits.len() == 1 {
                &text[..1]
            } else {
                ""
            };
            format!("{sign}{}{}", fill.repeat(missing), &text[sign.len()..])
        }
        _ => {
            // Python's own rule for an odd number of fill characters.
            let left = missing / 2 + (missing & width & 1);
            fill.repeat(left) + text + &fill.repeat(missing - left)
        }
    })
}

/// The part of a text between two indices, in characters as in slices, and the number of characters
/// before it. `None` if the part begins after the end of the text.
fn window<'a>(
    text: &'a str,
    start: Option<&Value>,
    end: Option<&Value>,
) -> Result<Option<(&'a str, usize)>> {
    if start.is_none() && end.is_none() {
        return Ok(Some((text, 0)));
    }
    let length = text.chars().count() as i64;
    let place = |value: Option<&Value>, default: i64| {
        let at = integer(value, default)?;
        Ok::<_, Error>(if at < 0 { (at + length).max(0) } else { at })
    };
    let (start, end) = (place(start, 0)?, place(end, length)?.min(length));
    if start > length || start > end {
        return Ok(None);
    }
    let byte = |at: i64| {
        let found = text.char_indices().nth(at as usize);
        found.map_or(text.len(), |(byte, _)| byte)
    };
    Ok(Some((&text[byte(start)..byte(end)], start as usize)))
}

fn integer(value: Option<&Value>, default: i64) -> Result<i64> {
    match value.filter(|value| !value.is_none()) {
        None => Ok(default),
        Some(value) if value.is_integer() => i64::try_from(value.clone()),
        Some(value) => Err(bad(format!(
            "{} where an integer is expected",
            value.kind()
        ))),
    }
}

fn string(value: &Value) -> Result<&str> {
    let problem = || bad(format!("{} where a string is expected", value.kind()));
    value.as_str().ok_or_else(problem)
}

fn required<'a>(name: &str, value: &'a Option<Value>) -> Result<&'a str> {
    string(value.as_ref().ok_or_else(|| missing(name))?)
}

/// A value that can be iterated over, but not none, which minijinja would treat as empty.
pub(super) fn iterated(value: &Value) -> Result<&Value> {
    if value.is_none() {
        Err(bad("none is not iterable"))
    } else {
        Ok(value)
    }
}

fn missing(name: &str) -> Error {
    bad(format!("{name} lacks an argument"))
}

pub(super) fn bad(problem: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem.into())
}
