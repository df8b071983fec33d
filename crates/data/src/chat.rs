//! Chats: a tokenizer's own Jinja template, and which of its text the assistant says.

use crate::error::{DataError, Result};
use crate::tokenizer::Tokenizer;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value as Jinja};
use minijinja::{Environment, Error, ErrorKind};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::io;
use std::ops::Range;

mod messages;
pub(crate) use messages::tool_turns;

/// Stand in the rendered text where `{% generation %}` begins and ends: characters for private use.
const BEGIN: char = '\u{f5e51}';
const END: char = '\u{f5e52}';

/// A conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chat {
    /// The messages: objects with `role` and, mostly, `content`.
    pub messages: Vec<Value>,
    /// What else a template may ask for: `tools`, `documents`.
    pub extras: Map<String, Value>,
    /// This many messages, at the start, are not learnt.
    pub given: usize,
}

/// A tokenizer's `chat_template`.
#[derive(Clone, Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    /// `bos_token`, `eos_token` and so on.
    special_tokens: Map<String, Value>,
}

impl ChatTemplate {
    /// Compiles a template as transformers does: blocks trimmed, Python's methods on strings.
    pub fn new(
        source: &str,
        special_tokens: Map<String, Value>,
    ) -> std::result::Result<Self, String> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        environment.set_syntax(syntax.map_err(|error| explain(&error))?);
        environment.set_unknown_method_callback(unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        let compiled = environment.add_template_owned("chat_template", mark_generation(source));
        compiled.map_err(|error| explain(&error))?;
        Ok(Self {
            environment,
            source: source.into(),
            special_tokens,
        })
    }

    /// What the result depends on.
    pub fn identity(&self) -> (&str, &Map<String, Value>) {
        (&self.source, &self.special_tokens)
    }

    /// Renders messages; the assistant's parts lie between marks where the template says so.
    fn marked(
        &self,
        messages: &[Value],
        extras: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> std::result::Result<String, String> {
        let mut context = self.special_tokens.clone();
        context.extend(extras.clone());
        context.insert("messages".into(), messages.into());
        context.insert("add_generation_prompt".into(), add_generation_prompt.into());
        let template = self.environment.get_template("chat_template");
        let rendered = template.and_then(|template| template.render(Serde(context)));
        rendered.map_err(|error| explain(&error))
    }

    /// Renders messages as text.
    pub fn render(
        &self,
        messages: &[Value],
        extras: &Map<String, Value>,
        add_generation_prompt: bool,
    ) -> std::result::Result<String, String> {
        let text = self.marked(messages, extras, add_generation_prompt)?;
        Ok(text.replace([BEGIN, END], ""))
    }

    /// A chat's text, and the bytes of it that are the assistant's: what lies in
    /// `{% generation %}`, else what each of its messages adds to the text of those before it
    /// (with the generation prompt).
    fn spans(&self, chat: &Chat) -> std::result::Result<(String, Vec<Range<usize>>), String> {
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
        let begins = |text: &String| whole.starts_with(text.as_str());
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
                .filter_map(|prompt| render(index, prompt).ok());
            let before = before
                .filter(|text| begins(text))
                .map(|text| text.len())
                .next();
            let through = match index + 1 == chat.messages.len() {
                true => Some(whole.len()),
                false => render(index + 1, false)
                    .ok()
                    .filter(begins)
                    .map(|text| text.len()),
            };
            match (before.or((index == 0).then_some(0)), through) {
                (Some(start), Some(end)) if start <= end => spans.push(start..end),
                _ => {
                    return Err(format!(
                        "is a chat in which message {} changes the text of those before it, so \
                         that nobody knows what the assistant said: mark that in the chat template \
                         with {{% generation %}}, or learn all with completion_only_loss = false",
                        index + 1
                    ));
                }
            }
        }
        Ok((whole, spans))
    }
}

impl Tokenizer {
    /// Renders messages (objects with `role` and `content`) with the tokenizer's own template, as
    /// transformers' `apply_chat_template` does; with `add_generation_prompt` up to where the
    /// assistant's answer begins.
    ///
    /// # Errors
    /// A tokenizer without a template, and what the template refuses.
    pub fn apply_chat_template(
        &self,
        messages: &[Value],
        add_generation_prompt: bool,
    ) -> Result<String> {
        let rendered = self
            .chat_template()
            .and_then(|template| template.render(messages, &Map::new(), add_generation_prompt));
        rendered.map_err(|problem| self.problem(problem))
    }

    /// The tokens of a chat, and which of them are the assistant's. A token that is only in part
    /// the assistant's is.
    pub(crate) fn encode_chat(&self, chat: &Chat, place: &str) -> Result<(Vec<u32>, Vec<bool>)> {
        let bad = |problem| DataError::Row {
            place: place.into(),
            problem,
        };
        let template = self
            .chat_template()
            .map_err(|problem| self.problem(problem))?;
        let (text, spans) = template.spans(chat).map_err(bad)?;
        let (ids, offsets) = self.encode_with_offsets(&text)?;
        let is_trained = |token: &Range<usize>| {
            let overlaps = |span: &Range<usize>| span.start < token.end && token.start < span.end;
            spans.iter().any(overlaps)
        };
        Ok((ids, offsets.iter().map(is_trained).collect()))
    }
}

/// Text without its marks, and what was between them.
fn unmark(marked: &str) -> std::result::Result<(String, Vec<Range<usize>>), String> {
    let (mut text, mut spans, mut start) = (String::new(), Vec::new(), None);
    for character in marked.chars() {
        match (character, start) {
            (BEGIN, None) => start = Some(text.len()),
            (END, Some(begin)) => {
                spans.push(begin..text.len());
                start = None;
            }
            (BEGIN | END, _) => {
                return Err("is a chat whose template nests {% generation %}".into());
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

/// The message of an exception the template raises, or what is wrong with the template.
fn explain(error: &Error) -> String {
    format!("the chat template fails: {error}")
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

/// Python's `json.dumps`, which transformers puts in place of Jinja's own filter: nothing is
/// escaped for HTML, and a space follows commas and colons.
fn to_json(value: Jinja, options: Kwargs) -> std::result::Result<String, Error> {
    let bad = |error: String| Error::new(ErrorKind::InvalidOperation, error);
    let mut out = Vec::new();
    match options.get::<Option<usize>>("indent")? {
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Spaced)),
        Some(indent) => {
            let indent = " ".repeat(indent);
            let formatter = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, formatter))
        }
    }
    .map_err(|error| bad(error.to_string()))?;
    String::from_utf8(out).map_err(|error| bad(error.to_string()))
}

/// A space after commas and colons.
struct Spaced;

impl Spaced {
    fn separate<W: ?Sized + io::Write>(out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }
}

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        Self::separate(out, first)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        Self::separate(out, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}

#[cfg(test)]
mod tests;
