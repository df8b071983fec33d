//! Limits on what a chat template may do: it is someone else's program.
//!
//! minijinja counts steps, but one step can double a text or a list, and sixty doublings fill any
//! memory. So each instruction that makes something large is replaced (exchange.rs) by a filter
//! that first checks whether there is room left.

use super::arguments;
use super::python::{DEPTH, text, too_deep};
use super::{access, methods};
use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State};
use std::sync::LazyLock;

/// The steps that a rendering may take: a chat of a thousand messages takes a few hundred thousand.
pub(super) const STEPS: u64 = 10_000_000;
/// The bytes of text that a rendering may make in total: a long chat takes a few megabytes.
pub(super) const BYTES: usize = 128 << 20;
/// The bytes that a list entry counts as.
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

/// The filters of minijinja whose result can be larger than their input, or that iterate over it;
/// except those that filters.rs replaces.
const GROWING: [&str; 11] = [
    "upper", "lower", "title", "reverse", "format", "batch", "slice", "list", "escape", "e", "sum",
];

/// Those of them that iterate over a list.
const LISTED: [&str; 5] = ["reverse", "batch", "slice", "list", "sum"];

/// minijinja's own filters.
pub(super) static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(Environment::new);

/// Takes this many bytes from the rendering's budget.
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

/// The approximate size of a value when written out, in bytes; stops counting at the limit.
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

/// The bytes of what a filter or method makes from a value.
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
        // As a method: the separator is the value and the list is the argument.
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
                // The same text can be requested in several places.
                bytes = bytes.saturating_add(cost(arg)?.saturating_mul(1 + this.len()));
            }
            bytes.saturating_add(numbers())
        }
        // The fill character may take four bytes.
        "center" | "ljust" | "rjust" | "zfill" => {
            this.len().saturating_add(numbers().saturating_mul(4))
        }
        "batch" | "slice" => size(value).saturating_add(numbers().saturating_mul(ENTRY)),
        // Escaping turns a character into six.
        _ if GROWING.contains(&name) => cost(value)?.saturating_mul(6),
        // Python's methods.
        _ => this.len(),
    })
}
