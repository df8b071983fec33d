//! Entities in rows of tags (BIO, IOE, BIOES), as seqeval reads them.

/// Consecutive words that form an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// The kind of entity: `PER`.
    pub kind: String,
    /// The index of its first word.
    pub start: usize,
    /// The index after its last word.
    pub end: usize,
}

/// The entities in the tags of a text: consecutive tags of one kind, until one begins a new entity
/// (`B-`, `S-`) or the one before has ended it (`E-`, `S-`).
pub fn entities<'a>(tags: impl Iterator<Item = &'a str>) -> Vec<Entity> {
    let mut found: Vec<Entity> = Vec::new();
    let mut is_open = false;
    for (at, tag) in tags.enumerate() {
        if tag == "O" {
            is_open = false;
            continue;
        }
        let (mark, kind) = parts(tag);
        match found.last_mut() {
            Some(last) if is_open && last.kind == kind && !["B", "S"].contains(&mark) => {
                last.end = at + 1;
            }
            _ => found.push(Entity {
                kind: kind.to_owned(),
                start: at,
                end: at + 1,
            }),
        }
        is_open = !["E", "S"].contains(&mark);
    }
    found
}

/// What a tag says about its word's position in an entity, and the kind of entity.
fn parts(tag: &str) -> (&str, &str) {
    tag.split_once('-').unwrap_or(("I", tag))
}

/// The kinds of entities, from the names of tags. `None` if no name marks the beginning of an
/// entity: such tags are of another kind, for example parts of speech.
pub(crate) fn kinds(names: &[String]) -> Option<Vec<String>> {
    if !names.iter().any(|name| name.starts_with("B-")) {
        return None;
    }
    let mut kinds: Vec<String> = Vec::new();
    for name in names.iter().filter(|name| *name != "O") {
        let (_, kind) = parts(name);
        if !kinds.iter().any(|known| known == kind) {
            kinds.push(kind.to_owned());
        }
    }
    Some(kinds)
}

/// How many of some entities are among others.
pub fn same(these: &[Entity], others: &[Entity]) -> usize {
    these
        .iter()
        .filter(|entity| others.contains(entity))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tags: &str) -> Vec<(String, usize, usize)> {
        let found = entities(tags.split(' ')).into_iter();
        found
            .map(|entity| (entity.kind, entity.start, entity.end))
            .collect()
    }

    #[test]
    fn kinds_are_told_from_the_names_of_tags() {
        let of = |names: &str| kinds(&names.split(' ').map(String::from).collect::<Vec<_>>());
        let found = of("O B-PER I-PER B-LOC").unwrap();
        assert_eq!(found, ["PER", "LOC"]);
        assert_eq!(of("NOUN VERB"), None);
    }

    #[test]
    fn entities_are_those_of_seqeval() {
        let one = |kind: &str, start, end| (kind.to_string(), start, end);
        assert_eq!(
            of("O B-MISC I-MISC I-MISC O B-PER"),
            [one("MISC", 1, 4), one("PER", 5, 6)]
        );
        assert_eq!(
            of("I-PER I-PER B-PER I-LOC"),
            [one("PER", 0, 2), one("PER", 2, 3), one("LOC", 3, 4)]
        );
        assert_eq!(
            of("S-PER S-PER B-LOC E-LOC I-LOC"),
            [
                one("PER", 0, 1),
                one("PER", 1, 2),
                one("LOC", 2, 4),
                one("LOC", 4, 5)
            ]
        );
        assert!(of("O O").is_empty());
    }
}
