//! The shortest names that identify a set of layers.

use std::collections::{BTreeSet, HashSet};

/// The number of names from which PEFT shortens a list of target modules.
pub(crate) const MIN_TO_SHORTEN: usize = 20;

/// For every target, the shortest end of its path (after a dot) that no other module has, sorted.
pub(crate) fn minimal_suffixes<'a>(
    targets: impl IntoIterator<Item = &'a str>,
    others: impl IntoIterator<Item = &'a str>,
) -> BTreeSet<&'a str> {
    let taken: HashSet<&str> = others.into_iter().flat_map(suffixes).collect();
    targets
        .into_iter()
        .map(|target| (suffixes(target).find(|suffix| !taken.contains(suffix))).unwrap_or(target))
        .collect()
}

/// `a.b.c` gives `c`, `b.c`, `a.b.c`.
fn suffixes(path: &str) -> impl Iterator<Item = &str> {
    (path.rmatch_indices('.'))
        .map(|(dot, _)| &path[dot + 1..])
        .chain([path])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of PEFT's own test of this function.
    #[test]
    fn finds_the_shortest_distinguishing_ends() {
        let cases: &[(&[&str], &[&str], &[&str])] = &[
            (&["bar"], &[], &["bar"]),
            (&["foo"], &["bar"], &["foo"]),
            (
                &["1.foo", "2.foo"],
                &["3.foo", "4.foo"],
                &["1.foo", "2.foo"],
            ),
            (&["bar.baz"], &["foo.bar"], &["baz"]),
            (
                &["1.foo", "2.foo", "bar.baz"],
                &["3.foo", "bar.bla"],
                &["1.foo", "2.foo", "baz"],
            ),
            (
                &["a.b.c", "d.e.f", "g.h.i"],
                &["j.k.l", "m.n.o"],
                &["c", "f", "i"],
            ),
            (
                &["a.b.c", "d.e.f", "g.h.i"],
                &["a.b.x", "d.x.f", "x.h.i"],
                &["c", "e.f", "g.h.i"],
            ),
            (&["foo.bar.baz", "qux.bar.baz"], &["baz.bar.foo"], &["baz"]),
            (
                &[
                    "mid.0.ff.net.0.proj",
                    "mid.0.proj_out",
                    "up.0.time_emb_proj",
                ],
                &["time_proj", "add_time_proj", "up.0.norm", "up.0"],
                &["proj", "proj_out", "time_emb_proj"],
            ),
        ];
        for (targets, others, expected) in cases {
            let found = minimal_suffixes(targets.iter().copied(), others.iter().copied());
            assert_eq!(found, expected.iter().copied().collect(), "{targets:?}");
        }
    }
}
