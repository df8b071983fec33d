//! A tokenizer's own Jinja template of chats, and which of its text the assistant says.

use crate::error::TemplateProblem;
use crate::format::Chat;
use minijinja::machinery::{self, CodeGenerator, Instructions};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value as Jinja};
use minijinja::{AutoEscape, Environment, Error, ErrorKind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

mod bounds;
mod budget;
mod json;

use self::budget::{BYTES, STEPS};

/// The longest text of a chat, in bytes, some two million tokens: tokenising takes many times as much.
const TEXT: usize = 8 << 20;

/// Stand in the rendered text where `{% generation %}` begins and ends: characters for private use.
const BEGIN: char = '\u{f5e51}';
const END: char = '\u{f5e52}';

/// A tokenizer's `chat_template`.
#[derive(Clone, Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    syntax: SyntaxConfig,
    source: String,
    /// The source with marks for `{% generation %}`.
    marked: String,
    /// Where it was read, for errors.
    origin: String,
    /// `bos_token`, `eos_token` and so on.
    special_tokens: Map<String, Value>,
}

/// A template ready to be rendered. It borrows its source, so it lives as long as one chat.
struct Compiled<'a> {
    template: &'a ChatTemplate,
    instructions: Instructions<'a>,
    /// None: a template with blocks is refused.
    blocks: BTreeMap<&'a str, Instructions<'a>>,
}

impl ChatTemplate {
    /// Compiles a template as transformers does: blocks trimmed, Python's methods on strings.
    /// `origin` is how errors call it.
    pub fn new(
        source: &str,
        origin: &str,
        special_tokens: Map<String, Value>,
    ) -> std::result::Result<Self, TemplateProblem> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.add_filter("tojson", json::to_json);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        budget::limit(&mut environment);
        let template = Self {
            environment,
            syntax: syntax.map_err(|error| TemplateProblem::Syntax(error.to_string()))?,
            source: source.into(),
            marked: mark_generation(source),
            origin: origin.into(),
            special_tokens,
        };
        template.compile()?;
        Ok(template)
    }

    /// What the result depends on.
    pub fn identity(&self) -> (&str, &Map<String, Value>) {
        (&self.source, &self.special_tokens)
    }

    fn compile(&self) -> std::result::Result<Compiled<'_>, TemplateProblem> {
        if let Some(problem) = bounds::exceeded(&self.marked, &self.syntax, &self.origin) {
            return Err(problem);
        }
        let unsupported = |what| TemplateProblem::Unsupported {
            origin: self.origin.clone(),
            what,
        };
        let instructions = self.guarded(|| {
            let (name, syntax) = ("chat_template", self.syntax.clone());
            let parsed = machinery::parse(&self.marked, name, syntax)?;
            let mut generator = CodeGenerator::new(name, &self.marked);
            generator.compile_stmt(&parsed);
            Ok(generator.finish().0)
        })?;
        Ok(Compiled {
            template: self,
            instructions: budget::exchange(&instructions).map_err(unsupported)?,
            blocks: BTreeMap::new(),
        })
    }

    /// What minijinja makes of the template; it may panic on one that is fine.
    fn guarded<T>(
        &self,
        job: impl FnOnce() -> std::result::Result<T, Error>,
    ) -> std::result::Result<T, TemplateProblem> {
        match catch_unwind(AssertUnwindSafe(job)) {
            Ok(done) => done.map_err(|error| self.explain(&error)),
            Err(_) => Err(TemplateProblem::Panic {
                origin: self.origin.clone(),
            }),
        }
    }

    /// The message of an exception the template raises, or what is wrong with the template.
    fn explain(&self, error: &Error) -> TemplateProblem {
        let origin = self.origin.clone();
        if error.kind() == ErrorKind::OutOfFuel {
            return TemplateProblem::OutOfBudget {
                origin,
                steps: STEPS,
                megabytes: BYTES >> 20,
            };
        }
        TemplateProblem::Fails {
            origin,
            error: error.to_string(),
        }
    }

    /// Renders messages as text.
    pub fn render(
        &self,
        messages: &[Value],
        extras: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> std::result::Result<String, TemplateProblem> {
        self.compile()?
            .render(messages, extras, add_generation_prompt)
    }

    /// A chat's text, and the bytes of it that are the assistant's; see [`Compiled::spans`].
    pub fn spans(
        &self,
        chat: &Chat,
    ) -> std::result::Result<(String, Vec<Range<usize>>), TemplateProblem> {
        self.compile()?.spans(chat)
    }
}

impl Compiled<'_> {
    /// Renders messages; the assistant's parts lie between marks where the template says so.
    fn marked(
        &self,
        messages: &[Value],
        extras: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> std::result::Result<String, TemplateProblem> {
        let mut context = self.template.special_tokens.clone();
        context.extend(extras.clone());
        context.insert("messages".into(), messages.into());
        context.insert("add_generation_prompt".into(), add_generation_prompt.into());
        let mut text = String::new();
        self.template.guarded(|| {
            let rendered = machinery::eval(
                &self.template.environment,
                &self.instructions,
                Jinja::from(Serde(context)),
                &self.blocks,
                &mut machinery::make_string_output(&mut text),
                AutoEscape::None,
            );
            rendered.map(drop)
        })?;
        match text.len() {
            0..=TEXT => Ok(text),
            bytes => Err(TemplateProblem::TooMuchText { bytes, most: TEXT }),
        }
    }

    /// Renders messages as text.
    fn render(
        &self,
        messages: &[Value],
        extras: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> std::result::Result<String, TemplateProblem> {
        let text = self.marked(messages, extras, add_generation_prompt)?;
        Ok(text.replace([BEGIN, END], ""))
    }

    /// A chat's text, and the bytes of it that are the assistant's: what lies in
    /// `{% generation %}`, else what each of its messages adds to the text of those before it
    /// (with the generation prompt).
    fn spans(
        &self,
        chat: &Chat,
    ) -> std::result::Result<(String, Vec<Range<usize>>), TemplateProblem> {
        let marked = self.marked(&chat.messages, &chat.extras, false)?;
        if marked.contains(BEGIN) && chat.given == 0 {
            let (text, spans) = unmark(&marked)?;
            let is_assistant = |message: &&Value| message["role"] == "assistant";
            let turns: Vec<_> = chat.messages.iter().filter(is_assistant).collect();
            if !turns.iter().any(|turn| Chat::is_masked(turn)) {
                return Ok((text, spans));
            }
            if spans.len() == turns.len() {
                let spans = spans.into_iter().zip(turns);
                let learnt = spans.filter(|(_, turn)| Chat::is_learnt(turn));
                return Ok((text, learnt.map(|(span, _)| span).collect()));
            }
        }
        let whole = marked.replace([BEGIN, END], "");
        let mut spans = Vec::new();
        for (index, message) in chat.messages.iter().enumerate().skip(chat.given) {
            if !Chat::is_learnt(message) {
                continue;
            }
            let render =
                |count: usize, prompt| self.render(&chat.messages[..count], &chat.extras, prompt);
            // A template may refuse to render nothing, or a chat that ends here.
            let before = [true, false]
                .into_iter()
                .filter_map(|prompt| self.common(&render(index, prompt).ok()?, &whole))
                .map(|(length, _)| length)
                .next();
            let through = match index + 1 == chat.messages.len() {
                true => Some((whole.len(), false)),
                false => render(index + 1, false)
                    .ok()
                    .and_then(|text| self.common(&text, &whole)),
            };
            // Where an end was cut off, the answer has not to go with it.
            let said = message["content"].as_str().unwrap_or_default().trim();
            let is_said = |span: Range<usize>| whole.get(span).is_some_and(|t| t.contains(said));
            match (before.or((index == 0).then_some(0)), through) {
                (Some(start), Some((end, cut)))
                    if start <= end && (!cut || is_said(start..end)) =>
                {
                    spans.push(start..end)
                }
                _ => {
                    return Err(TemplateProblem::MessageChangesOthers(index + 1));
                }
            }
        }
        Ok((whole, spans))
    }

    /// How much of the text of a chat's first messages stands in the text of all of them. A
    /// template may end a text behind its last message, whichever that is: such an end is not
    /// part of it, and true stands beside what is left. None where the two differ in more.
    fn common(&self, text: &str, whole: &str) -> Option<(usize, bool)> {
        if whole.starts_with(text) {
            return Some((text.len(), false));
        }
        let same = text.chars().zip(whole.chars()).take_while(|(a, b)| a == b);
        let mut end: usize = same.map(|(character, _)| character.len_utf8()).sum();
        // `<|` of the end and of the next turn's `<|user|>` is no text that they share.
        let special = self.template.special_tokens.values();
        for token in special
            .filter_map(Value::as_str)
            .filter(|token| !token.is_empty())
        {
            for text in [text, whole] {
                let mut found = text.match_indices(token).map(|(start, _)| start);
                let across = found.find(|&start| start < end && end < start + token.len());
                end = across.unwrap_or(end);
            }
        }
        whole.ends_with(&text[end..]).then_some((end, true))
    }
}

/// Text without its marks, and what was between them.
fn unmark(marked: &str) -> std::result::Result<(String, Vec<Range<usize>>), TemplateProblem> {
    let (mut text, mut spans, mut start) = (String::new(), Vec::new(), None);
    for character in marked.chars() {
        match (character, start) {
            (BEGIN, None) => start = Some(text.len()),
            (END, Some(begin)) => {
                spans.push(begin..text.len());
                start = None;
            }
            (BEGIN | END, _) => {
                return Err(TemplateProblem::NestedGeneration);
            }
            (character, _) => text.push(character),
        }
    }
    Ok((text, spans))
}

/// Replaces `{% generation %}` and `{% endgeneration %}`, which are no Jinja but transformers' own,
/// by marks in the text. The signs for white space keep their places, and so their meaning.
fn mark_generation(source: &str) -> String {
    let (mut marked, mut rest) = (String::new(), source);
    while let Some(open) = rest.find("{%") {
        let Some(close) = rest[open + 2..].find("%}").map(|close| open + close + 4) else {
            break;
        };
        let tag = &rest[open + 2..close - 2];
        let left = if tag.starts_with('-') { "-" } else { "" };
        let right = if tag.ends_with('-') { "-" } else { "" };
        let mark = match tag.trim_matches(['-', '+']).trim() {
            "generation" => Some(BEGIN),
            "endgeneration" => Some(END),
            _ => None,
        };
        marked += &rest[..open];
        match mark {
            Some(mark) => marked += &format!("{{%{left} if true %}}{mark}{{% endif {right}%}}"),
            None => marked += &rest[open..close],
        }
        rest = &rest[close..];
    }
    marked + rest
}

fn raise_exception(message: String) -> std::result::Result<Jinja, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// The time now, as Python's `strftime` writes it.
fn strftime_now(format: String) -> std::result::Result<String, Error> {
    let mut text = String::new();
    let bad = |_| {
        Error::new(
            ErrorKind::InvalidOperation,
            format!("strftime_now({format:?})"),
        )
    };
    write!(text, "{}", chrono::Local::now().format(&format)).map_err(bad)?;
    Ok(text)
}

#[cfg(test)]
mod budget_tests;
#[cfg(test)]
mod tests;
