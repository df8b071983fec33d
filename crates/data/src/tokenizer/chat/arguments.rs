//! Arguments by position or by name.

use minijinja::value::{Kwargs, Value, from_args};
use minijinja::{Error, ErrorKind};

/// The arguments of a filter or a method in the order of these names, however they were passed.
pub(super) fn bind<const N: usize>(
    function: &str,
    names: [&'static str; N],
    args: &[Value],
) -> Result<[Option<Value>; N], Error> {
    let (by_place, by_name): (&[Value], Kwargs) = from_args(args)?;
    let bad = |problem: String| Error::new(ErrorKind::InvalidOperation, problem);
    if by_place.len() > N {
        let given = by_place.len();
        return Err(bad(format!("{function} takes {N} arguments, not {given}")));
    }
    let mut bound = [const { None }; N];
    for (index, name) in names.into_iter().enumerate() {
        bound[index] = match (by_place.get(index), by_name.has(name)) {
            (Some(_), true) => return Err(bad(format!("{function} has {name} twice"))),
            (Some(value), false) => Some(value.clone()),
            (None, true) => Some(by_name.get(name)?),
            (None, false) => None,
        };
    }
    by_name.assert_all_used()?;
    Ok(bound)
}

/// The arguments as passed, including those by name.
pub(super) fn all(args: &[Value]) -> Result<Vec<Value>, Error> {
    let (by_place, by_name): (&[Value], Kwargs) = from_args(args)?;
    let mut values = by_place.to_vec();
    for name in by_name.args() {
        values.push(by_name.peek(name)?);
    }
    Ok(values)
}
