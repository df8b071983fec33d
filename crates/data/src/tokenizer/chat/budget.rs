//! A chat template is someone else's program: how far it may go.
//!
//! minijinja counts steps, but one step can double a text or a list, and sixty doublings fill any
//! memory. So the operations that make something large are exchanged, instruction by instruction,
//! for filters that first ask whether there is room left.

use indexmap::IndexMap;
use minijinja::machinery::{Instruction, Instructions};
use minijinja::value::{Rest, Tuple, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, context, escape_formatter};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::sync::LazyLock;

/// Steps of a rendering: a chat of a thousand messages takes some hundred thousand.
pub(super) const STEPS: u64 = 10_000_000;
/// Bytes of text that a rendering may make on its way: a long chat is some megabytes.
pub(super) const BYTES: usize = 128 << 20;
/// What an entry of a list takes.
const ENTRY: usize = 16;
/// How deep values may lie in each other.
const DEPTH: usize = 128;

/// What a rendering has made so far.
#[derive(Default)]
struct Made(usize);

type Result<T> = std::result::Result<T, Error>;

/// Sets the limits of an environment.
pub(super) fn limit(environment: &mut Environment<'static>) {
    environment.set_fuel(Some(STEPS));
    environment.set_formatter(|out, state, value| {
        charge(state, cost(value)?)?;
        escape_formatter(out, state, value)
    });
    environment.set_unknown_method_callback(|state, value, method, args| {
        if value.kind() == ValueKind::String {
            charge(state, grown(method, value, args)?)?;
        }
        unknown_method_callback(state, value, method, args)
    });
    for name in GROWING {
        let filter = move |state: &mut State, value: Value, Rest(args): Rest<Value>| {
            charge(state, grown(name, &value, &args)?)?;
            let all: Vec<Value> = std::iter::once(value).chain(args).collect();
            PLAIN.empty_state().apply_filter(name, &all)
        };
        environment.add_filter(name, filter);
    }
    environment.add_filter(CONCAT, |state: &mut State, a: Value, b: Value| {
        charge(state, cost(&a)? + cost(&b)?)?;
        Ok::<_, Error>(format!("{a}{b}"))
    });
    environment.add_filter(ADD, |state: &mut State, a: Value, b: Value| {
        charge(state, size(&a) + size(&b))?;
        operate(state, "a + b", a, b)
    });
    environment.add_filter(MULTIPLY, |state: &mut State, a: Value, b: Value| {
        let times = |a: &Value, b: &Value| size(a).saturating_mul(b.as_usize().unwrap_or(0));
        charge(state, times(&a, &b).max(times(&b, &a)))?;
        operate(state, "a * b", a, b)
    });
    environment.add_filter(EQUAL, |state: &mut State, a: Value, b: Value| {
        charge(state, size(&a).min(size(&b)))?;
        Ok::<_, Error>(a == b)
    });
    environment.add_filter(UNEQUAL, |state: &mut State, a: Value, b: Value| {
        charge(state, size(&a).min(size(&b)))?;
        Ok::<_, Error>(a != b)
    });
    environment.add_filter(IN, |state: &mut State, a: Value, b: Value| {
        charge(state, size(&b))?;
        operate(state, "a in b", a, b)
    });
    environment.add_filter(
        SLICE,
        |state: &mut State, a: Value, b: Value, c: Value, d: Value| slice(state, &a, [b, c, d]),
    );
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

// Names of filters that no template can write.
const CONCAT: &str = "~";
const ADD: &str = "+";
const MULTIPLY: &str = "*";
const EQUAL: &str = "==";
const UNEQUAL: &str = "!=";
const IN: &str = "in!";
const SLICE: &str = "[:]";
const LIST: &str = "[]";
const TUPLE: &str = "()";
const MAP: &str = "{}";

/// minijinja's filters whose result can be larger than what they get, or that go through it.
const GROWING: [&str; 24] = [
    "length",
    "count",
    "trim",
    "upper",
    "lower",
    "title",
    "split",
    "lines",
    "reverse",
    "join",
    "replace",
    "format",
    "indent",
    "batch",
    "slice",
    "list",
    "string",
    "pprint",
    "escape",
    "e",
    "urlencode",
    "sort",
    "unique",
    "sum",
];

/// The filters as minijinja has them.
static PLAIN: LazyLock<Environment<'static>> = LazyLock::new(Environment::new);

/// A template's instructions, with the filters of [`limit`] in place of what makes or goes through
/// large values.
///
/// # Errors
/// What has no such filter.
pub(super) fn exchange<'a>(
    template: &Instructions<'a>,
) -> std::result::Result<Instructions<'a>, &'static str> {
    // Where each instruction comes to be: raw text becomes two.
    let (mut places, mut place) = (Vec::new(), 0);
    while let Some(instruction) = template.get(places.len() as u32) {
        places.push(place);
        place += 1 + u32::from(matches!(instruction, Instruction::EmitRaw(_)));
    }
    let to = |target: u32| places.get(target as usize).copied().unwrap_or(place);
    let mut exchanged = Instructions::new(template.name(), template.source());
    let mut at = 0;
    while let Some(instruction) = template.get(at) {
        let line = template.get_line(at).unwrap_or(0).min(u16::MAX.into()) as u16;
        let of = |count: usize| u16::try_from(count).map_err(|_| "lists more than 65535 things");
        // The last number would name a slot for the filter; this one means none.
        let filter = |name, count| Instruction::ApplyFilter(name, Some(count), !0);
        let instruction = match instruction {
            Instruction::EmitRaw(text) => {
                let text = Value::from_safe_string((*text).to_owned());
                exchanged.add_with_line(Instruction::LoadConst(text), line);
                Instruction::Emit
            }
            Instruction::Iterate(target) => Instruction::Iterate(to(*target)),
            Instruction::Jump(target) => Instruction::Jump(to(*target)),
            Instruction::JumpIfFalse(target) => Instruction::JumpIfFalse(to(*target)),
            Instruction::JumpIfFalseOrPop(target) => Instruction::JumpIfFalseOrPop(to(*target)),
            Instruction::JumpIfTrueOrPop(target) => Instruction::JumpIfTrueOrPop(to(*target)),
            Instruction::BuildMacro(name, target, flags) => {
                Instruction::BuildMacro(name, to(*target), *flags)
            }
            Instruction::StringConcat => filter(CONCAT, 2),
            Instruction::Add => filter(ADD, 2),
            Instruction::Mul => filter(MULTIPLY, 2),
            Instruction::Eq => filter(EQUAL, 2),
            Instruction::Ne => filter(UNEQUAL, 2),
            Instruction::In => filter(IN, 2),
            Instruction::Slice => filter(SLICE, 4),
            Instruction::BuildList(Some(count @ 1..)) => filter(LIST, of(*count)?),
            Instruction::BuildTuple(Some(count @ 1..)) => filter(TUPLE, of(*count)?),
            Instruction::BuildMap(count @ 1..) => filter(MAP, of(2 * *count)?),
            Instruction::UnpackLists(_) => return Err("unpacks a list with *"),
            Instruction::Include(_) | Instruction::LoadBlocks | Instruction::CallBlock(_) => {
                return Err("is made of other templates or of blocks");
            }
            other => other.clone(),
        };
        exchanged.add_with_line(instruction, line);
        at += 1;
    }
    Ok(exchanged)
}

/// Takes this many bytes from what a rendering may make.
pub(super) fn charge(state: &mut State, bytes: usize) -> Result<()> {
    let Made(made) = state.get_or_insert_extension(Made::default());
    *made = made.saturating_add(bytes);
    if *made > BYTES {
        return Err(Error::from(ErrorKind::OutOfFuel));
    }
    Ok(())
}

fn charge_all(state: &mut State, items: &[Value]) -> Result<()> {
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
        let problem = "a value lies in itself, or in too many others";
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
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
fn size(value: &Value) -> usize {
    let entries = || value.len().unwrap_or(0).saturating_mul(ENTRY);
    value.as_str().map_or_else(entries, str::len)
}

/// The bytes that a filter or a method makes of a value.
fn grown(name: &str, value: &Value, args: &[Value]) -> Result<usize> {
    let text = |index: usize| args.get(index).and_then(Value::as_str).unwrap_or("");
    let numbers = || {
        args.iter()
            .filter_map(Value::as_usize)
            .fold(0, usize::saturating_add)
    };
    let this = value.as_str().unwrap_or("");
    Ok(match name {
        "length" | "count" | "trim" | "upper" | "lower" | "title" | "split" | "lines" => this.len(),
        "reverse" => size(value),
        "replace" => {
            let found = match text(0) {
                "" => this.len() + 1,
                from => this.matches(from).count(),
            };
            this.len() + found.saturating_mul(text(1).len())
        }
        // Of the method, the separator is the value and the list the argument.
        "join" => {
            let (list, separator) = match value.as_str() {
                Some(text) if args.first().is_some_and(|list| list.len().is_some()) => {
                    (&args[0], text)
                }
                _ => (value, text(0)),
            };
            cost(list)?.saturating_add(separator.len().saturating_mul(list.len().unwrap_or(0)))
        }
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
        "indent" => {
            let widths = numbers()
                .max(args.iter().map(size).max().unwrap_or(0))
                .max(4);
            let lines = 1 + this.matches('\n').count();
            lines.saturating_mul(widths).saturating_add(this.len())
        }
        "batch" | "slice" => size(value).saturating_add(numbers().saturating_mul(ENTRY)),
        // Escaped, a character becomes six.
        _ if GROWING.contains(&name) => cost(value)?.saturating_mul(6),
        // Python's methods.
        _ => this.len(),
    })
}

/// What Python's `value[start:stop:step]` is. minijinja's own fails for an empty value and a
/// negative step, and keeps an index out of range as the nearest.
fn slice(state: &mut State, value: &Value, [start, stop, step]: [Value; 3]) -> Result<Value> {
    let number = |value: &Value| match value.is_none() {
        true => Ok(None),
        false => i64::try_from(value.clone()).map(Some),
    };
    let (start, stop, step) = (number(&start)?, number(&stop)?, number(&step)?.unwrap_or(1));
    if step == 0 {
        let problem = "cannot slice by step size of 0";
        return Err(Error::new(ErrorKind::InvalidOperation, problem));
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
        let some = within(characters.len()).map(|at| characters[at]);
        return Ok(some.collect::<String>().into());
    }
    let items: Vec<Value> = match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.collect(),
        ValueKind::Undefined | ValueKind::None => Vec::new(),
        kind => {
            let problem = format!("value of type {kind} cannot be sliced");
            return Err(Error::new(ErrorKind::InvalidOperation, problem));
        }
    };
    charge(state, items.len() * ENTRY)?;
    let some: Vec<Value> = within(items.len()).map(|at| items[at].clone()).collect();
    match value.is_tuple() {
        true => Ok(Value::from(Tuple::from(some))),
        false => Ok(Value::from(some)),
    }
}

/// minijinja's own operation.
fn operate(state: &State, expression: &'static str, a: Value, b: Value) -> Result<Value> {
    if let (Some(a), Some(b), "a + b") = (a.as_str(), b.as_str(), expression) {
        return Ok([a, b].concat().into());
    }
    let expression = state.env().compile_expression(expression)?;
    expression.eval(context! { a, b })
}
