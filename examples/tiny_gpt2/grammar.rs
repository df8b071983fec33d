//! The template language of the generator: choices, values, articles and capitals.

use std::collections::{BTreeMap, HashSet};

use rand::Rng;

/// What the templates of one text can name: the hero, the place, the weather, …
///
/// A value may be a template itself; it is expanded anew at every use.
#[derive(Default)]
pub struct Scene(BTreeMap<&'static str, String>);

impl Scene {
    /// Makes `{key}` stand for `value`.
    pub fn set(&mut self, key: &'static str, value: impl Into<String>) {
        self.0.insert(key, value.into());
    }

    /// Makes `{key}` stand for what `template` expands to now, the same at every use.
    pub fn draw(&mut self, key: &'static str, template: &str, rng: &mut impl Rng) {
        let value = expand(template, self, rng);
        self.set(key, value);
    }

    fn get(&self, key: &str) -> &str {
        match self.0.get(key) {
            Some(value) => value,
            None => panic!("a template names {{{key}}}, which its scene does not set"),
        }
    }
}

/// One of `items`, all equally likely.
pub fn pick<'a, T: ?Sized>(items: &[&'a T], rng: &mut impl Rng) -> &'a T {
    items[rng.random_range(0..items.len())]
}

/// Expands a template: `[a|b|c]` is one of its parts (each may be empty or hold further brackets),
/// `{key}` a value of the scene, `{Key}` the same with a capital letter.
pub fn expand(template: &str, scene: &Scene, rng: &mut impl Rng) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(start) = rest.find(['[', '{']) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        if rest.starts_with('{') {
            let end = rest.find('}').expect("a template's { is closed");
            let key = &rest[1..end];
            let value = expand(scene.get(&key.to_lowercase()), scene, rng);
            let capital = key.starts_with(|c: char| c.is_uppercase());
            out.push_str(&if capital { capitalised(&value) } else { value });
            rest = &rest[end + 1..];
        } else {
            let (parts, length) = choices(rest);
            out.push_str(&expand(pick(&parts, rng), scene, rng));
            rest = &rest[length..];
        }
    }
    out.push_str(rest);
    out
}

/// The parts of the bracket that `text` starts with, and its length.
fn choices(text: &str) -> (Vec<&str>, usize) {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b'|' if depth == 1 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            b']' if depth == 1 => {
                parts.push(&text[start..at]);
                return (parts, at + 1);
            }
            b']' => depth -= 1,
            _ => {}
        }
    }
    panic!("a template's [ is not closed: {text}");
}

/// One text from its beats: each is expanded, starts with a capital and may come out empty.
pub fn tell(beats: &[&[&str]], scene: &Scene, rng: &mut impl Rng) -> String {
    let mut sentences = Vec::new();
    for templates in beats {
        let sentence = expand(pick(templates, rng), scene, rng);
        if !sentence.is_empty() {
            sentences.push(capitalised(&sentence));
        }
    }
    with_commas(&with_articles(&sentences.join(" ")))
}

/// Ends a quoted sentence with a comma if the sentence around it continues: `"I see," said Tom.`
fn with_commas(text: &str) -> String {
    let mut parts = text.split(".\" ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let goes_on = part.starts_with(char::is_lowercase);
        out.push_str(if goes_on { ",\" " } else { ".\" " });
        out.push_str(part);
    }
    out
}

/// Turns `a` into `an` before a vowel.
fn with_articles(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    let mut out = String::new();
    for (at, word) in words.iter().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        out.push_str(word);
        let vowel = words
            .get(at + 1)
            .is_some_and(|next| next.starts_with(['a', 'e', 'i', 'o', 'u']));
        if vowel && matches!(word.trim_start_matches('"'), "a" | "A") {
            out.push('n');
        }
    }
    out
}

/// The text with its first letter, after an opening quote if there is one, in upper case.
fn capitalised(text: &str) -> String {
    let at = text.find(|c: char| c.is_alphabetic()).unwrap_or(0);
    let mut out = text.to_owned();
    if let Some(first) = out.get_mut(at..=at) {
        first.make_ascii_uppercase();
    }
    out
}

/// Whether two sentences begin with the same four words, which happens if one list is drawn from
/// twice.
pub fn repeats(text: &str) -> bool {
    let mut starts = text.split(['.', '!', '?']).filter_map(|sentence| {
        let letters = |c: char| !c.is_alphabetic();
        let words: Vec<&str> = sentence.trim_matches(letters).split(' ').take(4).collect();
        (words.len() == 4).then_some(words)
    });
    let mut seen = HashSet::new();
    // `insert` says whether it is new.
    !starts.all(|start| seen.insert(start))
}
