//! A chat template is someone else's program: how far it may go.
//!
//! minijinja counts steps, but one step can double a text or a list, and sixty doublings fill any
//! memory. So the operations that make something large are exchanged, instruction by instruction
//! (exchange.rs), for filters that first ask whether there is room left.

use super::arguments;
use super::python::{DEPTH, text, too_deep};
use super::{access, methods};
use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State};
use std::sync::LazyLock;

/// Steps of a rendering: a chat of a thousand messages takes some hundred thousand.
pub(super) const STEPS: u64 = 10_000_000;
/// Bytes of text that a rendering may make on its way: a long chat is some megabytes.
pub(super) const BYTES: usize = 128 << 20;
/// What an entry of a list takes.
pub(super) const ENTRY: usize = 16;

/// What a rendering has made so far.
#[derive(Default)]
struct Made(usize);

type Result<T> = std::result::Result<T, Error>;

/// Sets the limits of an environment.
pub(super) fn limit(environment: &mut Environment<'static>) {
    environment.set_fuel(Some(STEPS));
    environment.set_formatter(|out, state, value| {
        charge(state, cost(value)?)?;
        out.write_str(&text(value)?).map_err(Error::from)
    });
    environment.set_unknown_method_callback(access::call);
    for name in GROWING {
        let filter = move |state: &mut State, value: Value, args: Rest<ValueOrKwargs>| {
            let args = args.into_values();
            charge(state, grown(name, &value, &arguments::all(&args)?)?)?;
            if LISTED.contains(&name) {
                methods::iterated(&value)?;
            }
            let all: Vec<Value> = std::iter::once(value).chain(args).collect();
            PLAIN.empty_state().apply_filter(name, &all)
        };
        environment.add_filter(name, filter);
    }
}

/// minijinja's filters whose result can be larger than what they get, or that go through it; but for
/// those that filters.rs has its own of.
const GROWING: [&str; 11] = [
    "upper", "lower", "title", "reverse", "format", "batch", "slice", "list", "escape", "e", "sum",
];

/// Those of them that go through a list.
const LISTED: [&str; 5] = ["reverse", "batch", "slice", "list", "sum"];

/// The filters as minijinja has them.
pub(super) static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(Environment::new);

/// Takes this many bytes from what a rendering may make.
pub(super) fn charge(state: &mut State, bytes: usize) -> Result<()> {
    let Made(made) = state.get_or_insert_extension(Made::default());
    *made = made.saturating_add(bytes);
    if *made > BYTES {
        return Err(Error::from(ErrorKind::OutOfFuel));
    }
    Ok(())
}

pub(super) fn charge_all(state: &mut State, items: &[Value]) -> Result<()> {
    let mut bytes = 0;
    for item in items {
        bytes += cost(item)?;
    }
    charge(state, bytes)
}

/// The bytes of a value written out, about; it looks no further than there may be.
pub(super) fn cost(value: &Value) -> Result<usize> {
    let mut bytes = 0;
    add_cost(value, &mut bytes, 0)?;
    Ok(bytes)
}

fn add_cost(value: &Value, bytes: &mut usize, depth: usize) -> Result<()> {
    *bytes += value.as_str().map_or(ENTRY, str::len);
    if *bytes > BYTES {
        return Err(Error::from(ErrorKind::OutOfFuel));
    }
    let is_map = value.kind() == ValueKind::Map;
    if !(is_map || value.kind() == ValueKind::Seq || value.kind() == ValueKind::Iterable)
        || value.len().is_none()
    {
        return Ok(());
    }
    if depth == DEPTH {
        return Err(too_deep());
    }
    for item in value.try_iter()? {
        if is_map {
            add_cost(&value.get_item(&item)?, bytes, depth + 1)?;
        }
        add_cost(&item, bytes, depth + 1)?;
    }
    Ok(())
}

/// The bytes of a text, or of a list without its entries.
pub(super) fn size(value: &Value) -> usize {
    let entries = || value.len().unwrap_or(0).saturating_mul(ENTRY);
    value.as_str().map_or_else(entries, str::len)
}

/// The bytes that a filter or a method makes of a value.
pub(super) fn grown(name: &str, value: &Value, args: &[Value]) -> Result<usize> {
    let text = |index: usize| args.get(index).and_then(Value::as_str).unwrap_or("");
    let numbers = || {
        args.iter()
            .filter_map(Value::as_usize)
            .fold(0, usize::saturating_add)
    };
    let this = value.as_str().unwrap_or("");
    Ok(match name {
        "upper" | "lower" | "title" => this.len(),
        "reverse" => size(value),
        "replace" => {
            let found = match text(0) {
                "" => this.len() + 1,
                from => this.matches(from).count(),
            };
            this.len() + found.saturating_mul(text(1).len())
        }
        // The method: the separator is the value and the list the argument.
        "join" => match args.first() {
            Some(list) => {
                let between = this.len().saturating_mul(list.len().unwrap_or(0));
                cost(list)?.saturating_add(between)
            }
            None => 0,
        },
        "format" => {
            let widths = this.split(|c: char| !c.is_ascii_digit());
            let widths = widths.filter(|digits| !digits.is_empty());
            let widths = widths.map(|digits| digits.parse().unwrap_or(usize::MAX));
            let mut bytes = widths.fold(this.len(), usize::saturating_add);
            for arg in args {
                // A text can be asked for in several places.
                bytes = bytes.saturating_add(cost(arg)?.saturating_mul(1 + this.len()));
            }
            bytes.saturating_add(numbers())
        }
        // What is filled up with may be four bytes long.
        "center" | "ljust" | "rjust" | "zfill" => {
            this.len().saturating_add(numbers().saturating_mul(4))
        }
        "batch" | "slice" => size(value).saturating_add(numbers().saturating_mul(ENTRY)),
        // Escaped, a character becomes six.
        _ if GROWING.contains(&name) => cost(value)?.saturating_mul(6),
        // Python's methods.
        _ => this.len(),
    })
}
